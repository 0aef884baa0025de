"""Typed settings from nested plain values: merged, strict, the nearest name suggested.

A config is a tree of frozen dataclasses. Its settings arrive as nested mappings in the recipe's
words, where ``layer``, ``positions`` and ``num_layers`` at the top are the default of every stack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

from regard import registry
from regard.errors import RecipeError, RegardError
from regard.registry import nearest

T = TypeVar("T")

STACK_WIDE = ("layer", "positions", "num_layers")


@dataclasses.dataclass(frozen=True)
class Within:
    """The range of a number, noted at its type: ``dropout: Annotated[float, Within(0, 1)]``.

    Attributes:
        least: the smallest value.
        below: what it stays below, if there is such a thing.
    """

    least: float
    below: float | None = None

    def fault(self, value: float) -> str | None:
        """What is wrong with a value, or None."""
        if value >= self.least and (self.below is None or value < self.below):
            return None
        above = f" and below {self.below:g}" if self.below is not None else ""
        return f"it should be at least {self.least:g}{above}"


@dataclasses.dataclass(frozen=True)
class Known:
    """The name of a kind in a registry group, noted at its type.

    Attributes:
        group: e.g. ``norms``.
    """

    group: str

    def fault(self, value: str) -> str | None:
        """What is wrong with a name, or None."""
        names = registry.names(self.group)
        if value in names or registry.plugin(self.group, value) is not None:
            return None
        near = nearest(value, names)
        return (f"did you mean {near!r}? " if near else "") + f"known: {', '.join(names)}"


Positive = Annotated[int, Within(1)]
Fraction = Annotated[float, Within(0, below=1)]


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One nested mapping out of several; the later wins, key by key.

    A value that names a ``kind`` replaces the earlier one whole when the kind differs: options of
    one kind mean nothing to another. Feed-forward networks have the same settings in every kind,
    so theirs stay.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if isinstance(value, Mapping):
                held = old if isinstance(old, Mapping) else {}
                kept = key == "feed_forward" or _same_kind(held, value)
                merged[key] = merge(held, value) if kept else merge(value)
            else:
                merged[key] = value
    return merged


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" not in new or "kind" not in old or old["kind"] == new["kind"]


def nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """``{"layer.dropout": 0.1}`` as ``{"layer": {"dropout": 0.1}}``."""
    result: dict[str, Any] = {}
    for key, value in dotted.items():
        branch: Any = value
        for part in reversed(key.split(".")):
            branch = {part: branch}
        result = merge(result, branch)
    return result


def spread(settings: Mapping[str, Any], stacks: Sequence[str]) -> dict[str, Any]:
    """Hand ``layer``, ``positions`` and ``num_layers`` down to each named stack."""
    if not stacks:
        return merge(settings)
    shared = {key: settings[key] for key in STACK_WIDE if key in settings}
    own = {key: value for key, value in settings.items() if key not in STACK_WIDE}
    return merge(own, *({stack: merge(shared, own.get(stack, {}))} for stack in stacks))


def resolve(*sources: Mapping[str, Any], stacks: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of rising precedence (defaults, preset, recipe…), spread and merged."""
    return merge(*(spread(source, stacks) for source in sources))


def from_preset(
    cls: type[T],
    name: str,
    own: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    *,
    stacks: Sequence[str] = (),
) -> T:
    """The config of one of ``cls.presets``, under settings of one's own with dotted keys.

    Raises:
        RecipeError: there is no such preset, or a setting cannot be.
    """
    presets: Mapping[str, Mapping[str, Any]] = cls.presets  # type: ignore[attr-defined]
    if name not in presets:
        near = nearest(name, presets)
        raise RecipeError(
            f"no preset {name!r}",
            hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(presets)}",
        )
    return build(cls, resolve(defaults or {}, presets[name], nest(own), stacks=stacks))


