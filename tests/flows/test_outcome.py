"""What is said of a night: the state's name, its message, and the exit code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from data.dataset import ClassTable, Dataset, Sample
from data.store.publication import Publication
from flows.engine.exit_codes import DONE, HELD, WORK_TO_DO
from flows.publishing import request as requests
from flows.publishing.outcome import outcome_of
from flows.publishing.request import RegenerateRequest, Work, describe_work
from tasks.publishing.decide import Changes, Decision


@pytest.mark.parametrize(
    ("answer", "state", "message", "code"),
    [
        ({"version": 7, "reasons": ["3 images added"]}, "Published", "Published v7: 3 images added", DONE),
        ({}, "Unchanged", "Unchanged since v6", DONE),
        ({"version": 8, "held": ["too much background"]}, "Held", "Held v8: too much background", HELD),
        (
            {"same": 8, "held": ["too much background"]},
            "Held",
            "Held v8: awaits review, and nothing changed since: too much background",
            HELD,
        ),
        (
            {"same": 8, "reasons": ["1 images added"]},
            "Unchanged",
            "Unchanged: v8 has just these labels and was rolled back, v6 stays",
            DONE,
        ),
        ({"held": ["the new class 'dgo' has 1 image"]}, "Held", "Held: the new class 'dgo' has 1 image", HELD),
        ({"reasons": ["1 images added"]}, "Planned", "Planned: 1 images added", WORK_TO_DO),
    ],
)
def test_a_night_has_a_state_a_sentence_and_an_exit_code(
    answer: dict[str, Any], state: str, message: str, code: int
) -> None:
    found = outcome_of({"version": None, "same": None, "held": [], "reasons": [], "latest": 6} | answer)
    assert (found.state, found.message, found.code) == (state, message, code)


@pytest.mark.parametrize(
    ("table", "options", "doubts"),
    [
        ("", {}, ["the new class 'dgo' has 1 image, fewer than 3, and is near 'dog'"]),
        # Who names a class in a table means it; so does who asks for the training.
        ("dgo\ndog\n", {}, []),
        ("", {"retrain": "always"}, []),
        ("", {"new_class_images": 1}, []),
    ],
)
def test_a_slip_of_the_pen_in_a_tag_waits_for_a_person_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, options: dict[str, Any], doubts: list[str]
) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 40)).save(tmp_path / f"images/{name}.png")
    (tmp_path / "images/tags.csv").write_text("image,labels\na.png,dog\nb.png,dgo\n")
    if table:
        (tmp_path / "images/classes.txt").write_text(table)
    given = {"data": tmp_path / "images", "labels": tmp_path / "images/tags.csv", "out": tmp_path / "labels"}
    request = RegenerateRequest(**given | options)
    trained_on = Dataset(tmp_path, ClassTable(("dog",)), (Sample("a", tmp_path / "images/a.png", (0,)),))

    def compare(request: Any, publication: Any, dataset: Dataset, digests: Any) -> Work:
        reason = "the networks do not know the classes dgo"
        return Work(dataset, digests, (), 1, Changes(added=("b",)), Decision(True, ("a", "b"), (reason,)))

    monkeypatch.setattr(requests, "_compare", compare)
    monkeypatch.setattr(requests, "networks_of", lambda publication, number: tmp_path)
    monkeypatch.setattr(requests, "read_run", lambda folder: SimpleNamespace(dataset=trained_on))
    publication = Publication(request.out)
    work = requests.find_work(request, publication)
    assert (list(work.doubts), work.waits) == (doubts, bool(doubts))
    found = outcome_of(describe_work(publication, work))
    assert found.code == (HELD if doubts else WORK_TO_DO)
