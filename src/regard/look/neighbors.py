"""Which tokens a model holds for alike: the nearest vectors of its embeddings.

Shapes: weight [V, d_model].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regard.errors import InputError
from regard.nn.embeddings import TokenEmbedding


def embeddings(model: nn.Module) -> dict[str, Tensor]:
    """The embedding matrices [V, d_model] of a model by name; one with two names is one."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, TokenEmbedding) and not any(weight is one for one in found.values()):
            found[name.split(".")[-1]] = module.weight
    return found


@torch.no_grad()
def neighbors(weight: Tensor, ids: Sequence[int], *, count: int = 10) -> list[tuple[int, float]]:
    """The tokens nearest to the mean direction of ``ids``, these apart.

    Args:
        weight: an embedding matrix [V, d_model].
        ids: the tokens of a word.
        count: how many neighbors at most.

    Returns:
        (token id, cosine), the nearest first.

    Raises:
        InputError: for no ids.
    """
    if not ids:
        raise InputError("there is no word to find the neighbors of")
    unit = torch.nn.functional.normalize(weight.float(), dim=-1)
    wanted = torch.tensor(sorted(set(ids)), device=weight.device)
    middle = torch.nn.functional.normalize(unit[wanted].mean(dim=0), dim=-1)
    cosines = unit @ middle  # [V]
    cosines[wanted] = -torch.inf
    best = cosines.topk(min(count, len(cosines) - len(wanted)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
