"""pseudomask from Python: labels from image-level labels, walks over CAMs of any method, trained networks.

    import pseudomask as pm

    run = pm.label("photos", labels="tags.csv", out="runs/first", weights="imagenet")
    run.metrics["semantic"]["labels"]["miou"]          # where there is ground truth
    run.mask("dog_001")                                # uint8 [H, W]

    masks = pm.refine(images, cams, boundary)          # CAMs and boundaries of any origin, in memory
    net = pm.train("deeplabv2", labels=run, out="runs/deeplabv2").load()
    net.predict(image)                                 # uint8 [H, W]

`import pseudomask` loads neither torch nor Prefect; functions load what they need. `label` and `train` work in a child
process, which ends with this one, and print their progress on standard error. Errors are those of the command line:
`DatasetError`, `ArtifactError`, `StageError` (see `docs/python.md`).

The product's packages are called `data`, `kernels`, `models`, `tasks` and `flows`. They are found wherever a script
lies, also beside files of these names; a module of such a name that was imported before is an `ImportError`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.in_memory import ImageLabels, Predictor

__all__ = ["Network", "Run", "Training", "label", "load", "refine", "train"]

P = ParamSpec("P")
R = TypeVar("R")
Device = Literal["auto", "cpu", "cuda"]

_PACKAGES = ("data", "kernels", "models", "tasks", "flows")
_ROOT = Path(__file__).resolve().parent
_warned: set[Path] = set()


def _isolated(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function import the product's own packages, and nothing of the current or the script's folder."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with _own_modules():
            return function(*args, **kwargs)

    return run


@dataclass(frozen=True)
class Run:
    """A finished run's folder.

    Attributes:
        folder: The folder.
        metrics: What its `metrics.json` holds.
    """

    folder: Path
    metrics: dict[str, Any] = field(repr=False)

    @property
    def classes(self) -> list[str]:
        """The names of the foreground classes; class number c (from 0) has the value c + 1 in a mask."""
        return (self.folder / "labels" / "classes.txt").read_text(encoding="utf-8").splitlines()

    def mask(self, image: str | Path) -> NDArray[np.uint8 | np.uint16]:
        """Return the semantic labels of an image: [H, W], 0 background, class + 1.

        Args:
            image: Its id, or its file name relative to the data set, with or without suffix.

        Raises:
            FileNotFoundError: The run has no labels of it.
        """
        return self._read("SegmentationClass", image)

    def instances(self, image: str | Path) -> NDArray[np.uint8 | np.uint16]:
        """Return the instance labels of an image: [H, W], 0 background, ids from 1; 255 is left out.

        Arguments and errors are those of `mask`.
        """
        return self._read("SegmentationObject", image)

    @_isolated
    def _read(self, kind: str, image: str | Path) -> NDArray[np.uint8 | np.uint16]:
        from data.formats.label_maps import read_label_map
        from data.names import is_unsafe

        names = [str(image), str(Path(image).with_suffix(""))] if Path(image).name else []
        for name in names:
            file = self.folder / "labels" / kind / f"{name}.png"
            if not is_unsafe(name) and file.is_file():
                return read_label_map(file)
        raise FileNotFoundError(f"{self.folder}: has no labels of an image {str(image)!r}")


@dataclass(frozen=True)
class Training:
    """A finished training's folder.

    Attributes:
        folder: The folder.
        metrics: What its `metrics.json` holds.
    """

    folder: Path
    metrics: dict[str, Any] = field(repr=False)

    def load(self, device: Device = "auto") -> Network:
        """Return the network, as `load`."""
        return load(self.folder, device=device)


class Network:
    """A semantic segmentation network that was trained here. Made by `load`.

    Attributes:
        folder: The training's folder.
        classes: The names of a mask's values, from 0.
    """

    def __init__(self, folder: Path, classes: Sequence[str], predictor: Predictor) -> None:
        self.folder = folder
        self.classes = tuple(classes)
        self._predictor = predictor

    @_isolated
    def predict(self, image: NDArray[np.uint8] | str | Path) -> NDArray[np.uint8 | np.uint16]:
        """Return the class of every pixel, as `pseudomask predict` finds it: [H, W], values as in `classes`.

        Args:
            image: RGB, uint8 [H, W, 3], or the file of a photograph, whose EXIF orientation is applied.

        Raises:
            ValueError: The array is of another shape or type.
            DatasetError: The file cannot be read.
        """
        from data.formats.images import read_image

        pixels = read_image(Path(image)) if isinstance(image, str | Path) else image
        return self._predictor(pixels)


@_isolated
def label(
    images: str | Path,
    *,
    out: str | Path,
    labels: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Turn image-level labels into semantic and instance labels: `pseudomask run`.

    What an earlier call finished is taken from the store.

    Args:
        images: Folder of the data set, of any layout that docs/data.md lists.
        out: Folder of the results.
        labels: File or folder of image-level labels, where the data set does not hold them itself.
        settings: Settings of stages, over those of the preset: `{"walk": {"beta": 8}}`.
        options: Fields of `flows.labels.request.RunRequest`, such as `preset`, `split`, `workers` and `store`, and
            settings by their names: `weights="imagenet"`, `backbone="resnet50"`, `seed=1`, `walk={"beta": 8}`.

    Raises:
        TypeError: There is no such option.
        pydantic.ValidationError: An option or a setting is out of range.
        DatasetError: The data set cannot be used; `problems` lists everything that is wrong with it.
        ArtifactError: The store or the results cannot be written.
        StageError: A stage failed, or learned nothing.
    """
    from flows.calls import call
    from flows.labels.request import RunRequest
    from tasks.pipeline.settings import PipelineConfig

    given = {"data": _absolute(images), "out": _absolute(out), "labels": labels and _absolute(labels)}
    fields = _sorted_out(options, settings, RunRequest.model_fields, PipelineConfig.model_fields)
    metrics = call("run", {**fields, **given})
    return Run(_absolute(out), metrics)


