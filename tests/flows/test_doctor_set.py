"""`doctor` prints how it understood a set: its labels, its classes with their values, and what was left unread."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from flows.commands.looking.doctor import examine_dataset, show_diagnosis


def make_set(root: Path) -> Path:
    for name in ("images/a.jpg", "images/b.jpg", "images/c.jpg", "masks/a.png", "masks/b.png", "masks/c.png"):
        (root / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 50)).save(root / name)
    (root / "labels.csv").write_text("image,width,tags\na.jpg,60,zebra\nb.jpg,60,none\nc.jpg,60,cat;zebra\n")
    (root / "classes.txt").write_text("_background_\nzebra\ncat\n")
    return root


def shown(facts: dict, problems: list) -> str:
    console = Console(file=io.StringIO(), width=500)
    listed = [{"file": str(problem.file), "message": problem.message} for problem in problems]
    show_diagnosis({"machine": {}, "dataset": facts, "problems": listed}, console)
    return console.file.getvalue()


def test_doctor_says_how_it_understood_a_set(tmp_path: Path) -> None:
    facts, problems = examine_dataset(make_set(tmp_path), None, None, None)
    assert not problems
    assert facts["labels"] == "labels.csv: a table with commas between columns, with a header"
    assert (facts["images_with_labels"], facts["images_without_labels"]) == (2, 1)
    assert facts["class_values"] == {"zebra": 1, "cat": 2}
    assert facts["images_per_class"] == {"zebra": 2, "cat": 1}
    text = shown(facts, problems)
    for line in (
        "note: masks/ (3 files) is taken for masks, not for photographs, and left unread",
        "note: labels.csv: columns left unread: width",
        "note: words that stand for no label were taken for none: 'none' 1 (of b.jpg)",
        "note: images found by the last part of their names: 'a.jpg' is 'images/a'",
        "note: classes.txt: left out what is no class: '_background_'",
    ):
        assert line in text
    assert "zebra 1, cat 2" in text


def test_doctor_tells_the_range_of_the_pixel_values_and_their_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 255, 64 * 64).reshape(64, 64)
    Image.fromarray(np.clip(values, 10, 200).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((np.clip(values, 20, 100) * 16).astype(np.uint16)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("a,cat\nb,dog\nc,dog\n")
    facts, problems = examine_dataset(tmp_path, None, None, None)
    assert [problem.file.name for problem in problems] == ["c.png"]
    assert facts["pixel_values"] == {"lowest": 10, "highest": 200, "8 bits": 1, "12 bits": 1}
    assert "lowest 10, highest 200, 8 bits 1, 12 bits 1" in shown(facts, problems)


def test_doctor_prints_no_control_characters_of_names(tmp_path: Path) -> None:
    make_set(tmp_path)
    (tmp_path / "images" / "bad\x1b]0;owned\x07[bold].jpg").write_bytes(b"x")
    facts, problems = examine_dataset(tmp_path, None, None, None)
    text = shown(facts, problems)
    assert "\x1b" not in text
    assert "bad\\x1b]0;owned\\x07[bold].jpg: expected a name without control characters" in text


def test_doctor_notes_classes_that_may_be_one(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (64, 64), (200, 90, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("a,traffic light\nb,traffic_light\n")
    facts, problems = examine_dataset(tmp_path, None, None, None)
    assert not problems
    assert any("'traffic light' and 'traffic_light'" in note for note in facts["notes"])
