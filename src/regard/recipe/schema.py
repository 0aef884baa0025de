"""A JSON schema of recipes, for editors: the sections, and each family's settings under ``model``.

The families' part is read off their config dataclasses, so it cannot say other than the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from regard import registry
from regard.recipe.checks import objective_options
from regard.recipe.sections import Objective, RecipeModel
from regard.recipe.transfer import AdapterSpec
from regard.spec import STACK_WIDE, KindSpec, plain

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema of a recipe file (JSON Schema 2020-12)."""
    schema: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RecipeModel.model_json_schema(),
        "title": "A recipe of regard",
        "description": "All of a run: data, tokenizer, model, training, decoding.",
    }
    properties = schema["properties"]
    properties["task"]["enum"] = registry.names("tasks")
    families = [_family(name) for name in registry.names("families")]
    model = dict(families[0]) if len(families) == 1 else {"anyOf": families}
    properties["model"] = {**model, "description": properties["model"]["description"]}
    schema["$defs"]["Objective"]["properties"].update(_objectives())
    schema["$defs"]["Split"]["properties"].update(_splits())
    # A recipe may leave out what its defaults or the command line say.
    schema["required"] = ["task"]
    return schema


def _objectives() -> Schema:
    """The keys that only some objectives have."""
    keys: Schema = {}
    for kind in registry.names("objectives"):
        objective = registry.kind("objectives", kind)
        said = _attributes(objective, "Args")
        for name, parameter in objective_options(objective).items():
            if name not in Objective.model_fields:
                plain_type = _value(type(parameter.default))
                held = keys.setdefault(name, {**plain_type, "default": parameter.default})
                others = [held["description"]] if "description" in held else []
                held["description"] = " ".join([*others, f"{kind}: {said[name]}"])
    return keys


def _splits() -> Schema:
    """The keys of a split that only some tasks read."""
    tasks = {name: registry.kind("tasks", name) for name in registry.names("tasks")}
    return {
        key: {"type": "string", "description": f"{name}: {said}"}
        for name, task in tasks.items()
        for key, said in task.data_keys.items()
    }


def _family(name: str) -> Schema:
    family = registry.family(name)
    schema = _dataclass(family.config)
    own: Schema = {
        "family": {"const": name, "description": "the architecture"},
        "preset": {"enum": list(family.presets), "description": "a published size to start from"},
        "start_from": {"type": "string", "description": "a run whose weights this one starts with"},
        "freeze": {
            "type": "array",
            "items": {"type": "string"},
            "description": "parts that do not train: their names, or patterns",
        },
        "adapter": {
            **_kinds(AdapterSpec),
            "description": "train this beside the weights of start_from, which stay as they are",
        },
    }
    if family.stacks:
        stack = schema["properties"][family.stacks[0]]["properties"]
        shared = {key: stack[key] for key in STACK_WIDE if key in stack}
        own.update({key: {**held, "description": _shared(held)} for key, held in shared.items()})
    schema["properties"] = {**own, **schema["properties"]}
    return schema


def _shared(schema: Schema) -> str:
    return f"{schema.get('description', '')} (of every stack)".strip()


