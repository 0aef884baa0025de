from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regard import registry
from regard.errors import CheckpointError, RecipeError, RegardError
from regard.training import (
    CheckpointStore,
    Evaluated,
    Event,
    Report,
    Result,
    Saved,
    Started,
    StepDone,
    Stopped,
    Warned,
    train,
    validation_loss,
)
from regard.training.session import dropout_seed
from regard.training.settings import CheckpointSettings, EvaluationSettings, OptimizerSettings

from .toy import Toy, ToyObjective, ToySource, ToyTerm, toy_model, toy_settings

SETTLED = OptimizerSettings(eps=1e-3)
"""An update that is no sign function, so that rounding does not decide it."""


def run(model: Toy | None = None, *, batches: int = 7, **options: object):
    """Train; the result, the model and the events."""
    events: list[Event] = []
    model = model or toy_model()
    keywords = {k: options.pop(k) for k in ("evaluate", "store", "resume") if k in options}
    source = options.pop("source", ToySource(batches))
    objective = options.pop("objective", ToyObjective())
    settings = toy_settings(**options)
    result = train(model, objective, source, settings, listeners=[events.append], **keywords)
    return result, model, events


def steps(events: list[Event]) -> list[StepDone]:
    return [event for event in events if isinstance(event, StepDone)]


def test_it_learns_and_says_what_it_does() -> None:
    result, _, events = run(max_steps=150)
    assert result == Result(150, "finished", None, None, {}, 0)
    assert result.exit_status == 0
    assert isinstance(events[0], Started)
    assert events[0].parameters == 11 * 8 + 2 * (8 * 8 + 8 + 2 * 8)
    assert events[-1] == Stopped(150, "finished")
    made = steps(events)
    assert [step.step for step in made] == list(range(1, 151))
    assert made[-1].terms["loss"] < 0.3 * made[0].terms["loss"]
    assert made[6].epoch == pytest.approx(1.0)
    assert made[7].epoch == pytest.approx(1 + 1 / 7)


def test_the_step_is_the_unsplit_batchs_also_in_the_short_last_window() -> None:
    """Accumulating 3 of 7 micro-batches: windows of 3, 3 and 1, in one piece or in three."""

    class Whole(ToySource):
        """The same windows as one micro-batch each."""

        def num_micro_batches(self, epoch: int) -> int:
            return 3

        def micro_batch(self, epoch: int, k: int) -> dict[str, Tensor]:
            parts = [ToySource().micro_batch(epoch, i) for i in range(3 * k, min(3 * k + 3, 7))]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    common = {"max_steps": 7, "optimizer": SETTLED}
    _, split, split_events = run(toy_model(dropout=0.0), accumulate=3, **common)
    _, whole, whole_events = run(toy_model(dropout=0.0), source=Whole(), **common)
    for a, b in zip(steps(split_events), steps(whole_events), strict=True):
        assert a.terms["loss"] == pytest.approx(b.terms["loss"], rel=1e-6)
        assert a.tokens == b.tokens
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-5)
    for a, b in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_of_the_mean_over_all_items() -> None:
    model = toy_model(dropout=0.0)
    other = toy_model(dropout=0.0)
    source, objective = ToySource(), ToyObjective()
    _, _, events = run(model, accumulate=3, max_steps=1)
    terms = [objective(other, source.micro_batch(0, k))["loss"] for k in range(3)]
    (sum(t.sum for t in terms) / sum(t.count for t in terms)).backward()
    norm = torch.cat([p.grad.flatten() for p in other.parameters()]).norm().item()
    assert steps(events)[0].gradient_norm == pytest.approx(norm, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_before_weights_are_touched(tmp_path: Path) -> None:
    class Poisoned(ToyObjective):
        def __call__(self, model, batch):
            terms = super().__call__(model, batch)
            if batch["example"][0] >= 130:  # the third epoch's fourth micro-batch
                terms["loss"] = ToyTerm(terms["loss"].sum * float("nan"), terms["loss"].count)
            return terms

    class Numbered(ToySource):
        def micro_batch(self, epoch, k):
            batch = super().micro_batch(epoch, k)
            return {**batch, "example": batch["example"] + 50 * epoch}

    model = toy_model()
    seen: dict[int, Tensor] = {}
    store = CheckpointStore(tmp_path / "checkpoints")

    def evaluate(model: Toy) -> dict[str, float]:
        return {"loss": 1.0}

    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepDone):
            seen[event.step] = model.head.weight.detach().clone()

    with pytest.raises(RegardError, match="loss of step 18 is not finite") as caught:
        train(
            model,
            Poisoned(),
            Numbered(),
            toy_settings(),
            evaluate=evaluate,
            listeners=[watch],
            store=store,
        )
    assert "toy:130, toy:131" in str(caught.value)
    assert torch.equal(model.head.weight, seen[17])
    found, _ = store.newest_valid()
    assert found is not None
    assert found.step == 15


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    class Steep(ToyObjective):
        def __call__(self, model, batch):
            term = super().__call__(model, batch)["loss"]
            # Finite itself; its slope at 0 is not.
            root = (term.sum - term.sum.detach()).sqrt()
            return {"loss": ToyTerm(term.sum.detach() + root, term.count)}

        def counts(self, batch):
            return {"loss": super().counts(batch)["loss"]}

    model = toy_model()
    before = model.head.weight.detach().clone()
    with pytest.raises(RegardError, match="gradient of step 1 is not finite") as caught:
        run(model, objective=Steep())
    assert "toy:0" in str(caught.value)
    assert torch.equal(model.head.weight, before)


