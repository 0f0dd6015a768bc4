"""A tiny set, and the artifacts of every stage on it."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.dataset import Dataset, Sample
from data.readers import open_dataset
from data.synthetic.dataset import write_synthetic
from tasks.config import Config
from tasks.engine.job import Job
from tasks.pipeline.fields import infer_fields
from tasks.pipeline.irnet import train_irnet
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.relations import mine_relations
from tasks.pipeline.seeds.cams import infer_cams
from tasks.pipeline.seeds.classifier import train_classifier
from tasks.pipeline.settings import (
    CamConfig,
    ClassifierConfig,
    FieldsConfig,
    IRNetConfig,
    LabelsConfig,
    RelationsConfig,
    WalkConfig,
)
from tasks.pipeline.walk import walk_scores

RunStage = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six synthetic images; one is 21 x 70 pixels, one has no labels."""
    root = tmp_path_factory.mktemp("tiny")
    write_synthetic(root, num_images=6, seed=5, size=(64, 80))
    thin = np.random.default_rng(0).integers(0, 256, (21, 70, 3)).astype(np.uint8)
    cv2.imwrite(str(root / "JPEGImages/train_00004.jpg"), thin)
    for folder in ("SegmentationClass", "SegmentationObject"):
        (root / folder / "train_00004.png").unlink()
    rows = (root / "labels.csv").read_text().splitlines()
    rows = [row.split(",")[0] + "," if row.startswith("train_00005") else row for row in rows]
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    dataset, problems = open_dataset(root, split="train")
    assert not problems
    return dataset


@pytest.fixture(scope="session")
def run_stage(tiny_set: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunStage:
    """Return `run(function, config, **inputs) -> folder` over the tiny set, or `samples`; its summary lies beside."""

    def run(
        function: Callable[[Job], dict], config: Config, *, samples: tuple[Sample, ...] | None = None, **inputs: Path
    ) -> Path:
        folder = tmp_path_factory.mktemp(function.__name__)
        out, scratch = folder / "out", folder / "scratch"
        out.mkdir()
        job = Job(
            tiny_set.samples if samples is None else samples,
            tiny_set.classes,
            config,
            out,
            scratch,
            inputs={name: (path,) for name, path in inputs.items()},
            backbone="resnet18",
            seed=1,
        )
        summary = function(job)
        assert isinstance(summary, dict)
        (folder / "summary.json").write_text(json.dumps(summary))
        return out

    return run


@pytest.fixture(scope="session")
def artifacts(run_stage: RunStage) -> dict[str, Path]:
    """Every stage's folder, from a training of a few steps."""
    made: dict[str, Path] = {}
    classifier = ClassifierConfig(resize_long=(64, 80), crop_size=64, batch_size=3, epochs=1, learning_rate=0.04)
    made["classifier"] = run_stage(train_classifier, classifier)
    made["cams"] = run_stage(infer_cams, CamConfig(scales=(1.0, 0.5)), classifier=made["classifier"])
    made["relations"] = run_stage(mine_relations, RelationsConfig(), cams=made["cams"])
    irnet = IRNetConfig(crop_size=96, radius_px=4, epochs=1, batch_size=3, optimizer="adamw", learning_rate=1e-3)
    made["irnet"] = run_stage(train_irnet, irnet, classifier=made["classifier"], relations=made["relations"])
    made["fields"] = run_stage(infer_fields, FieldsConfig(), irnet=made["irnet"])
    made["walk"] = run_stage(walk_scores, WalkConfig(steps=32), cams=made["cams"], fields=made["fields"])
    made["labels"] = run_stage(synthesize_labels, LabelsConfig(), walk=made["walk"])
    return made
