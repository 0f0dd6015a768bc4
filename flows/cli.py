"""The command line: `pseudomask COMMAND`, the same as `python -m flows COMMAND`."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro
from pydantic import BaseModel, ValidationError
from rich.logging import RichHandler
from tyro.conf import UseAppendAction
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from data.dataset import DatasetError
from data.public_sets import DownloadError
from data.store import ArtifactError
from flows.arguments import CommandFailed, commands
from flows.engine.printing import PlainConsole, PlainFormatter
from flows.engine.server import ServerError
from flows.labels.presets import PRESETS
from tasks.engine.workers import LOG_VARIABLE, ROOMS, StageError
from tasks.networks import NETWORKS, NetworkSettings


class SettingsRefused(Exception):
    """Options that are no settings: `fault` says why. Not a `ValueError`, whose text the parser prints as it is."""

    def __init__(self, fault: ValidationError) -> None:
        super().__init__(str(fault))
        self.fault = fault


EXPECTED = (DatasetError, DownloadError, ArtifactError, StageError, ServerError)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 1 for a failure, which is explained on standard error. A wrong command line ends with 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(f"pseudomask {version('pseudomask')}")
        return 0
    _set_up_logging("-v" in argv or "--verbose" in argv)
    known = commands(_preset(argv), _network_settings(argv))
    command = known.get(next(iter(argv), ""))
    several, others = _repeated_options(argv, command)
    for options, text in ((several, "give all values behind one option"), (others, "the last one counts")):
        if options:
            text = f"{', '.join(options)}: given more than once; {text}"
            PlainConsole(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
    if several:
        return 2
    try:
        tyro.extras.subcommand_cli_from_dict(
            known,
            prog="pseudomask",
            description=__doc__,
            args=argv,
            sort_subcommands=False,
            registry=_settings_registry(),
        )
    except CommandFailed:
        return 1
    except (ValidationError, SettingsRefused) as error:
        _explain_options(error.fault if isinstance(error, SettingsRefused) else error)
        return 2
    except BrokenPipeError:
        # Who read our answer, `head` for one, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (*EXPECTED, OSError) as error:
        _explain(error, can_skip=command is not None and "skip_bad" in inspect.signature(command).parameters)
        if "-v" in argv or "--verbose" in argv:
            traceback.print_exc()
        return 1
    except RuntimeError as error:
        # Before Python 3.13 this is how a path ends that goes round in links.
        if not str(error).startswith("Symlink loop"):
            raise
        _explain(error)
        return 1
    except KeyboardInterrupt:
        PlainConsole(stderr=True).print("Stopped. What is finished is kept: the same command goes on from there.")
        return 1
    return 0


def _settings_registry() -> ConstructorRegistry:
    """Return the parser's rule for settings: made as ever, and refused as `SettingsRefused`."""
    registry = ConstructorRegistry()
    asked: list[StructTypeInfo] = []

    def make(original: Callable[..., Any], **values: Any) -> Any:
        try:
            return original(**values)
        except ValidationError as error:
            raise SettingsRefused(error) from None

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        # Asked within the rule, the parser answers by its own.
        if info in asked or not (isinstance(info.type, type) and issubclass(info.type, BaseModel)):
            return None
        asked.append(info)
        spec = ConstructorRegistry.get_struct_spec(info)
        asked.remove(info)
        if not isinstance(spec, StructConstructorSpec):
            return None
        return StructConstructorSpec(functools.partial(make, spec.instantiate), spec.fields)

    return registry


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
    presets = NETWORKS[next((word for word in argv[1:] if word in NETWORKS), "deeplabv2")].presets
    name = _named_preset(argv)
    # A name that is not the network's is refused with the other options.
    return presets[name if name is not None and name in presets else "quick"]()


def _repeated_options(argv: list[str], command: Callable[..., None] | None) -> tuple[list[str], list[str]]:
    """Return the options that are there more than once: those of several values, and those of one."""
    words = (word.partition("=")[0].replace("_", "-") for word in argv if word.startswith("--") and word != "--")
    repeated = [word for word, count in Counter(words).items() if count > 1]
    kinds = {word: _kind_of(word.removeprefix("--").replace("-", "_").split("."), command) for word in repeated}
    adding_up = [word for word, kind in kinds.items() if UseAppendAction in getattr(kind, "__metadata__", ())]
    several = [word for word, kind in kinds.items() if word not in adding_up and _holds_several(kind)]
    return several, [word for word in repeated if word not in (*adding_up, *several)]


def _kind_of(path: list[str], command: Callable[..., None] | None) -> Any:
    """Return the annotation of an option; None of one that is not known."""
    known = get_type_hints(command, include_extras=True) if command is not None else {}
    # The settings of a run's stages are options of the command itself.
    for kind in [*known.values()]:
        known = {**_fields(kind), **known}
    for name in path[:-1]:
        known = _fields(known.get(name))
    return known.get(path[-1])


def _fields(kind: Any) -> dict[str, Any]:
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    return get_type_hints(kind, include_extras=True) if is_model else {}


def _holds_several(kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return Ellipsis in get_args(kind)
    return any(map(_holds_several, get_args(kind)))


def _explain(error: BaseException, *, can_skip: bool = False) -> None:
    console = PlainConsole(stderr=True)
    # Any path of the command line may be too long, go round in links, or lie in a folder that is closed to us.
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if isinstance(error, DatasetError) and len(error.problems) > 1:
        advice = " --skip-bad sets bad images aside." if can_skip else ""
        console.print(f"{len(error.problems)} problems.{advice}", highlight=False)


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
