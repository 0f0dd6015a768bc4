"""Requests as Prefect's UI shows them: a form with a text per field, presets to choose from, and no wrong defaults."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

Schema = dict[str, Any]
Resolve = Callable[[Schema], Schema]


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return name -> text of the "Attributes:" of a class and its bases."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        found |= _own_attributes(each)
    return found


def as_form(request: type[BaseModel], schema: Schema, resolve: Resolve, presets: Sequence[str]) -> None:
    """Complete the JSON schema of a request, in place.

    Each field gets the text of its class's docstring, as the command line's help has it. `preset` becomes a choice.
    Settings lose their defaults: those are the classes' own, and a preset decides about what the form leaves out.

    Args:
        resolve: Returns what a schema's `$ref` stands for.
        presets: Their names.
    """
    _describe(request, schema, resolve)
    properties = schema["properties"]
    if presets:
        properties["preset"]["enum"] = list(presets)
    if settings := properties.get("settings"):
        _drop_defaults(settings, resolve)


def _describe(model: type[BaseModel], schema: Schema, resolve: Resolve) -> None:
    texts = attributes(model)
    for name, field in model.model_fields.items():
        of_field = schema.get("properties", {}).get(name)
        if of_field is None:
            continue
        if name in texts:
            of_field["description"] = texts[name]
        by_title = {inner.__name__: inner for inner in _models(field.annotation)}
        for part in _objects(of_field, resolve):
            if inner := by_title.get(part.get("title", "")):
                part["description"] = inspect.cleandoc(inner.__doc__ or "").partition("\n\nAttributes:")[0]
                of_field.setdefault("description", part["description"])
                _describe(inner, part, resolve)


def _drop_defaults(schema: Schema, resolve: Resolve) -> None:
    schema.pop("default", None)
    for part in _objects(schema, resolve):
        for inner in part.get("properties", {}).values():
            _drop_defaults(inner, resolve)


def _objects(schema: Schema, resolve: Resolve) -> Iterator[Schema]:
    """Yield the tables that a field may hold."""
    if "$ref" in schema:
        schema = resolve(schema)
    if "properties" in schema:
        yield schema
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key, ()):
            yield from _objects(part, resolve)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


@functools.cache
def _own_attributes(model: type) -> dict[str, str]:
    found: dict[str, str] = {}
    text = inspect.cleandoc(model.__dict__.get("__doc__") or "")
    section = text.partition("Attributes:\n")[2]
    for entry in re.split(r"\n(?=    \w[\w, ]*: )", "\n" + section):
        names, _, told = entry.strip().partition(": ")
        line = " ".join(told.split())
        found |= {name.strip(): line for name in names.split(",") if line}
    return found
