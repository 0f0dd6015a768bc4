"""What a comparison of networks is asked to do, and the trainings that it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from flows.engine.request import ListName, Request, WholePath
from flows.training.prediction import PredictRequest, open_truth
from flows.training.request import Folders, Lists, TrainRequest, num_shared, open_training_sets, read_labelled_run
from models.pretrained import ImageNetWeights
from tasks.config import BackboneName, ClassWeights, Seed
from tasks.networks import NETWORKS, NetworkSettings, cooperative, deeplabv3plus, saliency
from tasks.networks.segnet import DECODER_VARIANTS, ON_VGG16

TableName = Literal["segnet-decoders", "segnet-benchmark", "saliency-ablation", "cooperative"]
SALIENCY = saliency.SPEC.name


@dataclass(frozen=True)
class Row:
    """A row of a table: a network, and which of its settings are other than its preset's.

    Attributes:
        lacks: Training settings that other networks of its kind have and this one has no use for.
    """

    network: str
    training: Mapping[str, Any] = field(default_factory=dict)
    testing: Mapping[str, Any] = field(default_factory=dict)
    backbone: BackboneName | None = None
    lacks: tuple[str, ...] = ()

    @property
    def takes_weights(self) -> bool:
        """Whether its network may start from ImageNet's weights."""
        return NETWORKS[self.network].takes_weights

    @property
    def learns_saliency(self) -> bool:
        """Whether its network does, and its loss has a weight for it."""
        weights = self.training.get("task_weights")
        return self.network == SALIENCY and (weights is None or weights[1] > 0)


def _saliency(weights: tuple[float, float] | None, backbone: BackboneName | None = None, *, dsc: bool = True) -> Row:
    lacks = ("sigma_lr_factor",) if weights else ()
    return Row(SALIENCY, {"task_weights": weights, "dsc": dsc}, backbone=backbone, lacks=lacks)


def _cooperative(network: str, connections: str) -> Row:
    lacks = ("dsc", "separable_decoder") if network == "cooperative-danet" else ("stream_losses",)
    lacks += ("prediction",) if connections == "single" else ()
    return Row(network, {"connections": connections}, lacks=lacks)


def _on_vgg16(network: str) -> dict[str, Row]:
    rows = {network: Row(network)}
    if network == "deeplab-largefov":
        # As the paper calls the dense CRF behind it.
        rows["deeplab-largefov-densecrf"] = Row(network, testing={"crf_iterations": 10})
    return rows


TABLES: dict[TableName, dict[str, Row]] = {
    "segnet-decoders": {name: Row(name, lacks=("dropout",)) for name in DECODER_VARIANTS},
    "segnet-benchmark": {row: made for network in ON_VGG16 for row, made in _on_vgg16(network).items()},
    "saliency-ablation": {
        "deeplabv3plus": Row(deeplabv3plus.SPEC.name, {"dsc": False}),
        "deeplabv3plus-dsc": Row(deeplabv3plus.SPEC.name, {"dsc": True}),
        # Table 1 by the loss of Tables 2 and 3.
        "segmentation-only-plain-aspp": _saliency((1.0, 0.0), dsc=False),
        "segmentation-only": _saliency((1.0, 0.0)),
        "saliency-uniform": _saliency((0.5, 0.5)),
        "saliency-0.8-0.2": _saliency((0.8, 0.2)),
        "saliency-0.2-0.8": _saliency((0.2, 0.8)),
        "saliency-uncertainty": _saliency(None),
        "densenet-segmentation-only": _saliency((1.0, 0.0), "densenet121"),
        "densenet-saliency-uniform": _saliency((0.5, 0.5), "densenet121"),
    },
    "cooperative": {
        f"{spec.name.removeprefix('cooperative-')}-{connections}": _cooperative(spec.name, connections)
        for spec in cooperative.SPECS
        for connections in ("single", "ensemble", "same-layer", "multi-layer")
    },
}
"""Table -> the names of its rows -> these."""


