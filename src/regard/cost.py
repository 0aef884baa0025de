"""What a model costs before it is built: parameters, FLOPs and memory.

The model is made and run on torch's ``meta`` device, which has shapes and no numbers. So the
figures are counted from the very code that will run, under the dense kernel, for every family and
every kind of part. A law holds them against a run with numbers (tests/laws/test_cost.py).
Shapes: ids [B, T], n = tokens of a text, both sides of an encoder-decoder alike.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regard import registry
from regard.errors import RegardError
from regard.nn import kernels
from regard.nn.attention import Attention
from regard.nn.init import Unfilled
from regard.nn.masks import Causal
from regard.nn.stack import Stack
from regard.registry import Family
from regard.training.optimizers import state_size

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
BACKWARD = 2
"""A product's backward pass is two of its size: by its input and by its weight."""

KEPT_HEAP = 1.45
"""Resident over used memory where a CPU's heap keeps freed blocks (`regard.nn.backend.keep_heap`,
and glibc by itself): they leave gaps. Measured by the law; more under gradient checkpointing."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Part:
    """One part of a model, all its layers together.

    Attributes:
        name: e.g. ``encoder self-attention``; tied matrices are one part, joined by ``=``.
        parameters: exact.
        estimate: the textbook's: 4d² an attention, 2·d·d_ff a feed-forward, V·d an embedding.
        flops: forward, of a text of one token, in products with weights.
        attention: forward, a token and a token that it may see: scores and mixture (the O(n²d)
            term of a text is n² times this).
    """

    name: str
    parameters: int
    estimate: int
    flops: int
    attention: int


@dataclass(frozen=True)
class Length:
    """A token's share of one forward pass over texts of ``length`` tokens.

    Attributes:
        linear: FLOPs in products with weights.
        attention: FLOPs in scores and mixtures, which grow with the length.
        activations: bytes that training keeps for the backward pass, in the cost's precision.
        checkpointed: the same with gradient checkpointing.
    """

    length: int
    linear: int
    attention: int
    activations: int
    checkpointed: int

    @property
    def forward(self) -> int:
        """FLOPs of a forward pass; with the backward pass, see `training`."""
        return self.linear + self.attention

    @property
    def training(self) -> int:
        """FLOPs of forward and backward pass."""
        return (1 + BACKWARD) * self.forward


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step holds, activations apart (see `Length`).

    Weights and gradients are in the products' precision; masters, weights and sums of gradients in
    float32, where that is a low one (sums while a step is made). Moments are always in float32.
    """

    precision: str
    weights: int
    gradients: int
    masters: int
    moments: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.masters + self.moments


@dataclass(frozen=True)
class DecodingMemory:
    """Bytes that decoding holds.

    Attributes:
        per_source_token: keys and values of the memory, for a token of a sentence's source.
        per_token: keys and values, for a token of each hypothesis.
    """

    precision: str
    weights: int
    per_source_token: int
    per_token: int


@dataclass(frozen=True)
class Cost:
    """The whole answer; sums are over ``parts``.

    Attributes:
        precision: of the products in which ``lengths`` count activations.
        sides: 2 where a "token" is a source token and a target token together, else 1.
        max_positions: longest text that the model allows, where it says so.
    """

    family: str
    precision: str
    parts: tuple[Part, ...]
    lengths: tuple[Length, ...]
    training: tuple[TrainingMemory, ...]
    decoding: tuple[DecodingMemory, ...]
    sides: int
    max_positions: int | None

    @property
    def parameters(self) -> int:
        """Exact."""
        return sum(part.parameters for part in self.parts)

    @property
    def estimate(self) -> int:
        """L(4d² + 2d·d_ff) + Vd, with another 4d² where a layer has cross-attention."""
        return sum(part.estimate for part in self.parts)

    def step(self, tokens: int, length: int, *, checkpointing: bool = False) -> int:
        """Bytes in use at the height of a training step, gradients of an earlier one included.

        Args:
            tokens: of the micro-batch, on each side, padding included.
            length: of its texts; one of the cost's lengths.
            checkpointing: whether layers are computed twice.
        """
        row = next(row for row in self.lengths if row.length == length)
        memory = next(memory for memory in self.training if memory.precision == self.precision)
        each = row.checkpointed if checkpointing else row.activations
        return memory.total + each * tokens

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = dataclasses.asdict(self)
        values["parameters"], values["estimate"] = self.parameters, self.estimate
        for row, length in zip(values["lengths"], self.lengths, strict=True):
            row["forward"], row["training"] = length.forward, length.training
        for row, memory in zip(values["training"], self.training, strict=True):
            row["total"] = memory.total
        return values


