"""`pseudomask refine`: labels from class attention maps of any method, without training and without a server."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from rich.console import Console
from rich.progress import Progress

from data.cam_families import family_of
from data.cam_maps import read_cams
from data.concurrency import map_in_threads
from data.dataset import Dataset, DatasetError, Problem, Sample
from data.files import file_digest
from data.formats.label_folder import CONFIDENCE, DETECTIONS, INSTANCES, SEMANTIC, index_files
from data.formats.quality import QUALITY
from data.formats.unit_maps import read_unit_map
from data.names import shortened
from data.ownership import own, refuse_nesting
from data.readers import open_dataset
from data.readers.beside.cams import Missing, with_cams
from data.readers.beside.saliency import find_maps, first_problems
from data.store import ArtifactError, explain_os_errors, open_store
from data.validation import can_be_set_aside, check_images, set_aside
from flows.commands.command import Command, answering
from flows.commands.tables import percent, show_left_out
from flows.engine.request import ListName, LocalRequest, WholePath, left_out_of
from tasks.config import Fraction, PixelRange
from tasks.engine.run_record import FILE_NAME, read_run
from tasks.evaluation.health import ALL_EMPTY
from tasks.pipeline.plan import pipeline_settings
from tasks.pipeline.settings import Auto, FieldsConfig, LabelsConfig, WalkConfig
from tasks.reporting.review import worst_images

log = logging.getLogger(__name__)
THRESHOLD = 0.25
"""Background threshold of families that have none of their own."""
ORIGINS = {"family": ", that of the form", "default": "", "option": "", "set": ", chosen on the set"}
SHOWN, LOOKED_AT = 10, 5


class RefineRequest(LocalRequest):
    """Labels from attention maps and boundaries.

    Attributes:
        data: Folder of the data set.
        cams: Folder of class attention maps of any method: ID.npy, .npz or .pt.
        boundary: Folder of maps of boundaries in [0, 1], ID.png or ID.npy; or a run, whose IRNet finds them, and
            displacements, so that there are instances.
        labels: Image-level labels: CSV, JSON lines, COCO JSON, a folder of XML or label maps.
        split: A list of images: a file, or the name of a list of the set.
        classes: File with the name of a class per line.
        cam_classes: The table of the maps' classes: voc20, coco80, coco91, or a file with a name per line.
        cam_family: Their form, such as irn or clip-es; by default it is told by the files and the tags.
        missing_cams: Labelled images without a map: refuse, skip, or take for background.
        skip_bad: Set bad images aside instead of refusing the set.
        background_threshold: Scores under this share of the image's highest are background; "auto" is chosen on the set
            without ground truth; by default that of the maps' family.
        radius_px: Largest distance of a step of the walk, in pixels of the stride-4 grid.
        beta: Power of the affinities.
        steps: Steps of the walk.
        crf_iterations: Iterations of the dense CRF that moves borders to the image's edges; 0 leaves it out.
        min_area: Instances under this share of the image are dropped.
        long_side: Range of the long side in pixels at which images are worked on; by default the run's, else none.
    """

    data: WholePath
    cams: WholePath
    boundary: Path
    labels: WholePath | None = None
    split: ListName | None = None
    classes: WholePath | None = None
    cam_classes: ListName | None = None
    cam_family: str | None = None
    missing_cams: Missing = "error"
    skip_bad: bool = False
    background_threshold: Fraction | Auto | None = None
    radius_px: int = Field(default=WalkConfig().radius_px, ge=2)
    beta: float = Field(default=WalkConfig().beta, gt=0)
    steps: int = Field(default=WalkConfig().steps, ge=0)
    crf_iterations: int = Field(default=5, ge=0)
    min_area: Fraction = LabelsConfig().min_area
    long_side: PixelRange | None = None

    @model_validator(mode="after")
    def _family_is_known(self) -> Self:
        if self.cam_family is not None:
            family_of(self.cam_family)
        return self


def refine(request: RefineRequest) -> dict[str, Any]:
    """Write the labels of a set.

    Returns:
        "out"; "boundary": what the boundaries come from; "family" of the maps; "threshold" of the labels, and
        "threshold_from": "family", "default", "option" or "set";
        what `left_out_of` returns and what `tasks.refining.refine_set` does; "look_first", the images whose labels are
        least sure; and "next", the command that scores the labels, None where the set has no ground truth of just
        these images.

    Raises:
        DatasetError: The set, a map or a boundary cannot be used, or all maps are empty; what is wrong is listed
            before anything is made. With `skip_bad`, no image is left.
        ArtifactError: `boundary` is neither, or the folder of the results holds something else.
    """
    beside = [request.cams, request.labels, None if _is_run(request.boundary) else request.boundary]
    refuse_nesting(request.out, None, request.data, [folder for folder in beside if folder and folder.is_dir()])
    dataset, left_out = _open(request)
    assert dataset.cams is not None
    family = dataset.cams.family
    threshold, origin = _threshold(request, family)
    labels = LabelsConfig(
        background_threshold=threshold, crf_iterations=request.crf_iterations, min_area=request.min_area
    )
    walk = WalkConfig(radius_px=request.radius_px, beta=request.beta, steps=request.steps)
    walls, without = _find_walls(request, dataset)
    dataset = _without(request, dataset, without)
    with own(request.out, "refine") as output, explain_os_errors(request.out):
        output.refuse_changed()
        names = sorted(_names(dataset, instances=_is_run(request.boundary)))
        output.claim(names)
        # Labels of images, and kinds of maps, that there are no more.
        output.remove(output.files - set(names))
        output.unsettle()
        found = _make(request, dataset, walls, walk, labels)
        # What people correct from here on is known by it.
        digests = map_in_threads(lambda name: file_digest(request.out / name), names, request.num_workers)
        output.settle(dict(zip(names, digests, strict=True)))
    whose = f"the IRNet of {request.boundary}" if _is_run(request.boundary) else f"maps of {request.boundary}"
    said = {"out": str(request.out), "boundary": whose, "family": family, "threshold_from": origin}
    left_out = left_out_of([*left_out, *without])
    first = {"look_first": [each._asdict() for each in worst_images(request.out, LOOKED_AT)]}
    following = {"next": _evaluation(request, dataset, whole=not left_out["left_out"])}
    return {**said, **left_out, **found, **first, **following}


def show_refined(result: dict[str, Any], console: Console) -> None:
    """Print what was made, from what, and the next command."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f"labels of {result['images']} images from maps of the form {result['family']} and {result['boundary']}")
    share = percent(result["foreground_share"])
    threshold = f"background threshold {result['threshold']:g}{ORIGINS[result['threshold_from']]}"
    say(f"{threshold}: {share} % of the pixels have a class")
    if lost := result["tags_with_a_map_and_no_pixel"]:
        say(f"{lost} of {result['tags']} tags have a map and no pixel; try a lower --background-threshold")
    if empty := result["cams"]["empty_maps"]:
        named = shortened((f"{name} {count}" for name, count in empty.items()), SHOWN)
        count = f"{sum(empty.values())} of {result['tags']} tags"
        say(f"{count} have an empty map, or none in their file ({named}): they get no pixel; make these maps again")
    if result["instances"] is not None:
        say(f"{result['instances']} instances")
    for warning in result["warnings"]:
        console.print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)
    show_left_out(result, console)
    say(f"labels   {result['out']}")
    say(f"quality  {Path(result['out']) / QUALITY}; the least sure:")
    for each in result["look_first"]:
        say(f"         {each['image']}: {each['why']}")
    if following := result["next"]:
        say(f"next: {following}")


