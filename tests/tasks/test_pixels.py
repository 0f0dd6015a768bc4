"""A second round: images correct each other, and no image confirms its own mistakes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from data.dataset import VOID
from data.formats.images import image_size
from data.formats.label_maps import read_label_map
from models.pixels import PixelClassifier
from tasks.engine.job import Job
from tasks.pipeline import pixels
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.pixels import (
    CLASSIFIER,
    fold_of,
    infer_pixels,
    sample_cells,
    taught_folds,
    taught_images,
    train_pixels,
    upsample_cells,
)
from tasks.pipeline.score_maps import OBJECT_SCORES, PIXEL_SCORES, grid_size, upsample
from tasks.pipeline.scores import score_shard
from tasks.pipeline.settings import LabelsConfig, PipelineConfig, PixelsConfig, ScoresConfig

CONFIG = PixelsConfig(folds=2, least_images=0, taught_thresholds=(0.1, 0.4), steps=30, cells=100, learning_rate=0.01)


@pytest.fixture(scope="module")
def round_two(run_stage, artifacts) -> dict[str, Path]:
    """The artifacts of the second round on the tiny set."""
    first = {"irnet": artifacts["irnet"], "walk": artifacts["walk"]}
    classifier = run_stage(train_pixels, CONFIG, **first)
    scores = run_stage(infer_pixels, CONFIG, **{"irnet": first["irnet"], "pixel-classifier": classifier})
    return {"pixel-classifier": classifier, "pixel-scores": scores}


def test_every_cell_teaches_all_folds_but_its_own() -> None:
    folds = torch.tensor([0, 1, 2, 0, 1, 2])
    others = folds[None] != torch.arange(3)[:, None]
    assert (taught_folds(torch.zeros(6, dtype=torch.long), others) == others).all()


def test_a_class_of_one_fold_alone_is_taught_by_its_own_cells() -> None:
    folds, values = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 5, 0, 0])
    taught = taught_folds(values, folds[None] != torch.arange(2)[:, None])
    assert taught.tolist() == [[False, True, True, True], [True, True, False, False]]


def test_images_that_teach_are_counted_once_per_fold_and_class() -> None:
    values, owners = torch.tensor([1, 1, 1, 0, 2]), torch.tensor([7, 7, 8, 8, 9])
    taught = torch.tensor([[True, True, True, True, False], [False, True, False, True, True]])
    assert taught_images(values, owners, taught, 4).tolist() == [[1, 2, 0, 0], [1, 1, 1, 0]]


def test_an_image_whose_classes_few_others_teach_keeps_the_labels_of_the_walk(
    tiny_set, artifacts, run_stage, round_two
) -> None:
    few = CONFIG.model_copy(update={"least_images": 6})
    inputs = {"irnet": artifacts["irnet"], "pixel-classifier": round_two["pixel-classifier"]}
    scores = run_stage(infer_pixels, few, **inputs)
    assert not load_file(scores / PIXEL_SCORES)
    assert not load_file(scores / OBJECT_SCORES)
    config = LabelsConfig(sure_thresholds=(0.1, 0.4))
    alone = run_stage(synthesize_labels, config, walk=artifacts["walk"])
    second = run_stage(synthesize_labels, config, **{"walk": artifacts["walk"], "pixel-scores": scores})
    for kind in ("SegmentationClass", "SegmentationObject", "SegmentationSure"):
        for file in sorted((alone / kind).iterdir()):
            assert file.read_bytes() == (second / kind / file.name).read_bytes()


def test_an_image_of_a_rare_class_is_judged_by_what_all_classes_teach_of_objects(
    tiny_set, artifacts, run_stage, round_two, tmp_path
) -> None:
    state = load_file(round_two["pixel-classifier"] / CLASSIFIER)
    assert (state["object_images"] > 0).all()
    state["images"][:] = 0
    save_file(state, tmp_path / CLASSIFIER)
    few = CONFIG.model_copy(update={"least_images": 1})
    scores = run_stage(infer_pixels, few, **{"irnet": artifacts["irnet"], "pixel-classifier": tmp_path})
    objects = load_file(scores / OBJECT_SCORES)
    assert not load_file(scores / PIXEL_SCORES)
    assert set(objects) == {sample.id for sample in tiny_set.samples if sample.labels}
    save_file({id: torch.full_like(value, 0.999) for id, value in objects.items()}, scores / OBJECT_SCORES)
    (tmp_path / "thresholds.json").write_text('{"threshold": 0.3}')
    inputs = {"walk": artifacts["walk"], "cams": artifacts["cams"], "thresholds": tmp_path, "pixel-scores": scores}
    out = run_stage(synthesize_labels, LabelsConfig(), **inputs)
    cams = load_file(artifacts["cams"] / "cams.safetensors")
    for sample in tiny_set.samples:
        if sample.labels:
            labels = read_label_map(out / "SegmentationClass" / f"{sample.id}.png")
            assert set(np.unique(labels)) <= {0, *(c + 1 for c in sample.labels)}
            # At odds of 999 an object is wherever attention is not next to nothing.
            attended = upsample((cams[sample.id].float().amax(0, keepdim=True) > 0.01).float(), labels.shape)[0] == 1
            assert (labels[attended.numpy()] > 0).all()


def test_half_of_the_cells_at_most_are_of_one_class_and_none_is_void() -> None:
    cells = np.array([0] * 500 + [3] * 4 + [255] * 300)
    chosen = sample_cells(cells, 20, np.random.default_rng(0))
    values, counts = np.unique(cells[chosen], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 10, 3: 4}
    assert len(np.unique(chosen)) == len(chosen)
    assert not len(sample_cells(np.full(9, 255), 20, np.random.default_rng(0)))


def test_maps_of_stride_8_cover_the_grid_of_stride_4() -> None:
    for height, width in ((1, 1), (8, 9), (12, 13), (17, 31)):
        maps = torch.rand(2, -(-height // 8), -(-width // 8))
        assert upsample_cells(maps, grid_size((height, width))).shape == (2, *grid_size((height, width)))


def test_scores_are_probabilities_of_the_tags_at_stride_4(tiny_set, round_two) -> None:
    maps = load_file(round_two["pixel-scores"] / PIXEL_SCORES)
    assert set(maps) == {sample.id for sample in tiny_set.samples if sample.labels}
    for sample in tiny_set.samples:
        if sample.labels:
            found = maps[sample.id].float()
            assert found.shape == (len(sample.labels), *grid_size(image_size(sample.image)))
            assert found.min() >= 0
            assert found.sum(0).max() <= 1.001


def test_an_image_is_judged_by_the_classifier_that_has_not_learnt_from_it(
    tiny_set, artifacts, run_stage, round_two, tmp_path
) -> None:
    before = load_file(round_two["pixel-scores"] / PIXEL_SCORES)
    state = load_file(round_two["pixel-classifier"] / CLASSIFIER)
    # A classifier that learnt nothing in the place of fold 0's.
    state["weight"][0], state["bias"][0] = 0, 0
    save_file(state, tmp_path / CLASSIFIER)
    again = run_stage(infer_pixels, CONFIG, **{"irnet": artifacts["irnet"], "pixel-classifier": tmp_path})
    after = load_file(again / PIXEL_SCORES)
    changed = {id for id in before if not torch.equal(before[id], after[id])}
    assert changed == {sample.id for sample in tiny_set.samples if sample.labels and fold_of(sample.id, 2) == 0}
    assert 0 < len(changed) < len(before)


def test_what_most_images_show_corrects_an_image_whose_walk_was_wrong(tiny_set, tmp_path, monkeypatch) -> None:
    """One image of eight has classes 1 and 2 the wrong way round; the others teach what they look like."""
    rng = np.random.default_rng(0)
    (labelled, *_) = [sample for sample in tiny_set.samples if sample.labels]
    samples = tuple(replace(labelled, id=f"image{n}", labels=(0, 1)) for n in range(8))
    truth = np.zeros((8, 8), np.int64)
    truth[:, 3:5], truth[:, 5:] = 1, 2
    wrong = np.where(truth == 0, 0, 3 - truth)
    looks = {
        sample.id: torch.from_numpy(np.eye(3)[truth].transpose(2, 0, 1) + rng.normal(0, 0.1, (3, 8, 8))).float()
        for sample in samples
    }
    monkeypatch.setattr(pixels, "_features", lambda given, *_: ((s, [looks[s.id]], (64, 64)) for s in given))
    sure = {sample.id: wrong if sample.id == "image3" else truth for sample in samples}
    monkeypatch.setattr(pixels, "_sure_maps", lambda given, *_: (sure[s.id].astype(np.uint16) for s in given))
    job = Job(samples, tiny_set.classes, CONFIG, tmp_path, tmp_path)
    summary = train_pixels(job)
    assert summary["images"] == 8
    assert summary["taught"] == {0: 8, 1: 8, 2: 8}
    # An image's own fold is not among those that are counted: it may be alone with a class.
    counted = load_file(tmp_path / CLASSIFIER)["images"]
    in_fold = np.bincount([fold_of(sample.id, CONFIG.folds) for sample in samples], minlength=CONFIG.folds)
    assert (in_fold > 0).all()
    assert counted.tolist()[0][:3] == [8 - in_fold[0]] * 3
    infer_pixels(replace(job, inputs={"pixel-classifier": (tmp_path,)}))
    for found in load_file(tmp_path / PIXEL_SCORES).values():
        whole = torch.cat([1 - found.float().sum(0, keepdim=True), found.float()])
        assert (whole.argmax(0)[::2, ::2].numpy() == truth).mean() > 0.95


def test_a_class_of_one_fold_alone_is_known_to_none_of_its_images(tiny_set, tmp_path, monkeypatch) -> None:
    (labelled, *_) = [sample for sample in tiny_set.samples if sample.labels]
    ids = [f"image{n}" for n in range(60)]
    first, second = ([id for id in ids if fold_of(id, 2) == fold][:6] for fold in (0, 1))
    samples = tuple(replace(labelled, id=id, labels=(0,) if id in first else (1,)) for id in (*first, *second))
    truth = np.zeros((8, 8), np.int64)
    truth[:, 4:] = 1
    looks = torch.from_numpy(np.eye(2)[truth].transpose(2, 0, 1)).float()
    monkeypatch.setattr(pixels, "_features", lambda given, *_: ((s, [looks], (64, 64)) for s in given))
    monkeypatch.setattr(
        pixels, "_sure_maps", lambda given, *_: ((truth * (s.labels[0] + 1)).astype(np.uint16) for s in given)
    )
    config = CONFIG.model_copy(update={"least_images": 5})
    job = Job(samples, tiny_set.classes, config, tmp_path, tmp_path)
    train_pixels(job)
    assert load_file(tmp_path / CLASSIFIER)["images"][:, :3].tolist() == [[6, 0, 6], [6, 6, 0]]
    infer_pixels(replace(job, inputs={"pixel-classifier": (tmp_path,)}))
    # All are judged as objects, which six images of the other fold teach.
    assert not load_file(tmp_path / PIXEL_SCORES)
    assert set(load_file(tmp_path / OBJECT_SCORES)) == {*first, *second}


def test_labels_and_sure_labels_come_from_the_pixel_classifier_where_there_is_one(
    tiny_set, artifacts, run_stage, round_two, tmp_path
) -> None:
    scores = load_file(round_two["pixel-scores"] / PIXEL_SCORES)
    left = {}
    for id, maps in scores.items():
        left[id] = torch.zeros_like(maps)
        left[id][0, :, : maps.shape[2] // 2] = 0.6
    save_file(left, tmp_path / PIXEL_SCORES)
    inputs = {"walk": artifacts["walk"], "pixel-scores": tmp_path}
    out = run_stage(synthesize_labels, LabelsConfig(walk_power=0), **inputs)
    for sample in tiny_set.samples:
        labels = read_label_map(out / "SegmentationClass" / f"{sample.id}.png")
        sure = read_label_map(out / "SegmentationSure" / f"{sample.id}.png")
        objects = read_label_map(out / "SegmentationObject" / f"{sample.id}.png")
        if sample.labels:
            width = labels.shape[1]
            assert (labels[:, : width // 2 - 4] == sample.labels[0] + 1).all()
            assert (labels[:, width // 2 + 4 :] == 0).all()
            # 0.6 is more than the labels' threshold, 0.5, and less than the upper one of what is sure, 0.7.
            assert (sure[:, : width // 2 - 4] == 255).all()
            assert not objects[labels == 0].any()


def test_an_untagged_set_trains_a_classifier_that_nothing_asks(tiny_set, run_stage, artifacts, tmp_path) -> None:
    untagged = tuple(replace(sample, labels=()) for sample in tiny_set.samples)
    job = Job(
        untagged,
        tiny_set.classes,
        CONFIG,
        tmp_path,
        tmp_path,
        inputs={"irnet": (artifacts["irnet"],), "walk": (artifacts["walk"],)},
    )
    save_file({}, tmp_path / "semantic.safetensors")
    summary = train_pixels(replace(job, inputs=job.inputs | {"walk": (tmp_path,)}))
    assert list(summary["taught"]) == [0]
    net = PixelClassifier.from_state(load_file(tmp_path / CLASSIFIER))
    assert net.weight.isfinite().all()


def test_images_without_tags_are_scored_beside_a_second_round(tiny_set, artifacts, run_stage, round_two) -> None:
    assert any(not sample.labels and sample.semantic for sample in tiny_set.samples)
    inputs = {"walk": artifacts["walk"], "cams": artifacts["cams"], "pixel-scores": round_two["pixel-scores"]}
    labels = run_stage(synthesize_labels, LabelsConfig(), **inputs)
    out = run_stage(score_shard, ScoresConfig(), labels=labels, **inputs)
    with np.load(out / "scores.npz", allow_pickle=False) as scores:
        assert scores["confusion:walk"].sum() == scores["confusion:labels"].sum() > 0


def test_settings_that_no_run_can_have_are_refused() -> None:
    with pytest.raises(ValidationError, match="folds 1"):
        PixelsConfig(folds=1)
    with pytest.raises(ValidationError, match="taught_thresholds 'auto'"):
        PipelineConfig(pixels=PixelsConfig(folds=2))
    with pytest.raises(ValidationError, match="sure_pixel_thresholds"):
        LabelsConfig(pixel_threshold=0.8)


def test_labels_of_the_round_before_teach_the_next_one(tiny_set, tmp_path, monkeypatch) -> None:
    """Of class 1 the walk finds a corner alone, in every image; the next round learns from all that looks like it."""
    (labelled, *_) = [sample for sample in tiny_set.samples if sample.labels]
    samples = tuple(replace(labelled, id=f"image{n}", labels=(0,)) for n in range(8))
    truth = np.zeros((8, 8), np.int64)
    truth[2:6, 2:6] = 1
    rng = np.random.default_rng(0)
    looks = {
        sample.id: torch.from_numpy(np.eye(2)[truth].transpose(2, 0, 1) + rng.normal(0, 0.1, (2, 8, 8))).float()
        for sample in samples
    }
    corner = np.full((64, 64), VOID, np.uint16)
    corner[:16], corner[16:24, 16:24] = 0, 1
    monkeypatch.setattr(pixels, "_features", lambda given, *_: ((s, [looks[s.id]], (64, 64)) for s in given))
    monkeypatch.setattr(pixels, "_sure_maps", lambda given, *_: (corner for _ in given))
    image = np.kron(truth, np.ones((8, 8), np.int64))[..., None].repeat(3, 2).astype(np.uint8) * 200
    monkeypatch.setattr(pixels, "read_working_image", lambda *_: image)
    save_file({s.id: torch.full((1, 16, 16), 0.3) for s in samples}, tmp_path / "semantic.safetensors")
    # The walk is no evidence for either.
    config = CONFIG.model_copy(update={"taught_thresholds": (0.98, 1.0), "steps": 200})
    told = []
    job = Job(samples, tiny_set.classes, config, tmp_path, tmp_path, inputs={"walk": (tmp_path,)})
    job = replace(job, progress=lambda done, total, _="": told.append((done, total)))
    cells = {}
    for rounds in (1, 2, 3):
        told.clear()
        summary = train_pixels(replace(job, config=config.model_copy(update={"rounds": rounds})))
        cells[rounds] = summary["cells"]
        assert told[-1] == (told[0][1], told[0][1])
        assert [done for done, _ in told] == sorted({done for done, _ in told})
    # A corner of 1 cell and 16 of background; then all 64 cells, of which half of 100 at most are of one class.
    assert cells == {1: 8 * 17, 2: 8 * (48 + 16), 3: 8 * (48 + 16)}


def test_probabilities_are_averaged_over_scales(tiny_set, artifacts, run_stage, round_two) -> None:
    inputs = {"irnet": artifacts["irnet"], "pixel-classifier": round_two["pixel-classifier"]}
    found = {}
    for scales in ((1.0,), (1.5,), (1.0, 1.5)):
        out = run_stage(infer_pixels, CONFIG.model_copy(update={"scales": scales}), **inputs)
        found[scales] = load_file(out / PIXEL_SCORES)
    for id, both in found[1.0, 1.5].items():
        own, larger = found[(1.0,)][id].float(), found[(1.5,)][id].float()
        assert not torch.allclose(own, larger, atol=1e-3)
        assert torch.allclose(both.float(), (own + larger) / 2, atol=2e-3)
