"""What `--help` prints: one line per option, with its range and its default."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from flows.commandline.options import Option, bare, constraints_of, options_of
from flows.commands.command import Command

# Two screens. Where the settings' texts do not fit in, there are two settings per line, without them.
MOST_LINES = 128
WIDTH = 120
LEFT = 38
# A number that only keeps sums from overflowing is no range.
HUGE = 1e6
SHOWN_VALUES = 4
LONGEST_FORM = 100
"""Of what stands for values: longer lists of choices are part of an option's text."""
NAMES = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def page_of_all(commands: Mapping[str, Sequence[Command]]) -> str:
    """Return the page of the program: its commands, room by room."""
    lines = ["usage: pseudomask COMMAND [OPTIONS]", "", "Semantic and instance masks from image-level labels."]
    for room, members in commands.items():
        lines += ["", f"{room}:", *(f"  {command.name:<14}{command.help}" for command in members)]
    return "\n".join([*lines, "", "pseudomask COMMAND --help prints the options of a command."])


def page_of(command: Command, preset: str, *, word: str = "", groups: Sequence[str] = ()) -> str:
    """Return the page of a command; of one whose variant is not chosen, the page that names the variants.

    Args:
        preset: Its settings are the defaults.
        word: The value of its first word, where that was given and chose the command.
        groups: Groups of settings that are described at length, in place of all else.
    """
    width = _width()
    if command.variants:
        names = ", ".join(command.variants)
        lines = [_usage(command, (), word), "", *textwrap.wrap(command.help, width), ""]
        lines += _entry(command.word.upper(), f"one of {names}", width)
        return "\n".join([*lines, "", f"pseudomask {command.name} {command.word.upper()} --help prints the options."])
    options = options_of(command, preset)
    settings = [option for option in options if option.setting]
    if groups:
        wanted = (option for option in settings if _group(option) in groups)
        return "\n".join(line for option in wanted for line in _described(option, width, whole=True))
    own = [option for option in options if not option.setting]
    lines = [_usage(command, own, word), "", *textwrap.wrap(command.help, width)]
    if word:
        lines += ["", *_entry(command.word.upper(), word, width)]
    lines += ["", "options:", *(line for option in own for line in _described(option, width))]
    if settings:
        lines += _settings(preset, settings, width, MOST_LINES - len(lines))
    return "\n".join(lines)


def groups_of(command: Command, preset: str) -> list[str]:
    """Return the names of the groups that a command's settings stand in."""
    return list(dict.fromkeys(_group(option) for option in options_of(command, preset) if option.setting))


def form(kind: Any, constraints: Iterable[Any] = (), *, none: bool = True) -> str:
    """Return what stands for the values of a type, with their range: "INT>=1", "0..1", "a|b".

    Args:
        constraints: Bounds that are said of it elsewhere.
        none: Name None where it is one of them.
    """
    bounds, kind = [*constraints, *constraints_of(kind)], bare(kind)
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return "|".join(map(str, arguments))
    if get_origin(kind) is tuple:
        if Ellipsis in arguments:
            return f"{form(arguments[0])} ..."
        return " ".join(map(form, arguments))
    if kind is bool:
        return ""
    if kind is NoneType:
        return "None"
    if arguments and get_origin(kind) is not None and kind not in NAMES:
        members = [member for member in arguments if bare(member) is not NoneType or none]
        return "|".join(form(member, bounds if bare(member) in (int, float) else ()) for member in members)
    return _range(NAMES.get(kind, str(getattr(kind, "__name__", kind)).upper()), bounds)


def _range(name: str, bounds: Sequence[Any]) -> str:
    signs: list[tuple[type, str, str]] = [(Ge, "ge", ">="), (Gt, "gt", ">"), (Le, "le", "<="), (Lt, "lt", "<")]
    ends = [(sign, getattr(each, name)) for kind, name, sign in signs for each in bounds if isinstance(each, kind)]
    # A class may say again what its type says.
    ends = list(dict.fromkeys((sign, value) for sign, value in ends if value < HUGE))
    if [sign for sign, _ in ends] == [">=", "<="]:
        return f"{ends[0][1]:g}..{ends[1][1]:g}"
    return name + ",".join(f"{sign}{value:g}" for sign, value in ends)


