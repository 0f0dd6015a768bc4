"""Stages `pixel-classifier` and `pixel-scores`: a second round over the set, in which images correct each other.

The walk spreads what the attention maps found in an image, with their mistakes. Over the set mistakes differ, and what
is right recurs. So the pixels that the walk is sure of teach a linear classifier on the features of IRNet's frozen
backbone, and its probabilities, among the tags of an image, become the image's labels. The images are dealt into folds;
each is judged by the classifier that learnt from the other folds, so that no image confirms its own mistakes.

Then the labels that come of it are better than the walk's, so they teach in its place (`pixels.rounds`). Again no image
confirms its own mistakes: what teaches a fold are labels of other folds.

Where few other images have a class, all classes together still teach what is an object and what is background: a
logistic regression beside the classifier, which judges the images with such a class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from data.concurrency import map_in_threads
from data.dataset import VOID, Sample
from kernels.crf import refine_many
from models.inference import prepare_inference
from models.pixels import PixelClassifier, cell_features
from tasks.engine.job import Job
from tasks.pipeline.labels import score_levels, semantic_rows, sure_labels
from tasks.pipeline.relations import background_of
from tasks.pipeline.score_maps import (
    OBJECT_SCORES,
    PIXEL_SCORES,
    Factors,
    MapReader,
    grid_size,
    saliency_factors,
    saliency_prior,
    save_maps,
    strongest,
    upsample,
)
from tasks.pipeline.second_round import by_walk, with_evidence
from tasks.pipeline.seeds.hints import hints_of, keep_known
from tasks.pipeline.settings import PixelsConfig
from tasks.pipeline.thresholds import taught_thresholds, walk_threshold
from tasks.training.inference import Pyramid, batches
from tasks.training.precision import autocast
from tasks.training.saving import load_irnet
from tasks.training.working_size import read_working_image

CLASSIFIER = "classifier.safetensors"


def train_pixels(job: Job) -> dict[str, Any]:
    """Write the pixel classifier of every fold.

    Summary: "images" and "cells" that it learnt from, "loss" at the end, and "taught", class value -> images that have
    sure cells of it.
    """
    config = job.config
    assert isinstance(config, PixelsConfig)
    rows = np.unique(np.linspace(0, len(job.samples) - 1, config.max_images).round().astype(int))
    samples = [job.samples[row] for row in rows]
    progress = _Progress(job, config.rounds * (len(samples) + config.steps) + (config.rounds - 1) * len(samples))
    net, summary = _teach(samples, _sure_maps(samples, job, config), job, config, progress)
    for _ in range(config.rounds - 1):
        net, summary = _teach(samples, _judged_maps(net, samples, job, config, progress), job, config, progress)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}, job.out / CLASSIFIER
    )
    return summary


class _Progress:
    """Steps of all rounds, each told where it has a note.

    Args:
        job: To whom.
        total: Steps in the end.
    """

    def __init__(self, job: Job, total: int) -> None:
        self._job, self._total, self._done = job, total, 0

    def advance(self, steps: int, note: str | None) -> None:
        """Count steps."""
        self._done += steps
        if note is not None:
            self._job.progress(self._done, self._total, note)


def _teach(
    samples: list[Sample], maps: Iterator[NDArray[np.integer]], job: Job, config: PixelsConfig, progress: _Progress
) -> tuple[PixelClassifier, dict[str, Any]]:
    """Return a classifier that images teach by maps of class values, void where they teach nothing, and its summary."""
    features, values, owners = _gather_cells(samples, maps, job, config, progress)
    folds = torch.tensor([fold_of(sample.id, config.folds) for sample in samples])
    others = folds[owners][None] != torch.arange(config.folds)[:, None]
    taught = taught_folds(values, others)
    net = PixelClassifier(config.folds, len(job.classes.values), features.shape[1])
    if len(values):
        _standardise(net, features)
    net.images.copy_(taught_images(values, owners, others, len(job.classes.values)))
    net.object_images.copy_(taught_images((values > 0).long(), owners, others, 2)[:, 1])
    loss = _fit(net.to(job.device), features, values, torch.stack([taught, others]), job, progress)
    images = {value: len(owners[values == value].unique()) for value in values.unique().tolist()}
    return net, {"images": len(owners.unique()), "cells": len(values), "loss": loss, "taught": images}


def infer_pixels(job: Job) -> dict[str, Any]:
    """Write, for every image that has labels, the probabilities of its classes at stride 4.

    Where too few other images have taught one of its classes, what is written is the probability of any class. Where
    too few have taught that, nothing is: its labels stay the walk's.
    """
    config = job.config
    assert isinstance(config, PixelsConfig)
    net = PixelClassifier.from_state(load_file(job.input("pixel-classifier") / CLASSIFIER)).to(job.device)
    known, knows_objects = net.images >= config.least_images, net.object_images >= config.least_images
    labelled = [s for s in job.samples if s.labels and knows_objects[fold_of(s.id, config.folds)]]
    done, maps, objects = len(job.samples) - len(labelled), {}, {}
    for sample, views, size in _features(labelled, job, config, config.scales):
        fold = fold_of(sample.id, config.folds)
        if known[fold, [c + 1 for c in sample.labels]].all():
            maps[sample.id] = _judge(net, sample, views, size)
        else:
            objects[sample.id] = _mean_on_grid([net.object_probability(each, fold) for each in views], size)
        done += 1
        job.progress(done, len(job.samples))
    save_maps(job.out / PIXEL_SCORES, maps)
    save_maps(job.out / OBJECT_SCORES, objects)
    return {}


def _judge(
    net: PixelClassifier, sample: Sample, views: list[Float[Tensor, "d _ _"]], size: tuple[int, int]
) -> Float[Tensor, "k h4 w4"]:
    """Return the probabilities of an image's classes by the classifier that has not learnt from it."""
    fold, values = fold_of(sample.id, len(net.weight)), [c + 1 for c in sample.labels]
    return _mean_on_grid([net.probabilities(each, fold, values) for each in views], size)


