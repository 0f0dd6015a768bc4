"""Running the command line in tests."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = {
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


def pseudomask(
    *words: str | Path, root: Path = ROOT, server: str | None = None, wrapper: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command from a checkout, with no Prefect server given but `server`, by another command if need be."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    if server is not None:
        environment["PREFECT_API_URL"] = server
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
