from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from regard.errors import CheckpointError
from regard.training import CheckpointStore, MovingAverage, keep_mean, kept_mean, mean_for_use
from regard.training.averaging import mean_weights
from regard.training.checkpoints import MEAN, Checkpoint


def tensors(value: float) -> dict[str, dict[str, Tensor]]:
    return {
        "model": {"a": torch.full((3, 2), value), "count": torch.tensor([int(value)])},
        "optimizer": {"exp_avg/a": torch.full((3, 2), value / 2)},
    }


def filled(tmp_path: Path, *steps: int, keep: int = 5) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints", keep=keep)
    for step in steps:
        store.save(step, tensors(float(step)), {"rhythm": True, "value": 100.0 - step % 30})
        store.prune()
    return store


def spoil(checkpoint: Checkpoint, name: str, how: str) -> None:
    path = checkpoint.path / name
    data = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(data[:-7])
    elif how == "altered":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    found = store.get(5)
    assert found.path.name == "step-000005"
    assert torch.equal(found.tensors()["a"], torch.full((3, 2), 5.0))
    assert torch.equal(found.tensors("optimizer")["exp_avg/a"], torch.full((3, 2), 2.5))
    assert found.state() == {"format": 1, "step": 5, "rhythm": True, "value": 95.0}
    names = {path.name for path in found.path.iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"}


@pytest.mark.parametrize("how", ["cut", "altered", "missing"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"]
)
def test_a_damaged_one_is_passed_by_with_a_warning(tmp_path: Path, name: str, how: str) -> None:
    store = filled(tmp_path, 5, 10, 15)
    spoil(store.all()[-1], name, how)
    found, warnings = store.newest_valid()
    assert found is not None
    assert found.step == 10
    assert len(warnings) == 1
    assert "step-000015" in warnings[0]
    # Altered checksums accuse the file that they belong to.
    accused = "safetensors|json" if (name, how) == ("checksums.json", "altered") else name
    assert re.search(accused, warnings[0])
    if "optimizer.safetensors was altered" in warnings[0]:  # weights can be used without it
        assert store.get(15).step == store.get("last").step == 15
        return
    with pytest.raises(CheckpointError, match=accused):
        store.get(15)
    assert store.get("last").step == 10


def test_all_damaged_is_an_error_to_use_and_a_warning_to_resume(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    spoil(store.all()[0], "model.safetensors", "cut")
    assert store.newest_valid()[0] is None
    with pytest.raises(CheckpointError, match="cut short"):
        store.get("last")


def test_the_newest_stay_and_the_best(tmp_path: Path) -> None:
    store = filled(tmp_path, 5, 10)
    store.mark_best(5, "loss", 1.5)
    store.keep = 2
    for step in (15, 20, 25):
        store.save(step, tensors(1.0), {"rhythm": step != 20})
        store.prune()
    assert [one.step for one in store.all()] == [5, 15, 25]
    best = store.best()
    assert best is not None
    assert best.step == 5
    assert json.loads(store.best_file.read_text()) == {
        "format": 1,
        "step": 5,
        "metric": "loss",
        "value": 1.5,
    }


def test_saving_again_replaces(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    store.save(5, tensors(7.0), {})
    assert torch.equal(store.get(5).tensors()["a"], torch.full((3, 2), 7.0))
    assert [path.name for path in store.directory.iterdir()] == ["step-000005"]


def test_leftovers_are_swept(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    (store.directory / ".step-000010").mkdir()
    (store.directory / ".step-000010" / "model.safetensors").write_bytes(b"half")
    (store.directory / ".old-step-000001-77").mkdir()
    (tmp_path / ".best.123").write_text("{")
    store.sweep()
    assert [path.name for path in store.directory.iterdir()] == ["step-000005"]
    assert not list(tmp_path.glob(".best*"))


def test_a_kill_between_the_renames_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    (store.directory / "step-000005").rename(store.directory / ".replaced-step-000005")
    store.sweep()
    assert store.get("last").step == 5


def test_asking_for_what_is_not_there(tmp_path: Path) -> None:
    store = filled(tmp_path, 5, 10)
    with pytest.raises(CheckpointError, match="no checkpoint 7") as caught:
        store.get(7)
    assert "there are: 5, 10" in str(caught.value)
    with pytest.raises(CheckpointError, match="no checkpoint 'best'"):
        store.get("best")
    with pytest.raises(CheckpointError, match="no checkpoint 'last'") as caught:
        CheckpointStore(tmp_path / "none").get("last")
    assert "train first" in str(caught.value)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    path = store.get(5).path / "state.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(CheckpointError, match="newer regard"):
        store.all()[0].state()


FULL = """
import resource, sys
from pathlib import Path
import torch
from regard.errors import RegardError
from regard.training import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]))
store.save(5, {"model": {"a": torch.ones(100)}}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.save(10, {"model": {"a": torch.ones(100_000)}}, {})
except RegardError as error:
    print(error)
"""


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(directory)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "step-000010: cannot be written" in done.stdout
    assert "intact: step-000005" in done.stdout
    assert [path.name for path in directory.iterdir()] == ["step-000005"]
    assert CheckpointStore(directory).get("last").step == 5


def test_the_mean_of_the_last(tmp_path: Path) -> None:
    store = filled(tmp_path, 10, 20, 30, 40)
    store.save(45, tensors(45.0), {"rhythm": False, "reason": "interrupt"})
    chosen = store.to_average(3)
    assert [one.step for one in chosen] == [20, 30, 40]
    mean = mean_weights(chosen)
    assert torch.equal(mean["a"], torch.full((3, 2), 30.0))
    assert mean["a"].dtype == torch.float32
    assert mean["count"].tolist() == [40]
    store.save(45, tensors(45.0), {"rhythm": False, "reason": "finished"})
    assert [one.step for one in store.to_average(3)] == [30, 40, 45]


def test_the_mean_of_the_best(tmp_path: Path) -> None:
    store = filled(tmp_path, 10, 20, 30, 40)  # values 90, 80, 100, 90
    assert [one.step for one in store.to_average(2, "best")] == [10, 20]


def test_scores_of_two_metrics_do_not_compare(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    for step, metric, value in ((1, "loss", 2.0), (2, "bleu", 30.0), (3, "bleu", 20.0)):
        state = {"metric": metric, "value": value, "higher_is_better": metric == "bleu"}
        store.save(step, tensors(float(step)), state)
    assert [one.step for one in store.to_average(1, "best")] == [2]
    assert [one.step for one in store.to_average(9, "best")] == [2, 3]


def test_averaging_sums_in_float64(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    values = [torch.rand(1000) for _ in range(3)]
    for step, value in enumerate(values, start=1):
        store.save(step, {"model": {"a": value}}, {})
    mean = mean_weights(store.to_average(3))["a"]
    assert torch.equal(mean, torch.stack(values).double().mean(dim=0).float())


def test_averaging_others_weights_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, 10)
    store.save(20, {"model": {"b": torch.ones(1)}}, {})
    with pytest.raises(CheckpointError, match="other tensors"):
        mean_weights(store.to_average(2))


def test_the_moving_average_is_its_formula() -> None:
    weight = torch.zeros(2)
    average = MovingAverage(0.9, {"w": weight})
    expected = torch.zeros(2)
    for step in range(1, 200):
        weight.fill_(float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.average["w"], expected)
    refreshed: list[float] = []
    with average.in_place(lambda: refreshed.append(weight[0].item())):
        assert torch.equal(weight, average.average["w"])
    assert weight.tolist() == [199.0, 199.0]
    assert refreshed == [average.average["w"][0].item(), 199.0]


def test_an_old_damaged_checkpoint_stops_no_later_save(tmp_path):
    store = filled(tmp_path, 1, 2, 3, keep=2)
    (store.all()[0].path / "state.json").write_text("{")
    store.save(4, tensors(4.0), {"rhythm": True})
    store.prune()
    assert [one.step for one in store.all()] == [2, 3, 4]  # 2 is damaged: nobody's to delete


def test_a_kept_mean_is_used_for_just_these_checkpoints(tmp_path: Path) -> None:
    store = filled(tmp_path, 10, 20, 30)
    chosen = store.to_average(2)
    assert kept_mean(chosen) is None
    keep_mean(store, chosen)
    kept = kept_mean(chosen)
    assert kept is not None
    assert torch.equal(kept["a"], mean_for_use(chosen)["a"])
    assert kept_mean(store.to_average(3)) is None
    assert [one.step for one in store.all()] == [10, 20, 30]
    store.save(30, tensors(7.0), {"rhythm": True})  # another one in the old one's place
    assert kept_mean(store.to_average(2)) is None


def test_a_damaged_mean_is_nobodys(tmp_path: Path) -> None:
    store = filled(tmp_path, 10, 20)
    chosen = store.to_average(2)
    keep_mean(store, chosen)
    for name in ("model.safetensors", "state.json", "checksums.json"):
        path = store.directory / MEAN / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-3])
        assert kept_mean(chosen) is None, name
        path.write_bytes(whole)
    assert kept_mean(chosen) is not None


def test_a_mean_of_damaged_checkpoints_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, 10, 20)
    chosen = store.to_average(2)
    path = chosen[0].file("model")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="altered or cut short"):
        mean_for_use(chosen)


def test_what_does_not_train_is_kept_once_beside_the_mean_too(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save_base({"frozen": torch.ones(2)})
    for step in (1, 2):
        store.save(step, {"model": {"a": torch.full((2,), float(step))}}, {})
    chosen = store.to_average(2)
    keep_mean(store, chosen)
    with safe_open(store.directory / MEAN / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"a"}
    kept = kept_mean(chosen)
    assert kept is not None
    assert (kept["a"].tolist(), kept["frozen"].tolist()) == ([1.5, 1.5], [1.0, 1.0])


def test_a_mean_of_moving_averages_is_kept_as_such(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    store.notes = {"regard.adapter": "lora"}
    for step in (1, 3):
        value = torch.full((2,), float(step))
        store.save(
            step, {"model": {"a": value, "buffer": value.clone()}, "ema": {"a": 10 * value}}, {}
        )
    chosen = store.to_average(2)
    keep_mean(store, chosen)
    kept = kept_mean(chosen)
    assert kept is not None
    assert (kept["a"].tolist(), kept["buffer"].tolist()) == ([20.0, 20.0], [2.0, 2.0])
    with safe_open(store.directory / MEAN / "model.safetensors", framework="pt") as file:
        assert file.metadata() == store.notes  # what adapters they are, where they are such


def with_mean(folder: Path) -> tuple[CheckpointStore, list[Checkpoint]]:
    """A store of three checkpoints, and those two whose mean it keeps."""
    store = filled(folder, 10, 20, 30)
    chosen = store.to_average(2)
    keep_mean(store, chosen)
    return store, chosen


def test_a_disk_that_is_full_leaves_the_old_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chosen = with_mean(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("regard.training.checkpoints.save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        keep_mean(store, store.to_average(3))
    assert kept_mean(chosen) is not None
    assert sorted(path.name for path in store.directory.iterdir())[0] == MEAN


def test_a_mean_that_is_replaced_while_it_is_read_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chosen = with_mean(tmp_path)
    read = Checkpoint.tensors

    def replaced(self: Checkpoint, name: str = "model") -> dict[str, Tensor]:
        store.save_mean({"a": torch.zeros(3, 2)}, {"step-000040": "another"})
        return read(self, name)

    monkeypatch.setattr(Checkpoint, "tensors", replaced)
    assert kept_mean(chosen) is None
