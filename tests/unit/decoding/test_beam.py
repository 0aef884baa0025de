"""Beam search against exhaustive search and the truth of a small model."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch

from regard.decoding import DecodingSpec, Hypothesis, LengthPenalty, search
from regard.decoding.beam import beam_search, expand
from regard.errors import RegardError

from .fake import (
    END,
    PAD,
    START,
    FakeModel,
    all_outputs,
    close_to,
    logprob_of,
    padded,
    random_sources,
)


def run(model: FakeModel, sources: list[list[int]], **settings: object) -> list[list[Hypothesis]]:
    extra = {
        key: settings.pop(key) for key in ("prefix", "forbidden", "indices") if key in settings
    }
    ids, mask = padded(sources)
    spec = DecodingSpec(**settings)  # type: ignore[arg-type]
    return search(
        model, ids, mask, spec, start_id=START, end_id=END, **{"forbidden": [PAD], **extra}
    )


@pytest.mark.parametrize("stop", ["all", "bound"])
@pytest.mark.parametrize(
    "penalty",
    [
        LengthPenalty("power", 1.0),
        LengthPenalty("power", 0.0),
        LengthPenalty("gnmt", 0.6),
        LengthPenalty("power", -0.5),
        LengthPenalty("power", 2.5),
    ],
)
def test_a_beam_without_bounds_finds_the_best_outputs(stop: str, penalty: LengthPenalty) -> None:
    model = FakeModel(vocabulary=7, seed=3)
    sources = random_sources(3, seed=1, vocabulary=7)
    beam = 4**4  # four words, at most four of them before the end
    found = run(
        model, sources, beam=beam, nbest=10, max_length=5, stop=stop, length_penalty=penalty
    )
    for source, hypotheses in zip(sources, found, strict=True):
        truth = all_outputs(model, source, limit=5, penalty=penalty)[:10]
        assert len(hypotheses) == 10
        for one, wanted in zip(hypotheses, truth, strict=True):
            assert close_to(one, wanted)


def test_bound_gives_what_all_gives_in_fewer_steps() -> None:
    for seed in range(8):
        sources = random_sources(5, seed=seed)
        for nbest, alpha in ((1, 1.0), (3, 0.6), (1, -1.0)):
            penalty = LengthPenalty("power", alpha)
            settings = {"beam": 3, "nbest": nbest, "max_length": 40, "length_penalty": penalty}
            patient = FakeModel(seed=seed, end_bias=1.0)
            quick = FakeModel(seed=seed, end_bias=1.0)
            assert run(quick, sources, stop="bound", **settings) == run(
                patient, sources, stop="all", **settings
            )
            assert len(patient.rows) == 40
            if alpha <= 0:
                assert len(quick.rows) < 40


def naive_beam(
    model: FakeModel, source: list[int], spec: DecodingSpec, limit: int
) -> list[Hypothesis]:
    """The same search for one sentence, written with lists and full distributions."""
    open_: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[Hypothesis] = []
    for length in range(limit):
        options = []
        for logprob, tokens in open_:
            distribution = model.logits_after(source, tokens).double().log_softmax(-1).tolist()
            for token, value in enumerate(distribution):
                early = token == END and length < spec.min_length
                if token not in (PAD, START) and not early:
                    options.append((logprob + value, [*tokens, token]))
        options.sort(key=lambda one: -one[0])
        options = options[: 2 * spec.beam]
        for logprob, tokens in options[: spec.beam]:
            if tokens[-1] == END and not (spec.stop == "first" and len(done) == spec.beam):
                score = logprob / spec.length_penalty(len(tokens))
                done.append(Hypothesis(tokens[:-1], score, logprob, True))
        done = sorted(done, key=lambda one: -one.score)[: spec.beam]
        open_ = [one for one in options if one[1][-1] != END][: spec.beam]
        if spec.stop == "first" and len(done) == spec.beam:
            break
    else:
        for logprob, tokens in open_:
            score = logprob / spec.length_penalty(len(tokens))
            done.append(Hypothesis(tokens, score, logprob, False))
    return done[: spec.nbest]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("stop", ["first", "all"])
def test_the_search_is_that_of_the_plain_program(seed: int, beam: int, stop: str) -> None:
    model = FakeModel(seed=seed, end_bias=0.7)
    sources = random_sources(7, seed=seed)
    spec = DecodingSpec(
        beam=beam,
        nbest=beam,
        stop=stop,
        min_length=2,
        max_length="input+6",
        length_penalty=LengthPenalty("gnmt", 0.6),
    )
    ids, mask = padded(sources)
    found = search(model, ids, mask, spec, start_id=START, end_id=END, forbidden=[PAD])
    for source, hypotheses in zip(sources, found, strict=True):
        truth = naive_beam(model, source, spec, len(source) + 6)
        assert len(hypotheses) == len(truth) == beam
        assert all(close_to(one, two) for one, two in zip(hypotheses, truth, strict=True))


def test_a_beam_of_one_is_greedy() -> None:
    sources = random_sources(9, seed=5)
    for seed in range(4):
        model = FakeModel(seed=seed)
        beam = run(model, sources, beam=1, max_length=20)
        greedy = run(model, sources, strategy="greedy", max_length=20)
        for (one,), (two,) in zip(beam, greedy, strict=True):
            assert close_to(one, two, tolerance=1e-12)


class Scripted:
    """Two words, 3 and 4: 3 looks better at first, 4 leads to the better end."""

    table: ClassVar[dict[tuple[int, ...], dict[int, float]]] = {
        (): {3: 0.6, 4: 0.4},
        (3,): {3: 0.3, 4: 0.3, END: 0.4},
        (4,): {3: 0.05, 4: 0.05, END: 0.9},
    }

    def __init__(self) -> None:
        self.histories: list[tuple[int, ...]] = []

    def start(self, source_ids, *, source_mask=None, width=1):  # type: ignore[no-untyped-def]
        self.histories = [()] * (len(source_ids) * width)
        return self

    def step(self, tokens, state):  # type: ignore[no-untyped-def]
        for row, token in enumerate(tokens[:, -1].tolist()):
            if token != START:
                self.histories[row] = (*self.histories[row], token)
        logits = torch.full((len(tokens), 5), -1e9, dtype=torch.float64)
        for row, history in enumerate(self.histories):
            for token, probability in self.table.get(history, {END: 1.0}).items():
                logits[row, token] = math.log(probability)
        return logits

    def advance(self, parents):  # type: ignore[no-untyped-def]
        self.histories = [self.histories[row] for row in parents.tolist()]

    def keep(self, sentences):  # type: ignore[no-untyped-def]
        raise AssertionError("one sentence cannot leave")


def test_the_beam_switches_parents_and_scores_by_hand() -> None:
    spec = DecodingSpec(beam=2, nbest=2, max_length=4, length_penalty=LengthPenalty("power", 1.0))
    marks = {"start_id": START, "end_id": END}
    (found,) = search(Scripted(), torch.tensor([[3]]), None, spec, **marks)
    assert [one.tokens for one in found] == [[4], [3]]
    assert found[0].logprob == pytest.approx(math.log(0.4 * 0.9))
    assert found[0].score == pytest.approx(math.log(0.4 * 0.9) / 2)  # one word and the end token
    assert found[1].score == pytest.approx(math.log(0.6 * 0.4) / 2)
    (greedy,) = search(
        Scripted(), torch.tensor([[3]]), None, DecodingSpec(beam=1, max_length=4), **marks
    )
    assert greedy[0].tokens == [3]


def test_length_penalty_decides() -> None:
    """Short: p = 0.5 in one token; long: 0.4 in three, each the mean's fourth… by the penalty."""

    class Choice(Scripted):
        table: ClassVar = {
            (): {END: 0.5, 3: 0.45, 4: 0.05},
            (3,): {3: 1.0},
            (3, 3): {END: 0.9, 4: 0.1},
        }

    def first(penalty: LengthPenalty) -> Hypothesis:
        spec = DecodingSpec(beam=3, max_length=6, stop="all", length_penalty=penalty)
        return search(Choice(), torch.tensor([[3]]), None, spec, start_id=START, end_id=END)[0][0]

    assert first(LengthPenalty("power", 0.0)).tokens == []
    longer = first(LengthPenalty("power", 1.0))
    assert longer.tokens == [3, 3]
    assert longer.score == pytest.approx(math.log(0.45 * 0.9) / 3)
    gnmt = first(LengthPenalty("gnmt", 0.6))
    assert gnmt.tokens == [] or gnmt.tokens == [3, 3]
    assert gnmt.score == pytest.approx(
        max(math.log(0.5) / (6 / 6) ** 0.6, math.log(0.405) / (8 / 6) ** 0.6)
    )


