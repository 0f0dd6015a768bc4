"""The command line: `pseudomask COMMAND`, the same as `python -m flows COMMAND`."""

from __future__ import annotations

import logging
import os
import sys
import traceback

import tyro
from pydantic import ValidationError
from rich.logging import RichHandler

from data.dataset import DatasetError
from data.store import ArtifactError
from flows.arguments import CommandFailed, commands
from flows.network_presets import NETWORK_PRESETS
from flows.presets import PRESETS
from flows.printing import PlainConsole, PlainFormatter
from flows.server import ServerError
from tasks.network_settings import NetworkSettings
from tasks.workers import LOG_VARIABLE, ROOMS, StageError

EXPECTED = (DatasetError, ArtifactError, StageError, ServerError)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 1 for a failure, which is explained on standard error. A wrong command line ends with 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    _set_up_logging("-v" in argv or "--verbose" in argv)
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands(_preset(argv), _network_settings(argv)),
            prog="pseudomask",
            description=__doc__,
            args=argv,
            sort_subcommands=False,
        )
    except CommandFailed:
        return 1
    except ValidationError as error:
        _explain_options(error)
        return 2
    except EXPECTED as error:
        _explain(error)
        if "-v" in argv or "--verbose" in argv:
            traceback.print_exc()
        return 1
    except BrokenPipeError:
        # Who read our answer, `head` for one, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        PlainConsole(stderr=True).print("Stopped. What is finished is kept: the same command goes on from there.")
        return 1
    return 0


def _preset(argv: list[str]) -> str:
    """Return the preset that the command line names; its settings are then the options' defaults."""
    name = _named_preset(argv)
    return name if name in PRESETS else "demo" if argv[:1] == ["demo"] else "quick"


def _named_preset(argv: list[str]) -> str | None:
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word.startswith("--preset=") or word == "--preset":
            return word.partition("=")[2] or following
    return None


def _network_settings(argv: list[str]) -> NetworkSettings:
    """Return the settings of the network and the preset that the command line names."""
    presets = NETWORK_PRESETS[next((word for word in argv[1:] if word in NETWORK_PRESETS), "deeplabv2")]
    name = _named_preset(argv)
    # A name that is not the network's is refused with the other options.
    return presets[name if name in presets else "quick"]()


def _explain(error: BaseException) -> None:
    console = PlainConsole(stderr=True)
    console.print(str(error), markup=False, highlight=False, soft_wrap=True)
    if isinstance(error, DatasetError) and len(error.problems) > 1:
        console.print(f"{len(error.problems)} problems. --skip-bad sets bad images aside.", highlight=False)


def _explain_options(error: ValidationError) -> None:
    console = PlainConsole(stderr=True)
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"])) or "options"
        # What is wrong with several options together is not made clearer by all of them.
        got = f", got {problem['input']!r}" if problem["loc"] and not isinstance(problem["input"], dict) else ""
        text = f"{where}: {problem['msg'].removeprefix('Value error, ')}{got}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _set_up_logging(verbose: bool) -> None:
    handler = RichHandler(console=PlainConsole(stderr=True), show_path=False, show_time=False)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for room in ("flows", *ROOMS):
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)
    if verbose:
        os.environ[LOG_VARIABLE] = "DEBUG"


if __name__ == "__main__":
    sys.exit(main())
