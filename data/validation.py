"""What can be wrong with a data set as a whole, and with the files of its images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import NamedTuple

import numpy as np

from data.cam_maps import read_cams
from data.concurrency import map_in_threads
from data.dataset import VOID, Dataset, DatasetError, Problem, Sample, SampleWithMore, unknown_classes
from data.files import walk_visible
from data.formats.hints import check_hints
from data.formats.images import image_size, read_photo
from data.formats.label_codings import LABEL_CODINGS
from data.formats.label_folder import INSTANCES, SEMANTIC
from data.formats.label_maps import (
    BINARY_MASKS,
    GroundTruth,
    Indexed,
    palette_problems,
    read_ground_truth,
    swapped_colours,
    unknown_values,
)
from data.names import shortened
from data.region_masks import check_regions
from data.saliency_maps import is_network, read_saliency

MAX_CLASSES = 2000
"""Confusion matrices are square, and a run keeps one for each threshold that it tries."""
MAX_SCENE_VALUES = VOID
"""A label map without background has no value to spare."""
FEW_IMAGES, FEW_CLASSES = 8, 3
NEARLY, LEAST_FOR_NEARLY = 0.9, 10
"""A class is in almost every image that is in this share of them; of fewer images a share says little."""
FEW_COPIES = 0.05
"""Share of the images that may be copies without a word."""
TINY_SIDE, LARGE_SIDE = 48, 2000
STRIP = 8
"""An image is a strip whose one side is so many times the other."""
LISTED, FEW_LISTED = 10, 3
# The brightest of 256 levels below which nobody sees anything.
BLACK = 16


@dataclass(frozen=True)
class _Checked:
    """What was found of one sample.

    Attributes:
        values: Those of its semantic ground truth, None where it has none.
        black: Whether the image is almost black.
        extremes: The lowest and the highest of the image's values, as they were read; None where it cannot be read.
        bits: How many bits of the image's values are in use.
        size: (H, W) of the image in pixels; None where it cannot be read.
        frames: The pictures in its file.
        strokes: Whether its hints are thin, and background is all around them.
        palette: Of its semantic ground truth, as `GroundTruth` has it.
    """

    problems: list[Problem]
    values: frozenset[int] | None = None
    black: bool = False
    frames: int = 1
    bits: int = 8
    size: tuple[int, int] | None = None
    extremes: tuple[int, int] | None = None
    strokes: bool = False
    palette: bytes = b""


def check_images(dataset: Dataset, num_workers: int) -> list[Problem]:
    """Return the problems that `examine_images` finds."""
    return examine_images(dataset, num_workers)[0]


def examine_images(dataset: Dataset, num_workers: int) -> tuple[list[Problem], list[str]]:
    """Decode every image and its ground truth, on threads (PIL decodes without the interpreter lock).

    Returns:
        A problem, with the sample's id, for each image, mask or map beside it that cannot be read, each mask of
        another size than its image, and each semantic mask with a value outside the class table, in the order of the
        samples; for each mask of 0 and 255 where all of the set are such. And sentences on what can be read and is
        doubtful.
    """
    examined = examine_files(dataset, num_workers)
    return examined.problems, examined.doubts


class Examined(NamedTuple):
    """What was found of the files of a set.

    Attributes:
        problems: As `examine_images` returns them.
        doubts: Likewise.
        sizes: (H, W) of each image that can be read, in pixels, so that no file is opened again for it.
        pixels: Of these images the "lowest" and "highest" value as they were read, from 0 to 255, and of how many the
            file has values of "8 bits", "12 bits" and so on.
    """

    problems: list[Problem]
    doubts: list[str]
    sizes: list[tuple[int, int]]
    pixels: dict[str, int]


def examine_files(dataset: Dataset, num_workers: int) -> Examined:
    """Return what `examine_images` does, and the images' sizes."""
    num_values = len(dataset.classes.values)
    found = list(
        map_in_threads(lambda sample: _check_sample(sample, num_values, dataset), dataset.samples, num_workers)
    )
    problems = [problem for checked in found for problem in checked.problems]
    sizes = [checked.size for checked in found if checked.size is not None]
    problems += _binary_masks(dataset, found) + _swapped_colours(dataset, found)
    return Examined(problems, _doubts(dataset, found), sizes, _pixels(found))


