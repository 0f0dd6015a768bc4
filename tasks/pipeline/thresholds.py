"""Stages `thresholds` and `label-thresholds`: background thresholds of a set, from its images and scores alone.

CAMs: the threshold is Otsu's, with the photograph in the histogram's place. At each candidate the maps become masks, a
dense CRF brings these to the image's edges, and what counts is the share of the variance of the image's colours that
lies between foreground and background. An object differs from its surroundings; a mask that leaves half of it out, or
takes in what is around it, mixes the two. The mean over some images is highest about the threshold for the set. Where
it hardly depends on the threshold, as with maps that find little, the ends of the range have no claim:
`ends_weigh_less`.

Walked scores: a walk spreads scores as far as boundaries let it, so their colours say less. The threshold is the one at
which their masks agree most with those of the CAMs at the CAMs' own: the mean over some images of intersection over
union. Of few images it is drawn towards the usual one: `steadied`. No ground truth is looked at.

Below and above it are the thresholds of what is sure. They are found by area, so that they follow the distribution of
the scores: where scores fall off slowly they lie further apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import Sample
from kernels.crf import refine_many
from tasks.engine.job import Job
from tasks.pipeline.score_maps import Factors, MapReader, saliency_factors, strongest, upsample
from tasks.pipeline.settings import LabelsConfig, PixelsConfig, RelationsConfig
from tasks.training.working_size import read_working_image

CANDIDATES = tuple(round(0.05 * k, 2) for k in range(1, 20))
# Where the colours are compared, a pixel stands for a square of this side.
CELL = 4
# Confident foreground and background: the area above the threshold is this share of that above the set's own.
CONFIDENT_AREA, POSSIBLE_AREA = 0.85, 1.6
# The same of the labels that networks are trained on.
SURE_AREA, MAYBE_AREA = 0.75, 1.3
# How much sharper than merits the weights of candidates are: see `Curves.threshold`.
MERIT_POWER = 64
# How much less the ends of the range weigh than its middle, see `ends_weigh_less`.
MIDDLE = 0.25
# Of few images the agreement is mostly chance: beside them so many others count that have the usual threshold of walked
# scores, fewer and fewer up to a number of images that need none; see `steadied`.
OTHERS, USUAL, ENOUGH = 8, 0.45, 32
FILE = "thresholds.json"
LoadImage = Callable[[], NDArray[np.uint8]]
Item = TypeVar("Item")
Progress = Callable[[int, int], None]


class MapFile(NamedTuple):
    """A stage's file of score maps."""

    stage: str
    name: str


CAMS, WALK = MapFile("cams", "cams.safetensors"), MapFile("walk", "semantic.safetensors")


@dataclass(frozen=True)
class Curves:
    """What a set of images says of each candidate threshold.

    Attributes:
        merit: Of the threshold, mean over the images.
        area: Share of the pixels above the threshold, mean over the images.
    """

    merit: tuple[float, ...]
    area: tuple[float, ...]

    @property
    def threshold(self) -> float:
        """The candidate nearest to the mean of all, each weighted by a power of its merit.

        The best one alone would be noise where many are nearly as good, above all with few images.
        """
        weights = (np.asarray(self.merit) / max(*self.merit, 1e-12)).clip(min=0) ** MERIT_POWER
        centre = float(np.average(CANDIDATES, weights=weights if weights.sum() else None))
        return CANDIDATES[int(np.abs(np.asarray(CANDIDATES) - centre).argmin())]

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
    curves = _cam_curves(job, config.threshold_images, config.crf_iterations)
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
    if "thresholds" in job.inputs:
        cam_threshold = float(json.loads((job.input("thresholds") / FILE).read_text())["threshold"])
    else:
        cam_threshold = _cam_curves(job, config.threshold_images, iterations).threshold
    chosen = _choose_images(job, WALK, config.threshold_images)
    curves = agreement_curves(
        chosen.images, chosen.maps(WALK), chosen.maps(CAMS), cam_threshold, iterations=iterations, progress=job.progress
    )
    background, sure = config.background_threshold, config.sure_thresholds
    if background == "auto":
        background = steadied(curves.threshold, len(chosen.images))
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
        sure = _sure(Curves(tuple(found["merit"]), tuple(found["area"])), background)
    return config.model_copy(update={"background_threshold": background, "sure_thresholds": sure})