def cost(
    family: str | Family,
    config: Any,
    *,
    lengths: Sequence[int] = LENGTHS,
    precision: str = "float32",
    optimizer: str = "adam",
) -> Cost:
    """Parameters, FLOPs and memory of ``family``'s model under ``config``.

    Args:
        family: a name in the registry, or the family itself.
        config: its config.
        lengths: of the texts, for the terms that depend on it; they may exceed the model's own.
        precision: ``float32`` or ``bfloat16``, in which activations are counted.
        optimizer: its kind.

    Raises:
        RegardError: for a length below 1, or another precision or optimizer.
    """
    if isinstance(family, str):
        family = registry.family(family)
    if not lengths or min(lengths) < 1:
        raise RegardError("lengths are numbers of tokens, from 1 on")
    if precision not in DTYPES:
        raise RegardError(f"no cost is known of {precision!r}", hint=f"known: {', '.join(DTYPES)}")
    model = on_meta(family, config, dtype=DTYPES[precision])
    unit = getattr(config, "tokens", 1)  # of a picture, which has tokens beside its patches
    linear, attention = _flops(model, example(family, config, 1, unit))
    estimates = _estimates(family, config)
    parameters = parameters_by_part(model)
    names = dict.fromkeys([*parameters, *(part_of(name) for name, _ in model.named_modules())])
    parts = []
    for name in names:
        table = name.split(" = ")[0].endswith(("embedding", "head"))
        guess = parameters[name] if table else estimates.get(name, 0)
        flops, seen = round(linear[name] / unit), round(attention[name] / unit**2)
        part = Part(name, parameters[name], guess, flops, seen)
        if part.parameters or part.flops or part.attention:
            parts.append(part)
    rows = [_length(family, config, model, length) for length in lengths]
    return Cost(
        family=family.name,
        precision=precision,
        parts=tuple(parts),
        lengths=tuple(rows),
        training=tuple(_training(model, name, optimizer) for name in DTYPES),
        decoding=tuple(_decoding(model, name) for name in DTYPES),
        sides=2 if family.shape in ("encoder-decoder", "towers") else 1,
        max_positions=getattr(config, "max_positions", None),
    )