def test_counts_must_be_those_announced() -> None:
    class Liar(ToyObjective):
        def counts(self, batch):
            return {name: count + 1 for name, count in super().counts(batch).items()}

    with pytest.raises(RegardError, match="announced"):
        run(objective=Liar())


def test_what_cannot_be_split_refuses_accumulation() -> None:
    class Contrastive(ToyObjective):
        decomposable = False

    run(objective=Contrastive(), max_steps=1)
    with pytest.raises(RecipeError, match="cannot be split") as caught:
        run(objective=Contrastive(), accumulate=2)
    assert caught.value.where == "training.accumulate"


def test_clipping_shortens_the_gradient() -> None:
    """With an ε far above the gradients, Adam's first update is proportional to them."""
    common = {"max_steps": 1, "optimizer": OptimizerSettings(eps=1e6)}
    start = torch.cat([p.detach().flatten() for p in toy_model().parameters()])

    def moved(clip: float) -> tuple[Tensor, float]:
        _, model, events = run(toy_model(dropout=0.0).double(), clip_norm=clip, **common)
        end = torch.cat([p.detach().flatten() for p in model.parameters()])
        return end - start, steps(events)[0].gradient_norm

    (free, norm), (short, same) = moved(0.0), moved(0.5)
    assert norm > 1.0
    assert same == pytest.approx(norm)
    torch.testing.assert_close(short, free * 0.5 / norm, rtol=1e-3, atol=0.0)
    assert torch.equal(moved(100.0)[0], free)


def test_norms_by_layer_add_up_and_come_with_lines_alone() -> None:
    _, _, events = run(max_steps=50, log_every=25)
    logged = [step for step in steps(events) if step.logged]
    assert [step.step for step in logged] == [1, 10, 20, 25, 50]
    for step in logged:
        assert set(step.layer_norms) == {"embedding", "layers.0", "layers.1"}
        total = sum(norm**2 for norm in step.layer_norms.values()) ** 0.5
        assert total == pytest.approx(step.gradient_norm, rel=1e-6)
    assert not steps(events)[1].layer_norms


def test_evaluation_comes_first_on_its_rhythm_and_last() -> None:
    at: list[int] = []
    modes: list[bool] = []

    def evaluate(model: Toy) -> Report:
        modes.append(model.training or torch.is_grad_enabled())
        at.append(len(at))
        return Report({"loss": 1.0 / len(at)}, ({"source": "a", "output": "b"},))

    _, model, events = run(evaluate=evaluate, max_steps=12)
    found = [event for event in events if isinstance(event, Evaluated)]
    assert [event.step for event in found] == [0, 5, 10, 12]
    assert [event.best for event in found] == [False, True, True, True]
    assert found[0].samples == ({"source": "a", "output": "b"},)
    assert not any(modes)
    assert model.training


def test_evaluation_by_epochs_is_the_default() -> None:
    _, _, events = run(
        evaluate=lambda model: {"loss": 1.0},
        evaluation=EvaluationSettings(),
        max_steps=None,
        max_epochs=3,
        accumulate=2,
    )
    assert [e.step for e in events if isinstance(e, Evaluated)] == [0, 4, 8, 12]


def test_evaluation_leaves_the_generators_alone() -> None:
    def evaluate(model: Toy) -> dict[str, float]:
        torch.rand(100)
        return {"loss": 1.0}

    _, watched, _ = run(evaluate=evaluate)
    _, alone, _ = run()
    assert torch.equal(watched.head.weight, alone.head.weight)


@pytest.mark.parametrize(
    ("metric", "scores", "stop", "best"),
    [
        ("loss", [9, 3, 2, 2, 2.5, 1], 20, 10),
        ("bleu", [9, 3, 4, 4, 2, 9], 20, 10),
    ],
)
def test_patience(metric: str, scores: list[float], stop: int, best: int) -> None:
    left = iter(scores)
    result, _, _ = run(
        evaluate=lambda model: {metric: float(next(left))},
        evaluation=EvaluationSettings(every_steps=5, metric=metric),
        patience=2,
        max_steps=100,
    )
    assert (result.step, result.reason, result.best_step) == (stop, "patience", best)