def _pixels(found: Sequence[_Checked]) -> dict[str, int]:
    extremes = [checked.extremes for checked in found if checked.extremes is not None]
    if not extremes:
        return {}
    bits = Counter(checked.bits for checked in found if checked.extremes is not None)
    counts = {f"{number} bits": count for number, count in sorted(bits.items())}
    return {"lowest": min(low for low, _ in extremes), "highest": max(high for _, high in extremes), **counts}


def _binary_masks(dataset: Dataset, found: Sequence[_Checked]) -> list[Problem]:
    """Return a problem for each mask whose objects are all void, where no mask of the set has a class."""
    if not dataset.classes.has_background:
        return []
    masks = [
        (sample, checked.values)
        for sample, checked in zip(dataset.samples, found, strict=True)
        if sample.semantic and not sample.coding and checked.values is not None
    ]
    if any(values - {0, VOID} for _, values in masks):
        return []
    return [
        Problem(sample.semantic or sample.image, BINARY_MASKS, sample.id)
        for sample, values in masks
        if VOID in values and sample.labels
    ]


def _swapped_colours(dataset: Dataset, found: Sequence[_Checked]) -> list[Problem]:
    """Return a problem for each mask, and each map of hints, whose palette is in another order than most."""
    num_values = len(dataset.classes.values)
    maps = [Indexed(checked.values or (), checked.palette) for checked in found]
    swapped = swapped_colours(maps, num_values)
    samples = [(dataset.samples[number], message) for number, message in swapped.items()]
    problems = [Problem(sample.semantic or sample.image, message, sample.id) for sample, message in samples]
    coded = {
        s.id: s.semantic for s in dataset.samples if s.semantic and s.coding and not LABEL_CODINGS[s.coding].convert
    }
    hints = {s.id: s.hints for s in dataset.samples if isinstance(s, SampleWithMore) and s.hints and not s.boxes}
    return [*problems, *palette_problems(coded), *palette_problems(hints, num_values)]


def _doubts(dataset: Dataset, found: Sequence[_Checked]) -> list[str]:
    names, notes = dataset.classes.names, []
    together = list(zip(dataset.samples, found, strict=True))
    lacking, untagged = [], []
    if dataset.classes.has_background:
        for sample, checked in together:
            if checked.values is not None and not checked.problems:
                present = {value - 1 for value in checked.values if value not in (0, VOID)}
                lacking += [f"{sample.id} ({names[c]})" for c in sample.labels if c not in present]
                named = {*sample.labels, *unknown_classes(sample)}
                untagged += [f"{sample.id} ({names[c]})" for c in sorted(present - named)]
    for images, message in (
        (lacking, "tagged, but the mask has no pixel of the class"),
        (untagged, "not tagged, but the mask has pixels of the class"),
        ([sample.id for sample, checked in together if checked.black], "the image is nearly black"),
        (
            [sample.id for sample, checked in together if checked.frames > 1],
            "the file has several pictures, of which the first is taken",
        ),
        (
            [sample.id for sample, checked in together if checked.strokes],
            "hints with thin strokes on background everywhere; where black says nothing, write 255",
        ),
        (
            _many_coloured(dataset, found),
            "not one colour in all masks, of which the values count: are their palettes alike?",
        ),
        (_unread_masks(dataset), "in a folder of masks, but no PNG, and not read"),
    ):
        if images:
            notes.append(f"{message}: {shortened(images, LISTED)}")
    return notes + _depth_doubts(together)


