"""The machinery behind the laws: every family in every variety, read off the registries.

A `Case` is a family's ``tiny()`` config with some settings changed, and a kernel to run it by.
Which settings there are is read from the family's config dataclass: each kind in the registry, each
choice of a ``Literal``, each switch, and the numbers of `VALUES`. So a new family, or a new kind of
a part, comes under every law by its registry line.

`law` turns a function of a case into tests: one for each row of a pairwise covering, and, marked
slow, one for the whole product of the kinds.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from regard import registry
from regard.errors import RegardError
from regard.nn import kernels
from regard.nn.positions.scheme import PositionScheme
from regard.registry import Family
from regard.spec import KindSpec, build, nest, plain, resolve

GROUPS = {
    "norm.kind": "norms",
    "feed_forward.kind": "feed_forwards",
    "feed_forward.activation": "activations",
}
"""Settings that name a kind as a plain string, and the registry's group of it."""

VALUES: dict[str, tuple[Any, ...]] = {
    "target_vocab_size": (None, 19),
    "detections": (0, 3),
    "attention.num_kv_heads": (None, 2, 1),
    "attention.d_key": (None, 6),
    "attention.d_value": (None, 10),
    "attention.scale": (None, 0.3),
}
"""Numbers worth varying. What builds no model in combination is left out."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A family with some settings changed, and the kernel to run it by."""

    family: Family
    changes: tuple[tuple[str, Any], ...] = ()
    kernel: str = "dense"

    def __repr__(self) -> str:
        changes = " ".join(f"{key}={value}" for key, value in self.changes)
        return f"<{self.family.name} kernel={self.kernel} {changes}>"

    def config(self, **more: Any) -> Any:
        """The family's tiny config, changed; ``more`` uses __ for dots."""
        own = {**dict(self.changes), **{key.replace("__", "."): v for key, v in more.items()}}
        settings = resolve(plain(self.family.tiny()), nest(own), stacks=self.family.stacks)
        return build(self.family.config, settings)

    def model(
        self, dtype: torch.dtype = torch.float64, *, seed: int = 0, noise: float = 0.05, **more: Any
    ) -> nn.Module:
        """The model in evaluation mode; noise on its parameters, so that none is 0 or 1."""
        torch.manual_seed(seed)
        model = self.family.model(self.config(**more)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += noise * torch.randn_like(parameter)
        return model.to(dtype)

    def example(self, batch: int = 3, length: int = 7, **more: Any) -> dict[str, Tensor]:
        """Inputs of one forward pass, without masks."""
        example = self.family.example(self.config(**more), batch, length)
        return {key: value for key, value in example.items() if not key.endswith("mask")}

    def masked(self, batch: int = 3, length: int = 7) -> dict[str, Tensor]:
        """The same with some places masked away: two more where an input can be lengthened.

        Others, such as pictures, have the family's own masks.
        """
        if self.paddable:
            return self.padded(self.example(batch, length), 2)
        return self.family.example(self.config(), batch, length)

    def masks(self, batch: int = 3, length: int = 7) -> dict[str, Tensor]:
        """Masks beside the example's inputs, under which all is real."""
        example = self.family.example(self.config(), batch, length)
        return {k: torch.ones_like(v) for k, v in example.items() if k.endswith("mask")}

    def run(self, model: nn.Module, example: dict[str, Any]) -> Tensor:
        """The output of a forward pass by the case's kernel, [B, …]; the first of several."""
        return self._outputs(model, example)[0]

    def everything(self, model: nn.Module, example: dict[str, Any]) -> Tensor:
        """All outputs of a forward pass by the case's kernel, [B, …]."""
        made = self._outputs(model, example)
        return made[0] if len(made) == 1 else torch.cat([one.flatten(1) for one in made], dim=1)

    def _outputs(self, model: nn.Module, example: dict[str, Any]) -> list[Tensor]:
        with kernels.use(self.kernel):
            made = model(**example)
        return [made] if isinstance(made, Tensor) else list(made)

    def accepts(self, name: str) -> bool:
        """Whether the model's forward pass has an input of this name."""
        return name in inspect.signature(self.family.model.forward).parameters

    @property
    def fields(self) -> set[str]:
        """Names in the family's config."""
        return {field.name for field in dataclasses.fields(self.family.config)}

    @property
    def dropouts(self) -> list[str]:
        """Every setting called dropout, in the words of `config`."""
        found = [path for path in _paths(self.family) if path.split(".")[-1] == "dropout"]
        return [path.replace(".", "__") for path in found]

    @property
    def causal_input(self) -> str:
        """The tokens that are read from left to right."""
        return "target_ids" if self.family.shape == "encoder-decoder" else "ids"

    @property
    def paddable(self) -> list[str]:
        """Inputs that have a mask beside them."""
        return [name for name in self.example() if self.accepts(mask_of(name))]

    def padded(
        self, example: dict[str, Tensor], columns: int, *, names: Iterable[str] = (), **how: Any
    ) -> dict[str, Tensor]:
        """The example with ``columns`` more places in these inputs (all that can), masked away.

        ``seed`` draws their contents, ``side`` is left or right.
        """
        side, seed = how.get("side", "right"), how.get("seed", 1)
        made = dict(example)
        for name in names or self.paddable:
            ids, more = example[name], filler(example[name], columns, seed)
            real, padding = (
                torch.full(x.shape[:2], value) for x, value in ((ids, True), (more, False))
            )
            order = [0, 1] if side == "right" else [1, 0]
            made[name] = torch.cat([(ids, more)[i] for i in order], dim=1)
            made[mask_of(name)] = torch.cat([(real, padding)[i] for i in order], dim=1)
        return made

    def relative(self, model: nn.Module) -> bool:
        """Whether positions enter the model, if at all, by their differences alone."""
        schemes = [m for m in model.modules() if isinstance(m, PositionScheme)]
        return bool(schemes) and all(is_relative(scheme) for scheme in schemes)


def mask_of(name: str) -> str:
    """source_ids → source_mask, ids → mask."""
    return name.removesuffix("ids") + "mask" if name.endswith("ids") else f"{name}_mask"


def is_relative(scheme: PositionScheme) -> bool:
    """A scheme that adds nothing to the states can only turn or compare."""
    return type(scheme).add is PositionScheme.add


def filler(like: Tensor, columns: int, seed: int = 1) -> Tensor:
    """Other contents for ``columns`` more places of an input [B, T, …]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (like.shape[0], columns, *like.shape[2:])
    if like.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=like.dtype)
    high = int(like.max()) + 1
    return torch.randint(high, shape, generator=generator, dtype=like.dtype)


def real_part(output: Tensor, lengths: list[int]) -> list[Tensor]:
    """Each row's output at its real places; all of it where there is one output a row."""
    if output.ndim < 3:
        return list(output)
    return [row[:length] for row, length in zip(output, lengths, strict=True)]


def others(tokens: Tensor, *, high: int) -> Tensor:
    """Another token for each one."""
    return (tokens + torch.randint(1, high, tokens.shape)) % high


# Which settings there are


def _paths(family: Family) -> list[str]:
    """Each setting of a family in dotted words, those of all stacks named once."""
    found: dict[str, None] = {}

    def walk(cls: type, path: str) -> None:
        for name, hint in get_type_hints(cls).items():
            if name not in {field.name for field in dataclasses.fields(cls)}:
                continue
            here = path if name in family.stacks else f"{path}{name}"
            if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                walk(hint, here if name in family.stacks else f"{here}.")
            else:
                found[here] = None

    walk(family.config, "")
    return list(found)


def kinds(group: str) -> list[Any]:
    """Each kind of a group as it usually is, and with each other choice of each option."""
    found: list[Any] = []
    for name in registry.names(group):
        options = getattr(registry.kind(group, name), "Options", None)
        found.append({"kind": name})
        for option, values in ({} if options is None else _choices(options, "")).items():
            usual = getattr(options(), option)
            found += [{"kind": name, option: value} for value in values if value != usual]
    return found


def axes(family: Family) -> dict[str, list[Any]]:
    """The settings of a family that have several kinds or values, with those."""
    found: dict[str, list[Any]] = {}
    for name, hint in get_type_hints(family.config).items():
        if name in family.stacks:  # one setting for all stacks: "encoder.layer.x" is "layer.x"
            found |= _choices(hint, "")
        elif name in {field.name for field in dataclasses.fields(family.config)}:
            found |= _choice(hint, name)
    found["kernel"] = registry.names("kernels")
    return {key: values for key, values in found.items() if len(values) > 1}


def _choices(cls: type, path: str) -> dict[str, list[Any]]:
    hints, found = get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        found |= _choice(hints[field.name], f"{path}.{field.name}" if path else field.name)
    return found


def _choice(hint: Any, path: str) -> dict[str, list[Any]]:
    group = next((g for end, g in GROUPS.items() if f".{path}".endswith(f".{end}")), None)
    values = next((v for end, v in VALUES.items() if f".{path}".endswith(f".{end}")), None)
    if isinstance(hint, type) and issubclass(hint, KindSpec):
        return {path: kinds(hint.group)}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _choices(hint, path)
    if group is not None:
        return {path: registry.names(group)}
    if values is not None:
        return {path: list(values)}
    if get_origin(hint) is Literal:
        return {path: list(get_args(hint))}
    return {path: [False, True]} if hint in (bool, bool | None) else {}


def names_a_kind(values: list[Any]) -> bool:
    """Whether an axis chooses between kinds, not between numbers or yes and no."""
    return isinstance(values[0], str | dict)


# Which combinations


def make_case(family: Family, row: Row) -> Case:
    changes = {key: value for key, value in row.items() if key != "kernel"}
    return Case(family, tuple(changes.items()), row.get("kernel", "dense"))


def builds(family: Family, row: Row) -> bool:
    """Whether these settings make a model at all."""
    try:
        family.model(make_case(family, row).config())  # so small: faster than on "meta"
    except RegardError:
        return False
    return True


def pairwise(
    choices: dict[str, list[Any]], valid: Callable[[Row], bool], met: set[Any] | None = None
) -> list[Row]:
    """Few rows in which each two values of two axes meet, where a valid row has them both.

    Each value is in a row. What ``met`` holds need not meet again; it takes up what meets. Nor need
    a kind whose options are not the usual ones.
    """
    keys = list(choices)
    sizes = [range(len(choices[key])) for key in keys]
    met = set() if met is None else met

    def named(i: int, a: int, j: int, b: int) -> frozenset[str]:
        return frozenset({f"{keys[i]}={choices[keys[i]][a]}", f"{keys[j]}={choices[keys[j]][b]}"})

    def wanted(i: int, a: int) -> bool:
        value = choices[keys[i]][a]
        return not isinstance(value, dict) or len(value) == 1

    missing = {
        ((i, a), (j, b))
        for i, j in itertools.combinations_with_replacement(range(len(keys)), 2)
        for a, b in itertools.product(sizes[i], sizes[j])
        if (a == b if i == j else wanted(i, a) and wanted(j, b) and named(i, a, j, b) not in met)
    }

    def as_row(picked: dict[int, int]) -> Row:
        return {keys[i]: choices[keys[i]][a] for i, a in sorted(picked.items())}

    def meets(picked: dict[int, int]) -> set[Any]:
        return set(itertools.combinations_with_replacement(sorted(picked.items()), 2)) & missing

    def pair_of(one: tuple[int, int], other: tuple[int, int]) -> Any:
        return (one, other) if one <= other else (other, one)

    def gain(new: tuple[int, int], picked: dict[int, int]) -> int:
        return sum(pair_of(new, one) in missing for one in [*picked.items(), new])

    rows = []
    while missing:
        pair = min(missing)
        picked = dict(pair)
        for i in range(len(keys)):
            if i not in picked:
                gains = [gain((i, a), picked) for a in sizes[i]]
                picked[i] = gains.index(max(gains))
        mended = next((p for p in _near(picked, sizes, fixed=pair) if valid(as_row(p))), None)
        if mended is None:
            missing.discard(pair)  # no valid row has both
            continue
        missing -= meets(mended)
        rows.append(as_row(mended))
        met |= {
            named(*one, *other) for one, other in itertools.combinations(sorted(mended.items()), 2)
        }
    return rows


def _near(
    picked: dict[int, int], sizes: list[range], *, fixed: Iterable[tuple[int, int]]
) -> Iterator[dict[int, int]]:
    """A row, then the rows that differ from it in one axis."""
    yield picked
    held = {i for i, _ in fixed}
    for i, size in enumerate(sizes):
        for a in size:
            if i not in held and a != picked[i]:
                yield {**picked, i: a}


@functools.cache
def coverings() -> dict[str, tuple[Case, ...]]:
    """Each family's cases, in which each two values of two settings meet in some family.

    All families are made of the same parts: what met in one need not meet in the next again.
    """
    met: set[Any] = set()
    found = {}
    for name in registry.FAMILIES:
        family = registry.family(name)
        rows = pairwise(axes(family), functools.partial(builds, family), met)
        found[name] = tuple(make_case(family, row) for row in rows)
    return found


@functools.cache
def product(name: str) -> tuple[Case, ...]:
    """A family's cases for each combination of kinds, the other settings drawn."""
    family, draw, cases = registry.family(name), random.Random(0), []
    choices = axes(family)
    chosen = [key for key, values in choices.items() if names_a_kind(values)]
    for values in itertools.product(*(choices[key] for key in chosen)):
        kind_row = dict(zip(chosen, values, strict=True))
        for _ in range(20):
            rest = {key: draw.choice(v) for key, v in choices.items() if key not in kind_row}
            if builds(family, {**kind_row, **rest}):
                cases.append(make_case(family, {**kind_row, **rest}))
                break
    return tuple(cases)


def families(*abilities: str, shape: str | None = None) -> list[str]:
    """Families that can do all of this."""
    known = [(name, registry.family(name)) for name in registry.FAMILIES]
    return [
        name
        for name, family in known
        if family.can.issuperset(abilities) and shape in (None, family.shape)
    ]


def with_new_values(cases: dict[str, tuple[Case, ...]]) -> set[tuple[str, int]]:
    """Of each family the first, and those with a value which none before them has: numbers."""
    kept, met = set(), set[str]()
    for name, of_family in cases.items():
        for number, case in enumerate(of_family):
            values = {f"{key}={value}" for key, value in (*case.changes, ("kernel", case.kernel))}
            if number == 0 or not values <= met:
                kept.add((name, number))
            met |= values
    return kept


def law(
    *abilities: str, every: int = 1, pairs: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of a ``case``, for every family with these abilities.

    ``every`` thins out the whole product where a law takes long. Without ``pairs`` `make test` has
    each value of a setting once, in some family; the covering's other cases are slow ones too.
    """

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        parameters = []
        known = {name: coverings()[name] for name in families(*abilities)}
        quick = with_new_values(known)
        for name, cases in known.items():
            for number, case in enumerate(cases):
                marks = [] if pairs or (name, number) in quick else [pytest.mark.slow]
                parameters.append(pytest.param([case], id=f"{name}-{number}", marks=marks))
            parameters.append(
                pytest.param(_Product(name, every), id=f"{name}-product", marks=pytest.mark.slow)
            )

        @pytest.mark.parametrize("case", parameters)
        @functools.wraps(function)
        def over_cases(case: Iterable[Case], **others: Any) -> None:
            for one in case:
                torch.manual_seed(0)
                try:
                    function(case=one, **others)
                except BaseException as error:
                    error.add_note(f"in {one}")
                    raise

        return over_cases

    return wrap


@dataclass(frozen=True)
class _Product:
    name: str
    every: int

    def __iter__(self) -> Iterator[Case]:
        return iter(product(self.name)[:: self.every])
