"""`pseudomask report`: the HTML page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, validate_call
from rich.console import Console

from data.files import replacing
from data.ownership import is_page, refuse_inside, refuse_other
from data.store import explain_os_errors
from flows.commands.command import POSITIONAL, Command, answering, spread
from tasks.config import Config, PositiveInt
from tasks.engine.run_record import read_run
from tasks.reporting.report import build_report


@validate_call
def make_report(run: Path, out: Path | None = None, images: Annotated[int, Field(ge=1)] = 12) -> dict[str, Any]:
    """Write `index.html`, one file that holds all its pictures.

    Args:
        run: Folder of a finished run.
        out: Folder of the page; by default `report` in the run.
        images: Images to show at most.

    Returns:
        "report": the page, "bytes": its size.

    Raises:
        ArtifactError: The folder holds no finished run, the store lacks something, or `out` lies in the
            data set or cannot be written.
        DatasetError: An image cannot be read any more.
        pydantic.ValidationError: A number of images under 1.
    """
    folder = out or run / "report"
    if out is not None:
        refuse_inside(out, read_run(run).root)
    refuse_other(folder / "index.html", is_page, "a page of pseudomask")
    page = build_report(run, images).encode()
    with explain_os_errors(folder), replacing(folder / "index.html") as temporary:
        temporary.write_bytes(page)
        refuse_other(folder / "index.html", is_page, "a page of pseudomask")
    return {"report": str(folder / "index.html"), "bytes": len(page)}


def show_report(result: dict[str, Any], console: Console) -> None:
    """Print where the page is."""
    console.print(f"report   {result['report']} ({result['bytes'] / 2**20:.1f} MiB)", highlight=False, soft_wrap=True)


class ReportRequest(Config):
    """A page of a run.

    Attributes:
        run: Folder of the run.
        out: Folder of the page; by default `report` in the run.
        images: Images to show at most.
    """

    run: Path
    out: Path | None = None
    images: PositiveInt = 12


COMMAND = Command(
    name="report",
    help="One HTML page with the pictures and figures of a run.",
    request=ReportRequest,
    carry_out=answering(spread(make_report), show_report),
    written={"run": POSITIONAL},
)
