"""Operators in C++: the same numbers as torch's, and nothing lost where they cannot be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from regard.nn import native
from regard.nn.kernels.dense import dense
from regard.nn.kernels.few import few
from regard.nn.masks import MaskForm
from regard.nn.processor import processor
from regard.nn.quantized import QuantizedLinear, quantize_rows


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def there():
    if not native.load():
        pytest.skip("there is no compiler here")


def can_build():
    able = set(processor().get("flags", "").split()) >= native._NEEDED
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return bool(able and shutil.which("c++", path=path) and shutil.which("ninja", path=path))


builds = pytest.mark.skipif(not can_build(), reason="this machine cannot build them")


@builds
def test_they_are_built_where_they_can_be():
    """Other tests skip without them, so that a fault in their sources would show nowhere else."""
    assert native.load()


@pytest.mark.usefixtures("there")
class TestNumbers:
    @pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 16, 31, 33, 70])
    @pytest.mark.parametrize(("outputs", "width"), [(1, 1), (64, 64), (65, 63), (200, 130)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_linear_maps(self, rows, outputs, width, bias):
        torch.manual_seed(0)
        states, weight = torch.randn(rows, width), torch.randn(outputs, width)
        shift = torch.randn(outputs) if bias else None
        packed = torch.ops.regard.pack(weight)
        made = torch.ops.regard.linear(states, weight, packed, shift)
        torch.testing.assert_close(made, F.linear(states, weight, shift), rtol=1e-4, atol=1e-4)
        alone = torch.ops.regard.linear(states[-1:], weight, packed, shift)
        assert torch.equal(alone[0], made[-1])

    @pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 16, 31, 33, 70])
    @pytest.mark.parametrize(("outputs", "width"), [(1, 1), (64, 64), (65, 63), (200, 130)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_int8_maps_have_the_bits_of_exact_sums(self, rows, outputs, width, bias):
        self.exact(rows, outputs, width, bias)

    def test_more_states_than_a_cache_holds(self):
        self.exact(700, 130, 1000, bias=True)

    @staticmethod
    def exact(rows, outputs, width, bias):
        torch.manual_seed(0)
        states, weight = torch.randn(rows, width), torch.randn(outputs, width)
        states[0] = 0.0
        weight[-1] = 0.0
        made = QuantizedLinear(weight, torch.randn(outputs) if bias else None)
        codes, scales = quantize_rows(weight)
        assert torch.equal(made.codes, codes)
        assert torch.equal(made.scales, scales[:, 0])
        codes, scales = quantize_rows(states)
        sums = (codes.double() @ made.codes.double().T).float()  # integers: exact
        expected = sums * made.scales * scales
        expected = expected if made.bias is None else expected + made.bias
        torch.testing.assert_close(made(states), expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("kv_heads", [1, 2, 6])
    @pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 17), (3, 40), (8, 33)])
    @pytest.mark.parametrize("mask", ["none", "of the batch", "of all", "blind"])
    @pytest.mark.parametrize(("d_key", "d_value"), [(20, 7), (64, 64), (70, 90)])
    def test_attention(self, kv_heads, queries, keys, mask, d_key, d_value):
        torch.manual_seed(0)
        query = torch.randn(4, queries, 6, d_key).transpose(1, 2)
        room = torch.randn(4, kv_heads, keys + 5, d_key)  # as of a cache with more room
        key = room[:, :, :keys]
        value = torch.randn(4, keys, kv_heads, d_value).transpose(1, 2)
        table = None
        if mask != "none":
            table = torch.rand(1 if mask == "of all" else 4, 1, queries, keys) > 0.5
            table[..., 0] = mask != "blind"
        if mask == "blind":
            table[1] = False
        form = MaskForm("none" if table is None else "dense", queries, keys, query.device, table)
        made = few(query, key, value, mask=form, scale=0.3)
        expected = dense(query, key, value, mask=form, scale=0.3)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
        if mask == "blind":
            assert not made[1].any()

    def test_numbers_that_are_none_are_not_hidden(self):
        states = torch.zeros(3, 40)
        for column in (3, 39):  # in a whole vector, and behind the last whole one
            states[1] = 0.0
            states[1, column] = torch.nan
            made = QuantizedLinear(torch.randn(5, 40), None)(states)
            assert made.isnan().tolist() == [[False] * 5, [True] * 5, [False] * 5]
        for place in (0, 19):
            key = torch.randn(1, 1, 20, 16)
            key[..., place, 0] = torch.nan
            form = MaskForm("none", 1, 20, key.device)
            assert few(torch.ones(1, 1, 1, 16), key, key, mask=form, scale=1.0).isnan().any()

    def test_no_rows(self):
        weight = torch.randn(8, 100)
        packed = torch.ops.regard.pack(weight)
        assert torch.ops.regard.linear(torch.empty(0, 100), weight, packed, None).shape == (0, 8)
        assert QuantizedLinear(weight, None)(torch.empty(2, 0, 100)).shape == (2, 0, 8)
        never = torch.tensor([], dtype=torch.long)
        assert torch.ops.regard.best_logprobs(torch.empty(0, 9), 2, never)[0].shape == (0, 2)

    def test_queries_that_share_keys_go_by_torch(self):
        query, key = torch.randn(4, 1, 1, 16), torch.randn(1, 1, 9, 16)
        form = MaskForm("none", 1, 9, query.device)
        made = few(query, key, key, mask=form, scale=1.0)
        torch.testing.assert_close(made, dense(query, key, key, mask=form, scale=1.0))
        with pytest.raises(RuntimeError, match="do not fit each other"):
            torch.ops.regard.attend(query, key, key, None, 1.0)

    def test_a_compiler_that_reads_along_sees_torch_alone(self):
        def both(query, key):
            form = MaskForm("none", 1, 9, query.device)
            return few(query, key, key, mask=form, scale=1.0)

        query, key = torch.randn(2, 1, 1, 16), torch.randn(2, 1, 9, 16)
        made = torch.compile(both, backend="eager", fullgraph=True)(query, key)
        torch.testing.assert_close(made, both(query, key))

    def test_large_scores(self):
        query, key = torch.full((1, 1, 1, 16), 1e3), torch.randn(1, 1, 40, 16)
        form = MaskForm("none", 1, 40, query.device)
        made = few(query, key, key, mask=form, scale=1.0)
        expected = dense(query, key, key, mask=form, scale=1.0)
        torch.testing.assert_close(made, expected)

    @pytest.mark.parametrize("k", [1, 3, 10])
    @pytest.mark.parametrize("vocabulary", [10, 16, 37, 5000])
    def test_the_best_tokens(self, k, vocabulary):
        torch.manual_seed(0)
        logits = torch.randn(7, vocabulary).mul_(5).round_()  # many are equal
        barred = torch.tensor([4, 2])
        values, tokens = torch.ops.regard.best_logprobs(logits.clone(), k, barred)
        logprobs = logits.log_softmax(dim=-1)
        logprobs[:, barred] = -torch.inf
        ordered, order = logprobs.sort(dim=-1, descending=True, stable=True)
        torch.testing.assert_close(values, ordered[:, :k], rtol=1e-5, atol=1e-5)
        found = ordered[:, :k].isfinite()
        assert torch.equal(tokens[found], order[:, :k][found])

    def test_what_is_no_number_stays_none(self):
        logits = torch.zeros(2, 40)
        logits[1, 33] = torch.nan
        values, _ = torch.ops.regard.best_logprobs(logits, 2, torch.tensor([0]))
        assert values[0].isfinite().all()
        assert values[1].isnan().all()

    def test_states_that_do_not_fit_are_refused(self):
        weight = torch.randn(8, 100)
        packed = torch.ops.regard.pack(weight)
        with pytest.raises(RuntimeError, match="do not fit"):
            torch.ops.regard.linear(torch.randn(2, 99), weight, packed, None)
        made = QuantizedLinear(weight, None)
        with pytest.raises(RuntimeError, match="do not fit"):
            torch.ops.regard.int8_linear(torch.randn(2, 300), *made.native, None)


SCRIPT = """
import copy
import torch
from regard.nn import native
from regard.nn.quantized import QuantizedLinear
torch.manual_seed(0)
with torch.no_grad():
    loaded = native.load()
    made = QuantizedLinear(torch.randn(9, 32), torch.randn(9))
    print(loaded, native.load(wait=False), made.native is None)
    print(copy.deepcopy(made)(torch.randn(4, 32)).tolist())
