"""The command line: `pseudomask COMMAND`, the same as `python -m flows COMMAND`."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from pydantic import ValidationError
from rich.logging import RichHandler

from data.dataset import DatasetError
from data.public_sets import DownloadError
from data.store import ArtifactError
from flows.commandline.page import groups_of, page_of, page_of_all
from flows.commandline.parser import (
    SettingsRefused,
    WrongWords,
    parse,
    preset_of,
    refuse_useless,
    repeated_options,
    variant_of,
)
from flows.commands import COMMANDS, ROOMS
from flows.commands.command import Command, CommandEnded
from flows.engine.exit_codes import DONE, FAILED, WRONG_WORDS
from flows.engine.printing import PlainConsole, PlainFormatter, is_for_people
from flows.engine.server import ServerError
from tasks.engine.foreign_settings import refuse_foreign_settings
from tasks.engine.workers import LOG_VARIABLE, StageError
from tasks.engine.workers import ROOMS as PACKAGES

EXPECTED = (DatasetError, DownloadError, ArtifactError, StageError, ServerError)
HELP = ("-h", "--help")


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        One of `flows.engine.exit_codes`; a failure is explained on standard error.

    Raises:
        SystemExit: Help was printed, or the words are no options.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(f"pseudomask {version('pseudomask')}")
        return DONE
    verbose = "-v" in argv or "--verbose" in argv
    _set_up_logging(verbose)
    name, words = (argv[0], argv[1:]) if argv else ("", [])
    if name in HELP:
        _show_help(page_of_all(ROOMS))
    command = COMMANDS.get(name)
    if command is None:
        _say(f"{name or 'pseudomask'}: expected a command, one of {', '.join(COMMANDS)}")
        return WRONG_WORDS
    if not {*HELP}.isdisjoint(words):
        _show_help(_page(command, words))
    try:
        refuse_foreign_settings()
        return _carry_out(command, words)
    except CommandEnded as end:
        return end.code
    except (ValidationError, SettingsRefused) as error:
        _explain_options(error.fault if isinstance(error, SettingsRefused) else error)
        return WRONG_WORDS
    except WrongWords as error:
        _say(str(error))
        return WRONG_WORDS
    except BrokenPipeError:
        _stop_printing()
    except (*EXPECTED, OSError) as error:
        _explain(error, can_skip="skip_bad" in command.request.model_fields)
        if verbose:
            traceback.print_exc()
        return FAILED
    except RuntimeError as error:
        # Before Python 3.13 this is how a path ends that goes round in links.
        if not str(error).startswith("Symlink loop"):
            raise
        _explain(error)
        return FAILED
    except KeyboardInterrupt:
        _say("Stopped. What is finished is kept: the same command goes on from there.")
        return FAILED
    return DONE


def _show_help(page: str) -> NoReturn:
    try:
        print(page, flush=True)
    except BrokenPipeError:
        _stop_printing()
    raise SystemExit(0)


def _stop_printing() -> None:
    """Have nothing more go to a pipe that nobody reads: who read our answer, `head` for one, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _carry_out(command: Command, words: Sequence[str]) -> int:
    chosen, word = variant_of(command, words)
    several, others = repeated_options(chosen, words)
    for options, text in ((several, "give all values behind one option"), (others, "the last one counts")):
        if options:
            _say(f"{', '.join(options)}: given more than once; {text}")
    if several:
        return WRONG_WORDS
    refuse_useless(command, word, words)
    request, options = parse(chosen, words, prog=f"pseudomask {command.name}", choice=(command.word, word))
    chosen.carry_out(request, options)
    return DONE


def _page(command: Command, words: Sequence[str]) -> str:
    """Return the help of a command, or of the groups of settings that are named behind `--help`."""
    place = next(place for place, word in enumerate(words) if word in HELP)
    before, behind = words[:place], words[place + 1 :]
    try:
        chosen, word = variant_of(command, [*before, *behind])
    except WrongWords:
        return page_of(command, command.preset)
    preset = preset_of(chosen, words)
    groups = [group for group in groups_of(chosen, preset) if group in behind]
    return page_of(chosen, preset, word=word, groups=groups)


def _say(text: str) -> None:
    PlainConsole(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def _explain(error: BaseException, *, can_skip: bool = False) -> None:
    # Any path of the command line may be too long, go round in links, or lie in a folder that is closed to us.
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    _say(text)
    if isinstance(error, DatasetError) and (count := sum(problem.count for problem in error.problems)) > 1:
        advice = " --skip-bad sets bad images aside." if can_skip and error.of_images else ""
        _say(f"{count} problems.{advice}")


def _explain_options(error: ValidationError) -> None:
    problems = error.errors()
    for problem in problems:
        # A list without its values that are none is short: they are told by themselves.
        inner = [each for each in problems if len(each["loc"]) > len(problem["loc"])]
        if problem["type"] == "too_short" and any(
            each["loc"][: len(problem["loc"])] == problem["loc"] for each in inner
        ):
            continue
        where = ".".join(map(str, problem["loc"])) or "options"
        # What is wrong with several options together is not made clearer by all of them.
        got = f", got {problem['input']!r}" if problem["loc"] and not isinstance(problem["input"], dict) else ""
        text = f"{where}: {problem['msg'].removeprefix('Value error, ')}{got}"
        _say(text)


def _set_up_logging(verbose: bool) -> None:
    handler = RichHandler(console=PlainConsole(stderr=True), show_path=False, show_time=False)
    handler.setFormatter(PlainFormatter("%(message)s"))
    if not verbose:
        handler.addFilter(is_for_people)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for room in ("flows", *PACKAGES):
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)
    if verbose:
        os.environ[LOG_VARIABLE] = "DEBUG"


if __name__ == "__main__":
    sys.exit(main())