def test_another_metric_begins_anew(tmp_path: Path) -> None:
    def scores(model: object) -> dict[str, float]:
        return {"loss": next(losses), "bleu": next(bleus)}

    losses, bleus = iter([9.0, 1.0, 2.0, 9.0, 9.0]), iter([0.0, 5.0, 9.0, 3.0, 4.0])
    rhythm = EvaluationSettings(every_steps=5)
    store = CheckpointStore(tmp_path / "checkpoints")
    result, _, _ = run(evaluate=scores, evaluation=rhythm, max_steps=10, store=store)
    assert (result.best_step, result.best_value) == (5, 1.0)
    rhythm = EvaluationSettings(every_steps=5, metric="bleu")
    result, _, _ = run(
        evaluate=scores, evaluation=rhythm, max_steps=20, store=store, resume=True, patience=2
    )
    # not 5, where the loss was 1.0: that is no BLEU to be beaten
    assert (result.best_step, result.best_value, result.reason) == (20, 4.0, "finished")
    assert json.loads(store.best_file.read_text())["metric"] == "bleu"


def test_the_best_is_kept_whatever_the_rhythm(tmp_path: Path) -> None:
    scores = iter([5.0, 4.0, 1.0, 3.0, 2.0])
    store = CheckpointStore(tmp_path / "checkpoints")
    _, _, events = run(
        evaluate=lambda model: {"loss": next(scores)},
        evaluation=EvaluationSettings(every_steps=4),
        checkpoint=CheckpointSettings(every_steps=5, keep=1),
        max_steps=16,
        store=store,
    )
    best = store.best()
    assert best is not None
    assert best.step == 8
    assert [one.step for one in store.all()] == [8, 15, 16]
    assert [e.step for e in events if isinstance(e, Saved)] == [4, 5, 8, 10, 15, 16]


def test_an_unknown_metric_fails_before_the_first_step() -> None:
    with pytest.raises(RecipeError, match="gives no 'bleu'"):
        run(evaluate=lambda m: {"loss": 1.0}, evaluation=EvaluationSettings(metric="bleu"))


def test_a_horizon_is_needed() -> None:
    with pytest.raises(RecipeError, match="max_steps"):
        run(max_steps=None)


def test_seeds_and_ranks_draw_otherwise() -> None:
    drawn = set()
    for seed in (0, 1, 2**32 + 1):
        for number in (seed, *(dropout_seed(seed, rank) for rank in range(3))):
            torch.manual_seed(number)
            drawn.add(float(torch.rand(())))
    assert len(drawn) == 11  # weights' draws of 1 and 2**32 + 1 alone are equal


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(RegardError, match="nothing to train on"):
        run(batches=0)


def test_gradient_checkpointing_is_asked_of_the_parts() -> None:
    model = toy_model()
    run(model, gradient_checkpointing=True, max_steps=1)
    assert model.gradient_checkpointing
    with pytest.raises(RecipeError, match="twice"):
        run(torch.nn.Linear(2, 2), gradient_checkpointing=True)


@pytest.mark.parametrize("kind", registry.names("optimizers"))
def test_going_on_is_as_if_never_stopped(tmp_path: Path, kind: str) -> None:
    """Every state there is: dropout, float16's scale, a moving average, accumulation."""
    options = {"precision": "float16", "ema": 0.9, "accumulate": 2, "evaluate": loss_of}
    options["optimizer"] = OptimizerSettings(kind)
    _, whole, whole_events = run(max_steps=20, **options)
    store = CheckpointStore(tmp_path / "checkpoints")
    _, _, first = run(max_steps=9, store=store, **options)
    torch.manual_seed(5)
    _, model, second = run(Toy(), max_steps=20, store=store, resume=True, **options)
    for a, b in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [s.terms for s in steps(first) + steps(second)] == [s.terms for s in steps(whole_events)]


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "checksums.json"])
def test_a_damaged_checkpoint_is_passed_by_and_kept(tmp_path: Path, name: str) -> None:
    _, whole, _ = run(max_steps=20)
    store = CheckpointStore(tmp_path / "checkpoints")
    run(max_steps=13, store=store)
    broken = store.all()[-1].path / name
    broken.write_bytes(broken.read_bytes()[:-9])
    _, model, events = run(Toy(), max_steps=20, store=store, resume=True)
    assert isinstance(events[0], Warned)
    assert "step-000013 is damaged" in events[0].text
    assert isinstance(events[1], Started)
    assert (events[1].step, events[1].resumed) == (10, True)
    assert torch.equal(whole.head.weight, model.head.weight)
    assert (store.directory / "damaged-step-000013").exists()


def test_resuming_names_tensors_that_do_not_fit(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    run(max_steps=5, store=store)
    with pytest.raises(CheckpointError, match=r"embedding\.weight has shape"):
        run(toy_model(width=16), store=store, resume=True)
    with pytest.raises(RegardError, match="checkpoints already"):
        run(store=store)


def test_the_moving_average_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    seen: list[Tensor] = []

    def evaluate(model: Toy) -> dict[str, float]:
        seen.append(model.head.weight.detach().clone())
        return {"loss": 1.0}

    _, model, _ = run(ema=0.9, evaluate=evaluate, store=store)
    found = store.get("last")
    assert torch.equal(found.tensors("ema")["embedding.weight"], seen[-1])
    assert torch.equal(found.tensors()["embedding.weight"], model.head.weight)
    assert not torch.equal(seen[-1], model.head.weight)


def loss_of(model: Toy) -> dict[str, float]:
    return validation_loss(model, ToyObjective(), ToySource())
