"""Words of the command line -> the request of a command."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined
from tyro.conf import Positional, UseAppendAction, arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from data.dataset import DatasetError
from flows.commandline.options import (
    NETWORK,
    SETTINGS,
    Field,
    Option,
    bare,
    fields_of,
    first_word,
    option_name,
    options_of,
)
from flows.commands.command import POSITIONAL, Command, Logging
from flows.engine.request import CommandLine


class SettingsRefused(Exception):
    """Options that are no settings: `fault` says why. Not a `ValueError`, whose text the parser prints as it is."""

    def __init__(self, fault: ValidationError) -> None:
        super().__init__(str(fault))
        self.fault = fault


class WrongWords(Exception):
    """A command line that no command has; the text says why."""


class _Line(dict[str, Any]):
    """What the parser makes of the words: the values of the fields."""


def variant_of(command: Command, words: Sequence[str]) -> tuple[Command, str]:
    """Return the command that the first word stands for, and that word; of a command without variants itself, and "".

    Raises:
        WrongWords: There is no such word.
        DatasetError: An option is of another variant.
    """
    if not command.variants:
        return command, ""
    for word, variant in command.variants.items():
        # How many words an option takes is known by its variant alone.
        if first_word(words, _by_name(variant)) == word:
            return variant, word
    word = first_word(words, _all_options(command))
    found = "none" if word is None else repr(word)
    names = ", ".join(command.variants)
    raise WrongWords(f"{command.name} {command.word.upper()}: expected one of {names}, found {found}")


def refuse_useless(command: Command, word: str, words: Sequence[str]) -> None:
    """Refuse options of a command's other variants.

    Raises:
        DatasetError: Names them.
    """
    if not command.variants:
        return
    named = (pair for variant in command.variants.values() for pair in _by_name(variant).items())
    others = {name for name, option in named if not option.setting}
    others -= _by_name(command.variants[word]).keys()
    if useless := list(dict.fromkeys(name for name in _names(words) if name in others)):
        raise DatasetError(f"{word} has no use for {', '.join(f'--{name}' for name in useless)}")


def preset_of(command: Command, words: Sequence[str]) -> str:
    """Return the preset that the words name; its settings are then the options' defaults."""
    for word, following in pairwise([*words, ""]):
        if word.startswith("--preset=") or word == "--preset":
            name = word.partition("=")[2] or following
            # A name that is no preset's is refused with the other options.
            return name if name in command.presets else command.preset
    return command.preset


def repeated_options(command: Command, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options that are there more than once: those of several values, and those of one."""
    known = {option.option: option for option in options_of(command, preset_of(command, words))}
    repeated = [name for name, count in Counter(_names(words)).items() if count > 1]
    adding_up = [name for name in repeated if name in known and known[name].written.adds_up]
    several = [name for name in repeated if name not in adding_up and name in known and _is_several(known[name].kind)]
    others = [name for name in repeated if name not in (*adding_up, *several)]
    return [f"--{name}" for name in several], [f"--{name}" for name in others]


def parse(
    command: Command, words: Sequence[str], *, prog: str, choice: tuple[str, str] = ("", "")
) -> tuple[BaseModel, Logging]:
    """Return the request that words make, and the options beside it.

    Args:
        prog: What the command is called in messages.
        choice: Name and value of the word that chose this variant of a command.

    Raises:
        SystemExit: The words are no options of the command; said on standard error.
        SettingsRefused: They are no settings.
        pydantic.ValidationError: They make no request.
    """
    fields = fields_of(command, preset_of(command, words))
    name, word = choice
    if word:
        fields = [Field(command.request, name, Literal[word], PydanticUndefined, POSITIONAL), *fields]
    values: dict[str, Any] = tyro.cli(_Line, prog=prog, args=list(words), registry=_registry(fields))
    beside = {each: values.pop(each) for each in command.options.model_fields if each in values}
    if name not in command.request.model_fields:
        values.pop(name, None)
    context = CommandLine(frozenset(_names(words)))
    request = command.request.model_validate(command.prepare(values), context=context)
    return request, command.options.model_validate(beside)


def _registry(fields: Sequence[Field]) -> ConstructorRegistry:
    """Return the parser's rules: a line of these fields, and settings that are refused as `SettingsRefused`.

    What an option of several types, such as a number or `auto`, cannot be is said in words of the command line.
    """
    registry = ConstructorRegistry()
    asked: list[StructTypeInfo | PrimitiveTypeInfo] = []

    @registry.primitive_rule
    def one_of(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info in asked or info.type_origin not in (Union, UnionType):
            return None
        with _asking(asked, info):
            spec = ConstructorRegistry.get_primitive_spec(info)
        if not isinstance(spec, PrimitiveConstructorSpec):
            return None
        return replace(spec, instance_from_str=functools.partial(_read_one_of, spec))

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is _Line:
            return StructConstructorSpec(_Line, tuple(map(_spec, fields)))
        if info in asked or not (isinstance(info.type, type) and issubclass(info.type, BaseModel)):
            return None
        with _asking(asked, info):
            spec = ConstructorRegistry.get_struct_spec(info)
        if not isinstance(spec, StructConstructorSpec):
            return None
        chosen = {NETWORK: getattr(info.default, NETWORK)} if NETWORK in info.type.model_fields else {}
        make = functools.partial(_make_settings, spec.instantiate, **chosen)
        return StructConstructorSpec(make, tuple(field for field in spec.fields if field.name not in chosen))

    return registry


@contextlib.contextmanager
def _asking(asked: list[Any], info: Any) -> Iterator[None]:
    """Have the parser answer by its own rules what a rule of ours asks it of `info` in the block."""
    asked.append(info)
    yield
    asked.remove(info)


def _read_one_of(spec: PrimitiveConstructorSpec[Any], words: list[str]) -> Any:
    try:
        return spec.instance_from_str(words)
    except ValueError:
        # The parser lists what each type says of itself, in Python's words.
        raise ValueError(f"expected {spec.metavar}, got {' '.join(words)}") from None


def _make_settings(make: Callable[..., Any], **values: Any) -> Any:
    try:
        return make(**values)
    except ValidationError as error:
        raise SettingsRefused(error) from None


def _spec(field: Field) -> StructFieldSpec:
    written = field.written
    kind: Any = field.kind
    if field.name == SETTINGS:
        kind = Annotated[kind, arg(name="")]
    else:
        aliases = [written.alias] if written.alias else None
        kind = Annotated[kind, arg(name=written.name, metavar=written.metavar, aliases=aliases)]
    if written.positional:
        kind = Positional[kind]
    if written.adds_up:
        kind = Annotated[kind, UseAppendAction]
    return StructFieldSpec(field.name, kind, tyro.MISSING if field.required else field.default)


def _names(words: Sequence[str]) -> list[str]:
    return [option_name(word) for word in words if word.startswith("--") and word != "--"]


def _all_options(command: Command) -> dict[str, Option]:
    """Return name -> option of all variants of a command."""
    return {name: option for each in command.variants.values() for name, option in _by_name(each).items()}


def _by_name(command: Command) -> dict[str, Option]:
    return {option.option: option for option in options_of(command, command.preset)}


def _is_several(kind: Any) -> bool:
    kind = bare(kind)
    if get_origin(kind) is tuple:
        return Ellipsis in get_args(kind)
    return any(map(_is_several, get_args(kind)))
