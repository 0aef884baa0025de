"""Greedy search, sampling and streaming over a model whose truth is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from regard.decoding import DecodingSpec, Hypothesis, search, stream
from regard.errors import InputError, RegardError

from .fake import END, PAD, START, FakeModel, logprob_of, padded, random_sources


def run(
    model: FakeModel, sources: list[list[int]], spec: DecodingSpec, **more: object
) -> list[list[Hypothesis]]:
    ids, mask = padded(sources)
    return search(model, ids, mask, spec, start_id=START, end_id=END, forbidden=[PAD], **more)  # type: ignore[arg-type]


def greedy_truth(
    model: FakeModel, source: list[int], limit: int, prefix: tuple[int, ...] = ()
) -> tuple[list[int], bool]:
    tokens = list(prefix)
    while len(tokens) < limit:
        logits = model.logits_after(source, tokens).clone()
        logits[[PAD, START]] = float("-inf")
        token = int(logits.argmax())
        if token == END:
            return tokens, True
        tokens.append(token)
    return tokens, False


@pytest.mark.parametrize("seed", range(4))
def test_greedy(seed: int) -> None:
    model = FakeModel(seed=seed, end_bias=0.5)
    sources = random_sources(12, seed=seed)
    prefixes = [[4] * (index % 3) for index in range(12)]
    spec = DecodingSpec(strategy="greedy", max_length="input+8")
    found = run(model, sources, spec, prefix=prefixes)
    for source, prefix, (one,) in zip(sources, prefixes, found, strict=True):
        tokens, finished = greedy_truth(model, source, len(source) + 8, tuple(prefix))
        assert (one.tokens, one.finished) == (tokens, finished)
        truth = logprob_of(model, source, tokens, ended=finished, prefix=len(prefix))
        assert one.logprob == pytest.approx(truth, abs=1e-9)
        assert one.score == pytest.approx(truth / (len(tokens) - len(prefix) + finished), abs=1e-9)


SAMPLING = DecodingSpec(
    strategy="sample",
    nbest=3,
    temperature=1.3,
    top_k=7,
    top_p=0.95,
    min_p=0.01,
    max_length=20,
    seed=5,
)


def test_a_sentence_draws_the_same_in_any_batch() -> None:
    model = FakeModel(seed=1, end_bias=-1.5)
    sources = random_sources(11, seed=1)
    together = run(model, sources, SAMPLING)
    turned = run(model, sources[::-1], SAMPLING, indices=list(range(11))[::-1])
    assert turned[::-1] == together
    for index, source in enumerate(sources):
        assert run(model, [source], SAMPLING, indices=[index]) == [together[index]]
    texts = {tuple(one.tokens) for found in together for one in found}
    assert len(texts) > 25, "samples should differ"
    assert [one.score for one in together[0]] == sorted(
        (one.score for one in together[0]), reverse=True
    )


def test_same_source_other_index_other_draw() -> None:
    model = FakeModel(seed=1, end_bias=-2.0)
    spec = DecodingSpec(strategy="sample", max_length=12)
    found = run(model, [[3, 4]] * 8, spec)
    assert len({tuple(one.tokens) for (one,) in found}) == 8


def test_samples_carry_the_models_own_probability() -> None:
    model = FakeModel(seed=2, end_bias=0.5)
    sources = random_sources(5, seed=2)
    for source, found in zip(sources, run(model, sources, SAMPLING), strict=True):
        for one in found:
            truth = logprob_of(model, source, one.tokens, ended=one.finished)
            assert one.logprob == pytest.approx(truth, abs=1e-9)


def test_sampling_cold_is_greedy() -> None:
    model = FakeModel(seed=3)
    sources = random_sources(6, seed=3)
    cold = DecodingSpec(strategy="sample", temperature=1e-4, max_length=15)
    greedy = DecodingSpec(strategy="greedy", max_length=15)
    assert run(model, sources, cold) == run(model, sources, greedy)


def test_first_draws_follow_the_models_distribution() -> None:
    model = FakeModel(vocabulary=6, seed=4)
    spec = DecodingSpec(strategy="sample", nbest=4000, max_length=1)
    (found,) = run(model, [[3]], spec)
    logits = model.logits_after([3], [])
    logits[[PAD, START]] = float("-inf")
    wanted = logits.softmax(-1)
    first = [one.tokens[0] if one.tokens else END for one in found]
    shares = torch.bincount(torch.tensor(first), minlength=6) / 4000
    assert torch.allclose(shares.double(), wanted, atol=0.035)


def test_finished_rows_leave() -> None:
    model = FakeModel(seed=1, end_bias=1.0)
    run(model, random_sources(40, seed=8), DecodingSpec(strategy="greedy", max_length=50))
    assert model.rows[0] == 40
    assert model.rows[-1] < 20


def test_stream_gives_the_tokens_one_by_one() -> None:
    model = FakeModel(seed=7, end_bias=0.3)
    for source in random_sources(5, seed=7):
        ids = torch.tensor([source])
        for spec in (
            DecodingSpec(strategy="greedy", max_length=15),
            DecodingSpec(strategy="sample", max_length=15, seed=9),
        ):
            marks = {"start_id": START, "end_id": END, "forbidden": [PAD]}
            (whole,) = search(model, ids, None, spec, prefix=[[5, 4]], **marks)
            tokens = stream(model, ids, None, spec, prefix=[5, 4], **marks)
            before = len(model.rows)
            found = []
            for token in tokens:
                found.append(token)
                assert len(model.rows) - before == len(found), "it ran ahead"
                assert not torch.is_inference_mode_enabled()
            assert [5, 4, *found] == whole[0].tokens


def test_a_beam_cannot_be_streamed() -> None:
    ids = torch.tensor([[3]])
    for spec in (DecodingSpec(), DecodingSpec(strategy="sample", nbest=2)):
        with pytest.raises(RegardError, match="streamed"):
            next(stream(FakeModel(), ids, None, spec, start_id=START, end_id=END))


class Noisy(nn.Module):
    """Raises in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = FakeModel()

    def start(self, source_ids, *, source_mask=None, width=1):  # type: ignore[no-untyped-def]
        assert not self.training
        return self.inner.start(source_ids, source_mask=source_mask, width=width)

    def step(self, tokens, state):  # type: ignore[no-untyped-def]
        assert not self.training
        assert not torch.is_grad_enabled()
        return self.inner.step(tokens, state)


