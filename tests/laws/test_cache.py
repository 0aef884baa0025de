"""Law: decoding step by step gives what the whole text gives at once, with either cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regard import registry
from regard.decoding import DecodingSpec, search
from regard.nn.cache import CACHES
from regard.spec import build, nest, plain, resolve

MAY_DIFFER = 1e-12

OVERRIDES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "pre-norm": {"layer.norm_placement": "pre"},
    "fewer key heads": {"layer.attention.num_kv_heads": 2},
    "narrow keys, wide values": {"layer.attention.d_key": 3, "layer.attention.d_value": 5},
    "own matrices and a bias": {"tie": "none", "head.bias": True},
    **{f"positions {name}": {"positions": name} for name in registry.names("positions")},
}


WALK = ((2, None), (1, None), (1, [0, 2, 3, 4]), (3, None), (1, [3, 0]), (1, None))
"""Steps: how many tokens are fed, and which sentences stay afterwards."""


def families() -> list[str]:
    found = [registry.family(name) for name in registry.names("families")]
    return [one.name for one in found if "cache" in one.can and one.shape == "encoder-decoder"]


def make(family: str, overrides: dict[str, Any], dtype: torch.dtype = torch.float64) -> nn.Module:
    """A tiny model with weights large enough that it says something."""
    described = registry.family(family)
    settings = resolve(plain(described.tiny()), nest(overrides), stacks=described.stacks)
    torch.manual_seed(3)
    model: nn.Module = described.model(build(described.config, settings)).to(dtype).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize("cache", sorted(CACHES))
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("name", OVERRIDES)
@pytest.mark.parametrize("family", families())
@torch.no_grad()
def test_step_by_step_is_all_at_once(family: str, name: str, width: int, cache: str) -> None:
    """Random prefixes, parents and leavings; each step's logits are those of the whole text."""
    model: Any = make(family, OVERRIDES[name])
    vocabulary = model.config.vocab_size
    source = torch.randint(vocabulary, (5, 7))
    mask = torch.arange(7) < torch.tensor([7, 3, 5, 1, 6])[:, None]
    state = model.start(source, source_mask=mask, width=width, cache=cache)
    past = torch.empty(5 * width, 0, dtype=torch.long)
    for count, staying in (
        (2, None),
        (1, None),
        (1, [0, 2, 3, 4]),
        (3, None),
        (1, [3, 0]),
        (1, None),
    ):
        tokens = torch.randint(vocabulary, (len(past), count))
        logits = model.step(tokens, state)
        past = torch.cat([past, tokens], dim=1)
        whole = model(
            source.repeat_interleave(width, 0), past, source_mask=mask.repeat_interleave(width, 0)
        )
        torch.testing.assert_close(logits, whole[:, -1], rtol=0, atol=MAY_DIFFER)
        assert state.length == past.shape[1]
        if staying is not None:
            kept = torch.tensor(staying)
            state.keep(kept)
            source, mask = source[kept], mask[kept]
            past = past.unflatten(0, (-1, width))[kept].flatten(0, 1)
            assert (state.sentences, state.width) == (len(kept), width)
        within = torch.randint(width, (len(source), width))
        parents = (torch.arange(len(source))[:, None] * width + within).flatten()
        state.advance(parents)
        past = past[parents]


class With:
    """A model whose states have one kind of cache."""

    def __init__(self, model: Any, cache: str) -> None:
        self.model, self.cache, self.step = model, cache, model.step

    def start(
        self, source_ids: Tensor, *, source_mask: Tensor | None = None, width: int = 1
    ) -> Any:
        return self.model.start(source_ids, source_mask=source_mask, width=width, cache=self.cache)


@pytest.mark.parametrize("name", ["as it is", "pre-norm", "fewer key heads"])
@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize("beam", [2, 5])
def test_both_caches_find_the_same(family: str, name: str, beam: int) -> None:
    model = make(family, OVERRIDES[name])
    source = torch.randint(4, 23, (9, 6))
    mask = torch.arange(6) < torch.tensor([6, 5, 4, 3, 2, 1, 6, 4, 2])[:, None]
    prefix = [[5] * (index % 3) for index in range(9)]
    spec = DecodingSpec(beam=beam, nbest=beam, min_length=4, max_length="input+9", stop="bound")
    found = {}
    for cache in CACHES:
        found[cache] = search(
            With(model, cache),
            source,
            mask,
            spec,
            start_id=1,
            end_id=2,
            forbidden=[0],
            prefix=prefix,
        )
    for one, two in zip(found["copy"], found["shared"], strict=True):
        assert [a.tokens for a in one] == [a.tokens for a in two]
        for a, b in zip(one, two, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-11)
    assert len({tuple(one[0].tokens) for one in found["copy"]}) > 4, "the model says one thing"


def test_a_long_output_outgrows_its_buffers() -> None:
    """Buffers grow by doubling; what they held stays."""
    model: Any = make("transformer", {"max_positions": 300})
    source = torch.randint(4, 23, (2, 3))
    tokens = torch.randint(4, 23, (6, 200))
    with torch.no_grad():
        whole = model(source.repeat_interleave(3, 0), tokens)
        for cache in CACHES:
            state = model.start(source, width=3, cache=cache)
            for place in range(200):
                logits = model.step(tokens[:, place : place + 1], state)
                torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=MAY_DIFFER)
