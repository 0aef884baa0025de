"""Law: a sentence alone gives what it gives in any batch, beside anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from regard.decoding import DecodingSpec, Hypothesis, search, search_many

from .test_cache import OVERRIDES, families, make

LENGTHS = [6, 1, 4, 6, 2, 3, 5, 1]
MARKS = {"start_id": 1, "end_id": 2}

SPECS = {
    "greedy": DecodingSpec(strategy="greedy", max_length="input+12"),
    "beam": DecodingSpec(beam=4, nbest=4, max_length="input+12"),
    "beam to the bound": DecodingSpec(beam=3, nbest=2, stop="bound", max_length="input+12"),
    "sample": DecodingSpec(strategy="sample", nbest=2, top_k=9, max_length=14, seed=4),
}


def sources() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, 23, (n,), generator=generator).tolist() for n in LENGTHS]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.full((len(LENGTHS), max(LENGTHS)), 21)  # any id: the mask says what is padding
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, source in enumerate(sources()):
        ids[row, : len(source)] = torch.tensor(source)
        mask[row, : len(source)] = True
    return ids, mask


@pytest.mark.parametrize("name", OVERRIDES)
@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@torch.no_grad()
def test_states_and_logits(family: str, name: str, dtype: torch.dtype, tolerance: float) -> None:
    model: Any = make(family, OVERRIDES[name], dtype)
    ids, mask = batch()
    targets = torch.randint(4, 23, (len(ids), 5))
    states = model.features(ids, targets, source_mask=mask)
    logits = model(ids, targets, source_mask=mask)
    size = float(logits.abs().max())
    for row, length in enumerate(LENGTHS):
        alone = slice(row, row + 1)
        own = model.features(ids[alone, :length], targets[alone])
        torch.testing.assert_close(own, states[alone], rtol=0, atol=tolerance)
        own = model(ids[alone, :length], targets[alone])
        torch.testing.assert_close(own, logits[alone], rtol=0, atol=tolerance * max(1.0, size))


def same(one: list[Hypothesis], two: list[Hypothesis], tolerance: float) -> None:
    """The same outputs; others are allowed only where their scores tie."""
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.score == pytest.approx(b.score, abs=tolerance)
        if tolerance < 1e-9:
            assert a.tokens == b.tokens
            assert a.finished == b.finished


@pytest.mark.parametrize("how", SPECS)
@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_decoding(family: str, how: str, dtype: torch.dtype, tolerance: float) -> None:
    model = make(family, {}, dtype)
    ids, mask = batch()
    spec = SPECS[how]
    prefix = [[7] * (index % 3) for index in range(len(ids))]
    together = search(model, ids, mask, spec, forbidden=[0], prefix=prefix, **MARKS)
    for row, length in enumerate(LENGTHS):
        (alone,) = search(
            model,
            ids[row : row + 1, :length],
            None,
            spec,
            forbidden=[0],
            prefix=prefix[row : row + 1],
            indices=[row],
            **MARKS,
        )
        same(alone, together[row], tolerance)
    assert len({tuple(found[0].tokens) for found in together}) > 4, "the model says one thing"


@pytest.mark.parametrize("how", SPECS)
@pytest.mark.parametrize("budget", [1, 20, 1000])
def test_any_cut_into_batches(how: str, budget: int) -> None:
    model = make("transformer", {})
    ids, mask = batch()
    together = search(model, ids, mask, SPECS[how], forbidden=[0], **MARKS)
    cut = search_many(model, sources(), SPECS[how], pad_id=0, batch_tokens=budget, **MARKS)
    for one, two in zip(together, cut, strict=True):
        same(one, two, 1e-12)