def _many_coloured(dataset: Dataset, found: Sequence[_Checked]) -> list[str]:
    """Return the classes that have several colours in the set's indexed masks."""
    colours: dict[int, set[bytes]] = defaultdict(set)
    for checked in found:
        if checked.palette and not checked.problems:
            for value in (checked.values or frozenset()) - {0, VOID}:
                colours[value].add(Indexed((), checked.palette).colour(value))
    names = dataset.classes.values
    return [f"{names[value]} (value {value})" for value in sorted(colours) if len(colours[value]) > 1]


def _depth_doubts(together: Iterable[tuple[Sample, _Checked]]) -> list[str]:
    """Tell of 16-bit files that were taken for those of several cameras: a dark image among brighter ones, perhaps."""
    by_bits: dict[int, list[str]] = defaultdict(list)
    for sample, checked in together:
        if checked.bits > 8:
            by_bits[checked.bits].append(sample.id)
    if len(by_bits) < 2:
        return []
    groups = "; ".join(f"{bits} bits: {shortened(ids, FEW_LISTED)}" for bits, ids in sorted(by_bits.items()))
    return [f"images of 16 bits whose values use different numbers of bits, each scaled by its own: {groups}"]


def _unread_masks(dataset: Dataset) -> list[str]:
    """Return the files among the ground truth that are no label maps by their suffixes."""
    unread = []
    for kind in (SEMANTIC, INSTANCES):
        if (dataset.root / kind).is_dir():
            for parent, _, names in walk_visible(dataset.root / kind):
                # A path object per mask would take longer than all that is asked of it.
                others = [name for name in names if name[0] != "." and not name.lower().endswith(".png")]
                unread += [file.relative_to(dataset.root) for name in others if (file := parent / name).is_file()]
    return [file.as_posix() for file in sorted(unread)]


def set_problems(dataset: Dataset) -> list[Problem]:
    """Return what makes the set as a whole useless: no images, no labels, no or too many classes."""
    problems = []
    if not dataset.samples:
        problems.append(Problem(dataset.root, "expected at least one usable image, found none"))
    elif dataset.classes.has_background and not any(sample.labels for sample in dataset.samples):
        problems.append(
            Problem(dataset.root, f"expected labels, but none of the {len(dataset.samples)} images has any")
        )
    most = MAX_CLASSES if dataset.classes.has_background else MAX_SCENE_VALUES
    if (found := len(dataset.classes.real_names)) > most:
        problems.append(Problem(dataset.root, f"expected at most {most} classes, found {found}"))
    return problems


def set_aside(dataset: Dataset, problems: list[Problem]) -> Dataset:
    """Return the set without the samples that the problems name.

    Raises:
        DatasetError: What remains is useless as a set; lists `problems` too.
    """
    kept = _without(dataset, problems)
    if fatal := set_problems(kept):
        raise DatasetError([*problems, *fatal])
    return kept


def can_be_set_aside(dataset: Dataset, problems: list[Problem]) -> bool:
    """Return whether the set is of use without the samples that the problems name."""
    return not set_problems(_without(dataset, problems))


def _without(dataset: Dataset, problems: list[Problem]) -> Dataset:
    bad = {problem.sample for problem in problems}
    return replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.id not in bad))


def warnings(
    dataset: Dataset, digests: Mapping[str, str] | None = None, sizes: Sequence[tuple[int, int]] | None = None
) -> list[str]:
    """Foretell what works but will not train well, from counts, sizes and bytes alone.

    Args:
        digests: Sample id -> digest of the image's bytes, to find images that are there twice; without, none are found.
        sizes: (H, W) of the images in pixels; read from the files by default.
    """
    samples, names = dataset.samples, dataset.classes.names
    notes = ["the set is one image alone"] if len(samples) == 1 else []
    unlabelled = sum(not (sample.labels or unknown_classes(sample)) for sample in samples)
    if dataset.classes.has_background:
        notes += tag_warnings(dataset)
        if unlabelled:
            notes.append(f"images without labels, taken for background only: {unlabelled}")
        notes += _copies(samples, names, digests or {})
    return notes + _size_warnings(_sizes(samples) if sizes is None else sizes)


