"""The class table of a publication only ever appends, and versions are compared by the names of classes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, CocoSource, Dataset, DatasetError, Sample
from data.store.publication import Entry
from flows.publishing import request as regenerate_request
from flows.publishing.request import _in_published_table
from tasks.publishing.assemble import agreement_with


def publication(monkeypatch: pytest.MonkeyPatch, *tables: ClassTable, latest: int = 1) -> Any:
    """Return a publication whose versions have these class tables."""
    monkeypatch.setattr(regenerate_request, "networks_of", lambda _, number: number)
    monkeypatch.setattr(regenerate_request, "read_run", lambda number: SimpleNamespace(classes=tables[number - 1]))
    return SimpleNamespace(latest=latest, published=list(range(1, len(tables) + 1)))


def tagged(*tags: str, ids: tuple[int, ...] = (), **files: Any) -> Dataset:
    """Return a set with an image of each tag; its table is as given."""
    samples = tuple(Sample(f"img{c}", Path(f"img{c}.jpg"), (c,), **files) for c in range(len(tags)))
    return Dataset(Path("set"), ClassTable(tags, ids), samples)


def names_of(dataset: Dataset) -> list[str]:
    return [dataset.classes.names[sample.labels[0]] for sample in dataset.samples]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param(("ant", "cat", "dog"), ("cat", "dog", "ant"), id="a new tag that sorts first"),
        pytest.param(("dog",), ("cat", "dog"), id="a tag whose last image goes"),
        pytest.param(("cat", "dgo"), ("cat", "dog", "dgo"), id="a misspelt tag"),
        pytest.param(("dog", "cat"), ("cat", "dog"), id="another order"),
    ],
)
def test_published_class_values_never_change_their_meaning(
    monkeypatch: pytest.MonkeyPatch, tags: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    found = _in_published_table(tagged(*tags), publication(monkeypatch, ClassTable(("cat", "dog"))))
    assert found.classes.names == expected
    assert names_of(found) == list(tags)


def test_published_category_ids_stay_and_new_ones_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    published = publication(monkeypatch, ClassTable(("cat", "dog"), (17, 18)))
    found = _in_published_table(tagged("ant", "cat", "dog", ids=(16, 17, 18)), published)
    assert (found.classes.names, found.classes.category_ids) == (("cat", "dog", "ant"), (17, 18, 16))
    found = _in_published_table(tagged("ant", "cat", ids=(17, 18)), published)
    assert found.classes.category_ids == (17, 18, 19)
    found = _in_published_table(tagged("cat", "dog", ids=(18, 17)), published)
    assert found.classes.category_ids == (17, 18)


def test_a_version_rolled_back_keeps_the_values_that_readers_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    published = publication(monkeypatch, ClassTable(("cat",)), ClassTable(("cat", "yak")))
    assert _in_published_table(tagged("bee", "cat"), published).classes.names == ("cat", "yak", "bee")


def test_label_maps_with_other_values_than_the_published_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    published = publication(monkeypatch, ClassTable(("cat", "dog")))
    with pytest.raises(DatasetError, match=r"set: the class 'ant' has the value 1 .* expected 3"):
        _in_published_table(tagged("ant", "cat", "dog", semantic=Path("a.png")), published)
    told = tagged("cat", "dog", "eel", semantic=Path("a.png"))
    assert _in_published_table(told, published).classes.names == ("cat", "dog", "eel")


def test_coco_categories_in_another_order_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    published = publication(monkeypatch, ClassTable(("cat", "dog", "gone"), (1, 2, 3)))
    source = CocoSource(Path("a.json"), 7, (1, 2, 3))
    found = _in_published_table(tagged("dog", "cat", "ant", ids=(1, 2, 3), coco=source), published)
    assert found.classes == ClassTable(("cat", "dog", "gone", "ant"), (1, 2, 3, 4))
    # In the file the dog still is category 1.
    assert [sample.coco for sample in found.samples] == [CocoSource(Path("a.json"), 7, (2, 1, -3, 3))] * 3
    assert names_of(found) == ["dog", "cat", "ant"]


def write_version(folder: Path, names: list[str], values: list[int]) -> Path:
    (folder / "SegmentationClass").mkdir(parents=True)
    Image.fromarray(np.array([values], np.uint8)).save(folder / "SegmentationClass" / "a.png")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def test_versions_agree_where_pixels_have_a_class_of_the_same_name(tmp_path: Path) -> None:
    old = write_version(tmp_path / "v1", ["cat", "dog"], [0, 1, 2, 255])
    new = write_version(tmp_path / "v2", ["ant", "cat", "dog"], [0, 2, 3, 255])
    other = write_version(tmp_path / "v3", ["ant", "cat"], [0, 1, 2, 255])
    published: Any = SimpleNamespace(folder=lambda _: old)
    entries = [Entry("a", "sha", (), "key", 0.5, 1, 1)]
    assert agreement_with(published, 1, new, entries) == 1.0
    assert agreement_with(published, 1, other, entries) == 0.5
