"""The page of a night, with a stand-in for Prefect's artifacts that keeps what is put on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.dataset import ClassTable, Dataset, Sample
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import write_label_map
from data.store.publication import Entry, Publication
from flows.deployment.ui import showing
from flows.publishing import page
from flows.publishing.outcome import outcome_of
from flows.publishing.request import Work, describe_work
from tasks.publishing.decide import Changes, Decision


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a deployed run puts on its page: key -> content and description."""
    found: dict[str, Any] = {}
    for kind in ("image", "markdown", "table"):

        def keep(content: Any, key: str, description: str) -> None:
            found[key] = (content, description)

        monkeypatch.setattr(page, f"create_{kind}_artifact", keep)
    monkeypatch.setattr(page, "own_key", lambda what: what)
    monkeypatch.setattr(page, "deployed", lambda: True)
    return found


@pytest.fixture
def night(tmp_path: Path) -> tuple[Publication, Work]:
    """Return a publication whose second version is held, and the work that it was."""
    from PIL import Image

    publication = Publication(tmp_path / "labels")
    for number, value in enumerate((1, 2), start=1):
        with publication.lock(), publication.draft() as draft:
            (draft / "classes.txt").write_text("cat\ndog\n")
            (draft / SEMANTIC).mkdir()
            for id in ("a", "b"):
                write_label_map(draft / SEMANTIC / f"{id}.png", np.full((8, 8), value if id == "a" else 1, np.uint8))
            record = {"reasons": [], "created": "2026-01-01", "held": [], "means": {}, "base": None}
            entries = [Entry(id, "ab" * 32, (), "k", 0.5, 1, 1) for id in ("a", "b")]
            publication.publish(draft, record, entries, hold=number == 2)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    samples = tuple(Sample(id, tmp_path / f"{id}.png", (0,)) for id in ("a", "b"))
    dataset = Dataset(tmp_path, ClassTable(("cat", "dog")), samples)
    changes = Changes(relabelled=("a",), removed=tuple(f"old_{number:02}" for number in range(12)))
    return publication, Work(dataset, {}, (), 1, changes, Decision(False, ("a",), ("1 images relabelled",)))


def test_a_held_night_shows_why_and_what_changed(
    night: tuple[Publication, Work], shown: dict[str, Any], tmp_path: Path
) -> None:
    publication, work = night
    answer = describe_work(publication, work, 2, ["too many dogs"])
    page.show_night(publication, work, answer, outcome_of(answer))
    text, description = shown["night"]
    assert description == "Held v2: too many dogs"
    assert "- relabelled: 1 (`a`)" in text
    assert "`old_09` and 2 more" in text
    assert "1 images have other labels, 1 the same" in text
    assert f"pseudomask approve {publication.root} 2" in text
    assert shown["classes"][0] == [
        {"class": "cat", "before": 64, "gained": 0, "lost": 64},
        {"class": "dog", "before": 0, "gained": 64, "lost": 0},
    ]
    picture, told = shown["change-1"]
    assert picture.startswith("data:image/jpeg;base64,")
    assert told.startswith("a: 100% of the pixels changed")
    assert "change-2" not in shown
    plot, told = shown["history"]
    assert plot.startswith("data:image/png;base64,")
    assert told == "Figures of versions 1 to 2"


def test_a_night_without_work_says_so_and_shows_no_pictures(
    night: tuple[Publication, Work], shown: dict[str, Any]
) -> None:
    publication, work = night
    idle = Work(work.dataset, {}, (), 1, Changes(), Decision(False, ()))
    answer = describe_work(publication, idle)
    page.show_night(publication, idle, answer, outcome_of(answer))
    assert list(shown) == ["night", "history"]
    assert shown["night"][0].strip() == "**Unchanged since v1**"


def test_elsewhere_than_in_a_deployed_run_nothing_is_shown(
    night: tuple[Publication, Work], shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "deployed", lambda: False)
    answer = describe_work(*night, 2)
    page.show_night(*night, answer, outcome_of(answer))
    assert shown == {}


def test_labels_are_published_also_where_the_page_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    with showing("the page of the night"):
        raise OSError("the server is gone")
    assert "the page of the night could not be shown: the server is gone" in caplog.text
