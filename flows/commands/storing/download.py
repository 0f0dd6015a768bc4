"""`pseudomask download`: a public data set, with its terms and the next command to type."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from data.public_sets import SETS, download
from flows.commands.command import POSITIONAL, Command, answering, spread
from flows.engine.printing import PlainConsole
from tasks.config import Config

LINE_SECONDS = 10.0
Report = Callable[[str, int, int | None], None]


def download_set(name: str, out: Path, keep: bool = False) -> dict[str, Any]:
    """Fetch a data set, with its progress on standard error.

    Args:
        name: One of `data.public_sets.SETS`.
        out: Folder of all downloads.
        keep: Keep the archives after they were unpacked.

    Returns:
        "set", "data" and "labels" (folder and file for the command line), "checksums" (archive -> SHA-256),
        "unchecked" (archives without a publicly known checksum), "terms" and "page".

    Raises:
        DownloadError: The server, the network or an archive failed, or the disk is full.
    """
    chosen = SETS[name]
    console = PlainConsole(stderr=True)
    console.print(f"{chosen.title}\n{chosen.terms} See {chosen.page}", highlight=False, soft_wrap=True)
    with _progress(console) as report:
        found = download(name, out, keep=keep, report=report)
    return {
        "set": name,
        "data": str(found.data),
        "labels": str(out / chosen.labels) if chosen.labels else None,
        "checksums": found.checksums,
        "unchecked": list(found.unchecked),
        "terms": chosen.terms,
        "page": chosen.page,
    }


def show_download(result: dict[str, Any], console: Console) -> None:
    """Print the archives' checksums, what was not checked, and the next command to type."""
    for archive, checksum in result["checksums"].items():
        console.print(f"{archive}  SHA-256 {checksum}", highlight=False, soft_wrap=True)
    if result["unchecked"]:
        names = ", ".join(result["unchecked"])
        text = f"No checksum of {names} is publicly known: compare with somebody else's. Later downloads are compared."
        console.print(text, highlight=False, soft_wrap=True)
    labels = f" --labels {result['labels']}" if result["labels"] else ""
    console.print(f"next: pseudomask doctor --data {result['data']}{labels}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Report]:
    """Give a callback that shows one bar per archive on a terminal, and a line now and then elsewhere."""
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    tasks, printed = {}, time.monotonic()

    def report(archive: str, done: int, total: int | None) -> None:
        nonlocal printed
        if archive not in tasks:
            tasks[archive] = bars.add_task(archive, total=total)
        bars.update(tasks[archive], completed=done, total=total)
        if not console.is_terminal and time.monotonic() - printed > LINE_SECONDS:
            printed = time.monotonic()
            of = f" of {total / 2**20:.0f}" if total else ""
            console.print(f"{archive}: {done / 2**20:.0f}{of} MiB", highlight=False, markup=False)

    with bars:
        yield report


class DownloadRequest(Config):
    """A public data set.

    Attributes:
        name: The set. sbd is VOC 2012 with the masks of SBD and the list train_aug.
        out: Folder of all downloads.
        keep: Keep the archives after they were unpacked.
    """

    name: Literal[tuple(SETS)]  # pyright: ignore
    out: Path = Path("datasets")
    keep: bool = False


COMMAND = Command(
    name="download",
    help="Fetch a public data set: resumed after a cut, checked, unpacked. Proxies are those of HTTPS_PROXY.",
    request=DownloadRequest,
    carry_out=answering(spread(download_set), show_download),
    written={"name": POSITIONAL},
)
