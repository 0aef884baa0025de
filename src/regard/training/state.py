"""Everything that a run's next step depends on, as tensors and JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regard.errors import CheckpointError
from regard.training.checkpoints import EMA, Checkpoint
from regard.training.distributed import Ranks
from regard.training.optimizers import Optimizer

Tensors = dict[str, Tensor]


def model_tensors(model: nn.Module, weights: Mapping[str, Tensor]) -> Tensors:
    """All that a model holds, each tied tensor once (under its first name).

    Args:
        model: gives names, buffers and what is not floating-point.
        weights: the float32 values of its parameters.
    """
    kept = {name: parameter.detach() for name, parameter in model.named_parameters()}
    persistent = model.state_dict(keep_vars=True)
    buffers = {name: tensor for name, tensor in model.named_buffers() if name in persistent}
    return {**kept, **buffers, **weights}


def load_tensors(into: Mapping[str, Tensor], held: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors by name; every one must be there, none left over, shapes equal.

    Raises:
        CheckpointError: naming the tensors.
    """
    faults = [f"{name} is missing" for name in into if name not in held]
    faults += [f"{name} is unknown to the model" for name in held if name not in into]
    faults += [
        f"{name} has shape {list(held[name].shape)}, the model's {list(tensor.shape)}"
        for name, tensor in into.items()
        if name in held and held[name].shape != tensor.shape
    ]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise CheckpointError(
            f"does not fit the model: {'; '.join(faults[:3])}{more}",
            where=where,
            hint="it was made by another recipe",
        )
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(held[name])


def optimizer_tensors(optimizer: Optimizer, weights: Mapping[str, Tensor]) -> Tensors:
    """The optimiser's memory as ``kind/name`` tensors, e.g. ``exp_avg/head.weight``."""
    found: Tensors = {}
    for name, weight in weights.items():
        for key, value in optimizer.state.get(weight, {}).items():
            found[f"{key}/{name}"] = torch.as_tensor(value)
    return found


def load_optimizer(
    optimizer: Optimizer, weights: Mapping[str, Tensor], held: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`."""
    for full, tensor in held.items():
        key, _, name = full.partition("/")
        weight = weights.get(name)
        if weight is None:
            raise CheckpointError(f"the optimiser's {full} belongs to no weight of the model")
        # A copy: tensors of a mapped file may lie at addresses that round otherwise.
        optimizer.state[weight][key] = tensor.to(weight.device, copy=True)


def random_tensors(ranks: Ranks, device: torch.device) -> Tensors:
    """The states of every rank's generators."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {
        f"{kind}/{rank}": tensor
        for kind, state in own.items()
        for rank, tensor in enumerate(ranks.gather(state))
    }


def load_random(held: Mapping[str, Tensor], ranks: Ranks, device: torch.device) -> None:
    """Set this rank's generators, where they were kept."""
    if (state := held.get(f"cpu/{ranks.rank}")) is not None:
        torch.set_rng_state(state.clone())
    if device.type == "cuda" and (state := held.get(f"cuda/{ranks.rank}")) is not None:
        torch.cuda.set_rng_state(state.clone(), device)


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put a checkpoint's weights into a model for use.

    Raises:
        CheckpointError: naming what does not fit.
    """
    load_tensors(model_tensors(model, {}), tensors, where)


def weights_for_use(checkpoint: Checkpoint) -> Tensors:
    """A checkpoint's moving average where it has one, else its weights."""
    tensors = checkpoint.tensors()
    if checkpoint.has(EMA):
        tensors.update(checkpoint.tensors(EMA))
    return tensors
