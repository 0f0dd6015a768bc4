"""Requests as deployments make them: partial settings lie over a preset, and what does not fit is named."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from data.dataset import ClassTable, CocoSource, Dataset, Sample
from data.label_maps import read_ground_truth, write_label_map
from data.validation import check_images
from flows.network_presets import NETWORK_PRESETS
from flows.network_requests import DeepLabV2Request, MaskRCNNRequest
from flows.presets import PRESETS
from flows.regenerate_request import RegenerateRequest
from flows.request import Request, RunRequest, _as_trained
from flows.train_request import TrainRequest, open_training_sets

FOLDERS = {"data": "photos", "out": "runs/first"}


@pytest.mark.parametrize("kind", [RunRequest, RegenerateRequest])
@pytest.mark.parametrize("preset", ["quick", "voc12", "demo"])
def test_settings_that_are_not_named_are_the_presets(kind: type[RunRequest], preset: str) -> None:
    request = kind.model_validate({**FOLDERS, "preset": preset, "settings": {"walk": {"beta": 7}, "seed": 3}})
    expected = PRESETS[preset]()
    walk = expected.walk.model_copy(update={"beta": 7.0})
    assert request.settings == expected.model_copy(update={"walk": walk, "seed": 3})
    assert kind.model_validate({**FOLDERS, "preset": preset}).settings == expected
    assert kind.model_validate(request.model_dump(mode="json")) == request


def test_whole_settings_stay_as_they_are() -> None:
    settings = PRESETS["voc12"]()
    assert RunRequest(data=Path("photos"), out=Path("run"), preset="quick", settings=settings).settings == settings


@pytest.mark.parametrize(
    ("kind", "values", "network"),
    [
        (TrainRequest, {"settings": {"network": "maskrcnn", "seed": 5}}, "maskrcnn"),
        (DeepLabV2Request, {"settings": {"seed": 5}}, "deeplabv2"),
        (MaskRCNNRequest, {"settings": {"seed": 5}}, "maskrcnn"),
    ],
)
def test_a_networks_settings_lie_over_its_own_preset(
    kind: type[TrainRequest], values: dict[str, Any], network: str
) -> None:
    request = kind.model_validate({**FOLDERS, "preset": "demo", **values})
    assert request.settings == NETWORK_PRESETS[network]["demo"]().model_copy(update={"seed": 5})


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (RunRequest, {"preset": "quickly"}, "preset 'quickly': expected one of quick, voc12, demo"),
        (RunRequest, {"settings": {"walk": {"steps": "many"}}}, r"settings\.walk\.steps"),
        (RunRequest, {"settings": {"walks": {}}}, r"settings\.walks"),
        (RegenerateRequest, {"time_limit": 0}, "time_limit"),
        (MaskRCNNRequest, {"settings": {"network": "deeplabv2"}}, "network"),
    ],
)
def test_what_does_not_fit_is_named(kind: type[Request], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate({**FOLDERS, **values})


def test_ground_truth_of_coco_is_read_by_the_networks_class_table() -> None:
    file = Path("instances.json")
    found = Sample("a", Path("a.jpg"), labels=(0, 1), coco=CocoSource(file, 5, (7, 3)))
    theirs = Dataset(Path(), ClassTable(("sheep", "cat"), (7, 3)), (found,))
    table = ClassTable(("cat", "dog", "sheep"))
    seen = Dataset(Path(), table, (Sample("b", Path("b.jpg"), labels=(0, 1, 2)),))
    ours = _as_trained(theirs, SimpleNamespace(classes=table, dataset=seen, folder="run"))  # pyright: ignore[reportArgumentType]
    assert ours.classes == table
    assert ours.samples[0].labels == (0, 2)
    assert ours.samples[0].coco == CocoSource(file, 5, (3, -2, 7))


def test_a_runs_labels_are_label_maps_whatever_its_set_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([[0, 1, 1], [0, 255, 1]], np.uint8)
    write_label_map(tmp_path / "run/labels/SegmentationClass/a.png", labels)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 3, 3), np.uint8))
    sample = Sample("a", tmp_path / "a.png", (0,), tmp_path / "mask.png", coding="saliency")
    record = SimpleNamespace(
        folder="run",
        dataset=Dataset(tmp_path, ClassTable(("salient",)), (sample,)),
        request={"data": str(tmp_path), "classes": None},
    )
    monkeypatch.setattr("flows.train_request.read_labelled_run", lambda _: record)
    request = TrainRequest(
        labels=tmp_path / "run", out=tmp_path / "net", settings=NETWORK_PRESETS["deeplabv2"]["quick"](), preset="quick"
    )
    training, _ = open_training_sets(request)
    assert not check_images(training, 1)
    assert np.array_equal(read_ground_truth(training.samples[0]).semantic, labels)  # pyright: ignore
