"""Corrections of labels: kept whole or not at all, laid over each other in their order, by the names of the classes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.dataset import VOID, ClassTable, Dataset, DatasetError, Sample
from data.store.corrections import (
    BACKGROUND,
    FIRST_CLASS,
    FIRST_INSTANCE,
    NO_INSTANCE,
    UNSURE,
    Corrections,
    apply_corrections,
)
from tasks.engine.artifact import SampleDigest
from tasks.publishing.corrected import with_corrected_tags

BYTES, OTHER_BYTES = "a" * 64, "b" * 64
VALUES = {"dog": 1, "sofa": 2}


def mask_of(shape: tuple[int, int], *rectangles: tuple[slice, slice, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint16)
    for rows, columns, value in rectangles:
        mask[rows, columns] = value
    return mask


@pytest.fixture
def corrections(tmp_path: Path) -> Corrections:
    return Corrections(tmp_path / "corrections")


def test_what_was_added_is_read_in_its_order(corrections: Corrections) -> None:
    first = mask_of((6, 8), (slice(0, 3), slice(0, 4), FIRST_CLASS))
    corrections.add("a/b", BYTES, author="Ada", made_on=3, classes=["sofa"], semantic=first)
    corrections.add("a/b", BYTES, author="Bo", tags=["sofa", "dog"], verdict="rejected")
    corrections.add("c", BYTES, author="Bo", verdict="accepted")
    assert corrections.images == ["a/b", "c"]
    found = list(corrections.of("a/b", BYTES))
    assert [(each.record.author, each.record.made_on) for each in found] == [("Ada", 3), ("Bo", None)]
    np.testing.assert_array_equal(found[0].semantic, first)
    assert found[1].semantic is None
    assert corrections.tags("a/b", BYTES) == ("dog", "sofa")
    assert corrections.tags("c", BYTES) is None
    assert corrections.state("c", BYTES) is None
    assert corrections.state("a/b", BYTES)


def test_corrections_of_other_bytes_stay_and_do_not_count(corrections: Corrections) -> None:
    corrections.add(
        "a", BYTES, author="Ada", classes=["dog"], semantic=mask_of((4, 4), (slice(2), slice(2), 3)), tags=[]
    )
    assert list(corrections.of("a", OTHER_BYTES)) == []
    assert corrections.state("a", OTHER_BYTES) is None
    assert corrections.tags("a", OTHER_BYTES) is None
    assert corrections.tags("a", BYTES) == ()


def test_what_was_taken_back_counts_no_more_and_stays_on_disk(corrections: Corrections) -> None:
    first, second = (mask_of((4, 4), (slice(2), slice(n), FIRST_CLASS)) for n in (2, 3))
    corrections.add("a", OTHER_BYTES, author="Bo", verdict="accepted")
    corrections.add("a", BYTES, author="Ada", classes=["dog"], semantic=first, tags=["dog"])
    one = corrections.state("a", BYTES)
    corrections.add("a", BYTES, author="Ada", classes=["sofa"], semantic=second, tags=["sofa"])
    two = corrections.state("a", BYTES)
    # Undo, redo, undo of all, and a step on top of the first alone.
    for back_to, state, authors, tags in (
        (1, one, ["Ada", "undo"], ("dog",)),
        (2, two, ["Ada", "Ada", "undo"], ("sofa",)),
        (0, None, ["undo"], None),
    ):
        corrections.add("a", BYTES, author="undo", back_to=back_to)
        assert corrections.state("a", BYTES) == state
        assert [record.author for record in corrections.counting("a", BYTES)] == authors
        assert corrections.tags("a", BYTES) == tags
    third = corrections.add(
        "a", BYTES, author="Cy", semantic=mask_of((4, 4), (slice(1), slice(1), BACKGROUND)), back_to=1
    )
    found = list(corrections.of("a", BYTES))
    assert [each.record.author for each in found] == ["Ada", "Cy"]
    np.testing.assert_array_equal(found[0].semantic, first)
    assert len(list(corrections.of("a", BYTES, 2))) == 2
    assert corrections.behind("a", BYTES, corrections.state("a", BYTES))[-1] == third
    assert len(corrections.records("a")) == 7
    with pytest.raises(ValueError, match="back_to: expected 0 to 6, found 7"):
        corrections.add("a", BYTES, author="Cy", back_to=7)


def test_records_of_versions_that_took_nothing_back_are_read(corrections: Corrections) -> None:
    corrections.add("a", BYTES, author="Ada", tags=["dog"])
    file = corrections.root / "a" / "c00001.json"
    document = json.loads(file.read_text())
    del document["back_to"]
    file.write_text(json.dumps(document))
    assert corrections.tags("a", BYTES) == ("dog",)
    file.write_text(json.dumps({**document, "back_to": 1}))
    with pytest.raises(DatasetError, match=r"c00001\.json: expected a correction that goes back to one of 0 before it"):
        corrections.tags("a", BYTES)


def test_what_was_said_of_other_bytes_is_known_until_something_is_said_of_these(corrections: Corrections) -> None:
    corrections.add("a", BYTES, author="Ada", tags=["dog"])
    corrections.add("a", BYTES, author="Ada", back_to=0, verdict="accepted")
    assert [record.verdict for record in corrections.of_other_bytes("a", OTHER_BYTES)] == ["accepted"]
    assert corrections.of_other_bytes("a", BYTES) == []
    corrections.add("a", OTHER_BYTES, author="Bo", verdict="accepted")
    assert corrections.of_other_bytes("a", OTHER_BYTES) == []


def test_the_state_follows_what_changes_masks_alone(corrections: Corrections) -> None:
    mask = mask_of((4, 4), (slice(2), slice(2), FIRST_CLASS))
    corrections.add("a", BYTES, author="Ada", classes=["dog"], semantic=mask)
    before = corrections.state("a", BYTES)
    corrections.add("a", BYTES, author="Bo", verdict="accepted", tags=["dog"])
    assert corrections.state("a", BYTES) == before
    corrections.add("a", BYTES, author="Bo", classes=["sofa"], semantic=mask)
    assert corrections.state("a", BYTES) != before


@pytest.mark.parametrize("damage", ["cut", "other mask", "no mask", "other image", "unknown class"])
def test_what_is_not_as_it_was_written_is_refused_by_name(corrections: Corrections, damage: str) -> None:
    mask = mask_of((4, 4), (slice(2), slice(2), FIRST_CLASS))
    corrections.add("a", BYTES, author="Ada", classes=["dog"], semantic=mask)
    record, png = corrections.root / "a/c00001.json", corrections.root / "a/c00001-semantic.png"
    named = record
    if damage == "cut":
        record.write_text(record.read_text()[:40])
    elif damage == "other mask":
        png.write_bytes(png.read_bytes() + b"x")
        named = png
    elif damage == "no mask":
        png.unlink()
        named = png
    elif damage == "other image":
        record.write_text(record.read_text().replace('"a"', '"b"'))
    else:
        record.write_text(record.read_text().replace('"dog"', '"dog","dog"'))
    with pytest.raises(DatasetError, match=named.name):
        list(corrections.of("a", BYTES))


def test_a_mask_without_its_record_is_no_correction(corrections: Corrections) -> None:
    corrections.add("a", BYTES, author="Ada", classes=["dog"], semantic=mask_of((4, 4), (slice(2), slice(2), 3)))
    (corrections.root / "a/c00001.json").unlink()
    assert list(corrections.of("a", BYTES)) == []
    assert corrections.images == []
    corrections.add("a", BYTES, author="Ada", classes=["dog"], semantic=mask_of((4, 4), (slice(3), slice(2), 3)))
    assert len(list(corrections.of("a", BYTES))) == 1


@pytest.mark.parametrize("id", ["../x", "/etc/x", "a/../../x", "C:\\x"])
def test_no_id_leads_out_of_the_folder(corrections: Corrections, id: str) -> None:
    with pytest.raises(DatasetError):
        corrections.add(id, BYTES, author="Ada", verdict="accepted")


@pytest.mark.parametrize(
    ("semantic", "instances"),
    [
        (np.full((2, 2), FIRST_CLASS + 1), None),
        (np.full((2, 2), -1), None),
        (np.ones((2, 2)), None),
        (np.ones((2, 2), int), np.ones((3, 2), int)),
        (None, np.full((2, 2), 1 << 20)),
    ],
)
def test_masks_that_say_nothing_known_are_refused(
    corrections: Corrections, semantic: np.ndarray | None, instances: np.ndarray | None
) -> None:
    with pytest.raises(ValueError, match="expected"):
        corrections.add("a", BYTES, author="Ada", classes=["dog"], semantic=semantic, instances=instances)
    assert corrections.images == []


@pytest.mark.parametrize("said", [{"author": " "}, {"author": "x" * 2000}, {"tags": ["dog", "dog"]}, {"made_on": 0}])
def test_words_that_a_record_cannot_hold_are_refused(corrections: Corrections, said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(said))):
        corrections.add("a", BYTES, **({"author": "Ada"} | said))
    assert corrections.images == []


@pytest.mark.parametrize("tag", ["x\ny", "cat;dog", "background", "\x1b[31mred", " dog", "\ud800", "cafe\u0301"])
def test_tags_that_no_class_may_be_called_are_refused(corrections: Corrections, tag: str) -> None:
    with pytest.raises(ValueError, match="tags: expected names of classes"):
        corrections.add("a", BYTES, author="Ada", tags=[tag])
    corrections.add("a", BYTES, author="Ada", tags=["dog"])
    file = corrections.root / "a/c00001.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tags": [tag]}))
    with pytest.raises(DatasetError, match=r"c00001\.json: expected a correction, but tags"):
        corrections.tags("a", BYTES)


def test_corrections_that_cannot_be_looked_for_are_not_none(
    corrections: Corrections, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections.add("a/b", BYTES, author="Ada", verdict="accepted")

    def denied(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(DatasetError, match=r"expected a folder of corrections that can be read, but Permission denied"):
        _ = corrections.images
    with pytest.raises(DatasetError, match=r"corrections/a/b: .*Permission denied"):
        corrections.records("a/b")


def test_a_pipe_in_the_place_of_a_record_is_refused(corrections: Corrections) -> None:
    corrections.add("a", BYTES, author="Ada", verdict="accepted")
    file = corrections.root / "a/c00001.json"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DatasetError, match=r"c00001\.json: cannot be read"):
        corrections.records("a")


def test_corrected_tags_that_differ_from_a_class_in_case_alone_are_refused(corrections: Corrections) -> None:
    dataset = Dataset(Path("set"), ClassTable(("dog",)), (Sample("a", Path("a.jpg"), (0,)),))
    digests = {"a": SampleDigest(BYTES)}
    corrections.add("a", BYTES, author="Ada", tags=["sofa"])
    assert with_corrected_tags(dataset, corrections, digests).classes.names == ("dog", "sofa")
    corrections.add("a", BYTES, author="Ada", tags=["Dog"])
    with pytest.raises(DatasetError, match="differ in more than case, found 'Dog' and 'dog'"):
        with_corrected_tags(dataset, corrections, digests)


def test_corrected_pixels_get_their_class_and_others_stay(corrections: Corrections) -> None:
    labels, objects = np.zeros((6, 10), np.uint8), np.zeros((6, 10), np.uint8)
    labels[:, :4], objects[:, :4] = VALUES["dog"], 1
    rectangles = [(slice(0, 2), slice(0, 2), BACKGROUND), (slice(2, 4), slice(0, 2), UNSURE)]
    rectangles += [(slice(0, 6), slice(4, 6), FIRST_CLASS), (slice(0, 2), slice(8, 10), FIRST_CLASS + 1)]
    mask = mask_of((6, 10), *rectangles)
    corrections.add("a", BYTES, author="Ada", classes=["dog", "sofa"], semantic=mask)
    new_labels, new_objects = apply_corrections(labels, objects, corrections.of("a", BYTES), VALUES)
    assert new_labels.dtype == np.uint8
    expected = labels.copy()
    expected[0:2, 0:2], expected[2:4, 0:2], expected[:, 4:6], expected[0:2, 8:10] = 0, VOID, 1, 2
    np.testing.assert_array_equal(new_labels, expected)
    # What grows at the dog is the dog; the sofa apart from all is a new instance; background belongs to none.
    np.testing.assert_array_equal(new_objects, np.where(expected == 1, 1, np.where(expected == 2, 2, 0)))
    # Class values are looked up by name: another table, another value.
    other, _ = apply_corrections(labels, objects, corrections.of("a", BYTES), {"sofa": 7, "dog": 300})
    assert other.dtype == np.uint16
    assert other[0, 8] == 7
    assert other[0, 4] == 300


def test_a_later_correction_lies_over_an_earlier_one(corrections: Corrections) -> None:
    labels = objects = np.zeros((4, 4), np.uint8)
    corrections.add("a", BYTES, author="Ada", classes=["dog"], semantic=mask_of((4, 4), (slice(4), slice(3), 3)))
    corrections.add("a", BYTES, author="Bo", classes=["sofa"], semantic=mask_of((4, 4), (slice(4), slice(1, 2), 3)))
    found, _ = apply_corrections(labels, objects, corrections.of("a", BYTES), VALUES)
    assert found[0].tolist() == [1, 2, 1, 0]


def test_instances_are_split_merged_and_taken_away(corrections: Corrections) -> None:
    labels, objects = np.ones((4, 8), np.uint8), np.zeros((4, 8), np.uint8)
    objects[:, :4], objects[:, 4:6], objects[:, 6:] = 1, 2, 254
    rectangles = [(slice(4), slice(0, 2), FIRST_INSTANCE), (slice(4), slice(2, 6), FIRST_INSTANCE + 4)]
    corrections.add("a", BYTES, author="Ada", instances=mask_of((4, 8), *rectangles))
    corrections.add("a", BYTES, author="Ada", instances=mask_of((4, 8), (slice(1), slice(8), NO_INSTANCE)))
    _, found = apply_corrections(labels, objects, corrections.of("a", BYTES), VALUES)
    # 255 is void in every map of instances.
    assert found[1].tolist() == [256, 256, 257, 257, 257, 257, 254, 254]
    assert not found[0].any()


def test_a_class_without_a_value_and_another_size_are_refused(corrections: Corrections) -> None:
    labels = objects = np.zeros((4, 4), np.uint8)
    corrections.add("a", BYTES, author="Ada", classes=["cow"], semantic=mask_of((4, 4), (slice(2), slice(2), 3)))
    with pytest.raises(ValueError, match="cow"):
        apply_corrections(labels, objects, corrections.of("a", BYTES), VALUES)
    with pytest.raises(ValueError, match="3 x 3"):
        apply_corrections(labels[:3, :3], objects[:3, :3], corrections.of("a", BYTES), {"cow": 1})


def test_corrections_behind_a_link_count_and_a_link_to_nothing_is_no_absence(
    corrections: Corrections, tmp_path: Path
) -> None:
    corrections.add("a/b", BYTES, author="Ada", tags=["dog"])
    (corrections.root / "a").rename(tmp_path / "elsewhere")
    (corrections.root / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(corrections.root)
    assert corrections.images == ["a/b"]
    (tmp_path / "elsewhere").rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="leads to nothing"):
        _ = corrections.images