def on_meta(family: Family, config: Any, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model without its numbers; it takes texts of any length."""
    with torch.device("meta"), Unfilled():
        model: nn.Module = family.model(config)
    for module in model.modules():
        if isinstance(module, Stack):
            module.max_positions = 2**62
    return model.to(dtype)


def example(
    family: Family, config: Any, batch: int, length: int, device: str = "meta"
) -> dict[str, Any]:
    """Inputs of exactly ``length`` tokens on each side, none of them padding."""
    with torch.device(device):
        inputs = family.example(config, batch, length)
        return {
            name: torch.zeros(batch, length, dtype=torch.long)
            if isinstance(value, Tensor) and value.dtype == torch.long and value.ndim == 2
            else value
            for name, value in inputs.items()
            if not name.endswith("mask")
        }


def part_of(module: str) -> str:
    """The part that a module belongs to, from its name: ``encoder self-attention``."""
    path = module.split(".")
    stack, inner = path[0], path[1:]
    if "layers" in path[1:]:
        at = path.index("layers", 1)
        stack, inner = path[at - 1], path[at + 2 :]
    if "norm" in inner:
        return f"{stack} norms"
    words = [stack, *inner[:1]]
    return " ".join(word.replace("_", "-" if word is not stack else " ") for word in words)


def parameters_by_part(model: nn.Module) -> Counter[str]:
    """Parameters of each part; one that has several names is counted once."""
    owners: dict[Tensor, dict[str, None]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter, {})[part_of(name.rpartition(".")[0])] = None
    counted: Counter[str] = Counter()
    for shared, names in owners.items():
        counted[" = ".join(names)] += shared.numel()
    return counted


def saved_bytes(model: nn.Module, inputs: Mapping[str, Any]) -> Counter[str]:
    """Bytes that autograd keeps of one training forward pass under the dense kernel.

    Each storage counts once and whole; parameters and buffers don't count, they are there anyway.
    The last states are the last that count: what the loss keeps is the objective's. Bytes are
    given by the name of the module that made them.
    """
    own: list[Tensor] = [*model.parameters(), *model.buffers()]
    storages = {id(held): held for held in (tensor.untyped_storage() for tensor in own)}
    saved: Counter[str] = Counter()
    with _where(model) as where:

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if id(storage) not in storages:
                storages[id(storage)] = storage  # held, so that its id stays its own
                saved[where()] += storage.nbytes()
            return tensor

        model.train()
        run: Callable[..., Tensor] = getattr(model, "features", model)
        with kernels.use("dense"), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            run(**inputs)
    return saved


@contextmanager
def _where(model: nn.Module) -> Iterator[Callable[[], str]]:
    """Inside the block: the name of the module that runs now."""
    running, handles = [""], []

    def leave(*_: Any) -> None:
        running.pop()

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield lambda: running[-1]
    finally:
        for handle in handles:
            handle.remove()


def _flops(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Counter[str], Counter[str]]:
    """Forward FLOPs by part: in products with weights, and in attention's own products."""
    model.eval()
    with kernels.use("dense"), FlopCounterMode(display=False) as counter:
        model(**inputs)
    root = type(model).__name__
    totals = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    linear: Counter[str] = Counter()
    attention: Counter[str] = Counter()
    for name, module in model.named_modules():
        key = f"{root}.{name}" if name else root
        inside = sum(totals.get(f"{key}.{child}", 0) for child, _ in module.named_children())
        own = totals.get(key, 0) - inside
        (attention if isinstance(module, Attention) else linear)[part_of(name)] += own
    return linear, attention


def _estimates(family: Family, config: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for stack in family.stacks:
        spec = getattr(config, stack)
        square = 4 * config.d_model**2 * spec.num_layers
        found[f"{stack} self-attention"] = found[f"{stack} cross-attention"] = square
        wide = 2 * config.d_model * spec.layer.feed_forward.d_ff
        found[f"{stack} feed-forward"] = wide * spec.num_layers
    return found


def _length(family: Family, config: Any, model: nn.Module, length: int) -> Length:
    inputs = example(family, config, 1, length)
    linear, attention = _flops(model, inputs)
    saved = saved_bytes(model, inputs)
    layers: Counter[str] = Counter()
    for name, size in saved.items():
        stack, found, inner = name.partition(".layers.")
        if found:
            layers[f"{stack}.{inner.split('.')[0]}"] += size
    states = config.d_model * length * next(model.parameters()).dtype.itemsize
    once = max(layers.values(), default=0)  # the layer that is being computed again
    checkpointed = sum(saved.values()) - sum(layers.values()) + len(layers) * states + once
    return Length(
        length=length,
        linear=round(linear.total() / length),
        attention=round(attention.total() / length),
        activations=sum(saved.values()) // length,
        checkpointed=checkpointed // length,
    )


def _training(model: nn.Module, precision: str, optimizer: str) -> TrainingMemory:
    shapes = [parameter.shape for parameter in model.parameters()]
    count = sum(shape.numel() for shape in shapes)
    size, full = DTYPES[precision].itemsize, torch.float32.itemsize
    return TrainingMemory(
        precision=precision,
        weights=count * size,
        gradients=count * size,
        masters=0 if size == full else 2 * count * full,
        moments=full * sum(state_size(optimizer, shape) for shape in shapes),
    )


def _decoding(model: nn.Module, precision: str) -> DecodingMemory:
    count = sum(parameter.numel() for parameter in model.parameters())
    size, source, own = DTYPES[precision].itemsize, 0, 0
    for stack in model.modules():
        if not isinstance(stack, Stack) or not isinstance(stack.rule, Causal):
            continue
        for module in stack.modules():
            if isinstance(module, Attention):
                width = module.spec.kv_heads * (module.d_key + module.d_value) * size
                if hasattr(module, "key_value"):
                    source += width
                else:
                    own += width
    return DecodingMemory(precision, count * size, source, own)