@_isolated
def train(
    network: str,
    *,
    out: str | Path,
    labels: str | Path | Run | None = None,
    data: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Training:
    """Train a segmentation network on the labels of a run, or on ground truth: `pseudomask train`.

    Args:
        network: Its name, as `pseudomask models` lists them.
        out: Folder of the results.
        labels: A run, whose labels are learned.
        data: Folder of a data set with label maps; by default that of the run.
        settings: The network's settings, over those of the preset: `{"training": {"epochs": 3}}`.
        options: Fields of `flows.training.request.TrainRequest`, such as `split`, `val`, `preset` and `processes`, and
            settings by their names: `weights="imagenet"`, `training={"epochs": 3}`.

    Raises:
        TypeError: There is no such option.
        pydantic.ValidationError: An option or a setting is unknown or out of range.
        DatasetError: A data set cannot be used; `problems` lists everything that is wrong with it.
        ArtifactError: The store or the results cannot be written.
        StageError: The training failed.
    """
    from flows.calls import call
    from flows.training.request import TrainRequest
    from tasks.networks import NETWORKS

    if network not in NETWORKS:
        raise TypeError(f"network {network!r}: expected one of {', '.join(NETWORKS)}")
    known = NETWORKS[network].settings.model_fields
    fields = _sorted_out(options, settings, TrainRequest.model_fields, known)
    run = labels.folder if isinstance(labels, Run) else labels
    given = {"out": _absolute(out), "labels": run and _absolute(run), "data": data and _absolute(data)}
    metrics = call("train", {**fields, **given, "settings": {"network": network, **fields.get("settings", {})}})
    return Training(_absolute(out), metrics)


@_isolated
def load(folder: str | Path, *, device: Device = "auto") -> Network:
    """Return a semantic segmentation network from the folder of its training.

    Scales, flip and dense CRF of inference are those of the training's settings (`testing`).

    Args:
        folder: What `train` or `pseudomask train` wrote.
        device: Where it runs; "auto" takes a GPU where there is one.

    Raises:
        ArtifactError: It is not the folder of a finished training.
        DatasetError: Its files are damaged, or of another version.
        ValueError: It has a detector (Mask R-CNN), whose answer is no label map; `pseudomask predict` writes its masks.
    """
    from flows.training.request import settings_of
    from tasks.engine.run_record import read_run
    from tasks.in_memory import Predictor
    from tasks.networks.trainer import SegmentationConfig

    folder = _absolute(folder)
    record = read_run(folder)
    trained = settings_of(record)
    if not isinstance(trained.testing, SegmentationConfig):
        raise ValueError(f"{folder}: expected a network of semantic segmentation, found {trained.network}")
    predictor = Predictor(folder / "network", trained.network, trained.testing, _torch_device(device))
    return Network(folder, record.classes.values, predictor)


@_isolated
def refine(
    images: Sequence[NDArray[np.uint8]],
    cams: Sequence[Any],
    boundary: Sequence[Any],
    displacement: Sequence[Any] | None = None,
    *,
    background_threshold: float = 0.25,
    radius_px: int = 5,
    beta: float = 10.0,
    steps: int = 256,
    crf_iterations: int = 5,
    min_area: float = 0.01,
    device: Device = "auto",
) -> list[ImageLabels]:
    """Make labels of class attention maps of any method: a random walk within boundaries, then a dense CRF.

    Nothing is written, and no network runs. The arrays may be numpy's or torch's.

    Args:
        images: RGB, uint8 [H, W, 3], of any sizes.
        cams: For each image the scores [K, h, w] of its classes, from 0, the highest of each class about 1. They are
            brought to the stride-4 grid, h = ceil(H / 4), w = ceil(W / 4): larger ones by the mean of each cell.
        boundary: For each image the probability of a class boundary [h, w]; larger ones by the maximum of each cell. An
            edge detector's answer will do.
        displacement: For each image IRNet's displacement field (dy, dx) [2, h, w], in pixels of the stride-4 grid.
            Without, there are no instances.
        background_threshold: Scores, relative to the image's highest, under this are background.
        radius_px: Largest distance of a step of the walk, in pixels of the grid.
        beta: Power of the affinities (IRNet, Eq. 12): the higher, the harder a boundary is to cross.
        steps: Steps of the walk (Eq. 13).
        crf_iterations: Iterations of the dense CRF that moves borders to the image's edges; 0 leaves it out.
        min_area: Instances under this share of the image are dropped.
        device: Where it runs; "auto" takes a GPU where there is one.

    Returns:
        For each image `semantic` [H, W] (0 background, k + 1 for row k of its CAMs), its `confidence` uint8 [H, W] (255
        times the probability of being right), and with a displacement field `instances` [H, W], `masks` [N, H, W],
        `rows` and `scores`.

    Raises:
        ValueError: A shape or a value is not as said; the message names the image by its position.
    """
    from tasks.in_memory import refine_cams
    from tasks.pipeline.settings import LabelsConfig, WalkConfig

    if not isinstance(background_threshold, int | float) or not 0 <= background_threshold <= 1:
        raise ValueError(f"background_threshold: expected a number in [0, 1], got {background_threshold!r}")
    walk = WalkConfig(radius_px=radius_px, beta=beta, steps=steps)
    wanted = LabelsConfig(background_threshold=background_threshold, crf_iterations=crf_iterations, min_area=min_area)
    return refine_cams(images, cams, boundary, displacement, walk, wanted, _torch_device(device))


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _sorted_out(
    options: Mapping[str, Any], settings: Mapping[str, Any] | None, fields: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return options as the fields of a request, whose `settings` hold those that are names of settings.

    `cams`, `saliency` and `regions` are names of both: a mapping is settings, a path a source of maps.

    Raises:
        TypeError: One is neither, or a value is none of JSON's.
    """
    found: dict[str, Any] = {}
    inside = dict(settings or {})
    for name, value in options.items():
        if name in known and (name not in fields or isinstance(value, Mapping)):
            inside[name] = value
        elif name in fields:
            found[name] = _named_list(value) if name in ("split", "val") else value
        else:
            raise TypeError(f"unknown option {name!r}; expected one of {', '.join(sorted({*fields, *known}))}")
    json.dumps({**found, "settings": inside}, default=str)
    return {**found, "settings": inside} if inside else found


def _named_list(value: Any) -> Any:
    """Return the absolute path of a list of images that is a file; the name of one of the set's lists stays."""
    return (
        str(_absolute(value))
        if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_file())
        else value
    )


def _torch_device(device: Device) -> str:
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {device!r}: expected auto, cpu or cuda")
    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def _own_modules() -> Iterator[None]:
    """Import the product's own packages, and then look for modules as the command line does.

    Raises:
        ImportError: Another module has the name of one of them.
    """
    before = list(sys.path)
    others = _folders_of_others()
    kept = [name for name in before if _place(name) not in (None, *others)]
    try:
        sys.path[:] = [str(_ROOT), *kept]
        for name in _PACKAGES:
            _import_own(name)
        _warn_of_hidden(others)
        sys.path[:] = kept if str(_ROOT) in kept else [str(_ROOT), *kept]
        yield
    finally:
        sys.path[:] = before


def _folders_of_others() -> set[Path]:
    """Return the folders that Python puts first: the current one, and that of the script which runs."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    folders = {Path(script).resolve().parent} if script else set()
    with contextlib.suppress(FileNotFoundError):
        folders.add(Path.cwd().resolve())
    return folders - {_ROOT}


def _place(name: str) -> Path | None:
    """Return the folder that an entry of Python's path means; None where the current one was deleted."""
    try:
        return Path(name).resolve()
    except FileNotFoundError:
        return None


def _import_own(name: str) -> None:
    loaded = sys.modules.get(name) or importlib.import_module(name)
    file = getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), None)
    if file is None or not Path(file).resolve().is_relative_to(_ROOT / name):
        raise ImportError(
            f"the module {name!r} of this process is {file}, and pseudomask has a package of that name: rename the "
            "file, or import it in another process; the command line, `pseudomask run`, is one"
        )


def _warn_of_hidden(folders: set[Path]) -> None:
    """Warn once of files that cannot be imported any more, since a package of ours has their name."""
    for folder in folders - _warned:
        _warned.add(folder)
        hidden = [
            name for name in _PACKAGES if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
        ]
        if hidden:
            names = ", ".join(hidden)
            text = f"{folder}: pseudomask has packages of the names {names}; `import` finds those, not the files here"
            warnings.warn(text, RuntimeWarning, stacklevel=5)