class CompareRequest(Request):
    """A comparison. The parameters of the flow `compare`.

    Attributes:
        table: Of SegNet's paper "segnet-decoders" (Table 1) and "segnet-benchmark" (Tables 2 to 5);
            "saliency-ablation" (Tables 1 to 6 of saliency co-learning); "cooperative" (the tables of cooperative
            networks).
        data: Folder of a data set with label maps; by default that of the run `labels`.
        labels: A run, whose labels are learned; by default the ground truth of the set is.
        train: The list of images to learn from. They are tested on too. Of a run's labels all are learned.
        val: The list by which a training's best network is chosen; by default val where the preset keeps the best.
        test: The list that networks are tested on.
        saliency: Folders of sets with masks of salient objects; without any they are derived from the label maps.
        saliency_split: A list of images of each of these sets, in their order.
        saliency_test: A list of the first set's images that saliency is tested on.
        rows: Rows of the table; all if none are named.
        weightings: Weights of the classes in the loss, each a part of the table; by default the preset's.
        seeds: Every network is trained once for each.
        backbone: Backbone of all rows that are not named after one; by default the preset's.
        weights: ImageNet weights of that backbone, a file or torchvision's; by default the preset's. Beside a file,
            rows on another backbone start from random weights, and networks that none belong to do anyway.
        row_weights: ImageNet weights of the rows that are named after a backbone, such as densenet121=FILE.
        training: Training settings that differ from the preset's, such as epochs=20 or image_size=[64,96].
    """

    table: TableName
    data: WholePath | None = None
    labels: WholePath | None = None
    train: ListName = "train"
    val: ListName | None = None
    test: ListName = "test"
    saliency: Folders = ()
    saliency_split: Lists = ()
    saliency_test: ListName | None = None
    rows: tuple[str, ...] = ()
    weightings: tuple[ClassWeights, ...] = ()
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    backbone: BackboneName | Literal["vgg16"] | None = None
    weights: Path | ImageNetWeights | None = None
    row_weights: dict[BackboneName, Path | ImageNetWeights] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rows_are_the_tables(self) -> CompareRequest:
        rows = TABLES[self.table]
        if unknown := [row for row in self.rows if row not in rows]:
            raise ValueError(f"unknown rows {', '.join(unknown)} of {self.table}: expected some of {', '.join(rows)}")
        for name, values in (("rows", self.rows), ("seeds", self.seeds), ("weightings", self.weightings)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: expected each once, got {', '.join(map(str, values))}")
        for row in rows.values():
            if self.preset not in (presets := NETWORKS[row.network].presets):
                raise ValueError(f"preset {self.preset!r} of {self.table}: expected one of {', '.join(presets)}")
        known = {name for row in self.chosen.values() for name in _training_fields(row)}
        if unknown := [name for name in self.training if name not in known]:
            raise ValueError(
                f"no network of {', '.join(self.rows) or self.table} has a training setting {', '.join(unknown)}"
            )
        if self.weights and not any(row.takes_weights for row in self.chosen.values()):
            raise ValueError(f"weights: every network of {', '.join(self.rows) or self.table} starts from random ones")
        if self.weightings and "class_weights" in self.training:
            raise ValueError("class_weights: what the parts of the table differ in (weightings)")
        compared = {name for row in rows.values() for name in row.training}
        if taken := [name for name in self.training if name in compared]:
            raise ValueError(f"{', '.join(taken)}: what the rows of {self.table} differ in; choose by rows")
        if self.data is None and self.labels is None:
            raise ValueError("expected a data set (data), or the labels of a run (labels)")
        return self

    @model_validator(mode="after")
    def _weights_are_of_rows(self) -> CompareRequest:
        named = {row.backbone for row in self.chosen.values() if row.backbone}
        if unknown := [name for name in self.row_weights if name not in named]:
            raise ValueError(f"no row of {', '.join(self.rows) or self.table} is named after {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _saliency_is_tested_on_other_images(self) -> CompareRequest:
        if self.saliency and not any(row.learns_saliency for row in self.chosen.values()):
            raise ValueError(f"no network of {', '.join(self.rows) or self.table} learns saliency")
        if (self.saliency_split or self.saliency_test) and not self.saliency:
            raise ValueError("lists of images with masks of salient objects take their data set (saliency)")
        if self.saliency_test and self.saliency_split[:1] in ((), (self.saliency_test,)):
            raise ValueError(
                f"the images of {self.saliency_test} would be learned too: give another list of the set to learn from "
                "(saliency_split)"
            )
        return self

    @property
    def chosen(self) -> dict[str, Row]:
        """The rows of the table that are made, by their names."""
        return {name: TABLES[self.table][name] for name in self.rows or TABLES[self.table]}

    @property
    def classes(self) -> Path | None:
        """The file with the names of the classes that the run `labels` was given.

        Raises:
            ArtifactError: `labels` is not the folder of a run.
        """
        given = self.labels and read_labelled_run(self.labels).request.get("classes")
        return Path(given) if given else None

    @property
    def test_data(self) -> Path:
        """The folder of the set that networks are tested on.

        Raises:
            ArtifactError: `labels` is not the folder of a run.
        """
        if self.data is not None:
            return self.data
        assert self.labels is not None
        return Path(read_labelled_run(self.labels).request["data"])


@dataclass(frozen=True)
class Trial:
    """One training of a comparison, and its tests.

    Attributes:
        learns_saliency: See `Row`.
        tests: "test" -> the request for labels of that list, with their scores; likewise "train", of ground truth that
            was learned, and "saliency", of images with masks of salient objects.
    """

    row: str
    weighting: str
    seed: int
    learns_saliency: bool
    training: TrainRequest
    tests: dict[str, PredictRequest]


def check_sets(request: CompareRequest) -> list[str]:
    """Look at all sets of a comparison, so that no fault shows after the first training.

    Returns:
        What has to be known of scores on the test images: how many of these are learned, or choose the network.

    Raises:
        DatasetError: A set cannot be read, lacks label maps, or has other classes than those that are learned.
        ArtifactError: `labels` is not the folder of a run.
    """
    seen = set()
    notes: dict[str, None] = {}
    for trial in trials(request):
        sets = (trial.training.saliency, *((test.data, test.split) for test in trial.tests.values()))
        if sets not in seen:
            seen.add(sets)
            learned, validation = open_training_sets(trial.training)
            tested = {
                name: open_truth(test, trial.training.settings, learned.classes, request.classes)[0]
                for name, test in trial.tests.items()
            }
            choosing = trial.training.settings.training.keep == "best"
            for name, called in (("test", "test images"), ("saliency", "test images with masks of salient objects")):
                for others, what in ((learned, "are learned"), (validation, "choose the network" if choosing else "")):
                    if name in tested and what and (count := num_shared(tested[name], others)):
                        notes[f"{count} of the {len(tested[name].samples)} {called} {what} too"] = None
    return list(notes)


def trials(request: CompareRequest) -> Iterator[Trial]:
    """Yield every training of a comparison, one seed after the other."""
    data = request.test_data
    shared: dict[str, Any] = {
        "time_limit": request.time_limit,
        "store": request.store_address,
        "workers": request.workers,
        "device": request.device,
        "cluster": request.cluster,
    }
    for seed in request.seeds:
        for weighting in request.weightings or (None,):
            for name, row in request.chosen.items():
                settings = _settings(request, row, weighting, seed)
                weights: str = settings.training.class_weights  # pyright: ignore[reportAttributeAccessIssue]
                folder = request.out / f"{name}-{weights}-{seed}"
                training = TrainRequest(
                    data=data,
                    labels=request.labels,
                    split=None if request.labels else request.train,
                    val=request.val or ("val" if settings.training.keep == "best" else None),
                    out=folder,
                    preset=request.preset,
                    settings=settings,
                    saliency=request.saliency if row.learns_saliency else (),
                    saliency_split=request.saliency_split if row.learns_saliency else (),
                    **shared,
                )
                lists = {"test": (data, request.test)}
                if request.labels is None:
                    lists["train"] = (data, request.train)
                if row.learns_saliency and request.saliency and request.saliency_test:
                    lists["saliency"] = (request.saliency[0], request.saliency_test)
                tests = {
                    test: PredictRequest(
                        network=folder.absolute(), data=where, split=split, evaluate=True, out=folder / test, **shared
                    )
                    for test, (where, split) in lists.items()
                }
                yield Trial(name, weights, seed, row.learns_saliency, training, tests)


def _training_fields(row: Row) -> set[str]:
    """Return the training settings that a row's network has a use for."""
    fields = NETWORKS[row.network].settings.model_fields["training"].annotation.model_fields  # pyright: ignore
    return {*fields} - {*row.lacks}


def _settings(request: CompareRequest, row: Row, weighting: str | None, seed: int) -> NetworkSettings:
    settings = NETWORKS[row.network].presets[request.preset]()
    fields = _training_fields(row)
    asked = {name: value for name, value in request.training.items() if name in fields}
    training = {**settings.training.model_dump(), **asked, **row.training}
    if weighting is not None:
        training["class_weights"] = weighting
    testing = {**settings.testing.model_dump(), **row.testing}
    changed: dict[str, Any] = {"seed": seed, "training": training, "testing": testing}
    backbone, weights = request.backbone or settings.backbone, request.weights or settings.weights
    if row.backbone in request.row_weights:
        backbone, weights = row.backbone, request.row_weights[row.backbone]
    elif row.backbone not in (None, backbone):
        # A file is of another backbone.
        backbone, weights = row.backbone, "imagenet" if isinstance(weights, str) else None
    elif not row.takes_weights:
        weights = None
    return type(settings).model_validate({**settings.model_dump(), **changed, "backbone": backbone, "weights": weights})
