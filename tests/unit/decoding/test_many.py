"""Many sentences: cut into batches, their order kept."""

from __future__ import annotations

import pytest
import torch

from regard.decoding import DecodingSpec, search, search_many
from regard.decoding.many import PACK_FROM, batches, pad
from regard.errors import RegardError
from regard.models.transformer import Transformer, TransformerConfig
from regard.nn import backend

from .fake import END, PAD, START, FakeModel, padded, random_sources

MARKS = {"start_id": START, "end_id": END}


def test_batches_hold_the_budget_and_every_sentence_once() -> None:
    lengths = [3, 9, 1, 0, 5, 9, 2, 40, 7]
    found = batches(lengths, 20)
    assert sorted(index for batch in found for index in batch) == list(range(9))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 20
    assert found[0] == [7]  # longer than the budget
    assert batches([], 20) == []
    with pytest.raises(RegardError):
        batches([1], 0)


def test_pad() -> None:
    ids, mask = pad([[5, 6], [7], []], 0, torch.device("cpu"))
    assert ids.tolist() == [[5, 6], [7, 0], [0, 0]]
    assert mask.tolist() == [[True, True], [True, False], [False, False]]
    ids, mask = pad([[]], 0, torch.device("cpu"))
    assert ids.shape == (1, 0)
    assert ids.dtype == torch.long
    assert mask is None
    assert pad([[1, 2], [3, 4]], 0, torch.device("cpu"))[1] is None  # real everywhere


@pytest.mark.parametrize(
    "spec",
    [
        DecodingSpec(beam=3, nbest=2, max_length="input+9"),
        DecodingSpec(strategy="greedy"),
        DecodingSpec(strategy="sample", nbest=2, max_length=12),
    ],
)
@pytest.mark.parametrize("budget", [1, 30, 100_000])
def test_the_batches_change_nothing(spec: DecodingSpec, budget: int) -> None:
    model = FakeModel(seed=3, end_bias=0.6)
    sources = random_sources(25, seed=6)
    prefix = [[4] * (index % 2) for index in range(25)]
    ids, mask = padded(sources)
    whole = search(model, ids, mask, spec, forbidden=[PAD], prefix=prefix, **MARKS)
    assert whole == search_many(
        model, sources, spec, pad_id=PAD, batch_tokens=budget, prefix=prefix, **MARKS
    )


def test_a_part_of_a_larger_input_draws_as_the_whole() -> None:
    model = FakeModel(seed=3, end_bias=-1.0)
    sources = random_sources(10, seed=6)
    spec = DecodingSpec(strategy="sample", max_length=9)
    whole = search_many(model, sources, spec, pad_id=PAD, **MARKS)
    indices = [7, 2, 9]
    part = [sources[index] for index in indices]
    found = search_many(model, part, spec, pad_id=PAD, indices=indices, **MARKS)
    assert found == [whole[index] for index in indices]


def test_many_sentences_pack_the_weights_for_a_while() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig.preset("tiny", vocab_size=30))
    seen = []

    def look(module: object, inputs: object) -> None:
        seen.append(backend.is_packed(model.head.weight))

    model.encoder.register_forward_pre_hook(look)
    spec = DecodingSpec(strategy="greedy", max_length=2)
    able = backend.pack(model.head.weight)
    backend.unpack(model.head.weight)
    search_many(model, [[4, 5]] * PACK_FROM, spec, pad_id=PAD, **MARKS)
    search_many(model, [[4, 5]], spec, pad_id=PAD, **MARKS)
    assert seen == [able, False]
    assert not backend.is_packed(model.head.weight)