def _threshold(request: RefineRequest, family: str) -> tuple[float | Auto, str]:
    """Return the background threshold, or "auto", and where it is from: a key of `ORIGINS`."""
    threshold = request.background_threshold
    if threshold is not None:
        return threshold, "set" if threshold == "auto" else "option"
    presets = family_of(family).presets
    return (presets.labels, "family") if presets else (THRESHOLD, "default")


def _evaluation(request: RefineRequest, dataset: Dataset, *, whole: bool) -> str | None:
    """Return the command that scores the labels, where the set's label maps lie in a folder and are of its images.

    Args:
        whole: No image of the set was left out.
    """
    files = {sample.id: sample.semantic for sample in dataset.samples if sample.semantic and not sample.coding}
    folders = {file.parents[id.count("/")] for id, file in files.items()}
    if len(folders) != 1:
        return None
    (folder,) = folders
    command = f"pseudomask evaluate semantic --pred {request.out} --gt {folder}"
    # Ground truth without a prediction would be refused.
    if set(folder.rglob("*.png")) <= set(files.values()):
        return command
    return (
        f"{command} --split {request.split}" if request.split and whole and len(files) == len(dataset.samples) else None
    )


def _is_run(boundary: Path) -> bool:
    return (boundary / FILE_NAME).is_file()


def _open(request: RefineRequest) -> tuple[Dataset, list[Problem]]:
    """Read the lists, labels and attention maps of the set, check its images, and tell of those that are left out."""
    skip = request.skip_bad
    dataset, left_out = open_dataset(request.data, request.labels, request.split, request.classes, skip_bad=skip)
    dataset, lacking = with_cams(
        dataset,
        request.cams,
        missing="skip" if skip and request.missing_cams == "error" else request.missing_cams,
        classes=request.cam_classes,
        family=request.cam_family,
        skip_bad=skip,
    )
    dataset = set_aside(dataset, lacking) if lacking else dataset
    for note in dataset.notes:
        log.info("%s", note)
    problems = check_images(dataset, request.num_workers)
    dataset = _without(request, dataset, problems)
    if _all_empty(dataset):
        raise DatasetError([Problem(request.cams, ALL_EMPTY)])
    return dataset, [*left_out, *lacking, *problems]