"""


class TestWithout:
    """Each in a process of its own: what is loaded stays."""

    @staticmethod
    def said(tmp_path, monkeypatch, **environment):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    def test_switched_off_or_without_a_compiler_the_numbers_are_the_same(
        self, tmp_path, monkeypatch
    ):
        off = self.said(tmp_path, monkeypatch, REGARD_NATIVE="0")
        none = self.said(tmp_path, monkeypatch, REGARD_NATIVE="1", CXX="no-such-compiler")
        assert off == none
        assert off[0] == "False False True"
        torch.manual_seed(0)
        made = QuantizedLinear(torch.randn(9, 32), torch.randn(9))
        assert made(torch.randn(4, 32)).tolist() == pytest.approx(
            [pytest.approx(row) for row in json.loads(off[1])]
        )

    @builds
    def test_nothing_of_the_working_directory_runs(self, tmp_path, monkeypatch):
        (tmp_path / "hashlib.py").write_text("open('ran', 'w')")
        (tmp_path / "torch.py").write_text("open('ran', 'w')")
        compiler = tmp_path / "compiler"  # what builds has imported all when it is asked
        compiler.write_text(f"#!/bin/sh\necho >>{tmp_path / 'asked'}\nexit 1\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        code = "import sys; sys.path.remove(''); from regard.nn import native; print(native.load())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "False\n", done.stderr
        assert (tmp_path / "asked").exists()
        assert "could not be built" in done.stderr
        assert ".failed.txt" in done.stderr
        assert not [*tmp_path.rglob("ran")]

    def test_without_a_home_nothing_is_lost(self, tmp_path, monkeypatch):
        code = (
            "from pathlib import Path\nfrom regard.nn import native\n"
            "def none(): raise RuntimeError('no home directory')\n"
            "Path.home = none; print(native.load())"
        )
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # does not count
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "False\n", done.stderr

    def test_where_nothing_can_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "cache").write_text("a file, no directory")
        assert self.said(tmp_path, monkeypatch)[0] == "False False True"

    def test_threads_that_ask_at_once(self, tmp_path, monkeypatch):
        code = (
            "import threading\nfrom regard.nn import native\nfound = []\n"
            "ask = lambda: found.append(native.load())\n"
            "ts = [threading.Thread(target=ask) for _ in range(4)]\n"
            "[t.start() for t in ts]; [t.join() for t in ts]; print(len(set(found)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "1\n", done.stderr

    @builds
    def test_a_compiler_that_fails_is_asked_once(self, tmp_path, monkeypatch):
        asked, compiler = tmp_path / "asked", tmp_path / "compiler"
        compiler.write_text(f"#!/bin/sh\necho >>{asked}\nexit 1\n")
        compiler.chmod(0o755)
        said = self.said(tmp_path, monkeypatch, CXX=str(compiler))
        assert said[0] == "False False True"
        (why,) = (tmp_path / "cache" / "regard" / "native").glob("*.failed.txt")
        assert "compiler" in why.read_text()
        assert not [*why.parent.glob("*/")]  # nothing half built
        once = asked.read_text()
        assert self.said(tmp_path, monkeypatch, CXX=str(compiler)) == said
        assert asked.read_text() == once

    @builds
    def test_of_processes_that_wait_one_builds(self, tmp_path, monkeypatch):
        asked, compiler = tmp_path / "asked", tmp_path / "compiler"
        compiler.write_text(f"#!/bin/sh\necho >>{asked}\nsleep 1\nexit 1\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
        code = "from regard.nn import native; print(native.load())"
        counts = []
        for count in (1, 2):
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{count}"))
            started = [
                subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
                for _ in range(count)
            ]
            assert [one.communicate()[0] for one in started] == ["False\n"] * count
            counts.append(len(asked.read_text()))
            asked.unlink()
        assert counts[0] == counts[1] > 0

    def test_a_build_that_nobody_waits_for_is_left_without_a_word(self, tmp_path, monkeypatch):
        compiler = tmp_path / "compiler"
        compiler.write_text("#!/bin/sh\nsleep 3\nexit 1\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("CI", raising=False)
        code = "from regard.nn import native; print(native.load(wait=False))"
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True
        )
        assert (done.stdout, done.stderr) == ("False\n", "")