def build(cls: type[T], settings: Mapping[str, Any], *, where: str = "model") -> T:
    """The dataclass ``cls`` from nested settings.

    Raises:
        RecipeError: for an unknown or missing key, or a value of another type; it names the key.
    """
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            near = nearest(key, known)
            raise RecipeError(
                "unknown key",
                where=f"{where}.{key}",
                hint=f"did you mean {where}.{near}?" if near else f"known: {', '.join(known)}",
            )
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values[key] = _value(hints[key], value, f"{where}.{key}")
    for name, field in known.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise RecipeError("this key is needed", where=f"{where}.{name}")
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if isinstance(value, str) and any(f.name == "kind" for f in dataclasses.fields(hint)):
            value = {"kind": value}
        if not isinstance(value, Mapping):
            raise RecipeError(f"needs a table of settings, not {value!r}", where=where)
        if hasattr(hint, "from_settings"):
            return hint.from_settings(value, where)
        return build(hint, value, where=where)
    try:
        checked = _adapter(hint).validate_python(value)
    except ValueError as error:
        raise RecipeError(f"{value!r} does not fit: {_reason(error)}", where=where) from None
    for note in _notes(hint):
        if checked is not None and (fault := note.fault(checked)):
            raise RecipeError(f"{value!r} does not fit: {fault}", where=where)
    return checked


def _notes(hint: Any) -> list[Any]:
    """What is noted at a type, or at a member of a union: `Within` and `Known`."""
    noted = [note for note in getattr(hint, "__metadata__", ()) if hasattr(note, "fault")]
    inner = () if get_origin(hint) is Annotated else get_args(hint)
    return noted + [note for part in inner for note in _notes(part)]


@cache
def _adapter(hint: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(hint, config=ConfigDict(strict=True))


def _reason(error: ValueError) -> str:
    first = error.errors()[0] if hasattr(error, "errors") else {"msg": str(error)}
    return str(first["msg"]).lower()


def plain(config: Any) -> Any:
    """A config as nested plain values, ready for TOML or JSON; None is left out."""
    if hasattr(config, "to_settings"):
        return config.to_settings()
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        pairs = ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))
        return {key: plain(value) for key, value in pairs if value is not None}
    if isinstance(config, tuple | list):
        return [plain(value) for value in config]
    return config


@dataclasses.dataclass(frozen=True)
class KindSpec:
    """One kind out of a registry group, with that kind's own options.

    Subclasses name their ``group`` and default ``kind``. The class behind the kind says its
    options by a frozen dataclass called ``Options``.
    """

    kind: str = ""
    options: tuple[tuple[str, Any], ...] = ()

    group: ClassVar[str] = ""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> Self:
        """From ``{"kind": …, **options}``, checked against the kind's own options."""
        options = {key: value for key, value in settings.items() if key != "kind"}
        made = cls(str(settings.get("kind", cls.kind)), tuple(sorted(options.items())))
        try:
            made.resolve(where)
        except RecipeError:
            raise
        except RegardError as error:
            raise RecipeError(error.what, where=where, hint=error.hint) from None
        return made

    def to_settings(self) -> Any:
        """The short form where there are no options."""
        return {"kind": self.kind, **dict(self.options)} if self.options else self.kind

    def resolve(self, where: str = "model") -> tuple[Any, Any]:
        """The class (or function) of the kind, and its checked options."""
        found = registry.kind(self.group, self.kind)
        options_class = getattr(found, "Options", None)
        if options_class is None:
            return found, None
        return found, build(options_class, dict(self.options), where=where)


def kinds_of(config: Any) -> Iterator[tuple[str, str]]:
    """Group and name of every kind in a tree of configs."""
    if isinstance(config, KindSpec):
        yield config.group, config.kind
    elif isinstance(config, tuple | list):
        for part in config:
            yield from kinds_of(part)
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        hints = get_type_hints(type(config), include_extras=True)
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            noted = [note for note in _notes(hints[field.name]) if isinstance(note, Known)]
            yield from ((note.group, value) for note in noted)
            yield from kinds_of(value)
