"""What a command is: its request, what carries it out, and how its answer is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from flows.engine.printing import PlainConsole
from tasks.config import Config

Show = Callable[[Any, Console], None]


class CommandEnded(Exception):
    """A command did its work, and its answer, which was shown, calls for an exit code of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Logging(Config):
    """Options of every command beside its request.

    Attributes:
        verbose: More log lines, and tracebacks.
    """

    verbose: bool = False


class Output(Logging):
    """Options of every command that answers.

    Attributes:
        as_json: Print one JSON object on standard output.
    """

    as_json: bool = False


@dataclass(frozen=True)
class Written:
    """How a field of a request is written on the command line, where that does not follow from its name and type.

    Attributes:
        kind: Its type there.
        name: Its name there.
        alias: A short name beside the other.
        metavar: What stands for its values in the help; by default that follows from the type.
        positional: It has no name there, only a place.
        adds_up: It may be given several times.
        hidden: It is not written there.
    """

    kind: Any = None
    name: str | None = None
    alias: str | None = None
    metavar: str | None = None
    positional: bool = False
    adds_up: bool = False
    hidden: bool = False


POSITIONAL = Written(positional=True)
HIDDEN = Written(hidden=True)


@dataclass(frozen=True)
class Command:
    """A command. Its options are the fields of its request, and those of `options`.

    Attributes:
        name: As it is typed.
        help: One line for people.
        request: What it is asked for.
        carry_out: Called with the request and the options; it prints the answer.
        options: What the command line has beside the request.
        written: Field -> how it is written, where that does not follow from its name and type.
        presets: Preset -> the settings that it starts from, where the request has `settings`.
        preset: The preset where none is named.
        prepare: Makes the request's values of those of the command line.
        variants: First word -> the command that it stands for, where other words stand for other options.
        word: What that first word is called; a field of the request where it has one of the name.
    """

    name: str
    help: str
    request: type[BaseModel]
    carry_out: Callable[[Any, Any], None]
    options: type[Logging] = Output
    written: Mapping[str, Written] = field(default_factory=dict)
    presets: Mapping[str, Callable[[], BaseModel]] = field(default_factory=dict)
    preset: str = "quick"
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict
    variants: Mapping[str, Command] = field(default_factory=dict)
    word: str = ""


def answer(result: Any, show: Show, as_json: bool) -> None:
    """Print a command's result: as one JSON object, or as `show` does."""
    if as_json:
        print(json.dumps(result), flush=True)
    else:
        show(result, PlainConsole())


def answering(work: Callable[[Any], Any], show: Show) -> Callable[[Any, Output], None]:
    """Return what carries a command out that does a piece of work and shows its result."""

    def carry_out(request: Any, options: Output) -> None:
        answer(work(request), show, options.as_json)

    return carry_out


def spread(function: Callable[..., Any]) -> Callable[[BaseModel], Any]:
    """Return a function of a request that passes the request's fields on by their names."""
    return lambda request: function(**dict(request))