def test_min_and_max_length_together_forbid_the_end() -> None:
    model = FakeModel(end_bias=5.0)
    sources = random_sources(4)
    for found in run(model, sources, beam=3, nbest=3, min_length=9, max_length=9):
        assert [len(one.tokens) for one in found] == [9, 9, 9]
        assert not any(one.finished for one in found)
    assert len(model.rows) == 9  # no step more
    for source, found in zip(sources, run(model, sources, beam=3, max_length=9), strict=True):
        best = found[0]
        assert best.finished
        assert len(best.tokens) < 9
        assert best.logprob == pytest.approx(logprob_of(model, source, best.tokens, ended=True))


def test_an_unfinished_output_comes_after_the_finished() -> None:
    class Loop(Scripted):
        table: ClassVar = {(3,) * n: {3: 0.999, END: 0.0005, 4: 0.0005} for n in range(9)}

    spec = DecodingSpec(beam=2, nbest=2, max_length=6, stop="all")
    (found,) = search(Loop(), torch.tensor([[3]]), None, spec, start_id=START, end_id=END)
    assert all(one.finished for one in found)
    spec = DecodingSpec(beam=2, nbest=2, min_length=6, max_length=6)
    (found,) = search(Loop(), torch.tensor([[3]]), None, spec, start_id=START, end_id=END)
    assert not any(one.finished for one in found)
    assert found[0].tokens == [3] * 6
    assert found[0].score == pytest.approx(math.log(0.999))


