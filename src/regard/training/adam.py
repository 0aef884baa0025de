"""Adam (Kingma & Ba, 2015), the paper's optimiser (section 5.3), by torch's fused kernels.

`torch.optim.Adam` and its base class import torch's compiler when one is made, only to tell it to
keep out: more than a second, and 70 MiB for as long as training lasts. Their functional forms,
which do the work, do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw


class Adam:
    """Adam, or AdamW: the decay apart from the moments (Loshchilov & Hutter, 2019).

    Args:
        groups: each with ``params``, its ``weight_decay`` and, set before a step, its rate ``lr``.
        betas: decay of the two moments.
        eps: added to the denominator.
        decoupled: AdamW.

    Attributes:
        param_groups: the groups.
        state: of each weight, after its first step: ``exp_avg``, ``exp_avg_sq`` and ``step``.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        *,
        betas: tuple[float, float],
        eps: float,
        decoupled: bool,
    ) -> None:
        self.param_groups = [{"lr": 0.0, "weight_decay": 0.0, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self._betas, self._eps = betas, eps
        self._update: Callable[..., None] = adamw if decoupled else adam

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights that have a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            kept = [self._kept(weight) for weight in weights]
            self._update(
                weights,
                [weight.grad for weight in weights],
                *([one[name] for one in kept] for name in ("exp_avg", "exp_avg_sq")),
                [],
                [one["step"] for one in kept],
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=self._eps,
                maximize=False,
                fused=True,
            )

    def _kept(self, weight: Tensor) -> dict[str, Tensor]:
        found = self.state[weight]
        if not found:
            found["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            found["exp_avg"] = torch.zeros_like(weight)
            found["exp_avg_sq"] = torch.zeros_like(weight)
        return found