def _mean_on_grid(views: list[Float[Tensor, "k _ _"]], size: tuple[int, int]) -> Float[Tensor, "k h4 w4"]:
    """Return the mean of maps of stride 8 of an image of a size (H, W) at several scales, at stride 4."""
    grid, own = grid_size(size), (-(-size[0] // 8), -(-size[1] // 8))
    brought = [
        upsample_cells(each, grid)
        if each.shape[1:] == own
        else F.interpolate(each[None], grid, mode="bilinear", align_corners=False)[0]
        for each in views
    ]
    return torch.stack(brought).mean(dim=0)


def fold_of(sample_id: str, num_folds: int) -> int:
    """Return the fold of an image; it depends on the image's id alone, so that new images move no other."""
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()) % num_folds


def taught_folds(values: Int[Tensor, " n"], others: Bool[Tensor, "f n"]) -> Bool[Tensor, "f n"]:
    """Return which cells teach the classifier of which fold: those of the other folds.

    A class that has no cell in the other folds is taught by its own; else its images would lose it.

    Args:
        values: Classes of the cells.
        others: Whether a cell is of another fold than that.
    """
    taught = others.clone()
    for fold, chosen in enumerate(others):
        taught[fold] |= ~torch.isin(values, values[chosen].unique())
    return taught


def taught_images(
    values: Int[Tensor, " n"], owners: Int[Tensor, " n"], taught: Bool[Tensor, "f n"], num_values: int
) -> Int[Tensor, "f v"]:
    """Return how many images have cells of each value that teach each fold."""
    counts = torch.zeros(len(taught), num_values, dtype=torch.long)
    for fold, chosen in enumerate(taught):
        pairs = torch.stack([values[chosen], owners[chosen]]).unique(dim=1)
        counts[fold] = torch.bincount(pairs[0], minlength=num_values)
    return counts


def upsample_cells(maps: Float[Tensor, "k h8 w8"], grid: tuple[int, int]) -> Float[Tensor, "k h4 w4"]:
    """Return maps of stride 8 on the grid of stride 4 (h, w): ceil(H / 4) is at most twice ceil(H / 8)."""
    return F.interpolate(maps[None], scale_factor=2, mode="bilinear", align_corners=False)[0, :, : grid[0], : grid[1]]


def _features(
    samples: list[Sample], job: Job, config: PixelsConfig, scales: tuple[float, ...] = (1.0,)
) -> Iterator[tuple[Sample, list[Float[Tensor, "d _ _"]], tuple[int, int]]]:
    """Yield each image's features at each scale, and its working size (H, W)."""
    backbone = prepare_inference(load_irnet(job.input("irnet"), job.device).backbone)
    for batch, pyramids in batches(samples, lambda image: Pyramid.of(image, scales), job.device, job.long_side):
        found = []
        for views in zip(*(pyramid.scales for pyramid in pyramids), strict=True):
            with autocast(job.device, config.precision):
                found.append(cell_features(backbone, torch.stack(views).to(job.device)))
        for sample, pyramid, features in zip(batch, pyramids, zip(*found, strict=True), strict=True):
            yield sample, list(features), pyramid.size


def _gather_cells(
    samples: list[Sample], maps: Iterator[NDArray[np.integer]], job: Job, config: PixelsConfig, progress: _Progress
) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return sure cells of some images: features in half precision, class values, and places of their images."""
    place = {sample.id: number for number, sample in enumerate(samples)}
    row = {sample.id: number for number, sample in enumerate(job.samples)}
    map_of = dict(zip(place, maps, strict=True))
    features, values, owners = [], [], []
    # Images come in the order of their sizes.
    for sample, (found,), _ in _features(samples, job, config):
        height, width = found.shape[1:]
        cells = cv2.resize(map_of[sample.id], (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        cells = cells.ravel().astype(np.int64)
        rng = np.random.default_rng([job.seed, row[sample.id]])
        said = _said_cells(sample, job, (height, width))
        others = sample_cells(np.where(said == VOID, cells, VOID), config.cells, rng)
        cells = np.where(said == VOID, cells, said)
        taught = sample_cells(said, config.cells * config.hint_weight, rng)
        chosen = torch.from_numpy(np.concatenate([others, taught]))
        features.append(found.flatten(1)[:, chosen.to(found.device)].T.half().cpu())
        values.append(torch.from_numpy(cells)[chosen])
        owners.append(torch.full((len(chosen),), place[sample.id]))
        progress.advance(1, "features")
    return torch.cat(features), torch.cat(values), torch.cat(owners)


def _said_cells(sample: Sample, job: Job, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Return what a person said of each cell of an image, void where nothing."""
    nothing = np.full(grid, VOID, np.int64)
    return keep_known(nothing, sample, hints_of(sample, job.classes)).ravel()


def sample_cells(cells: NDArray[np.integer], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return positions of cells that teach: of each value but void at most half of `most`, drawn at random."""
    chosen = [np.zeros(0, np.int64)]
    for value in np.unique(cells[cells != VOID]):
        of_value = np.flatnonzero(cells == value)
        chosen.append(np.sort(rng.choice(of_value, min(len(of_value), -(-most // 2)), replace=False)))
    return np.concatenate(chosen)


def _sure_maps(samples: list[Sample], job: Job, config: PixelsConfig) -> Iterator[NDArray[np.integer]]:
    """Yield each image's class values where the walk is sure, and void elsewhere, at its working size."""
    low, high = taught_thresholds(job, config)
    walked = _WalkedScores(job, saliency_factors(job))

    def sure_map(sample: Sample) -> NDArray[np.integer]:
        image = read_working_image(sample.image, job.long_side)
        values = _values_of(sample)
        scores = walked.of(sample)
        if scores is None:
            return np.full(image.shape[:2], background_of(sample), values.dtype)
        rows = [semantic_rows(scores, (image.shape[0], image.shape[1]), threshold) for threshold in (low, high)]
        first, second = refine_many(image, rows, [len(values)] * 2, iterations=config.crf_iterations)
        return _with_what_is_known(sure_labels(first, second, values), sample, job)

    return map_in_threads(sure_map, samples, job.num_threads)


def _judged_maps(
    net: PixelClassifier, samples: list[Sample], job: Job, config: PixelsConfig, progress: _Progress
) -> Iterator[NDArray[np.integer]]:
    """Yield each image's labels by the classifier that has not learnt from it, with the walk and saliency as evidence.

    Of images that too few others teach, what the walk is sure of.
    """
    threshold, prior, walked = walk_threshold(job, config), saliency_prior(job), _WalkedScores(job)
    known = net.images >= config.least_images
    by_others = [s for s in samples if s.labels and known[fold_of(s.id, config.folds), [c + 1 for c in s.labels]].all()]
    judged = {}
    for sample, views, size in _features(by_others, job, config):
        judged[sample.id] = _judge(net, sample, views, size).half().cpu()
        progress.advance(1, "labels of the round before")
    left = [sample for sample in samples if sample.id not in judged]
    progress.advance(len(left), None)
    sure = dict(zip((sample.id for sample in left), _sure_maps(left, job, config), strict=True))

    def judged_map(sample: Sample) -> NDArray[np.integer]:
        scores = walked.of(sample)
        if sample.id in sure or scores is None:
            return sure[sample.id]
        found = by_walk(judged[sample.id].float(), scores, threshold)
        if prior is not None:
            found = with_evidence(found, prior.evidence(sample.id))
        image = read_working_image(sample.image, job.long_side)
        full = upsample(found, (image.shape[0], image.shape[1]))
        rows = strongest(score_levels(full, by_pixels=True), 0.5)[0].numpy()
        values = _values_of(sample)
        (rows,) = refine_many(image, [rows], [len(values)], iterations=config.crf_iterations)
        return _with_what_is_known(sure_labels(rows, rows, values), sample, job)

    return map_in_threads(judged_map, samples, job.num_threads)


def _values_of(sample: Sample) -> NDArray[np.uint16]:
    return np.array([0, *(c + 1 for c in sample.labels)], np.uint16)


def _with_what_is_known(labels: NDArray[np.integer], sample: Sample, job: Job) -> NDArray[np.integer]:
    """Return labels whose background is void where tags are incomplete, with what a person said of the image."""
    labels[labels == 0] = background_of(sample)
    return keep_known(labels, sample, hints_of(sample, job.classes))


class _WalkedScores:
    """Walked scores of all shards.

    Args:
        job: Has the input `walk`.
        factors: What they are multiplied by.
    """

    def __init__(self, job: Job, factors: Factors | None = None) -> None:
        self._factors, self._file_of = factors, {}
        for folder in job.inputs["walk"]:
            with MapReader(folder / "semantic.safetensors") as maps:
                self._file_of |= dict.fromkeys(maps.names, folder / "semantic.safetensors")

    def of(self, sample: Sample) -> Float[Tensor, "k h w"] | None:
        """Return those of an image's classes; None where nothing was walked."""
        if sample.id not in self._file_of:
            return None
        with MapReader(self._file_of[sample.id], self._factors) as maps:
            return maps[sample.id]


def _standardise(net: PixelClassifier, features: Float[Tensor, "n d"]) -> None:
    # In parts: all cells in single precision would double the memory.
    total, squares = (torch.zeros(features.shape[1], dtype=torch.float64) for _ in range(2))
    for part in features.split(4096):
        total += part.double().sum(dim=0)
        squares += part.double().square().sum(dim=0)
    mean = total / len(features)
    net.mean.copy_(mean)
    net.std.copy_((squares / len(features) - mean.square()).clamp(min=0).sqrt() + 1e-3)


def _fit(
    net: PixelClassifier,
    features: Float[Tensor, "n d"],
    values: Int[Tensor, " n"],
    teaches: Bool[Tensor, "2 f n"],
    job: Job,
    progress: _Progress,
) -> float | None:
    """Train all folds at once; return the last batch's loss, None where there is nothing to learn from.

    Args:
        features: Of cells.
        values: Their classes.
        teaches: Which cells teach which fold its values, and objects and background.
        job: Of the stage.
        progress: Of the stage.
    """
    config = job.config
    assert isinstance(config, PixelsConfig)
    if not len(values):
        return None
    rng = np.random.default_rng(job.seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / config.steps)
    order = rng.permutation(len(values))
    begin, loss = 0, torch.zeros(())
    for step in range(1, config.steps + 1):
        if begin >= len(order):
            order, begin = rng.permutation(len(values)), 0
        batch = torch.from_numpy(order[begin : begin + config.batch_size])
        begin += config.batch_size
        to_device = partial(Tensor.to, device=job.device)
        loss = net.loss(to_device(features[batch]).float(), to_device(values[batch]), *to_device(teaches[:, :, batch]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        decay.step()
        progress.advance(1, f"loss {loss:.3g}" if step % 10 == 0 else None)
    return round(loss.item() / config.folds, 5)
