"""`pseudomask refine`: maps of any method become labels, without training, image by image."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fabricated_run import make_run
from support.cam_writers import draw_maps, write_maps
from tests_flows_support import ROOT

from data.dataset import Dataset, Sample
from data.formats.coco import read_coco
from data.formats.images import image_size, read_image
from data.formats.label_maps import read_label_map, write_label_map
from data.formats.quality import read_quality
from data.ownership import own
from data.readers import open_dataset
from data.readers.beside.cams import with_cams
from data.store import Store
from data.synthetic.dataset import write_synthetic
from flows.cli import main
from kernels.random_walk import propagate
from models.backbones.base import build_backbone
from models.irnet import IRNet
from tasks.in_memory import refine_cams
from tasks.pipeline.confidence.odds import expected_iou
from tasks.pipeline.fields import infer_batch
from tasks.pipeline.settings import FieldsConfig, LabelsConfig, WalkConfig
from tasks.pipeline.thresholds import agreement_curves, contrast_curves, steadied
from tasks.refining import AHEAD, Refining, Walls, refine_set
from tasks.training.saving import save_network

WALK, LABELS = WalkConfig(steps=8), LabelsConfig(crf_iterations=1)
SETTINGS = ["--steps", "8", "--crf-iterations", "1", "--workers", "2", "--background-threshold", "0.25"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with `set` of five images, the last without tags, and `maps` and `walls` of the others."""
    write_synthetic(tmp_path / "set", num_images=5, seed=2, size=(42, 50))
    rows = (tmp_path / "set/labels.csv").read_text().splitlines()
    (tmp_path / "set/labels.csv").write_text("\n".join([*rows[:-1], rows[-1].split(",")[0] + ","]) + "\n")
    (tmp_path / "walls").mkdir()
    for number, sample in enumerate(labelled(tmp_path)):
        size = image_size(sample.image)
        write_maps(tmp_path / "maps", "irn", sample.id, draw_maps(sample.labels, size, number), size)
        wall = np.zeros((11, 13), np.float32)
        wall[5] = 0.9
        np.save(tmp_path / "walls" / f"{sample.id}.npy", wall)
    return tmp_path


def labelled(folder: Path) -> list[Sample]:
    return [sample for sample in open_dataset(folder / "set")[0].samples if sample.labels]


def words(folder: Path, boundary: Path, out: str = "out") -> list[str]:
    given = {"--data": folder / "set", "--cams": folder / "maps", "--boundary": boundary, "--out": folder / out}
    return ["refine", *(str(word) for pair in given.items() for word in pair), *SETTINGS]