def taught_thresholds(job: Job, config: PixelsConfig) -> tuple[float, float]:
    """Return the two thresholds between which walked scores teach nothing, as numbers."""
    if config.taught_thresholds != "auto":
        return config.taught_thresholds
    low, high = json.loads((job.input("label-thresholds") / FILE).read_text())["sure"]
    return low, high


def walk_threshold(job: Job, config: PixelsConfig) -> float:
    """Return the background threshold of walked scores: the set's own, else the middle of those that teach nothing."""
    if "label-thresholds" in job.inputs:
        return float(json.loads((job.input("label-thresholds") / FILE).read_text())["background"])
    return sum(taught_thresholds(job, config)) / 2


def _sure(curves: Curves, background: float) -> tuple[float, float]:
    """Return the thresholds between which labels are unsure, about that of the labels, in (0, 1]."""
    low, high = curves.at_area(MAYBE_AREA, background), curves.at_area(SURE_AREA, background)
    return min(low, round(0.9 * background, 4)), max(high, round(background + 0.1 * (1 - background), 4))


def contrast_curves(
    images: Sequence[LoadImage],
    scores: Iterable[Float[Tensor, "k h w"]],
    *,
    iterations: int,
    progress: Progress = Job.progress,
) -> Curves:
    """Measure the colours' contrast at all candidate thresholds.

    Args:
        images: Each returns an RGB image [H, W, 3].
        scores: Their classes' maps at stride 4, values in [0, 1].
        iterations: Of the CRF.
        progress: Called as `progress(done, total)`.
    """
    contrasts, areas = [], []
    for done, (load, maps) in enumerate(zip(images, scores, strict=True), start=1):
        image = load()
        masks = masks_at(maps, image, CANDIDATES)
        refined = refine_many(image, masks, [len(maps) + 1] * len(masks), iterations=iterations)
        colours = _colours(image)
        contrasts.append([_contrast(colours, mask) for mask in refined])
        areas.append([float((mask > 0).mean()) for mask in masks])
        progress(done, len(images))
    return Curves(ends_weigh_less(np.array(_rounded(contrasts))), _rounded(areas))


def agreement_curves(
    images: Sequence[LoadImage],
    scores: Iterable[Float[Tensor, "k h w"]],
    cams: Iterable[Float[Tensor, "k h w"]],
    cam_threshold: float,
    *,
    iterations: int,
    progress: Progress = Job.progress,
) -> Curves:
    """Measure how far masks agree with those of CAMs, at all candidate thresholds.

    Args:
        images: Each returns an RGB image [H, W, 3].
        scores: Walked maps of their classes at stride 4, of any scale.
        cams: The CAMs of the same classes, values in [0, 1].
        cam_threshold: Of the CAMs.
        iterations: Of the CRF.
        progress: Called as `progress(done, total)`.
    """
    agreements, areas = [], []
    for done, (load, maps, cam) in enumerate(zip(images, scores, cams, strict=True), start=1):
        image = load()
        masks = masks_at(maps / maps.max().clamp(min=1e-12), image, CANDIDATES)
        both = [*masks, *masks_at(cam, image, (cam_threshold,))]
        *refined, wanted = refine_many(image, both, [len(maps) + 1] * len(both), iterations=iterations)
        agreements.append([overlap(mask > 0, wanted > 0) for mask in refined])
        areas.append([float((mask > 0).mean()) for mask in masks])
        progress(done, len(images))
    return Curves(_rounded(agreements), _rounded(areas))


def steadied(threshold: float, num_images: int) -> float:
    """Return the candidate nearest to a threshold of walked scores that few images chose, drawn towards `USUAL`.

    The mean of n images' threshold and of `OTHERS` (1 - n / `ENOUGH`) images with the usual one; from `ENOUGH` images
    on the threshold itself. `docs/any_set.md` says what it gives.
    """
    others = OTHERS * max(0.0, 1 - num_images / ENOUGH)
    mean = (num_images * threshold + others * USUAL) / (num_images + others)
    return CANDIDATES[int(np.abs(np.asarray(CANDIDATES) - mean).argmin())]


