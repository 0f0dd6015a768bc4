"""Two versions of published labels, pixel by pixel, with classes by name."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import write_label_map
from data.store.publication import Entry, Publication, link_file
from flows import cli
from tasks.publishing.difference import ChangedImage, class_changes, compare_versions

CAT, DOG = 1, 2


def maps(**images: list[list[int]]) -> dict[str, np.ndarray]:
    return {id: np.array(rows, np.uint8) for id, rows in images.items()}


@pytest.fixture
def published(tmp_path: Path) -> Publication:
    """Return two versions: in the second cat and dog have each other's values, and a is the first's file."""
    publication = Publication(tmp_path / "labels")
    first = maps(a=[[CAT, 0]], b=[[CAT, CAT, 0, 0]], c=[[DOG, DOG]], d=[[CAT, 255]], gone=[[0, 0]])
    second = maps(b=[[DOG, 0, 0, CAT]], c=[[CAT, CAT]], d=[[DOG], [255]], new=[[0, 0]])
    for number, (images, names) in enumerate(((first, "cat\ndog\n"), (second, "dog\ncat\n")), start=1):
        with publication.lock(), publication.draft() as draft:
            (draft / "classes.txt").write_text(names)
            for id, values in images.items():
                (draft / SEMANTIC).mkdir(exist_ok=True)
                write_label_map(draft / SEMANTIC / f"{id}.png", values)
            if number == 2:
                link_file(publication.folder(1) / SEMANTIC / "a.png", draft / SEMANTIC / "a.png")
            ids = sorted({*images, "a"})
            record = {"reasons": [], "created": "2026-01-01", "held": [], "means": {}, "base": number - 1 or None}
            publication.publish(draft, record, [Entry(id, "ab" * 32, (), "k", 0.5, 1, 1) for id in ids])
    return publication


def test_classes_are_compared_by_their_names_and_shared_files_are_not_read(published: Publication) -> None:
    found = compare_versions(published, 1, 2)
    assert (found.added, found.removed, found.same) == (("new",), ("gone",), 2)
    # All of d differs, since its map has another size; of b one cat became background, one background a dog.
    assert found.changed == (
        ChangedImage("d", 1.0, {"cat": 1, "void": 1}, {"cat": 1, "void": 1}),
        ChangedImage("b", 0.5, {"background": 1, "dog": 1}, {"background": 1, "cat": 1}),
    )
    assert found.classes()["cat"] == {"before": 3, "gained": 1, "lost": 2}
    assert found.classes()["dog"] == {"before": 0, "gained": 1, "lost": 0}
    assert class_changes(found) == ["33% fewer cat pixels in the images that changed"]


def test_the_command_compares_the_latest_with_what_it_was_made_from(
    published: Publication, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pictures = tmp_path / "pictures"
    words = ["diff", str(published.root), "--pictures", str(pictures), "--images", "1"]
    assert cli.main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["before"], said["after"], [each["image"] for each in said["changed"]]) == (1, 2, ["d", "b"])
    assert [Path(file).name for file in said["pictures"]] == ["d.png"]
    # Both maps side by side, each with its margin, on the height of the taller one.
    assert cv2.imread(said["pictures"][0]).shape == (2, 2 + 4 + 1 + 4, 3)
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "images: 1 added, 1 removed, 2 the same" in shown
    assert shown.index("d  ") < shown.index("b  ")


def test_a_version_that_is_not_there_and_a_first_one_are_told(
    published: Publication, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["diff", str(published.root), "1", "9"]) == 1
    assert "has no version 9" in capsys.readouterr().err
    with published.lock():
        published.lead_to(1)
    assert cli.main(["diff", str(published.root)]) == 1
    assert "was made from none; give two numbers" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["diff", str(published.root), "2", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == ["gone"]


def test_pictures_replace_nothing_of_anybody_else(
    published: Publication, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "d.png").write_bytes(b"a photograph")
    maps_before = (published.folder(2) / SEMANTIC / "d.png").read_bytes()
    for place in (mine, published.folder(2) / SEMANTIC, published.root / "new", published.root):
        assert cli.main(["diff", str(published.root), "1", "2", "--pictures", str(place)]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "lies in the published labels" in said or "d.png" in said or "holds something else" in said
    assert (mine / "d.png").read_bytes() == b"a photograph"
    assert (published.folder(2) / SEMANTIC / "d.png").read_bytes() == maps_before
    # Its own pictures are replaced, and those that are no longer asked for go.
    out = tmp_path / "pictures"
    for number, wanted in ((2, {"b.png", "d.png"}), (1, {"d.png"})):
        words = ["diff", str(published.root), "1", "2", "--pictures", str(out), "--images", str(number)]
        assert cli.main(words) == 0
        assert {file.name for file in out.glob("*.png")} == wanted
