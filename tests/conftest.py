"""Every test starts from the same seeds; property tests draw the same examples every time."""

import random
import signal
import sys

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, print_blob=False
)
hypothesis.settings.load_profile("repeatable")

# A shell's background job ignores SIGINT, and so would the command lines that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_start():
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _as_many_threads():
    """A test that asks for another number leaves none to the next."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture(autouse=True)
def _operators_where_asked():
    """Operators in C++ that a test loads serve no other one."""
    yield
    if "regard.nn.native" in sys.modules:
        sys.modules["regard.nn.native"]._loaded = False
