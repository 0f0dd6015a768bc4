"""A table of 300 classes: the same labels as of 5, whose values need 16 bits and leave out that of void."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.dataset import VOID, Dataset
from data.formats.coco import read_detections
from data.formats.label_maps import read_label_map, write_label_map
from data.readers import open_dataset
from data.synthetic.dataset import SHAPES, write_synthetic
from tasks.config import Config
from tasks.engine.job import Job
from tasks.networks.stages.segmentation import predict, train
from tasks.networks.trainer import SegmentationConfig, SegmenterConfig
from tasks.pipeline.fields import infer_fields
from tasks.pipeline.irnet import train_irnet
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.metrics import summarize
from tasks.pipeline.relations import mine_relations
from tasks.pipeline.scores import score_shard
from tasks.pipeline.seeds.cams import infer_cams
from tasks.pipeline.seeds.classifier import train_classifier
from tasks.pipeline.settings import (
    CamConfig,
    ClassifierConfig,
    FieldsConfig,
    IRNetConfig,
    LabelsConfig,
    RelationsConfig,
    ScoresConfig,
    WalkConfig,
)
from tasks.pipeline.walk import walk_scores

NAMES = [shape.name for shape in SHAPES]
# Lines of the class table, before and behind the one whose value would be void's.
LINES = (3, 253, 254, 255, 299)
VALUES = (4, 254, 256, 257, 301)


def write_set(root: Path, lines: tuple[int, ...] | None) -> Dataset:
    """Write six images of five shapes, whose names are the table or lie at some lines of one of 300."""
    write_synthetic(root, num_images=6, seed=5, size=(64, 80))
    names = NAMES.copy()
    if lines:
        names = [f"other {number}" for number in range(300)]
        lookup = np.zeros(256, np.uint16)
        lookup[VOID] = VOID
        for old, (line, value, shape) in enumerate(zip(lines, VALUES, NAMES, strict=True), start=1):
            names[line], lookup[old] = shape, value
        for file in (root / "SegmentationClass").glob("*.png"):
            write_label_map(file, lookup[read_label_map(file)])
    (root / "classes.txt").write_text("\n".join(names))
    dataset, problems = open_dataset(root, split="train")
    assert not problems
    return dataset


def run_chain(dataset: Dataset, root: Path, start: dict[str, Path] | None = None) -> dict[str, Path]:
    """Run every stage, and a network on the labels; from another run's classifier and CAMs if there is one."""
    made: dict[str, Path] = {}

    def run(name: str, function: Callable[[Job], dict], config: Config, *needed: str, **more) -> None:
        made[name] = root / name
        made[name].mkdir(parents=True)
        inputs = {each: (made[each],) for each in needed}
        job = Job(
            more.pop("samples", dataset.samples),
            dataset.classes,
            config,
            made[name],
            root / "scratch" / name,
            inputs=inputs,
            backbone="resnet18",
            model="models.deeplabv2:build",
            seed=1,
            **more,
        )
        function(job)

    classifier = ClassifierConfig(
        loss="prior", resize_long=(64, 80), crop_size=64, batch_size=3, epochs=2, learning_rate=1e-3, optimizer="adamw"
    )
    run("classifier", train_classifier, classifier)
    run("cams", infer_cams, CamConfig(scales=(1.0,)), "classifier")
    # A matrix product of more columns rounds otherwise, and a pixel at a threshold shows it.
    made |= {name: start[name] for name in ("classifier", "cams")} if start else {}
    run("relations", mine_relations, RelationsConfig(), "cams")
    irnet = IRNetConfig(crop_size=96, radius_px=4, epochs=1, batch_size=3, optimizer="adamw", learning_rate=1e-3)
    run("irnet", train_irnet, irnet, "classifier", "relations")
    run("fields", infer_fields, FieldsConfig(), "irnet")
    run("walk", walk_scores, WalkConfig(steps=32), "cams", "fields")
    run("labels", synthesize_labels, LabelsConfig(sure_thresholds=(0.2, 0.4)), "walk")
    scores = ScoresConfig(cam_thresholds=(0.2,), crf_thresholds=(0.3,), component_thresholds=(0.3,))
    run("scores", score_shard, scores, "cams", "walk", "labels")
    run("metrics", summarize, scores, "scores")
    network = SegmenterConfig(crop_size=64, batch_size=2, epochs=1, log_steps=0)
    run(
        "deeplabv2",
        train,
        network,
        samples=dataset.samples[:2],
        stage="deeplabv2",
        validation=dataset.samples[2:3],
    )
    run("predictions", predict, SegmentationConfig(scales=(1.0,)), "deeplabv2")
    return made


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Path]]:
    roots = [tmp_path_factory.mktemp(name) for name in ("few", "many")]
    few, many = write_set(roots[0] / "set", None), write_set(roots[1] / "set", LINES)
    assert (len(few.classes), len(many.classes.real_names)) == (5, 300)
    made = run_chain(few, roots[0] / "made")
    return made, run_chain(many, roots[1] / "made", made)


def test_maps_of_300_classes_are_those_of_5_with_other_values(both) -> None:
    few, many = both
    lookup = np.array([0, *VALUES, *[0] * 250, VOID], np.uint16)
    lookup[VOID] = VOID
    seen = set()
    for stage, folder in (("relations", ""), ("labels", "SegmentationClass"), ("labels", "SegmentationSure")):
        files = sorted((few[stage] / folder).glob("*.png"))
        assert files
        for file in files:
            labels = read_label_map(many[stage] / folder / file.name)
            np.testing.assert_array_equal(labels, lookup[read_label_map(file)])
            seen |= set(np.unique(labels).tolist())
    assert {0, VOID} < seen
    assert max(seen) > VOID
    for file in (few["labels"] / "SegmentationObject").glob("*.png"):
        np.testing.assert_array_equal(
            read_label_map(many["labels"] / "SegmentationObject" / file.name), read_label_map(file)
        )
    classes = [{found["class"] for found in read_detections(made["labels"] / "instances.json")} for made in both]
    assert {VALUES[c] - 1 for c in classes[0]} == classes[1]


def test_300_classes_score_as_5(both) -> None:
    few, many = (json.loads((made["metrics"] / "metrics.json").read_text()) for made in both)
    for method, score in few["semantic"].items():
        assert many["semantic"][method]["miou"] == pytest.approx(score["miou"])
        for shape in NAMES:
            assert many["semantic"][method]["iou"][shape] == pytest.approx(score["iou"][shape])
    assert many["instances"]["labels"]["ap50"] == pytest.approx(few["instances"]["labels"]["ap50"])


def test_a_network_of_300_classes_is_trained_and_applied(both) -> None:
    many = both[1]
    losses = json.loads((many["deeplabv2"] / "history.json").read_text())
    assert all(np.isfinite(row["loss"]) for row in losses)
    for file in (many["predictions"] / "SegmentationClass").glob("*.png"):
        assert read_label_map(file).max() <= 301
