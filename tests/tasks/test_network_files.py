"""What `network.json` states is checked before a network of that size is made."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from data.dataset import DatasetError
from models.backbones.base import Backbone
from models.cam import CAMNet
from models.segnet import build_scene_network
from tasks.training.saving import load_classifier, load_irnet, load_maskrcnn, load_segmenter, save_network


@pytest.mark.parametrize("count", [20_000_000, 0, -3, "4", 2.5])
def test_a_number_of_classes_that_cannot_be_is_refused(tmp_path: Path, count: object) -> None:
    (tmp_path / "network.json").write_text(json.dumps({"num_classes": count}))
    with pytest.raises(DatasetError, match=r"network\.json: expected at most 2000 classes"):
        load_classifier(tmp_path)


def test_tensors_of_another_version_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    save_network(build_scene_network("fcn-basic", 3, input="local_contrast"), tmp_path)
    state = load_file(tmp_path / "network.safetensors")
    save_file({**state, "reductions.0.0.bias": state["reductions.0.1.bias"].clone()}, tmp_path / "network.safetensors")
    with pytest.raises(DatasetError, match=r"network\.safetensors: .*another version wrote it: train it again"):
        load_segmenter(tmp_path)


RECIPE = {"num_classes": 2, "network": "deeplabv2", "options": {}, "image_size": None, "backbone": "resnet18"}
RECIPE |= {"convention": "torchvision", "pretrained": False, "output_stride": 8}


@pytest.mark.parametrize("load", [load_classifier, load_irnet, load_maskrcnn, load_segmenter])
@pytest.mark.parametrize("change", [None, 5, {"backbone": "x"}, {"convention": []}, {"options": {"x": 1}}])
def test_a_description_that_was_changed_is_named(tmp_path: Path, load: Callable[..., object], change: object) -> None:
    if load is load_irnet and isinstance(change, dict) and "options" in change:
        pytest.skip("an IRNet has no options")
    content = RECIPE | change if isinstance(change, dict) else change
    (tmp_path / "network.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"network\.json: expected"):
        load(tmp_path)


def test_tensors_that_were_changed_are_named(tmp_path: Path) -> None:
    save_network(CAMNet(Backbone("resnet18", "torchvision", 16), 2), tmp_path)
    load_classifier(tmp_path)
    file = tmp_path / "network.safetensors"
    for content in (b"", b"x", file.read_bytes()[:500], (2).to_bytes(8, "little") + b"{}"):
        file.write_bytes(content)
        with pytest.raises(DatasetError, match=r"network\.safetensors: expected a network as it was saved"):
            load_classifier(tmp_path)
    file.unlink()
    with pytest.raises(DatasetError, match=r"network\.safetensors: expected a network as it was saved"):
        load_classifier(tmp_path)
