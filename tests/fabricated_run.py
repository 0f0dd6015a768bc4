"""A finished run, made up: every file that the commands after a run read, in milliseconds and without networks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save_file

from data.dataset import Dataset, Problem, Sample
from data.formats.coco import Detection, ImageInfo, coco_json, encode_mask, write_detections
from data.formats.images import image_size
from data.formats.label_maps import read_label_map, write_label_map
from data.readers import open_dataset
from data.store import Draft, Store
from data.synthetic.dataset import write_synthetic
from tasks.engine.artifact import ImageSet
from tasks.engine.image_list import ImageList, write_images
from tasks.engine.plan import digest_samples
from tasks.engine.run_record import VERSION, RunRecord, StageRecord, read_run
from tasks.networks import NETWORKS
from tasks.pipeline.settings import LabelsConfig, PipelineConfig, WalkConfig

GRID = (17, 21)
COLLAPSED = {
    "collapsed": True,
    "displacement_spread_px": 0.012,
    "displacement_plateau": 4.09,
    "fg_displacement": 4.08,
    "bg_displacement": 0.001,
}
HEALTHY = COLLAPSED | {"collapsed": False, "displacement_spread_px": 7.5, "fg_displacement": 2.8}
SEMANTIC = {
    "cam": {"miou": 0.412, "accuracy": 0.7, "iou": {"background": 0.7, "disc": None}, "threshold": 0.2, "sweep": {}},
    "labels": {"miou": 0.655, "accuracy": 0.9, "iou": {"background": 0.9, "disc": 0.41}},
}
PRECISION = {"ap50": 0.377, "ap70": 0.123, "per_class": {"disc": {"ap50": 0.377, "ap70": 0.123, "gt": 3}}}
INSTANCES = {
    "cam_components": PRECISION | {"ap50": 0.111, "threshold": 0.25},
    "labels": PRECISION,
    "touching": {"labels": PRECISION | {"ap50": 0.299}},
}
SEGMENTED = SEMANTIC["labels"] | {
    "class_accuracy": 0.7,
    "accuracy_per_class": {"background": 0.95, "disc": 0.45},
    "boundary_f": 0.525,
    "boundary_f_per_class": {"background": 0.6, "disc": 0.456},
}
DETECTED = PRECISION | {"coco": {"ap": 0.187, "ap50": 0.35, "ap75": 0.1}}


def make_run(
    folder: Path, *, num_images: int = 5, with_truth: bool = True, collapsed: bool = False, skipped: bool = False
) -> Path:
    """Write a data set, a store and a run below `folder`; the labels are the ground truth. Return the run's folder.

    The last image has no labels; its maps are absent from the score files, as the stages leave them.
    """
    dataset = _dataset(folder / "set", num_images)
    store, run = Store(folder / "store"), folder / "run"
    truths = {sample.id: _truth(dataset.root, sample.id) for sample in dataset.samples}
    detections = [
        Detection(image=image, **{"class": int(semantic[mask][0]) - 1}, score=0.9, segmentation=encode_mask(mask))
        for image, (semantic, instances) in truths.items()
        for number in np.unique(instances[instances > 0])
        for mask in [instances == number]
    ]
    for root in (store.path("labels", "d"), run / "labels"):
        for sample, (semantic, instances) in truths.items():
            write_label_map(root / "SegmentationClass" / f"{sample}.png", semantic)
            write_label_map(root / "SegmentationObject" / f"{sample}.png", instances)
    write_detections(store.path("labels", "d") / "instances.json", detections)
    _write_maps(store, dataset)
    with store.create("irnet", "i") as draft:
        draft.manifest["summary"] = COLLAPSED if collapsed else HEALTHY

    infos = [ImageInfo(s.id, f"JPEGImages/{s.image.name}", *image_size(s.image)) for s in dataset.samples]
    (run / "labels/instances.json").write_text(json.dumps(coco_json(infos, detections, dataset.classes)))
    (run / "labels/classes.txt").write_text("".join(f"{name}\n" for name in dataset.classes.names))
    metrics = {"seconds": {"classifier": 61.25, "cams": 12.5, "walk": 0}}
    if with_truth:
        metrics |= {"semantic": SEMANTIC, "instances": INSTANCES}
    (run / "metrics.json").write_text(json.dumps(metrics))
    if not with_truth:
        samples = tuple(Sample(s.id, s.image, s.labels) for s in dataset.samples)
        dataset = Dataset(dataset.root, dataset.classes, samples)
    _record(run, dataset, store, skipped).write(run)
    return run


def make_walked_run(folder: Path, *, with_truth: bool = True) -> Path:
    """Return a run whose walked scores are .6 on objects and .3 off them, with noise, about."""
    run = make_run(folder, with_truth=with_truth)
    record, store, rng = read_run(run), Store(folder / "store"), np.random.default_rng(4)
    walked, pieces, rows_of = {}, {}, {}
    for sample in record.dataset.samples:
        if not sample.labels:
            continue
        truth = read_label_map(folder / "set/SegmentationClass" / f"{sample.id}.png")
        cells = np.pad(truth, ((0, 2), (0, 2)), mode="edge")[::4, ::4][: GRID[0], : GRID[1]]
        own = np.stack([cells == c + 1 for c in sample.labels])
        scores = (0.3 + 0.3 * own + rng.normal(0, 0.06, own.shape)).clip(0.01).astype(np.float16)
        # The highest score is 1, so that thresholds are those of the scores.
        scores[0, 0, 0] = 1
        walked[sample.id] = pieces[sample.id] = scores
        rows_of[sample.id] = list(range(len(scores)))
    with store.create("walk", "w") as draft:
        save_file(walked, draft.folder / "semantic.safetensors")
        save_file(pieces, draft.folder / "instances.safetensors")
        (draft.folder / "instances.json").write_text(json.dumps(rows_of))
    settings = LabelsConfig(background_threshold=0.25)
    (store.path("labels", "d") / "settings.json").write_text(settings.model_dump_json())
    common = {"source": "s", "settings": WalkConfig().model_dump(mode="json")}
    stages = {**record.stages, "walk": StageRecord(keys={0: "w"}, common=common)}
    base = PipelineConfig(backbone="resnet18", labels=settings).model_dump(mode="json")
    record.model_copy(update={"stages": stages, "settings": base}).write(run)
    return run


def make_training(folder: Path, network: Literal["deeplabv2", "maskrcnn"], *, with_validation: bool = True) -> Path:
    """Write a data set and a training below `folder`; it predicts the ground truth. Return the training's folder."""
    dataset, run = _dataset(folder / "set", 4), folder / "training"
    (run / "network").mkdir(parents=True)
    settings = NETWORKS[network].settings(backbone="resnet18", seed=7).model_dump(mode="json")
    images = write_images(run, _images(dataset), dataset.root)
    record = RunRecord(
        version=VERSION,
        preset="demo",
        request={},
        settings=settings,
        root=dataset.root,
        classes=dataset.classes,
        images=images,
        validation=images if with_validation else ImageList(),
        store=folder / "store",
        stages={},
    )
    history = [{"loss": 2.345, "miou": 0.111}, {"loss": 1.234}]
    metrics: dict[str, object] = {"network": network, "images": 4, "seconds": {network: 61.25}}
    if with_validation:
        kinds = ("SegmentationClass",) if network == "deeplabv2" else ("SegmentationClass", "SegmentationObject")
        for kind in kinds:
            shutil.copytree(dataset.root / kind, run / "predictions" / kind)
        metrics["validation"] = SEGMENTED if network == "deeplabv2" else DETECTED
    (run / "network/history.json").write_text(json.dumps(history))
    (run / "metrics.json").write_text(json.dumps(metrics))
    record.write(run)
    return run