def ends_weigh_less(contrasts: NDArray[np.floating]) -> tuple[float, ...]:
    """Return the candidates' contrasts c(t) times (4 t (1 - t)) ^ `MIDDLE`: 1 times in the middle, 0.66 at 0.05."""
    at = np.array(CANDIDATES)
    return tuple((contrasts * (4 * at * (1 - at)) ** MIDDLE).round(5).tolist())


@dataclass(frozen=True)
class _Chosen:
    """Some images of a set, where their maps are, and what these are multiplied by."""

    samples: list[Sample]
    images: list[LoadImage]
    folders: Mapping[str, Sequence[Path]]
    factors: Factors | None

    def maps(self, file: MapFile) -> Iterator[Float[Tensor, "k h w"]]:
        """Yield each image's maps of a stage."""
        of: dict[str, Path] = {}
        for folder in self.folders[file.stage]:
            with MapReader(folder / file.name) as maps:
                of |= dict.fromkeys(maps.names, folder)
        for sample in self.samples:
            with MapReader(of[sample.id] / file.name, self.factors) as maps:
                found = maps[sample.id]
            yield found


def _cam_curves(job: Job, num_images: int, iterations: int) -> Curves:
    chosen = _choose_images(job, CAMS, num_images)
    return contrast_curves(chosen.images, chosen.maps(CAMS), iterations=iterations, progress=job.progress)


def _choose_images(job: Job, file: MapFile, num_images: int) -> _Chosen:
    """Return images with maps at even distances in the set; all if there are fewer."""
    with_maps: set[str] = set()
    for folder in job.inputs[file.stage]:
        with MapReader(folder / file.name) as maps:
            with_maps |= set(maps.names)
    samples = sorted((sample for sample in job.samples if sample.id in with_maps), key=lambda sample: sample.id)
    samples = spread_out(samples, num_images)
    images: list[LoadImage] = [partial(read_working_image, sample.image, job.long_side) for sample in samples]
    return _Chosen(samples, images, job.inputs, saliency_factors(job))


def spread_out(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` items at even distances; all if there are fewer."""
    rows = np.unique(np.linspace(0, len(items) - 1, count).round().astype(int)) if items else ()
    return [items[row] for row in rows]


def masks_at(
    maps: Float[Tensor, "k h w"], image: NDArray[np.uint8], thresholds: Sequence[float]
) -> list[NDArray[np.int64]]:
    """Return an image's classes [H, W] at each background threshold of its maps, 0 background, 1 + the row else."""
    full = upsample(maps, (image.shape[0], image.shape[1]))
    return [strongest(full, threshold)[0].numpy() for threshold in thresholds]


def overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return intersection over union; two empty masks agree."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def _rounded(rows: list[list[float]]) -> tuple[float, ...]:
    """Return the means of the columns; zeros for no rows."""
    means = np.mean(rows, axis=0) if rows else np.zeros(len(CANDIDATES))
    return tuple(means.round(5).tolist())


def _colours(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the image's colours [H / CELL, W / CELL, 3] in CIE Lab."""
    size = (max(1, image.shape[1] // CELL), max(1, image.shape[0] // CELL))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)


def _contrast(colours: NDArray[np.float32], mask: NDArray[np.integer]) -> float:
    """Return the share of the colours' variance between the mask's foreground and the rest, in [0, 1]."""
    size = (colours.shape[1], colours.shape[0])
    inside = cv2.resize((mask > 0).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    share = float(inside.mean())
    total = float(colours.reshape(-1, 3).var(axis=0).sum())
    if not 0 < share < 1 or total == 0:
        return 0.0
    between = colours[inside].mean(axis=0) - colours[~inside].mean(axis=0)
    return share * (1 - share) * float((between**2).sum()) / total


def _write(job: Job, curves: Curves, **thresholds: Any) -> dict[str, Any]:
    document = {**thresholds, "merit": curves.merit, "area": curves.area}
    (job.out / FILE).write_text(json.dumps(document))
    return thresholds


def colour_contrast(image: NDArray[np.uint8], masks: Sequence[NDArray[np.integer]]) -> list[float]:
    """Return for each mask [H, W] the share of the image's colour variance between its foreground and the rest."""
    colours = _colours(image)
    return [_contrast(colours, mask) for mask in masks]