def _dataclass(cls: type) -> Schema:
    """An object schema of a settings dataclass; every key may be left out."""
    hints, said = get_type_hints(cls), _attributes(cls)
    properties: Schema = {}
    for field in dataclasses.fields(cls):
        schema = _value(hints[field.name])
        if field.name in said:
            schema = {**schema, "description": said[field.name]}
        default = _default(field)
        if default is not None and "properties" not in schema:
            schema = {**schema, "default": default}
        properties[field.name] = schema
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _value(hint: Any) -> Schema:
    if isinstance(hint, type) and issubclass(hint, KindSpec):
        return _kinds(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _dataclass(hint)
    return TypeAdapter(hint).json_schema()


def _kinds(spec: type[KindSpec]) -> Schema:
    """A kind by its name alone, or a table with the kind's own options."""
    names = registry.names(spec.group)
    tables = []
    for name in names:
        options = getattr(registry.kind(spec.group, name), "Options", None)
        table: Schema = _dataclass(options) if options else {"type": "object", "properties": {}}
        table["properties"] = {"kind": {"const": name}, **table["properties"]}
        tables.append({**table, "required": ["kind"], "additionalProperties": False})
    return {"anyOf": [{"enum": names}, *tables]}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    return None


def _attributes(cls: type, heading: str = "Attributes") -> Mapping[str, str]:
    """What a class's docstring says under a heading, by name."""
    _, _, section = (inspect.getdoc(cls) or "").partition(f"{heading}:\n")
    section, _, _ = section.partition("\n\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + section.rstrip()):
        names, colon, text = entry.strip().partition(":")
        if colon:
            for name in names.split(","):
                found[name.strip()] = " ".join(text.split()).replace("``", "")
    return found


def markdown_table(schema: Schema) -> str:
    """The schema's keys with their types, defaults and meanings, as a Markdown table."""
    return as_table(key_rows(schema))


def key_rows(schema: Schema) -> list[tuple[str, str, str, str]]:
    """Each key with what it may be, its default and its meaning, in Markdown."""
    rows = []
    for key, held in _keys(schema, schema.get("$defs", {}), ""):
        default = held.get("default")
        shown = "" if default is None else f"`{_short(default)}`"
        rows.append((key, _type(held), shown, held.get("description", "")))
    return rows


def as_table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Rows of `key_rows` as a Markdown table."""
    lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key, *rest in rows:
        cells = [f"`{key}`", *rest]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _keys(schema: Schema, definitions: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
    for name, held in schema.get("properties", {}).items():
        inner = _deref(held, definitions)
        families = [one for one in held.get("anyOf", []) if "family" in one.get("properties", {})]
        if "properties" in inner:
            yield from _keys(inner, definitions, f"{prefix}{name}.")
        elif families:
            yield from _joined(families, definitions, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", {**inner, **held}
            yield from _options(held, f"{prefix}{name}.")


def _joined(families: Iterable[Schema], definitions: Schema, prefix: str) -> Iterator[Any]:
    """Keys of all families, each once: the first that has it says its default and meaning."""
    found: Schema = {}
    for family in families:
        for key, held in _keys(family, definitions, prefix):
            values = [*_choices(found.get(key, {})), *_choices(held)]
            found.setdefault(key, held)
            if _choices(held):
                found[key] = {**found[key], "enum": list(dict.fromkeys(values))}
    yield from found.items()


def _choices(schema: Schema) -> list[Any]:
    # Joined ones have both: the first family's own, and all.
    return list(schema.get("enum", [schema["const"]] if "const" in schema else []))


def _options(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
    """The options of kinds, which stand in a table beside ``kind``."""
    for table in schema.get("anyOf", []):
        options = dict(table.get("properties", {}))
        kind = options.pop("kind", {}).get("const")
        for name, held in options.items():
            yield (
                f"{prefix}{name}",
                {**held, "description": f"{kind}: {held.get('description', '')}"},
            )


def _deref(schema: Schema, definitions: Schema) -> Schema:
    """The object that a property holds, also by reference and where it may be left out."""
    for option in [schema, *schema.get("anyOf", []), *schema.get("allOf", [])]:
        if "$ref" in option:
            found: Schema = definitions[option["$ref"].rpartition("/")[2]]
            return found
    return schema


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        options = [_type(option) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(option for option in options if option))
    name = str(schema.get("type", ""))
    plain_name = {"object": "table", "array": "list", "string": "text"}.get(name, name)
    return " ".join([plain_name, *_bounds(schema)])


def _bounds(schema: Schema) -> Iterator[str]:
    for key, sign in _BOUNDS:
        if key in schema:
            yield f"{sign} {schema[key]:g}"


_BOUNDS = (
    ("minimum", "≥"),
    ("exclusiveMinimum", ">"),
    ("maximum", "≤"),
    ("exclusiveMaximum", "<"),
)


def _short(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
