"""Which tokens a model holds for alike: the nearest vectors of its embeddings.

Shapes: weight [V, d_model].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regard.errors import InputError
from regard.nn.embeddings import TokenEmbedding


def neighbors(
    model: nn.Module, ids: Sequence[int], *, count: int = 10
) -> dict[str, list[tuple[int, float]]]:
    """The tokens nearest to the mean of ``ids`` by cosine, themselves apart.

    Returns:
        (token id, cosine), the nearest first, for each embedding of the model by its name;
        embeddings that share one matrix are one.

    Raises:
        InputError: for no ids.
    """
    if not ids:
        raise InputError("there is no word to find the neighbors of")
    found: dict[str, list[tuple[int, float]]] = {}
    done: list[Tensor] = []
    for name, module in model.named_modules():
        if isinstance(module, TokenEmbedding) and not any(module.weight is one for one in done):
            done.append(module.weight)
            if max(ids) < len(module.weight):
                found[name.split(".")[-1]] = _nearest(module.weight.detach(), ids, count)
    return found


def _nearest(weight: Tensor, ids: Sequence[int], count: int) -> list[tuple[int, float]]:
    unit = torch.nn.functional.normalize(weight.float(), dim=-1)
    wanted = torch.tensor(list(ids), device=weight.device)
    middle = torch.nn.functional.normalize(unit[wanted].mean(dim=0), dim=-1)
    cosines = unit @ middle  # [V]
    cosines[wanted] = -torch.inf
    best = cosines.topk(min(count, len(cosines) - len(set(ids))))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
