"""Running the command line in tests."""

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from flows.engine.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "--workers": ["1"],
    "--backbone": ["resnet18"],
    "--shard-size": ["4"],
    "--long-side": ["64", "80"],
    "--classifier.resize-long": ["64", "80"],
    "--classifier.crop-size": ["64"],
    "--classifier.steps": ["1", "1"],
    "--cams.scales": ["1"],
    "--irnet.crop-size": ["64"],
    "--irnet.radius-px": ["3"],
    "--irnet.steps": ["1", "1"],
    "--relations.threshold-images": ["4"],
    "--labels.threshold-images": ["4"],
    "--walk.steps": ["16"],
    "--pixels.steps": ["10"],
    "--scores.crf-thresholds": ["0.2"],
}


OWN_SERVER: Mapping[str, str] = {}
"""For a command that is to start a Prefect server of its own, which takes seconds."""


@cache
def shared_server() -> Mapping[str, str]:
    """Return the variables that lead to a Prefect server, which is started once and ends with this process."""
    home = tempfile.TemporaryDirectory()
    server = EmbeddedServer(Path(home.name))
    atexit.register(home.cleanup)
    atexit.register(server.stop)
    server.wait()
    return server.client_environment


def pseudomask(
    *words: str | Path, root: Path = ROOT, server: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command from a checkout, by another command if need be.

    Args:
        server: Variables that lead to a Prefect server; by default to one that the tests share.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= shared_server() if server is None else server
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "flows", *map(str, words)],
        cwd=root,
        env=environment | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def run_words(data: Path, folder: Path, more: Sequence[str | Path] = ()) -> list[str | Path]:
    """Return the command line of a tiny run into `folder/run`, with its store beside it."""
    return ["run", "--data", data, "--split", "train", "--out", folder / "run", *tiny_settings(), *more]


def tiny_settings() -> list[str]:
    """Return the options of a run of seconds."""
    return [word for option, values in TINY.items() for word in (option, *values)]