def _without(request: RefineRequest, dataset: Dataset, problems: list[Problem]) -> Dataset:
    """Return the set without the images that the problems name.

    Raises:
        DatasetError: There are problems, and the request does not skip bad images; or no image is left.
    """
    if not problems:
        return dataset
    if not request.skip_bad:
        raise DatasetError(problems, of_images=can_be_set_aside(dataset, problems))
    return set_aside(dataset, problems)


def _all_empty(dataset: Dataset) -> bool:
    """Tell whether images have labels and all of their maps are zero; reads files up to the first that has a score."""
    assert dataset.cams is not None
    labelled = [sample for sample in dataset.samples if sample.labels]
    return bool(labelled) and not any(
        read_cams(sample, dataset.cams, dataset.classes, strict=False).values.any() for sample in labelled
    )


@dataclass(frozen=True)
class _Walls:
    """Where boundaries come from: maps, sample id -> file, or a network, its settings and the size that it sees."""

    files: dict[str, Path] | None
    network: tuple[Path, FieldsConfig] | None
    long_side: tuple[int, int] | None


def _find_walls(request: RefineRequest, dataset: Dataset) -> tuple[_Walls, list[Problem]]:
    """Return where boundaries come from, and a problem for each labelled image without one that can be read.

    Raises:
        DatasetError: There is no such folder; or images have no map: the first are named, the others counted, unless
            bad images are skipped.
    """
    from tasks.refining import BOUNDARY

    if _is_run(request.boundary):
        network, fields, long_side = _network(request)
        return _Walls(None, (network, fields), long_side), []
    if not request.boundary.is_dir():
        message = "expected the folder of a run, or of maps of boundaries"
        raise DatasetError([Problem(request.boundary, message)])
    files, notes, problems = find_maps(dataset, request.boundary, BOUNDARY)
    for note in notes:
        log.info("%s", note)
    if problems and not request.skip_bad:
        of_images = can_be_set_aside(dataset, problems)
        raise DatasetError(first_problems(problems, request.boundary), of_images=of_images)
    problems += _unreadable([sample for sample in dataset.samples if sample.id in files], files, request.num_workers)
    return _Walls(files, None, request.long_side), problems


def _unreadable(samples: Sequence[Sample], files: Mapping[str, Path], num_workers: int) -> list[Problem]:
    """Return a problem, with the sample's id, for each map of boundaries that cannot be used."""
    from tasks.refining import BOUNDARY

    def check(sample: Sample) -> list[Problem]:
        try:
            read_unit_map(files[sample.id], sample.image, f"a {BOUNDARY}")
        except DatasetError as error:
            return [replace(problem, sample=sample.id) for problem in error.problems]
        return []

    return [problem for found in map_in_threads(check, samples, num_workers) for problem in found]


def _make(
    request: RefineRequest, dataset: Dataset, found: _Walls, walk: WalkConfig, labels: LabelsConfig
) -> dict[str, Any]:
    # Only who refines waits for torch.
    from tasks.refining import Refining, choose_threshold, refine_set, walls_from_files, walls_from_network

    assert dataset.cams is not None
    long_side, device = found.long_side, request.torch_device
    if found.network is not None:
        walls = walls_from_network(*found.network, long_side, device)
    else:
        walls = walls_from_files(found.files or {})
    how = Refining(dataset.cams, walk, labels, found.network is not None, long_side, device, request.num_workers)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("refine", total=len(dataset.samples))
        if labels.background_threshold == "auto":
            how = replace(how, labels=choose_threshold(dataset, walls, how))
        made = refine_set(dataset, walls, request.out, how, lambda done, _: bar.update(task, completed=done))
    return {"threshold": how.labels.background_threshold, **made}


def _network(request: RefineRequest) -> tuple[Path, FieldsConfig, tuple[int, int] | None]:
    """Return the IRNet of a run, the settings of its inference, and the size at which it sees images.

    Raises:
        ArtifactError: The run has none, or the store no longer does.
    """
    record = read_run(request.boundary)
    key = record.network("irnet")
    if key is None:
        raise ArtifactError(f"{request.boundary}: expected a run with an IRNet, found none")
    settings = pipeline_settings(record)
    long_side = request.long_side or settings.long_side
    return open_store(record.store).fetch("irnet", key), settings.fields, long_side


def _names(dataset: Dataset, *, instances: bool) -> set[str]:
    """Return the names of the files that will be written."""
    kinds = (SEMANTIC, CONFIDENCE, *([INSTANCES] if instances else []))
    names = {f"{kind}/{sample.id}.png" for kind in kinds for sample in dataset.samples}
    return {*names, *index_files((), None, dataset.classes), QUALITY, *([DETECTIONS] if instances else [])}


COMMAND = Command(
    name="refine",
    help="Walk, CRF and labels for attention maps of any method, without training.",
    request=RefineRequest,
    carry_out=answering(refine, show_refined),
)
