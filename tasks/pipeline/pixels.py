"""Stages `pixel-classifier` and `pixel-scores`: a second round over the set, in which images correct each other.

The walk spreads what the attention maps found in an image, with their mistakes. Over the set mistakes differ, and what
is right recurs. So the pixels that the walk is sure of teach a linear classifier on the features of IRNet's frozen
backbone, and its probabilities, among the tags of an image, become the image's labels. The images are dealt into folds;
each is judged by the classifier that learnt from the other folds, so that no image confirms its own mistakes.

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
from tasks.pipeline.labels import semantic_rows, sure_labels
from tasks.pipeline.relations import background_of
from tasks.pipeline.score_maps import OBJECT_SCORES, PIXEL_SCORES, MapReader, grid_size, saliency_factors, save_maps
from tasks.pipeline.seeds.hints import hints_of, keep_known
from tasks.pipeline.settings import PixelsConfig
from tasks.pipeline.thresholds import taught_thresholds
from tasks.training.inference import batches
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
    features, values, owners = _gather_cells(job, config)
    folds = torch.tensor([fold_of(sample.id, config.folds) for sample in job.samples])
    others = folds[owners][None] != torch.arange(config.folds)[:, None]
    taught = taught_folds(values, others)
    net = PixelClassifier(config.folds, len(job.classes.values), features.shape[1])
    if len(values):
        _standardise(net, features)
    net.images.copy_(taught_images(values, owners, taught, len(job.classes.values)))
    net.object_images.copy_(taught_images((values > 0).long(), owners, others, 2)[:, 1])
    loss = _fit(net.to(job.device), features, values, torch.stack([taught, others]), config, job)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}, job.out / CLASSIFIER
    )
    images = {value: len(owners[values == value].unique()) for value in values.unique().tolist()}
    return {"images": len(owners.unique()), "cells": len(values), "loss": loss, "taught": images}


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
    for sample, features, size in _features(labelled, job, config):
        values, fold = [c + 1 for c in sample.labels], fold_of(sample.id, config.folds)
        if known[fold, values].all():
            maps[sample.id] = upsample_cells(net.probabilities(features, fold, values), grid_size(size))
        else:
            objects[sample.id] = upsample_cells(net.object_probability(features, fold), grid_size(size))
        done += 1
        job.progress(done, len(job.samples))
    save_maps(job.out / PIXEL_SCORES, maps)
    save_maps(job.out / OBJECT_SCORES, objects)
    return {}


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
    samples: list[Sample], job: Job, config: PixelsConfig
) -> Iterator[tuple[Sample, Float[Tensor, "d h8 w8"], tuple[int, int]]]:
    """Yield each image's features and its working size (H, W)."""
    backbone = prepare_inference(load_irnet(job.input("irnet"), job.device).backbone)
    as_tensor = lambda image: torch.tensor(image).permute(2, 0, 1)  # noqa: E731
    for batch, images in batches(samples, as_tensor, job.device, job.long_side):
        pixels = torch.stack(images).to(job.device)
        with autocast(job.device, config.precision):
            found = cell_features(backbone, pixels)
        for sample, features in zip(batch, found, strict=True):
            yield sample, features, (pixels.shape[2], pixels.shape[3])


def _gather_cells(job: Job, config: PixelsConfig) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return sure cells of some images: features in half precision, class values, and positions of their images."""
    rows = np.unique(np.linspace(0, len(job.samples) - 1, config.max_images).round().astype(int))
    samples = [job.samples[row] for row in rows]
    position = {job.samples[row].id: int(row) for row in rows}
    sure = dict(zip(position, _sure_maps(samples, job, config), strict=True))
    features, values, owners = [], [], []
    for done, (sample, found, _) in enumerate(_features(samples, job, config), start=1):
        height, width = found.shape[1:]
        cells = cv2.resize(sure[sample.id], (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        cells = cells.ravel().astype(np.int64)
        rng = np.random.default_rng([job.seed, position[sample.id]])
        said = _said_cells(sample, job, (height, width))
        others = sample_cells(np.where(said == VOID, cells, VOID), config.cells, rng)
        cells = np.where(said == VOID, cells, said)
        taught = sample_cells(said, config.cells * config.hint_weight, rng)
        chosen = torch.from_numpy(np.concatenate([others, taught]))
        features.append(found.flatten(1)[:, chosen.to(found.device)].T.half().cpu())
        values.append(torch.from_numpy(cells)[chosen])
        owners.append(torch.full((len(chosen),), position[sample.id]))
        job.progress(done, len(samples) + config.steps, "features")
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
    factors = saliency_factors(job)
    file_of = {}
    for folder in job.inputs["walk"]:
        with MapReader(folder / "semantic.safetensors") as maps:
            file_of |= dict.fromkeys(maps.names, folder / "semantic.safetensors")

    def sure_map(sample: Sample) -> NDArray[np.integer]:
        image = read_working_image(sample.image, job.long_side)
        values = np.array([0, *(c + 1 for c in sample.labels)], np.uint16)
        if sample.id not in file_of:
            return np.full(image.shape[:2], background_of(sample), values.dtype)
        with MapReader(file_of[sample.id], factors) as maps:
            scores = maps[sample.id]
        rows = [semantic_rows(scores, (image.shape[0], image.shape[1]), threshold) for threshold in (low, high)]
        first, second = refine_many(image, rows, [len(values)] * 2, iterations=config.crf_iterations)
        sure = sure_labels(first, second, values)
        sure[sure == 0] = background_of(sample)
        return keep_known(sure, sample, hints_of(sample, job.classes))

    return map_in_threads(sure_map, samples, job.num_threads)


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
    config: PixelsConfig,
    job: Job,
) -> float | None:
    """Train all folds at once; return the last batch's loss, None where there is nothing to learn from.

    Args:
        features: Of cells.
        values: Their classes.
        teaches: Which cells teach which fold its values, and objects and background.
        config: Of the training.
        job: Of the stage.
    """
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
        if step % 10 == 0 or step == config.steps:
            job.progress(
                min(len(job.samples), config.max_images) + step, len(job.samples) + config.steps, f"loss {loss:.3g}"
            )
    return round(loss.item() / config.folds, 5)
