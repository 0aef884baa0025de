# One environment, .venv, shared by every target; made where it is missing.
#   make demo      train, score and picture the original Transformer on an embedded corpus
#   make test      the tests          make test-all  with the slow ones
#   make check     formatter, linter, types, import arrows
#   make bench     speed                             make clean   remove what was made here

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 2

# Two test workers of one thread each use two cores best; training itself chooses its threads.
TEST_ENV := OMP_NUM_THREADS=1

# Tests start hundreds of command lines: modules are compiled once, not each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all check format bench clean

demo: $(STAMP)
	$(BIN)/regard demo

test: $(STAMP)
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS) -m "not slow"

test-all: $(STAMP)
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Writes benchmarks/RESULTS.md: how cost grows, where a step's time goes, layers, data. PEERS=DIR (the
# peers' harness), PEERS_PYTHON (that has them) and NANOGPT=DIR (a checkout) time others in turn with
# regard; BATCHES=FILE times training alone, on batches of ids such as theirs.
BENCH := PYTHONPATH=. $(BIN)/python -m benchmarks.speed
THEM := --peers $(PEERS) --python $(or $(PEERS_PYTHON),$(BIN)/python)
bench: $(STAMP)
ifdef PEERS
	$(BENCH).beside $(THEM) $(if $(NANOGPT),--nanogpt $(NANOGPT))
	$(BENCH).variants
	$(BENCH).memory $(THEM)
else
	for precision in float32 bfloat16 int8; do $(BIN)/python benchmarks/speed/decode.py --precision $$precision || exit 1; done
	$(if $(BATCHES),$(BIN)/python benchmarks/speed/train.py --batches $(BATCHES))
endif
	$(BENCH).operators
	$(BENCH).growth
	$(BENCH).layers
	$(BENCH).data --lines 1000000

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The build tools are pinned too, hence no build isolation.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt hatchling editables setuptools setuptools-scm
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $(STAMP)
