"""The options of a command, as they follow from the fields of its request."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flows.commands.command import Command, Written
from flows.engine.form import attributes
from flows.engine.presets import SETTINGS_FILE
from flows.engine.request import Request

SETTINGS = "settings"
# Settings name their network, which the command line chooses by a word of its own.
NETWORK = "network"
USUAL = {SETTINGS_FILE: Written(name=SETTINGS), "as_json": Written(name="json"), "verbose": Written(alias="-v")}
AS_IT_IS = Written()


@dataclass(frozen=True)
class Field:
    """A field of a command's request, or of its options beside the request, as the command line has it.

    Attributes:
        model: The class that it is a field of.
        kind: Its type, with whatever is said of it there.
        default: `PydanticUndefined` where it must be given.
    """

    model: type[BaseModel]
    name: str
    kind: Any
    default: Any
    written: Written = AS_IT_IS

    @property
    def option(self) -> str:
        """Its name on the command line, without dashes before it."""
        return (self.written.name or self.name).replace("_", "-")

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is PydanticUndefined


@dataclass(frozen=True)
class Option(Field):
    """A value that is given on the command line: a field, or a setting within one.

    Attributes:
        prefix: "walk." of `--walk.beta`.
        setting: It is a setting, and not a field itself.
    """

    prefix: str = ""
    setting: bool = False

    @property
    def option(self) -> str:
        """Its whole name on the command line, without dashes before it."""
        return (self.prefix + super().option).replace("_", "-")

    @property
    def text(self) -> str:
        """What its class says of it."""
        return attributes(self.model).get(self.name, "")

    @property
    def constraints(self) -> list[Any]:
        """Bounds that its class has beside the type."""
        return self.model.model_fields[self.name].metadata


def fields_of(command: Command, preset: str) -> list[Field]:
    """Return the fields of a command that are written on the command line: what must be given first."""
    request, options = command.request, command.options
    own = [name for name in request.model_fields if name not in Request.model_fields]
    common = [name for name in request.model_fields if name in Request.model_fields]
    fields = [
        *(_field(command, request, name, preset) for name in (*own, *common)),
        *(_field(command, options, name, preset) for name in options.model_fields),
    ]
    shown = (field for field in fields if not field.written.hidden)
    return sorted(shown, key=lambda field: (not field.written.positional, not field.required))


def options_of(command: Command, preset: str) -> list[Option]:
    """Return the options of a command, and those of all settings behind them."""
    return [option for field in fields_of(command, preset) for option in _flat(field)]


def first_word(words: Sequence[str], options: Mapping[str, Option]) -> str | None:
    """Return the first word that is neither an option nor a value of one.

    Args:
        options: Name -> option.
    """
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if not _is_option(word):
            return word
        name = option_name(word)
        if "=" in word or not word.startswith("--"):
            continue
        option = options.get(name)
        if option is None and name.replace("no-", "", 1) in options:
            continue
        place += 1 if option is None else num_words(option.kind, words[place:])
    return None


def option_name(word: str) -> str:
    """Return the name in a word such as `--walk.beta=6`."""
    return word.removeprefix("--").partition("=")[0].replace("_", "-")


def num_words(kind: Any, words: Sequence[str]) -> int:
    """Return how many of the words behind an option of a type are its values."""
    kind, arguments = bare(kind), get_args(bare(kind))
    if kind is bool or kind is NoneType:
        return 0
    if get_origin(kind) is tuple:
        if Ellipsis in arguments:
            return next((count for count, word in enumerate(words) if _is_option(word)), len(words))
        return len(arguments)
    if get_origin(kind) is Literal or not arguments:
        return 1
    names = {
        "None",
        *(name for member in arguments if get_origin(bare(member)) is Literal for name in get_args(member)),
    }
    return 1 if words and words[0] in names else max(num_words(member, words) for member in arguments)


def bare(kind: Any) -> Any:
    """Return a type without what is said of it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def constraints_of(kind: Any) -> list[Any]:
    """Return the bounds that are said of a type."""
    found = []
    for each in getattr(kind, "__metadata__", ()):
        found += each.metadata if isinstance(each, FieldInfo) else [each]
    return found


def _field(command: Command, model: type[BaseModel], name: str, preset: str) -> Field:
    written = command.written.get(name, USUAL.get(name, AS_IT_IS))
    kind = written.kind or _hints(model)[name]
    default = model.model_fields[name].get_default(call_default_factory=True)
    if name == SETTINGS:
        default = command.presets[preset]()
        kind = type(default)
    elif name == "preset":
        default = preset
    elif default == {}:
        # Written as words, which are read into the field.
        default = ()
    return Field(model, name, kind, default, written)


def _flat(field: Field) -> Iterator[Option]:
    if not isinstance(field.default, BaseModel):
        yield Option(field.model, field.name, field.kind, field.default, field.written)
        return
    yield from _settings(field.default, "" if field.name == SETTINGS else f"{field.name}.")


def _settings(values: BaseModel, prefix: str) -> Iterator[Option]:
    model = type(values)
    for name, kind in _hints(model).items():
        if name not in model.model_fields or name == NETWORK:
            continue
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield Option(model, name, kind, value, prefix=prefix, setting=True)


def _is_option(word: str) -> bool:
    return word.startswith("-") and not re.match(r"-\.?\d", word) and word != "-"


@functools.cache
def _hints(model: type[BaseModel]) -> dict[str, Any]:
    return get_type_hints(model, include_extras=True)