def test_labels_are_those_of_the_walk_in_memory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words(folder, folder / "walls"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    samples = labelled(folder)
    assert (said["images"], said["family"], said["instances"]) == (5, "irn", None)
    images = [read_image(sample.image) for sample in samples]
    maps = [draw_maps(sample.labels, image_size(sample.image), n) for n, sample in enumerate(samples)]
    walls = [np.load(folder / "walls" / f"{sample.id}.npy") for sample in samples]
    expected = refine_cams(images, [np.stack(list(m.values())) for m in maps], walls, None, WALK, LABELS)
    for sample, found in zip(samples, expected, strict=True):
        values = np.array([0, *(c + 1 for c in sample.labels)])
        labels = read_label_map(folder / "out/SegmentationClass" / f"{sample.id}.png")
        np.testing.assert_array_equal(labels, values[found.semantic])
        sure = read_label_map(folder / "out/SegmentationConfidence" / f"{sample.id}.png")
        np.testing.assert_array_equal(sure, found.confidence)
    assert len(list((folder / "out/SegmentationClass").iterdir())) == 5
    assert not (folder / "out/instances.json").exists()
    names = (folder / "out/classes.txt").read_text().splitlines()
    assert names == list(open_dataset(folder / "set")[0].classes.names)
    assert main(words(folder, folder / "walls")) == 0
    command = f"evaluate semantic --pred {folder / 'out'} --gt {folder / 'set/SegmentationClass'}"
    assert f"\nnext: pseudomask {command}\n" in capsys.readouterr().out
    assert main(command.split()) == 0


def test_the_network_of_a_run_gives_instances(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(folder / "other")
    torch.manual_seed(0)
    net = IRNet(build_backbone("resnet18")).eval()
    store = Store(folder / "other/store")
    store.path("irnet", "i").rename(folder / "other/old")
    with store.create("irnet", "i") as draft:
        save_network(net, draft.folder)
    assert main([*words(folder, run), "--min-area", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    index = read_coco(folder / "out/instances.json")
    assert said["instances"] == sum(map(len, index.annotations.values())) > 0
    assert len(index.images) == 5
    assert len(list((folder / "out/SegmentationObject").iterdir())) == 5
    sample = labelled(folder)[0]
    image = read_image(sample.image)
    tensor = torch.tensor(image).permute(2, 0, 1)
    with torch.no_grad():
        ((boundary, displacement),) = infer_batch(net, [tensor], FieldsConfig(), "cpu")
    cams = np.stack(list(draw_maps(sample.labels, image_size(sample.image), 0).values()))
    config = LABELS.model_copy(update={"min_area": 0.0})
    (found,) = refine_cams([image], [cams], [boundary], [displacement], WALK, config)
    written = read_label_map(folder / "out/SegmentationObject" / f"{sample.id}.png")
    assert (written == found.instances).mean() > 0.99
    assert written.max() == found.instances.max()


def test_a_threshold_may_be_chosen_on_the_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(folder, folder / "walls")[: -len(SETTINGS)] + SETTINGS[:-1]
    assert main([*given, "auto", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    samples = labelled(folder)
    images = [read_image(sample.image) for sample in samples]
    drawn = [draw_maps(sample.labels, image_size(sample.image), n) for n, sample in enumerate(samples)]
    cams = [torch.from_numpy(np.stack(list(maps.values()))) for maps in drawn]
    walls = [np.load(folder / "walls" / f"{sample.id}.npy") for sample in samples]
    loads = [partial(np.copy, image) for image in images]
    maps = [
        torch.nn.functional.adaptive_avg_pool2d(each, (-(-image.shape[0] // 4), -(-image.shape[1] // 4)))
        for each, image in zip(cams, images, strict=True)
    ]
    walked = [
        propagate(each, torch.from_numpy(wall), radius=WALK.radius_px, beta=WALK.beta, steps=8, tolerance=0.0)
        for each, wall in zip(maps, walls, strict=True)
    ]
    of_cams = contrast_curves(loads, maps, iterations=1)
    found = agreement_curves(loads, walked, maps, of_cams.threshold, iterations=1).threshold
    chosen = steadied(found, len(images))
    assert (said["threshold"], said["threshold_from"]) == (chosen, "set")
    made = {file.name: file.read_bytes() for file in (folder / "out/SegmentationClass").iterdir()}
    assert main([*given, str(chosen)]) == 0
    assert "chosen on the set" not in capsys.readouterr().out
    assert made == {file.name: file.read_bytes() for file in (folder / "out/SegmentationClass").iterdir()}
    assert main([*given, "auto"]) == 0
    assert f"background threshold {chosen:g}, chosen on the set: " in capsys.readouterr().out


def test_what_is_known_of_each_image_is_written_and_the_least_sure_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(folder, folder / "walls"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    out, rows = folder / "out", read_quality(folder / "out/quality.csv")
    assert [row.image for row in rows] == sorted(sample.id for sample in open_dataset(folder / "set")[0].samples)
    tagged = {sample.id: sample for sample in labelled(folder)}
    for row in rows:
        labels = read_label_map(out / "SegmentationClass" / f"{row.image}.png")
        sure = read_label_map(out / "SegmentationConfidence" / f"{row.image}.png")
        assert row.foreground == pytest.approx((labels > 0).mean(), abs=1e-4)
        assert row.confidence == pytest.approx(sure.mean() / 255, abs=1e-4)
        classes = tagged[row.image].labels if row.image in tagged else ()
        assert row.quality == pytest.approx(expected_iou(labels, sure, 1 + len(classes)), abs=1e-4)
        assert row.tags_without_a_pixel == sum(not (labels == c + 1).any() for c in classes)
        assert (row.cam_agreement == 1) >= (row.image not in tagged)
    assert 0 < min(row.cam_agreement for row in rows) < 1
    assert [each["image"] for each in said["look_first"]] == [
        row.image for row in sorted(rows, key=lambda r: r.quality)
    ]
    assert main(words(folder, folder / "walls")) == 0
    worst = said["look_first"][0]
    shown = " ".join(capsys.readouterr().out.split())
    assert f"quality {out / 'quality.csv'}; the least sure: {worst['image']}: {worst['why']}" in shown


def test_what_is_missing_is_told_before_anything_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = labelled(folder)[1].id
    (folder / "walls" / f"{sample}.npy").unlink()
    for boundary, message in (
        (folder / "walls", f"expected a map of boundaries, {sample}.png or .npy, found none"),
        (folder / "nowhere", "expected the folder of a run, or of maps of boundaries"),
        (make_run(folder / "bare"), "network"),
    ):
        assert main(words(folder, boundary)) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    np.save(folder / "walls" / f"{sample}.npy", np.full((11, 13), 1.5, np.float32))
    assert main(words(folder, folder / "walls")) == 1
    assert f"{sample}.npy: expected a map of boundaries from 0 to 1" in " ".join(capsys.readouterr().err.split())
    np.save(folder / "walls" / f"{sample}.npy", np.full((11, 13), 0.5, np.float32))
    (folder / "mine").mkdir()
    (folder / "mine/letter.txt").write_text("dear")
    assert main(words(folder, folder / "walls", "mine")) == 1
    assert "holds something else" in capsys.readouterr().err


def test_a_refinement_without_boundaries_leaves_earlier_labels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(folder, folder / "walls")) == 0
    before = {file: file.read_bytes() for file in sorted((folder / "out").rglob("*")) if file.is_file()}
    (folder / "empty").mkdir()
    assert main(words(folder, folder / "empty")) == 1
    capsys.readouterr()
    assert {file: file.read_bytes() for file in sorted((folder / "out").rglob("*")) if file.is_file()} == before


def test_labels_that_were_corrected_by_hand_are_not_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder, folder / "walls")) == 0
    file = folder / "out/SegmentationClass" / f"{labelled(folder)[0].id}.png"
    write_label_map(file, np.full((42, 50), 1, np.uint8))
    assert main(words(folder, folder / "walls")) == 1
    assert "changed since pseudomask refine wrote it" in capsys.readouterr().err


def test_labels_of_images_and_instances_that_there_are_no_more_are_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(folder, folder / "walls")) == 0
    out, gone = folder / "out", labelled(folder)[0]
    with own(out, "refine") as output:
        output.claim(["instances.json"])
    (out / "instances.json").write_text("{}")
    (out / "mine.txt").write_text("dear")
    gone.image.unlink()
    table = folder / "set/labels.csv"
    table.write_text("".join(line for line in table.open() if not line.startswith(gone.id)))
    assert main(words(folder, folder / "walls")) == 0
    assert {file.stem for file in (out / "SegmentationClass").iterdir()} == {
        sample.id for sample in open_dataset(folder / "set")[0].samples
    }
    assert not (out / "instances.json").exists()
    assert (out / "mine.txt").read_text() == "dear"


def test_a_refinement_that_was_cut_off_starts_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(folder, folder / "walls")) == 0

    def cut_off(dataset: Dataset, walls: object, out: Path, *more: object) -> None:
        write_label_map(out / "SegmentationClass" / f"{dataset.samples[0].id}.png", np.zeros((42, 50), np.uint8))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.refining.refine_set", cut_off)
        assert main(words(folder, folder / "walls")) == 1
    assert main(words(folder, folder / "walls")) == 0


@pytest.mark.parametrize("name", ["set", "maps", "walls"])
def test_labels_among_what_is_read_are_refused(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((folder / name).rglob("*"))
    assert main(words(folder, folder / "walls", f"{name}/out")) == 1
    assert f"--out lies in the {'data set' if name == 'set' else 'folder'}" in " ".join(capsys.readouterr().err.split())
    assert sorted((folder / name).rglob("*")) == before


def test_a_few_images_are_in_memory_at_a_time(folder: Path) -> None:
    dataset, _ = with_cams(open_dataset(folder / "set")[0], folder / "maps")
    assert dataset.cams is not None
    samples = tuple(dataset.samples[n % 4] for n in range(24))
    alive: list[weakref.ref[Any]] = []
    most = 0

    def walls(given: Sequence[Sample]) -> Iterator[tuple[Sample, Walls]]:
        nonlocal most
        for sample in given:
            boundary = torch.zeros(11, 13)
            alive.append(weakref.ref(boundary))
            most = max(most, sum(each() is not None for each in alive))
            yield sample, Walls(boundary, None)
            del boundary

    from dataclasses import replace

    how = Refining(dataset.cams, WALK, LabelsConfig(), False, None, "cpu", 1)
    done: list[int] = []
    out = folder / "out"
    out.mkdir()
    refine_set(replace(dataset, samples=samples), walls, out, how, lambda number, _: done.append(number))
    assert done == list(range(1, 25))
    # Those of a round, and the last of the round before.
    assert most <= 2 * AHEAD + 1


def test_nothing_of_prefect_is_loaded(folder: Path) -> None:
    script = "import sys\nfrom flows.cli import main\ncode = main(sys.argv[1:])\nprint(code, 'prefect' in sys.modules)"
    command = [sys.executable, "-c", script, *words(folder, folder / "walls"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


def redraw(folder: Path, sample: Sample, change: Any) -> None:
    """Write the maps of an image again, as a function of them gives them."""
    size = image_size(sample.image)
    write_maps(folder / "maps", "irn", sample.id, change(draw_maps(sample.labels, size)), size)


def test_what_was_wrong_with_maps_is_told_at_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third, fourth = labelled(folder)
    names = open_dataset(folder / "set")[0].classes.names

    def spoil(maps: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        for each in maps.values():
            each[0, :2] = -1, np.nan
        return maps

    redraw(folder, first, spoil)
    redraw(folder, second, lambda maps: {c: 5 * each for c, each in maps.items()})
    redraw(folder, third, lambda maps: {c: 0 * each for c, each in maps.items()})
    (folder / "maps" / f"{fourth.id}.npy").unlink()
    given = [*words(folder, folder / "walls"), "--missing-cams", "background"]
    assert main([*given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)

    def count(samples: list[Sample]) -> dict[str, int]:
        return {names[c]: sum(c in s.labels for s in samples) for s in samples for c in s.labels}

    assert said["cams"] == {
        "tags_without_a_map": count([fourth]),
        "empty_maps": count([third, fourth]),
        "remarks": {"above 1": 1, "negative": 1, "not finite": 1},
    }
    lost = len(third.labels) + len(fourth.labels)
    assert said["tags_without_a_pixel"] == lost + said["tags_with_a_map_and_no_pixel"]
    for remark, sample in (("above 1", second), ("negative", first), ("not finite", first)):
        assert any(f"{remark} in 1 file, for one {sample.id}: " in warning for warning in said["warnings"])
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert f"{lost} of {said['tags']} tags have an empty map, or none in their file (" in shown
    assert "make these maps again" in shown
    assert "scores that are negative in 1 file" in shown
    assert "try a lower" not in shown
    assert main([*given, "--background-threshold", "1"]) == 0
    with_map = said["tags"] - lost
    assert f"{with_map} of {said['tags']} tags have a map and no pixel; try a lower" in capsys.readouterr().out


def test_a_set_whose_maps_are_all_empty_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sample in labelled(folder):
        redraw(folder, sample, lambda maps: {c: -each for c, each in maps.items()})
    assert main(words(folder, folder / "walls")) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{folder / 'maps'}: All class attention maps are empty: look at the files, and make them again" in said
    assert not (folder / "out").exists()


def test_images_that_are_left_out_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = labelled(folder)
    for sample in (first, second):
        (folder / "maps" / f"{sample.id}.npy").unlink()
    given = [*words(folder, folder / "walls"), "--missing-cams", "skip"]
    assert main([*given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["images_left_out"]) == (3, [first.id, second.id])
    assert f"expected the maps of {first.id}, " in said["left_out"][0]
    assert main(given) == 0
    assert f"\n2 images were left out: {first.id}, {second.id}\n" in capsys.readouterr().out


def test_bad_images_maps_and_boundaries_are_set_aside_where_that_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, fourth = labelled(folder)
    (folder / "maps" / f"{first.id}.npy").write_bytes(b"no maps")
    (folder / "walls" / f"{second.id}.npy").unlink()
    assert main(words(folder, folder / "walls")) == 1
    capsys.readouterr()
    np.save(folder / "walls" / f"{third.id}.npy", np.full((11, 13), 1.5, np.float32))
    assert main([*words(folder, folder / "walls"), "--skip-bad", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["images_left_out"]) == (2, [first.id, second.id, third.id])
    for line, message in zip(
        said["left_out"], ("is of neither NumPy's nor torch's form", "found none", "from 0 to 1"), strict=True
    ):
        assert message in line
    made = {file.stem for file in (folder / "out/SegmentationClass").iterdir()}
    assert made == {fourth.id, *(s.id for s in open_dataset(folder / "set")[0].samples if not s.labels)}


def test_all_boundaries_that_cannot_be_used_are_told_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [sample.id for sample in labelled(folder)[1:3]]
    for id in bad:
        np.save(folder / "walls" / f"{id}.npy", np.full((11, 13), 1.5, np.float32))
    assert main(words(folder, folder / "walls")) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert all(f"{id}.npy: expected a map of boundaries from 0 to 1" in said for id in bad)
    assert "2 problems. --skip-bad sets bad images aside." in said
    assert not (folder / "out").exists()


def test_the_command_that_is_told_scores_the_labels_or_none_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [sample.id for sample in labelled(folder)[:2]]
    (folder / "set/two.txt").write_text("\n".join(ids))
    assert main([*words(folder, folder / "walls"), "--split", "two", "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["next"]
    assert command.endswith("/set/SegmentationClass --split two")
    assert main([*command.split()[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    # One of the images with ground truth has no labels, so that no command would do.
    (folder / "maps" / f"{ids[0]}.npy").unlink()
    for more in ([], ["--split", "two"]):
        assert main([*words(folder, folder / "walls"), "--skip-bad", *more]) == 0
        assert "next:" not in capsys.readouterr().out
    (folder / "set/SegmentationClass").rename(folder / "elsewhere")
    assert main([*words(folder, folder / "walls"), "--skip-bad"]) == 0
    assert "next:" not in capsys.readouterr().out
