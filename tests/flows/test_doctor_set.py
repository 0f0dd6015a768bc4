"""`doctor` prints how it understood a set: its labels, its classes with their values, and what was left unread."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support.cam_writers import draw_maps, write_maps

from data.formats.images import image_size
from data.formats.label_maps import write_label_map
from data.readers import open_dataset
from data.synthetic.dataset import write_synthetic
from flows.cli import main
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


def test_doctor_advises_to_skip_bad_images_where_that_helps(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (64, 64), (200, 90, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("a,cat\nb,cat\nc,cat\n")
    assert "1 problem. `run --skip-bad` sets bad images aside." in shown(*examine_dataset(tmp_path, None, None, None))
    (tmp_path / "labels.csv").write_text("a,\nc,cat\n")
    text = shown(*examine_dataset(tmp_path, None, None, None))
    assert "skip-bad" not in text
    assert "2 problems. No run can use the set before it is mended." in text


def test_doctor_notes_classes_that_may_be_one(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (64, 64), (200, 90, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("a,traffic light\nb,traffic_light\n")
    facts, problems = examine_dataset(tmp_path, None, None, None)
    assert not problems
    assert any("'traffic light' and 'traffic_light'" in note for note in facts["notes"])


def test_doctor_looks_at_maps_that_lie_beside_the_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_synthetic(tmp_path / "set", num_images=3, seed=4, size=(42, 50))
    samples = open_dataset(tmp_path / "set")[0].samples
    for number, sample in enumerate(samples):
        size = image_size(sample.image)
        write_maps(tmp_path / "maps", "irn", sample.id, draw_maps(sample.labels, size, number), size)
        write_label_map(tmp_path / "salient" / f"{sample.id}.png", np.full(size, 200, np.uint8), grey=True)
    words = ["doctor", "--data", str(tmp_path / "set"), "--cams", str(tmp_path / "maps")]
    words += ["--saliency", str(tmp_path / "salient")]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "note: class attention maps: 3 files of" in said
    assert "of the form irn (jiwoon-ahn/irn)" in said
    assert "No problem found." in said
    (tmp_path / "maps" / f"{samples[0].id}.npy").write_bytes(b"no maps")
    (tmp_path / "maps" / f"{samples[1].id}.npy").unlink()
    (tmp_path / "salient" / f"{samples[2].id}.png").unlink()
    assert main(words) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"expected the maps of {samples[1].id}, " in said
    assert f"{samples[0].id}.npy: " in said
    assert f"expected a map of saliency, {samples[2].id}.png or .npy" in said
    assert "3 problems." in said
    assert main([*words[:3], "--cam-family", "irn"]) == 2
    assert "no attention maps are given (--cams DIR)" in capsys.readouterr().err