def tag_warnings(dataset: Dataset) -> list[str]:
    """Name the tags that no classifier can learn, or hardly, from their counts alone."""
    samples, names = dataset.samples, dataset.classes.names
    counts = Counter(label for sample in samples for label in sample.labels)
    notes = []
    every = [c for c in sorted(counts) if counts[c] == len(samples) > 1]
    if every and len(counts) == 1:
        notes.append(
            f"{names[every[0]]} is the only class and every image has it: nothing tells a classifier where it is not, "
            "so the labels will be arbitrary; add images without it, with empty labels"
        )
    elif every:
        notes.append(
            f"every image has {_listed(names, every)}: no classifier can find what is always there, so such labels "
            "will be arbitrary; add images without it, or leave the tag out"
        )
    nearly = [c for c in sorted(counts) if NEARLY * len(samples) <= counts[c] < len(samples)]
    for c in nearly if len(samples) >= LEAST_FOR_NEARLY else []:
        notes.append(
            f"almost every image has {names[c]}, {counts[c]} of {len(samples)}: little tells a classifier where it is "
            "not, so its labels may hold what is around it; add images without it, with empty labels"
        )
    tagged = sum(bool(sample.labels) for sample in samples)
    if not every and 1 < len(counts) <= FEW_CLASSES and NEARLY * len(samples) <= tagged:
        which = f"every image has one of {len(counts)} classes"
        if rest := len(samples) - tagged:
            which = f"only {rest} of {len(samples)} images {'lacks' if rest == 1 else 'lack'} all {len(counts)} classes"
        notes.append(
            f"{which}: little tells objects from what is around them, and labels "
            "may hold both; add images without any of the classes, with empty labels"
        )
    doubts = Counter(c for sample in samples for c in unknown_classes(sample))
    if never := [c for c in sorted(counts) if doubts[c] and counts[c] + doubts[c] == len(samples)]:
        notes.append(
            f"no image surely lacks {_listed(names, never)} (`?`): nothing tells a classifier where it is not; add "
            "images without it, or say so by -NAME"
        )
    if single := [c for c in sorted(counts) if counts[c] == 1]:
        notes.append(f"classes with a single image: {_listed(names, single)}")
    few = [c for c in sorted(counts) if 1 < counts[c] < FEW_IMAGES]
    if few:
        notes.append(f"classes with fewer than {FEW_IMAGES} images, which may not be learnt: {_listed(names, few)}")
    together = defaultdict(list)
    rows: dict[int, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        for label in sample.labels:
            rows[label].append(row)
    for c in sorted(counts):
        if c not in every:
            together[tuple(rows[c])].append(c)
    for group in together.values():
        if len(group) > 1 and counts[group[0]] > 1:
            notes.append(
                f"{_listed(names, group)} are always together: no classifier can tell which is which; add images "
                "with one of them alone"
            )
    return notes + _company_warnings(samples, names, counts)


def _company_warnings(samples: Sequence[Sample], names: Sequence[str], counts: Mapping[int, int]) -> list[str]:
    """Name classes that hardly come without another one, which comes without them."""
    pairs = Counter(pair for sample in samples for pair in permutations(sample.labels, 2))
    found = [
        f"{names[c]} with {names[other]} ({both} of its {counts[c]} images)"
        for (c, other), both in sorted(pairs.items())
        if counts[c] >= FEW_IMAGES
        and both >= NEARLY * counts[c]
        # Said already of what is always together, and of what is nearly everywhere.
        and not both == counts[c] == counts[other]
        and counts[other] < NEARLY * len(samples)
        # Of two that hardly come without each other, the rarer, or the first.
        and (both < NEARLY * counts[other] or (counts[c], c) < (counts[other], other))
    ]
    if not found:
        return []
    told = shortened(found, LISTED)
    return [
        f"classes that hardly come without another: {told}. The classifier may take one for the other, so labels of "
        "the first may hold the second; add images with the first alone"
    ]


def _copies(samples: Sequence[Sample], names: Sequence[str], digests: Mapping[str, str]) -> list[str]:
    """Name images of the same bytes, first those with different tags."""
    by_bytes: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.id in digests:
            by_bytes[digests[sample.id]].append(sample)
    copies = [group for group in by_bytes.values() if len(group) > 1]
    found = [group for group in copies if len({sample.labels for sample in group}) > 1]
    same = [group for group in copies if len({sample.labels for sample in group}) == 1]
    notes = []
    if (count := sum(map(len, same))) > FEW_COPIES * len(samples):
        pairs = shortened((" and ".join(each.id for each in group[:LISTED]) for group in same), FEW_LISTED)
        notes.append(
            f"{count} images equal another one to the byte: {pairs}. Copies teach nothing new, and a wrong tag "
            "counts as often as they are there: leave them out"
        )
    if not found:
        return notes
    told = []
    for group in found[:LISTED]:
        tags = (f"{s.id} ({', '.join(names[c] for c in s.labels) or 'no tag'})" for s in group[:LISTED])
        told.append(" and ".join(tags))
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return [f"the same image has different tags: {'; '.join(told)}{more}", *notes]


def _sizes(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    def size(sample: Sample) -> tuple[int, int] | None:
        try:
            return image_size(sample.image)
        except DatasetError:
            return None

    return [found for found in map_in_threads(size, samples) if found is not None]


def _size_warnings(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Name sizes at which objects are lost."""
    notes, longest = [], [max(size) for size in sizes]
    if tiny := sum(side < TINY_SIDE for side in longest):
        notes.append(f"images of fewer than {TINY_SIDE} pixels a side, too few to tell an object: {tiny}")
    if large := sum(side > LARGE_SIDE for side in longest):
        notes.append(
            f"images of more than {LARGE_SIDE} pixels a side: {large}. They are worked on at the size that "
            "--long-side sets, where objects of less than a fiftieth of the side are lost; cut such images into tiles"
        )
    if strips := sum(max(size) >= STRIP * min(size) for size in sizes):
        notes.append(
            f"images one of whose sides is at least {STRIP} times the other: {strips}. The longer side sets the size "
            "that they are worked on at, so little is left of the shorter one; cut such images into tiles"
        )
    return notes


def _listed(names: Sequence[str], classes: Sequence[int]) -> str:
    more = f" and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
    return ", ".join(names[c] for c in classes[:LISTED]) + more


def _check_sample(sample: Sample, num_values: int, dataset: Dataset) -> _Checked:
    try:
        image, bits, frames = read_photo(sample.image)
        extremes = int(image.min()), int(image.max())
        truth, black = read_ground_truth(sample), extremes[1] < BLACK
        size = image.shape[0], image.shape[1]
        problems = truth_problems(sample, truth, size, num_values)
        if sample.saliency and not is_network(sample.saliency):
            read_saliency(sample)
        if isinstance(sample, SampleWithMore) and sample.regions:
            check_regions(sample)
        hints = check_hints(sample, dataset.classes) if isinstance(sample, SampleWithMore) and sample.hints else None
        strokes = hints is not None and hints.are_strokes_on_background()
        if sample.cams and dataset.cams:
            read_cams(sample, dataset.cams, dataset.classes)
        values = None if truth.semantic is None else frozenset(np.unique(truth.semantic).tolist())
        return _Checked(problems, values, black, frames, bits, size, extremes, strokes, truth.palette)
    except DatasetError as error:
        return _Checked([replace(problem, sample=sample.id) for problem in error.problems])


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
    if truth.semantic is not None and (unknown := unknown_values(truth.semantic, num_values)):
        message = f"expected values 0 to {num_values - 1} and {VOID}, found {', '.join(map(str, unknown))}"
        problems.append(Problem(sample.semantic or sample.image, message, sample.id))
    return problems
