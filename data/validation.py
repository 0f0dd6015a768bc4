"""What can be wrong with a data set as a whole, and with the files of its images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from data.dataset import Dataset, DatasetError, Problem, Sample
from data.images import read_image
from data.label_maps import GroundTruth, read_ground_truth
from data.threads import map_in_threads

MAX_CLASSES = 254
"""A label map is uint8; 0 is background and 255 void."""


def check_images(dataset: Dataset, num_workers: int) -> list[Problem]:
    """Decode every image and its ground truth, on threads (PIL decodes without the interpreter lock).

    Returns:
        A problem, with the sample's id, for each image or mask that cannot be read, each mask of another size than
        its image, and each semantic mask with a value outside the class table; in the order of the samples.
    """
    num_values = len(dataset.classes.values)
    found = map_in_threads(lambda sample: _check_sample(sample, num_values), dataset.samples, num_workers)
    return [problem for problems in found for problem in problems]


def set_problems(dataset: Dataset) -> list[Problem]:
    """Return what makes the set as a whole useless: no images, no labels, no or too many classes."""
    problems = []
    if not dataset.samples:
        problems.append(Problem(dataset.root, "expected at least one usable image, found none"))
    elif dataset.classes.has_background and not any(sample.labels for sample in dataset.samples):
        problems.append(
            Problem(dataset.root, f"expected labels, but none of the {len(dataset.samples)} images has any")
        )
    if len(dataset.classes) > MAX_CLASSES:
        found = len(dataset.classes)
        problems.append(
            Problem(dataset.root, f"expected at most {MAX_CLASSES} classes (label maps have 8 bits), found {found}")
        )
    return problems


def set_aside(dataset: Dataset, problems: list[Problem]) -> Dataset:
    """Return the set without the samples that the problems name.

    Raises:
        DatasetError: What remains is useless as a set; lists `problems` too.
    """
    bad = {problem.sample for problem in problems}
    kept = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.id not in bad))
    if fatal := set_problems(kept):
        raise DatasetError([*problems, *fatal])
    return kept


def warnings(dataset: Dataset) -> list[str]:
    """Name what works but will not train well: an image alone, classes with one image, images without labels."""
    notes = []
    if len(dataset.samples) == 1:
        notes.append("the set is one image alone")
    counts = Counter(label for sample in dataset.samples for label in sample.labels)
    if single := [dataset.classes.names[label] for label in sorted(counts) if counts[label] == 1]:
        notes.append(f"classes with a single image: {', '.join(single)}")
    unlabelled = sum(not sample.labels for sample in dataset.samples)
    if unlabelled and dataset.classes.has_background:
        notes.append(f"images without labels, taken for background only: {unlabelled}")
    return notes


def _check_sample(sample: Sample, num_values: int) -> list[Problem]:
    try:
        height, width = read_image(sample.image).shape[:2]
        return truth_problems(sample, read_ground_truth(sample), (height, width), num_values)
    except DatasetError as error:
        return [replace(problem, sample=sample.id) for problem in error.problems]


def truth_problems(sample: Sample, truth: GroundTruth, size: tuple[int, int], num_values: int) -> list[Problem]:
    """Return what is wrong with a sample's maps: another size than the image's (H, W), values outside the table."""
    problems = []
    for kind in ("semantic", "instances"):
        mask = getattr(truth, kind)
        if mask is not None and mask.shape != size:
            file = getattr(sample, kind) or sample.image
            message = (
                f"expected the size of {sample.image.name}, {size[1]} x {size[0]}, "
                f"found {mask.shape[1]} x {mask.shape[0]}"
            )
            problems.append(Problem(file, message, sample.id))
    if truth.semantic is not None:
        values = np.flatnonzero(np.bincount(truth.semantic.ravel(), minlength=256))
        if unknown := [int(value) for value in values if num_values <= value < 255]:
            message = f"expected values 0 to {num_values - 1} and 255, found {', '.join(map(str, unknown))}"
            problems.append(Problem(sample.semantic or sample.image, message, sample.id))
    return problems
