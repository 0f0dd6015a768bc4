"""What a comparison of networks is asked to do, and the trainings that it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from flows.network_presets import NETWORK_PRESETS
from flows.request import Request
from flows.train_request import PredictRequest, SceneRequest
from tasks.network_settings import SCENE_NETWORKS, SceneNetworkName, SceneSettings, SegmentationConfig

TableName = Literal["segnet-decoders", "segnet-benchmark"]
Weighting = Literal["median_frequency", "none"]
# As the paper calls the dense CRF behind DeepLab-LargeFOV.
WITH_CRF = "deeplab-largefov-densecrf"
CRF_ITERATIONS = 10
ROWS: dict[TableName, tuple[str, ...]] = {
    "segnet-decoders": SCENE_NETWORKS[:9],
    "segnet-benchmark": ("segnet", "deeplab-largefov", WITH_CRF, "fcn-fixed", "fcn-learned", "deconvnet"),
}
"""Table -> its rows; a row is a network, or `WITH_CRF`."""


class CompareRequest(Request):
    """A comparison. The parameters of the flow `compare`.

    Attributes:
        table: "segnet-decoders", the paper's Table 1, or "segnet-benchmark", its Table 3.
        data: Folder of a data set with label maps.
        train: The list of images to learn from.
        val: The list by which a training's best network is chosen.
        test: The list that networks are tested on, beside the one that they learned from.
        rows: Of the table; all if none are named.
        weightings: Of the classes in the loss; each is a part of the table.
        seeds: Every network is trained once for each.
        training: Training settings that are other than the preset's, for all networks.
    """

    table: TableName
    data: Path
    train: str = "train"
    val: str = "val"
    test: str = "test"
    rows: tuple[SceneNetworkName | Literal["deeplab-largefov-densecrf"], ...] = ()
    weightings: tuple[Weighting, ...] = Field(default=("median_frequency",), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One training of a comparison, and its tests.

    Attributes:
        tests: "train" and "test" -> the request for labels of that list, with their scores.
    """

    row: str
    weighting: str
    seed: int
    training: SceneRequest
    tests: dict[str, PredictRequest]


def trials(request: CompareRequest) -> Iterator[Trial]:
    """Yield every training of a comparison, one seed after the other."""
    shared: dict[str, Any] = {
        "store": request.store_address,
        "workers": request.workers,
        "device": request.device,
        "cluster": request.cluster,
    }
    for seed in request.seeds:
        for weighting in request.weightings:
            for row in request.rows or ROWS[request.table]:
                folder = request.out / f"{row}-{weighting}-{seed}"
                settings = _settings(request, row, weighting, seed)
                training = SceneRequest(
                    data=request.data,
                    split=request.train,
                    val=request.val,
                    out=folder,
                    preset=request.preset,
                    settings=settings,
                    **shared,
                )
                tests = {
                    name: PredictRequest(
                        network=folder.absolute(),
                        data=request.data,
                        split=split,
                        evaluate=True,
                        out=folder / name,
                        **shared,
                    )
                    for name, split in (("test", request.test), ("train", request.train))
                }
                yield Trial(row, weighting, seed, training, tests)


def _settings(request: CompareRequest, row: str, weighting: str, seed: int) -> SceneSettings:
    network = "deeplab-largefov" if row == WITH_CRF else row
    settings = NETWORK_PRESETS[network][request.preset]()
    assert isinstance(settings, SceneSettings)
    training = {**settings.training.model_dump(), **request.training, "class_weights": weighting}
    testing = settings.testing
    if row == WITH_CRF:
        testing = SegmentationConfig(**{**testing.model_dump(), "crf_iterations": CRF_ITERATIONS})
    changed = {"seed": seed, "training": training, "testing": testing}
    return SceneSettings.model_validate({**settings.model_dump(), **changed})