def _usage(command: Command, own: Sequence[Option], word: str) -> str:
    words = [command.word.upper()] if word or command.variants else []
    for option in own:
        if option.required:
            words.append(_left(option))
    return f"usage: pseudomask {' '.join([command.name, *words])} [OPTIONS]"


def _settings(preset: str, settings: Sequence[Option], width: int, room: int) -> list[str]:
    groups = [(name, list(members)) for name, members in groupby(settings, key=_group)]
    lines = ["", f"settings, as in preset {preset} (--help {groups[-1][0]} describes that group):"]
    described = [line for name, members in groups for line in [f"{name}:", *(_short(o, width) for o in members)]]
    if len(lines) + len(described) <= room:
        return lines + described
    for name, members in groups:
        lines += [f"{name}:", *_columns([_brief(option) for option in members], width)]
    return lines


def _columns(entries: Sequence[str], width: int) -> list[str]:
    """Return two entries per line where they fit."""
    half = width // 2
    lines: list[str] = []
    waiting = ""
    for entry in entries:
        if waiting and len(entry) < half:
            lines.append(f"{waiting:<{half}}{entry}")
            waiting = ""
            continue
        if waiting:
            lines.append(waiting)
        waiting = entry if len(entry) < half else ""
        if not waiting:
            lines.append(entry)
    return [*lines, waiting] if waiting else lines


def _brief(option: Option) -> str:
    default = _default(option)
    return f"  {_left(option)}" + (f" [{default}]" if default else "")


def _short(option: Option, width: int) -> str:
    line = f"{_brief(option):<{LEFT + 12}}  {_sentence(option.text)}"
    return line.rstrip() if len(line) <= width else line[: width - 4].rpartition(" ")[0] + " ..."


def _described(option: Option, width: int, *, whole: bool = False) -> list[str]:
    text = option.text if whole else _sentence(option.text)
    if len(values := _form(option)) > LONGEST_FORM:
        text = f"{text} One of {values.replace('|', ', ')}."
    default = _default(option)
    notes = " (required)" if option.required and not option.written.positional else f" [{default}]" if default else ""
    return _entry(_left(option), text + notes, width)


def _entry(left: str, text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width - LEFT - 2, break_on_hyphens=False) or [""]
    if len(left) > LEFT - 4:
        return [f"  {left}", *(f"{'':<{LEFT}}{line}" for line in lines)]
    return [f"  {left:<{LEFT - 2}}{lines[0]}".rstrip(), *(f"{'':<{LEFT}}{line}" for line in lines[1:])]


def _form(option: Option) -> str:
    return option.written.metavar or form(option.kind, option.constraints, none=option.default is not None)


def _left(option: Option) -> str:
    metavar = values if len(values := _form(option)) <= LONGEST_FORM else option.option.rpartition(".")[2].upper()
    if option.written.positional:
        return option.option.upper()
    name = f"{option.written.alias}, --{option.option}" if option.written.alias else f"--{option.option}"
    if bare(option.kind) is bool and option.setting:
        name += f"|no-{option.option.rpartition('.')[2]}"
    return f"{name} {metavar}".strip()


def _default(option: Option) -> str:
    value = option.default
    if option.required or value in (None, (), {}) or (isinstance(value, bool) and not option.setting):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        shown = [f"{each:g}" if isinstance(each, int | float) else str(each) for each in value]
        return " ".join(shown if len(shown) <= SHOWN_VALUES else [*shown[:2], "...", shown[-1]])
    return f"{value:g}" if isinstance(value, float) else str(value)


def _group(option: Option) -> str:
    return option.prefix.partition(".")[0] or "general"


def _sentence(text: str) -> str:
    """Return the first sentence of a text."""
    return re.split(r"(?<=[^.]\.)\s+(?=[A-Z`\"])", text, maxsplit=1)[0]


def _width() -> int:
    """Return the width of the terminal; of a file or a pipe, which has none, one that helps are written for."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
