"""Stages `thresholds` and `label-thresholds`: background thresholds of a set, from its images and scores alone.

The threshold is Otsu's, with the photograph in the histogram's place. At each candidate the score maps become masks, a
dense CRF brings these to the image's edges, and what counts is the share of the variance of the image's colours that
lies between foreground and background. An object differs from its surroundings; a mask that leaves half of it out, or
takes in what is around it, mixes the two. The mean over some images is highest at the threshold for the set. No ground
truth is looked at.

Below and above it are the thresholds of what is sure. They are found by area, so that they follow the distribution of
the scores: where scores fall off slowly they lie further apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import Sample
from kernels.crf import refine_many
from tasks.job import Job
from tasks.settings import LabelsConfig, RelationsConfig
from tasks.stages.score_maps import MapReader, strongest, upsample
from tasks.working_size import read_working_image

CANDIDATES = tuple(round(0.05 * k, 2) for k in range(1, 17))
# Where the colours are compared, a pixel stands for a square of this side.
CELL = 4
# Confident foreground and background: the area above the threshold is this share of that above the set's own.
CONFIDENT_AREA, POSSIBLE_AREA = 0.85, 1.6
# The same of the labels that networks are trained on.
SURE_AREA, MAYBE_AREA = 0.75, 1.3
# Contrasts above this share of the highest are as good.
PLATEAU = 0.97
FILE = "thresholds.json"


@dataclass(frozen=True)
class Curves:
    """What a set of images says of each candidate threshold.

    Attributes:
        contrast: Share of the colours' variance that lies between foreground and background, mean over the images.
        area: Share of the pixels above the threshold, mean over the images.
    """

    contrast: tuple[float, ...]
    area: tuple[float, ...]

    @property
    def threshold(self) -> float:
        """The middle of the candidates about the highest contrast that have nearly as much."""
        high = np.asarray(self.contrast) >= PLATEAU * max(self.contrast)
        best = int(np.argmax(self.contrast))
        first = best - int(np.argmin([*high[best::-1], False])) + 1
        last = best + int(np.argmin([*high[best:], False])) - 1
        return CANDIDATES[(first + last) // 2]

    def at_area(self, ratio: float, of: float | None = None) -> float:
        """Return the threshold above which lies `ratio` times the area above another, within the candidates.

        Args:
            ratio: Of the areas.
            of: The other threshold; the set's own by default.
        """
        wanted = ratio * float(np.interp(self.threshold if of is None else of, CANDIDATES, self.area))
        # np.interp wants ascending positions, and areas fall.
        found = np.interp(wanted, self.area[::-1], CANDIDATES[::-1])
        return round(float(np.clip(found, CANDIDATES[0], CANDIDATES[-1])), 3)


def choose_thresholds(job: Job) -> dict[str, Any]:
    """Write the thresholds of CAMs between which pixels are unsure: "foreground", "background" and the set's own.

    A number of the settings stays; what is chosen keeps on its side of it.
    """
    config = job.config
    assert isinstance(config, RelationsConfig)
    curves = _curves(job, "cams", "cams.safetensors", config.threshold_images, config.crf_iterations)
    foreground, background = config.foreground_threshold, config.background_threshold
    if foreground == "auto":
        least = 0.0 if background == "auto" else background
        foreground = max(curves.at_area(CONFIDENT_AREA), least)
    if background == "auto":
        background = min(curves.at_area(POSSIBLE_AREA), foreground)
    return _write(job, curves, foreground=foreground, background=background, threshold=curves.threshold)


def choose_label_thresholds(job: Job) -> dict[str, Any]:
    """Write the thresholds of walked scores: "background", and "sure", the two between which labels are unsure."""
    config = job.config
    assert isinstance(config, LabelsConfig)
    iterations = config.crf_iterations or 5
    curves = _curves(job, "walk", "semantic.safetensors", config.threshold_images, iterations, relative=True)
    background, sure = config.background_threshold, config.sure_thresholds
    if background == "auto":
        background = curves.threshold
    if sure == "auto":
        sure = _sure(curves, background)
    return _write(job, curves, background=background, sure=sure)


def relation_thresholds(config: RelationsConfig, folder: Path) -> RelationsConfig:
    """Return settings whose thresholds are numbers: their own, or what stage `thresholds` wrote into a folder."""
    found = json.loads((folder / FILE).read_text())
    names = ("foreground", "background")
    chosen = {f"{n}_threshold": found[n] for n in names if getattr(config, f"{n}_threshold") == "auto"}
    return config.model_copy(update=chosen)


def label_thresholds(config: LabelsConfig, folder: Path) -> LabelsConfig:
    """Return settings whose thresholds are numbers: their own, or what stage `label-thresholds` wrote into a folder.

    The folder may be of a run with other settings: what is sure lies about the background threshold that counts now.
    """
    found = json.loads((folder / FILE).read_text())
    background, sure = config.background_threshold, config.sure_thresholds
    if background == "auto":
        background = found["background"]
    if sure == "auto":
        sure = _sure(Curves(tuple(found["contrast"]), tuple(found["area"])), background)
    return config.model_copy(update={"background_threshold": background, "sure_thresholds": sure})


def _sure(curves: Curves, background: float) -> tuple[float, float]:
    """Return the thresholds between which labels are unsure, about that of the labels, in (0, 1]."""
    low, high = curves.at_area(MAYBE_AREA, background), curves.at_area(SURE_AREA, background)
    return min(low, round(0.9 * background, 4)), max(high, round(background + 0.1 * (1 - background), 4))


def curves_of(
    images: Sequence[Callable[[], NDArray[np.uint8]]],
    scores: Sequence[Float[Tensor, "k h w"]],
    *,
    iterations: int,
    progress: Callable[..., None] = Job.progress,
) -> Curves:
    """Measure all candidate thresholds on images.

    Args:
        images: Each returns an RGB image [H, W, 3].
        scores: Their classes' maps at stride 4, values in [0, 1].
        iterations: Of the CRF.
        progress: Called as `progress(done, total)`.
    """
    contrasts, areas = [], []
    for done, (load, maps) in enumerate(zip(images, scores, strict=True), start=1):
        image = load()
        full = upsample(maps, (image.shape[0], image.shape[1]))
        masks = [strongest(full, threshold)[0].numpy() for threshold in CANDIDATES]
        refined = refine_many(image, masks, [len(maps) + 1] * len(masks), iterations=iterations)
        colours = _colours(image)
        contrasts.append([_contrast(colours, mask) for mask in refined])
        areas.append([float((mask > 0).mean()) for mask in masks])
        progress(done, len(images))
    return Curves(tuple(np.mean(contrasts, axis=0).round(5)), tuple(np.mean(areas, axis=0).round(5)))


def _curves(job: Job, stage: str, file: str, num_images: int, iterations: int, *, relative: bool = False) -> Curves:
    """Measure on images spread over the set; with `relative` maps are divided by the image's highest score."""
    folders = job.inputs[stage]
    by_id = {sample.id: sample for sample in job.samples}
    places: list[tuple[Sample, Path]] = []
    for folder in folders:
        with MapReader(folder / file) as maps:
            places += [(by_id[name], folder) for name in maps.names if name in by_id]
    places.sort(key=lambda place: place[0].id)
    if not places:
        return Curves((0.0,) * len(CANDIDATES), (0.0,) * len(CANDIDATES))
    rows = np.unique(np.linspace(0, len(places) - 1, num_images).round().astype(int))
    images, scores = [], []
    for row in rows:
        sample, folder = places[row]
        with MapReader(folder / file) as maps:
            found = maps[sample.id]
        scores.append(found / found.max().clamp(min=1e-12) if relative else found)
        images.append(lambda path=sample.image: read_working_image(path, job.long_side))
    return curves_of(images, scores, iterations=iterations, progress=job.progress)


def _colours(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the image's colours [H / CELL, W / CELL, 3] in CIE Lab."""
    size = (max(1, image.shape[1] // CELL), max(1, image.shape[0] // CELL))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)


def _contrast(colours: NDArray[np.float32], mask: NDArray[np.integer]) -> float:
    """Return the share of the colours' variance between the mask's foreground and the rest, in [0, 1]."""
    size = (colours.shape[1], colours.shape[0])
    inside = cv2.resize((mask > 0).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    share = float(inside.mean())
    total = float(colours.reshape(-1, 3).var(axis=0).sum())
    if not 0 < share < 1 or total == 0:
        return 0.0
    between = colours[inside].mean(axis=0) - colours[~inside].mean(axis=0)
    return share * (1 - share) * float((between**2).sum()) / total


def _write(job: Job, curves: Curves, **thresholds: Any) -> dict[str, Any]:
    document = {**thresholds, "contrast": curves.contrast, "area": curves.area}
    (job.out / FILE).write_text(json.dumps(document))
    return thresholds
