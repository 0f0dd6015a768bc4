"""What is printed is shown as it is: no markup, no control characters."""

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.table import Table

from data.dataset import DatasetError, Problem
from data.text import one_line, shown
from flows import cli
from flows.commands import command as answers
from flows.commands.looking.doctor import show_diagnosis
from flows.commands.looking.report import show_report
from flows.commands.looking.status import show_status
from flows.commands.storing.export_labels import show_export
from flows.commands.tables import show_left_out
from flows.engine.printing import PlainConsole, PlainFormatter
from flows.engine.request import left_out_of

NAMES = ["e[/b]", "[red]cat", "[/2024]", ":smile:", "a\\[b]"]


def printed(*things: Any, width: int = 200) -> str:
    out = io.StringIO()
    console = PlainConsole(file=out, width=width)
    for thing in things:
        console.print(thing)
    return out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_names_that_look_like_markup_are_printed_as_they_are(name: str) -> None:
    table = Table(title=f"title {name}", caption=f"caption {name}")
    table.add_column(f"column {name}")
    table.add_row(f"cell {name}")
    text = printed(f"line {name}", table)
    assert all(f"{place} {name}" in text for place in ("line", "title", "caption", "column", "cell"))


@pytest.mark.parametrize("name", NAMES)
def test_commands_show_names_that_look_like_markup(name: str) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=200)
    show_export({"images": 1, "out": name, "format": "voc"}, console)
    show_report({"report": name, "bytes": 1}, console)
    show_status({"run": name, "store": name, "stages": {}}, console)
    show_diagnosis({"machine": {name: name}, "problems": [], "dataset": {"images_per_class": {name: 1}}}, console)
    assert out.getvalue().count(name) >= 6


@pytest.mark.parametrize("width", [200, 10])
def test_control_characters_never_reach_the_terminal(width: int) -> None:
    name = "bad\x1b]0;owned\x07\x9b31m\u202e\u2028\x7f\r.jpg"
    table = Table(title=name, caption=name)
    table.add_column(name)
    table.add_row(name)
    text = printed(name, table, width=width)
    assert not set(text) & set("\x1b\x07\x9b\u202e\u2028\x7f\r")
    assert "\\x1b" in text.replace("\n", "")


def test_text_of_people_stays_as_it_is() -> None:
    assert shown("Zoë 猫 é\tand\nlines") == "Zoë 猫 é\tand\nlines"
    assert one_line("a\nb\udcff") == "a\\nb\\udcff"


def test_a_problem_is_one_line() -> None:
    error = DatasetError([Problem(Path("a\nb.jpg"), "is no\x1b image"), Problem(Path("c.jpg"), "is none")])
    assert str(error).splitlines() == ["a\\nb.jpg: is no\\x1b image", "c.jpg: is none"]


def test_log_lines_and_errors_show_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "%s", ("a\x1bb",), None)
    assert PlainFormatter("%(message)s").format(record) == "a\\x1bb"
    cli._explain(ValueError("a\x1bb[/c]"))
    assert capsys.readouterr().err == "a\\x1bb[/c]\n"


def test_an_answer_is_printed_by_the_plain_console(capsys: pytest.CaptureFixture[str]) -> None:
    answers.answer({"n": "[/x]\x1b"}, lambda result, console: console.print(result["n"]), False)
    assert capsys.readouterr().out == "[/x]\\x1b\n"


@pytest.mark.parametrize("argv", [
    ("doctor", "--data", "PATH"), ("status", "PATH"), ("versions", "PATH"), ("rollback", "PATH"), ("gc", "PATH"),
    ("approve", "PATH", "1"), ("lineage", "a", "--published", "PATH"), ("report", "PATH"),
    ("evaluate", "semantic", "--pred", "PATH", "--gt", "PATH"),
    ("evaluate", "instances", "--pred", "PATH", "--gt", "PATH"),
    ("run", "--data", "SET", "--out", "PATH"), ("run", "--data", "SET", "--out", "OUT", "--store", "PATH"),
    ("regenerate", "--data", "SET", "--dry-run", "--out", "PATH"),
    ("train", "deeplabv2", "--data", "PATH", "--out", "OUT"),
    ("predict", "PATH", "--data", "SET", "--out", "OUT"), ("export", "PATH", "--out", "OUT"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["long", "round"])
def test_a_path_that_cannot_be_looked_at_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], kind: str
) -> None:
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "set").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "set/a.png")
    (tmp_path / "set/labels.csv").write_text("image,labels\na,cat\n")
    words = {"PATH": "x" * 5000 if kind == "long" else "round", "SET": "set", "OUT": "out"}
    assert cli.main([str(tmp_path / words[word]) if word in words else word for word in argv]) == 1
    text = "".join(capsys.readouterr())
    assert "Traceback" not in text
    assert words["PATH"][:60] in text.replace("\n", "")


def test_of_images_that_are_left_out_the_first_ten_are_named() -> None:
    out = io.StringIO()
    problems = [Problem(Path("maps"), "expected maps", f"img{number:02d}") for number in range(12) for _ in "ab"]
    show_left_out(left_out_of(problems), PlainConsole(file=out, width=20))
    show_left_out(left_out_of([]), PlainConsole(file=out))
    names = ", ".join(f"img{number:02d}" for number in range(10))
    assert out.getvalue() == f"12 images were left out: {names} and 2 more\n"


def test_problems_are_counted_and_not_the_lines_that_tell_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    of = Path("maps")
    lines = [Problem(of, "no map"), Problem(of, "and 5 more", count=5), Problem(of, "it holds others", count=0)]
    cli._explain(DatasetError(lines))
    assert capsys.readouterr().err.endswith("it holds others\n6 problems.\n")