def test_finished_sentences_leave() -> None:
    model = FakeModel(seed=2, end_bias=1.5)
    sources = random_sources(32, seed=9)
    run(model, sources, beam=2, max_length=60)
    assert model.rows[0] == 64
    assert sorted(model.rows, reverse=True) == model.rows
    assert model.rows[-1] < 32


def test_prefixes_of_differing_length() -> None:
    model = FakeModel(vocabulary=7, seed=8)
    sources = random_sources(4, seed=2, vocabulary=7)
    prefixes = [[], [4], [5, 5, 3], [3, 6]]
    penalty = LengthPenalty("power", 1.0)
    settings = {"beam": 4**4, "nbest": 5, "max_length": 5, "stop": "all"}
    found = run(model, sources, prefix=prefixes, **settings)
    for source, prefix, hypotheses in zip(sources, prefixes, found, strict=True):
        truth = all_outputs(model, source, limit=5, penalty=penalty, prefix=tuple(prefix))[:5]
        assert all(close_to(one, two) for one, two in zip(hypotheses, truth, strict=True))
    alone = run(model, sources[2:3], prefix=prefixes[2:3], **settings)
    assert model.rows[-1] == 4**4  # the common prefix was one step with the start token
    assert close_to(alone[0][0], found[2][0], 1e-12)


def test_a_token_is_forbidden_and_keeps_its_probability() -> None:
    model = FakeModel(vocabulary=6, seed=4)
    source = [3, 4]
    (found,) = run(model, [source], beam=100, nbest=3, max_length=4, stop="all", forbidden=[PAD, 5])
    truth = all_outputs(model, source, limit=4, penalty=LengthPenalty(), forbidden=(PAD, START, 5))
    for one, wanted in zip(found, truth[:3], strict=True):
        assert close_to(one, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_alone_as_in_any_batch(dtype: torch.dtype) -> None:
    model = FakeModel(seed=6, end_bias=0.5, dtype=dtype)
    sources = random_sources(20, seed=3)
    settings = {"beam": 4, "nbest": 4, "max_length": "input+10"}
    together = run(model, sources, **settings)
    for source, hypotheses in zip(sources, together, strict=True):
        assert run(model, [source], **settings) == [hypotheses]


def test_repetition_penalty_avoids_repetition() -> None:
    sources = random_sources(6, seed=4)
    model = FakeModel(seed=1, end_bias=-9.0)
    plain = run(model, sources, beam=2, min_length=8, max_length=8)
    fined = run(model, sources, beam=2, min_length=8, max_length=8, repetition_penalty=50.0)
    kinds = [sum(len(set(found[0].tokens)) for found in one) for one in (plain, fined)]
    assert kinds[1] > kinds[0] + 6


def test_fewer_outputs_than_wanted_are_fewer() -> None:
    model = FakeModel(vocabulary=4)  # one word
    (found,) = run(model, [[3]], beam=8, nbest=8, max_length=3, stop="all")
    assert sorted(one.tokens for one in found) == [[], [3], [3, 3], [3, 3, 3]]
    with pytest.raises(RegardError, match="no output is possible"):
        run(model, [[3]], beam=2, max_length=3, min_length=2, forbidden=[PAD, 3])


def test_logits_that_are_no_numbers_are_refused() -> None:
    model = FakeModel()
    model.table.fill_(float("nan"))
    for settings in ({"beam": 3}, {"strategy": "greedy"}):
        with pytest.raises(RegardError, match="not numbers"):
            run(model, [[3]], max_length=4, **settings)


def test_candidates_of_equal_value_stand_by_place_and_token() -> None:
    logprobs = torch.zeros(1, 2)
    candidates = expand(logprobs, torch.zeros(2, 4), torch.tensor([0]))
    assert candidates.parents.tolist() == [[0, 0, 0, 1]]
    assert candidates.tokens[0, 3] == candidates.tokens[0, 0]


def test_another_model_can_go_on_from_its_own_state() -> None:
    """The generic door: prompts as prefixes, a state that no source started."""
    from regard.decoding import Request, continue_from

    model = FakeModel(seed=5)
    spec = DecodingSpec(beam=3, max_length=8)
    state = model.start(torch.tensor([[3], [4]]), width=3)
    request = Request(END, [8, 9], [[5, 6], [7]], [0, 1], (PAD, START))
    first = torch.full((2, 1), START)
    found = continue_from(model, state, first, spec, request)
    assert found == beam_search(
        model, model.start(torch.tensor([[3], [4]]), width=3), first, spec, request
    )
    assert [one[0].tokens[:1] for one in found] == [[5], [7]]