def test_decoding_is_without_dropout_and_leaves_the_mode_as_it_was() -> None:
    model = Noisy().train()
    marks = {"start_id": START, "end_id": END}
    for spec in (DecodingSpec(max_length=5), DecodingSpec(strategy="greedy", max_length=5)):
        search(model, torch.tensor([[3]]), None, spec, **marks)
        assert model.training
    for _ in stream(model, torch.tensor([[3]]), None, spec, **marks):
        assert model.training
    assert model.training


def test_a_start_that_is_also_the_end_may_come() -> None:
    model = FakeModel(end_bias=1.0)
    spec = DecodingSpec(beam=2, max_length=20)
    (found,) = search(model, torch.tensor([[3]]), None, spec, start_id=END, end_id=END)
    assert found[0].finished


def test_bad_requests() -> None:
    model, spec = FakeModel(), DecodingSpec(max_length=3)
    with pytest.raises(InputError, match="leaves nothing"):
        run(model, [[3], [4]], spec, prefix=[[], [5, 5, 5]])
    with pytest.raises(InputError, match="end token"):
        run(model, [[3]], spec, prefix=[[END]])
    with pytest.raises(InputError, match="2 prefixes for 1 sentences"):
        run(model, [[3]], spec, prefix=[[], []])
    empty = torch.zeros(0, 3, dtype=torch.long)
    assert search(model, empty, None, spec, start_id=START, end_id=END) == []


def test_the_models_longest_output_is_a_limit() -> None:
    spec = DecodingSpec(beam=2, min_length=4, max_length="input+50")
    (found,) = run(FakeModel(end_bias=-50.0), [[3]], spec, max_positions=6)
    assert len(found[0].tokens) == 6
