"""`pseudomask models`."""

from io import StringIO

import pytest
from pydantic import ValidationError
from rich.console import Console

from flows.commands.looking.models import list_models, show_models
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
