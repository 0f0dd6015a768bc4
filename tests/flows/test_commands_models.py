"""`pseudomask models`."""

import json
from io import StringIO

import pytest
from pydantic import ValidationError
from rich.console import Console
from torch import nn

from flows.cli import main
from flows.commands.looking.models import list_models, show_models
from flows.engine.exit_codes import DONE, FAILED
from tasks.measurement import sizes


@pytest.fixture(autouse=True)
def _few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting all of them takes many seconds."""
    kept = ("cam-resnet18", "irnet-resnet18")
    monkeypatch.setattr(sizes, "SIZED", {name: sizes.SIZED[name] for name in kept})


def test_classes_and_size_reach_the_count():
    small, large = list_models(classes=2, size=(32, 32)), list_models(classes=4, size=(64, 64))
    assert [network["name"] for network in small] == ["cam-resnet18", "irnet-resnet18"]
    assert large[0]["parameters"] - small[0]["parameters"] == 2 * 512
    assert large[1]["gmacs"] == pytest.approx(4 * small[1]["gmacs"])


def test_the_table_says_what_it_was_counted_for():
    console = Console(file=StringIO(), width=100)
    result = list_models(classes=3, size=(32, 48))
    show_models(result, console, classes=3, size=(32, 48))
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "3 classes" in text
    assert "32 x 48" in text
    assert f"{result[0]['parameters']:,}" in text


@pytest.mark.parametrize("arguments", [{"classes": 0}, {"size": (512, 0)}])
def test_nonsense_is_refused(arguments: dict):
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        list_models(**arguments)


def _fail(num_classes: int) -> nn.Module:
    raise RuntimeError(f"Sizes of tensors\nmust match for {num_classes} classes")


def test_a_network_that_cannot_be_built_is_a_row_that_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sizes.SIZED, "broken-resnet18", sizes.Sized(_fail))
    assert main(["models", "--size", "32", "32", "--json"]) == FAILED
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["broken-resnet18"]["error"] == "RuntimeError: Sizes of tensors must match for 20 classes"
    assert rows["broken-resnet18"]["parameters"] is None
    assert rows["broken-resnet18"].keys() == rows["cam-resnet18"].keys()
    assert rows["cam-resnet18"]["error"] is None
    assert rows["irnet-resnet18"]["parameters"] > 0
    # The exit code tells of it where the table is printed, too.
    assert main(["models", "--size", "32", "32"]) == FAILED
    shown = capsys.readouterr().out
    assert f"{rows['cam-resnet18']['parameters']:,}" in shown
    assert "broken-resnet18: RuntimeError: Sizes of tensors must match for 20 classes" in " ".join(shown.split())
    monkeypatch.delitem(sizes.SIZED, "broken-resnet18")
    assert main(["models", "--size", "32", "32"]) == DONE


def test_a_backbone_that_no_network_can_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sizes.SIZED):
        monkeypatch.setitem(sizes.SIZED, name, sizes.Sized(_fail))
    assert main(["models"]) == FAILED
    output = capsys.readouterr()
    assert not output.out
    assert "RuntimeError: Sizes of tensors must match for 20 classes" in " ".join(output.err.split())
