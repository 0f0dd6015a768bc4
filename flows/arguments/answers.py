"""How a command answers, and what its arguments have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import arg

from flows.engine.printing import PlainConsole
from tasks.pipeline.settings import PipelineConfig

Settings = Annotated[PipelineConfig, arg(name="")]
SettingsFile = Annotated[Path | None, arg(name="settings")]
Verbose = Annotated[bool, arg(aliases=["-v"])]
Show = Callable[[Any, Console], None]


class CommandFailed(Exception):
    """A command did its work and the answer is a failure: it is shown, and the exit code is 1."""


def answer(result: Any, show: Show, as_json: bool) -> None:
    """Print a command's result: as one JSON object, or as `show` does."""
    if as_json:
        print(json.dumps(result), flush=True)
    else:
        show(result, PlainConsole())


def list_or_file(name: str | None) -> str | None:
    """Return the name of a list of images, or the whole path of a file."""
    return str(Path(name).absolute()) if name and Path(name).is_file() else name
