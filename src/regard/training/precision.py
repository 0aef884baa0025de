"""Number formats of training behind one face: prepare, backward, step, state.

``float32`` trains the weights themselves. ``bfloat16`` and ``float16`` compute with low-precision
weights and gradients; the optimiser steps on float32 masters, which are then rounded into the
weights (Micikevicius et al., 2018). Norms' statistics, softmaxes and losses are the parts' own
matter: float32. ``float16`` also scales the loss, so that small gradients do not vanish; a step
whose gradient overflows is skipped and counted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regard.errors import RegardError
from regard.training import foreach
from regard.training.optimizers import Optimizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

FIRST_SCALE, LEAST_SCALE = 2.0**16, 2.0**-14
STEPS_TO_GROW = 2000


def make_precision(name: str, model: nn.Module) -> Precision:
    """Put the model's weights into a format: ``float32``, ``bfloat16`` or ``float16``."""
    if name not in DTYPES:
        raise RegardError(
            f"there is no precision {name!r}",
            where="training.precision",
            hint=f"known: auto, {', '.join(DTYPES)}",
        )
    if name == "float32":
        return Precision(model)
    return (Masters if name == "bfloat16" else Scaled)(model, DTYPES[name])


class Precision:
    """float32: the weights are what is trained.

    Attributes:
        weights: float32 values of every floating-point parameter by its (first) name.
        trained: names of those that get gradients.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.is_floating_point()
        }
        self.trained = [name for name, p in self.parameters.items() if p.requires_grad]
        self.weights: dict[str, Tensor] = dict(self.parameters)

    @property
    def frozen_weights(self) -> dict[str, Tensor]:
        """The float32 values of those that do not train."""
        trained = set(self.trained)
        return {name: held for name, held in self.weights.items() if name not in trained}

    @property
    def trained_weights(self) -> dict[str, Tensor]:
        """The float32 values that the optimiser steps on."""
        return {name: self.weights[name] for name in self.trained}

    def backward(self, loss: Tensor) -> None:
        """Add a micro-batch's gradient to the step's."""
        loss.backward()  # type: ignore[no-untyped-call]

    def gradients(self) -> list[Tensor]:
        """Gradients of the trained weights so far, times `scale`; zeros where there are none."""
        found = []
        for name in self.trained:
            weight = self.weights[name]
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            found.append(weight.grad)
        return found

    @property
    def scale(self) -> float:
        """What gradients are multiplied by while they are computed."""
        return 1.0

    def step(self, optimizer: Optimizer) -> None:
        """Update the weights and forget the gradients."""
        optimizer.step()
        self.forget()

    def forget(self) -> None:
        """Drop the gradients."""
        for name in self.trained:
            self.weights[name].grad = None

    def overflow(self) -> bool:
        """A gradient is not finite: whether that is a step to skip. Otherwise it is an error."""
        return False

    def refresh(self) -> None:
        """Bring the model in line with `weights`."""

    def finish(self) -> None:
        """Leave the model in float32."""
        self.forget()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's."""


class Masters(Precision):
    """Low-precision weights that follow float32 masters."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(model)
        with torch.no_grad():
            self.weights = {
                name: parameter.detach().to(torch.float32, copy=True)
                for name, parameter in self.parameters.items()
            }
            for parameter in self.parameters.values():
                parameter.data = parameter.data.to(dtype)
        self._low = [self.parameters[name] for name in self.trained]

    def backward(self, loss: Tensor) -> None:
        """Micro-batches add up in float32."""
        (loss * self.scale).backward()  # type: ignore[no-untyped-call]
        sums, more = [], []
        for master, low in zip(self.trained_weights.values(), self._low, strict=True):
            if master.grad is not None and low.grad is not None:
                sums.append(master.grad)
                more.append(low.grad)
            elif low.grad is not None:
                master.grad = low.grad.to(torch.float32)  # only now: activations had its room
            low.grad = None
        if sums:
            foreach.add(sums, more)

    def step(self, optimizer: Optimizer) -> None:
        """The masters step, the weights follow."""
        super().step(optimizer)
        with torch.no_grad():
            foreach.copy(self._low, list(self.trained_weights.values()))

    def refresh(self) -> None:
        """Round the masters into the weights."""
        with torch.no_grad():
            foreach.copy(list(self.parameters.values()), list(self.weights.values()))

    def finish(self) -> None:
        """Put the masters in the weights' place."""
        for name, parameter in self.parameters.items():
            parameter.grad = None
            parameter.data = self.weights[name].data


class Scaled(Masters):
    """Masters, and a loss scaled as far up as the gradients stay finite."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self._scale, self._good = FIRST_SCALE, 0

    @property
    def scale(self) -> float:
        """Grows after many good steps, halves at an overflow."""
        return self._scale

    def step(self, optimizer: Optimizer) -> None:
        """A good step."""
        super().step(optimizer)
        self._good += 1
        if self._good >= STEPS_TO_GROW:
            self._scale, self._good = self._scale * 2.0, 0

    def overflow(self) -> bool:
        """Skip the step and scale less, unless that has no more room."""
        self._scale, self._good = self._scale / 2.0, 0
        self.forget()
        return self._scale >= LEAST_SCALE

    def state(self) -> dict[str, Any]:
        """The scale and the good steps since it last changed."""
        return {"scale": self._scale, "good": self._good}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's."""
        self._scale, self._good = float(state["scale"]), int(state["good"])