def _truth(root: Path, sample: str) -> tuple[np.ndarray, np.ndarray]:
    return tuple(read_label_map(root / kind / f"{sample}.png") for kind in ("SegmentationClass", "SegmentationObject"))


def _dataset(root: Path, num_images: int) -> Dataset:
    write_synthetic(root, num_images=num_images, seed=3, size=(66, 82))
    rows = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join([*rows[:-1], rows[-1].split(",")[0] + ","]) + "\n")
    dataset, _ = open_dataset(root)
    return dataset


def _write_maps(store: Store, dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    shown = [sample for sample in dataset.samples if sample.labels]
    cams = {s.id: rng.random((len(s.labels), *GRID)).astype(np.float16) for s in shown}
    _publish(store, "cams", "c", lambda draft: save_file(cams, draft.folder / "cams.safetensors"))

    def write_fields(draft: Draft) -> None:
        boundary = {s.id: rng.random(GRID).astype(np.float16) for s in dataset.samples}
        displacement = {s.id: rng.normal(0, 3, (2, *GRID)).astype(np.float16) for s in dataset.samples}
        save_file(boundary, draft.folder / "boundary.safetensors")
        save_file(displacement, draft.folder / "displacement.safetensors")

    def write_relations(draft: Draft) -> None:
        for sample in dataset.samples:
            write_label_map(draft.folder / f"{sample.id}.png", np.full((66, 82), 255, np.uint8))

    _publish(store, "fields", "f", write_fields)
    _publish(store, "relations", "r", write_relations)


def _publish(store: Store, stage: str, key: str, write: Callable[[Draft], None]) -> None:
    with store.create(stage, key) as draft:
        write(draft)


def _images(dataset: Dataset) -> ImageSet:
    return ImageSet(dataset.samples, digest_samples(dataset))


def _record(run: Path, dataset: Dataset, store: Store, skipped: bool) -> RunRecord:
    keys = {"cams": "c", "relations": "r", "irnet": "i", "fields": "f", "labels": "d"}
    bad = Problem(dataset.root / "JPEGImages/<bad>.jpg", "expected an image, found an empty file", "<bad>")
    return RunRecord(
        version=VERSION,
        preset="quick",
        request={},
        settings=PipelineConfig(backbone="resnet18", seed=7).model_dump(mode="json"),
        root=dataset.root,
        classes=dataset.classes,
        images=write_images(run, _images(dataset), dataset.root),
        validation=ImageList(),
        store=store.root,
        stages={stage: StageRecord(keys={0: key}) for stage, key in keys.items()},
        problems=(bad,) if skipped else (),
    )
