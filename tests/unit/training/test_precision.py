from __future__ import annotations

import pytest
import torch

from regard.errors import RegardError
from regard.training import StepDone, train
from regard.training.device import choose_device, choose_precision
from regard.training.precision import LEAST_SCALE, Masters, Scaled, make_precision

from .toy import ToyObjective, ToySource, toy_model, toy_settings


def losses(precision: str, **changes: object) -> list[float]:
    found: list[float] = []

    def watch(event: object) -> None:
        if isinstance(event, StepDone):
            found.append(event.terms["loss"])

    settings = toy_settings(precision=precision, **changes)
    train(toy_model(width=16), ToyObjective(), ToySource(), settings, listeners=[watch])
    return found


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_follows_float32(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # From a scale at which no step is skipped, so that each step is its partner's.
    monkeypatch.setattr("regard.training.precision.FIRST_SCALE", 256.0)
    exact, low = losses("float32"), losses(precision)
    assert low != exact
    bound = {"bfloat16": 0.02, "float16": 0.005}[precision]
    assert max(abs(a - b) / a for a, b in zip(exact, low, strict=True)) < bound


def test_small_updates_are_not_lost() -> None:
    """An update far below bfloat16's resolution adds up in the masters."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    precision = make_precision("bfloat16", model)
    optimizer = torch.optim.SGD(precision.trained_weights.values(), lr=1e-4)
    for _ in range(100):
        precision.backward(model(torch.ones(1, 1, dtype=torch.bfloat16)).sum())
        precision.step(optimizer)
    assert precision.weights["weight"].item() == pytest.approx(0.99, abs=1e-5)
    assert model.weight.item() == pytest.approx(0.99, abs=4e-3)


def test_micro_batches_add_up_in_float32() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    precision = make_precision("bfloat16", model)
    for value in (256.0, 1.0, 1.0):
        precision.backward(model(torch.full((1, 1), value, dtype=torch.bfloat16)).sum())
    assert precision.gradients()[0].item() == 258.0  # bfloat16 would say 256
    precision.forget()
    assert precision.gradients()[0].item() == 0.0


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gradients_stand_between_backward_and_step_alone(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activations have their room meanwhile; a weight that comes late is no exception."""
    monkeypatch.setattr("regard.training.precision.FIRST_SCALE", 256.0)
    model = torch.nn.ModuleDict({name: torch.nn.Linear(2, 1, bias=False) for name in ("a", "b")})
    made = make_precision(precision, model)
    dtype = {"float32": torch.float32, "float16": torch.float16}.get(precision, torch.bfloat16)
    states = torch.ones(1, 2, dtype=dtype)

    def none_is_held() -> bool:
        every = [*made.weights.values(), *model.parameters()]
        return all(weight.grad is None for weight in every)

    optimizer = torch.optim.SGD(made.trained_weights.values(), lr=0.1)
    assert none_is_held()
    made.backward(model["a"](states).sum())
    assert made.weights["b.weight"].grad is None
    made.backward((model["a"](states) + 2 * model["b"](states)).sum())
    assert [one.tolist() for one in made.gradients()] == [
        [[2.0 * made.scale] * 2],
        [[2.0 * made.scale] * 2],
    ]
    made.step(optimizer)
    assert none_is_held()
    made.backward(model["a"](states).sum())
    if isinstance(made, Scaled):
        assert made.overflow()
    else:
        made.forget()
    assert none_is_held()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_model_is_left_in_float32(precision: str) -> None:
    model = toy_model()
    train(model, ToyObjective(), ToySource(), toy_settings(precision=precision, max_steps=2))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.head.weight is model.embedding.weight
    assert all(p.grad is None for p in model.parameters())


def test_an_overflow_is_skipped_and_counted() -> None:
    """float16 gradients overflow at the first scale; the run goes on at a smaller one."""

    class Steep(ToyObjective):
        def __call__(self, model, batch):
            terms = super().__call__(model, batch)
            term = terms["loss"]
            return {**terms, "loss": type(term)(term.sum * 50.0, term.count)}

    model = toy_model()
    before = model.embedding.weight.detach().clone()
    result = train(model, Steep(), ToySource(), toy_settings(precision="float16", max_steps=8))
    assert 0 < result.skipped < 8
    assert result.step == 8
    assert not torch.equal(model.embedding.weight, before)
    assert torch.isfinite(model.embedding.weight).all()


def test_the_scale_grows_after_good_steps_and_has_a_floor() -> None:
    precision = make_precision("float16", torch.nn.Linear(1, 1))
    assert isinstance(precision, Scaled)
    precision.load_state({"scale": 8.0, "good": 1999})
    optimizer = torch.optim.SGD(precision.trained_weights.values(), lr=0.0)
    precision.step(optimizer)
    assert precision.state() == {"scale": 16.0, "good": 0}
    precision.load_state({"scale": 2 * LEAST_SCALE, "good": 5})
    assert precision.overflow()
    assert not precision.overflow()


def test_frozen_weights_keep_their_float32_values() -> None:
    model = toy_model()
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.detach().clone()
    precision = make_precision("bfloat16", model)
    assert isinstance(precision, Masters)
    assert "embedding.weight" not in precision.trained
    precision.finish()
    assert torch.equal(model.embedding.weight, before)


def test_auto_chooses_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for able, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("regard.nn.backend.fast_bfloat16", lambda able=able: able)
        assert choose_precision("auto", cpu) == expected
    assert choose_precision("float16", cpu) == "float16"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(RegardError, match="float8"):
        make_precision("float8", toy_model())
    with pytest.raises(RegardError, match="tpu"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(RegardError, match="no GPU"):
            choose_device("cuda")
