"""`pseudomask report`."""

from io import StringIO
from pathlib import Path

import pytest
from fabricated_run import make_run
from pydantic import ValidationError
from rich.console import Console

from data.store import ArtifactError
from flows.commands.looking.report import make_report, show_report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def test_the_page_is_the_only_file_of_the_reports_folder(run: Path):
    result = make_report(run)
    assert result["report"] == str(run / "report/index.html")
    assert [file.name for file in (run / "report").iterdir()] == ["index.html"]
    assert result["bytes"] == (run / "report/index.html").stat().st_size


def test_another_folder_can_be_chosen_and_the_number_of_images(run: Path, tmp_path: Path):
    one = make_report(run, tmp_path / "elsewhere", 1)
    assert (tmp_path / "elsewhere/index.html").read_text().count('alt="Photograph') == 1
    assert not (run / "report").exists()
    assert one["bytes"] < make_report(run, tmp_path / "elsewhere", 4)["bytes"]


def test_no_images_are_too_few(run: Path):
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        make_report(run, None, 0)


def test_a_place_that_cannot_be_written_is_named(run: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        make_report(run, tmp_path / "file")


def test_the_answer_says_where_the_page_is(run: Path):
    console = Console(file=StringIO(), width=60)
    show_report(make_report(run), console)
    assert str(run / "report/index.html") in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
