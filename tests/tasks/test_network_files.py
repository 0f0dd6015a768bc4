"""What `network.json` states is checked before a network of that size is made."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.dataset import DatasetError
from models.backbones.base import Backbone, BackboneChoice
from models.cam import CAMNet
from tasks.networks import NETWORKS
from tasks.networks.loading import load_trained
from tasks.training.saving import load_classifier, load_irnet, save_network


@pytest.mark.parametrize("count", [20_000_000, 0, -3, "4", 2.5])
def test_a_number_of_classes_that_cannot_be_is_refused(tmp_path: Path, count: object) -> None:
    (tmp_path / "network.json").write_text(json.dumps({"num_classes": count}))
    with pytest.raises(DatasetError, match=r"network\.json: expected at most 2000 classes"):
        load_classifier(tmp_path)


def test_tensors_of_another_version_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    net = NETWORKS["fcn-basic"].build(3, BackboneChoice("vgg16"), {"input": "local_contrast"})
    save_network(net, tmp_path)  # pyright: ignore[reportArgumentType]
    state = load_file(tmp_path / "network.safetensors")
    save_file({**state, "reductions.0.0.bias": state["reductions.0.1.bias"].clone()}, tmp_path / "network.safetensors")
    with pytest.raises(DatasetError, match=r"network\.safetensors: .*another version wrote it: train it again"):
        load_trained("fcn-basic", tmp_path)


RECIPE = {"num_classes": 2, "network": "deeplabv2", "options": {}, "image_size": None, "backbone": "resnet18"}
RECIPE |= {"convention": "torchvision", "pretrained": False, "output_stride": 8}


@pytest.mark.parametrize(
    "load",
    [load_classifier, load_irnet, partial(load_trained, "maskrcnn"), partial(load_trained, "deeplabv2")],
)
@pytest.mark.parametrize("change", [None, 5, {"backbone": "x"}, {"convention": []}, {"options": {"x": 1}}])
def test_a_description_that_was_changed_is_named(tmp_path: Path, load: Callable[..., object], change: object) -> None:
    if load is load_irnet and isinstance(change, dict) and "options" in change:
        pytest.skip("an IRNet has no options")
    content = RECIPE | change if isinstance(change, dict) else change
    (tmp_path / "network.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"network\.json: expected"):
        load(tmp_path)


@pytest.mark.parametrize("size", [[10**6, 10**6], [0, 8], [-5, 5], [8.5, 8], "ab", [8]])
def test_a_size_of_images_that_cannot_be_is_named(tmp_path: Path, size: object) -> None:
    (tmp_path / "network.json").write_text(json.dumps(RECIPE | {"image_size": size}))
    with pytest.raises(DatasetError, match=r"network\.json: expected a network as it was saved"):
        load_trained("deeplabv2", tmp_path)


def test_a_description_of_a_giant_is_refused_before_it_is_made(tmp_path: Path) -> None:
    net = NETWORKS["maskrcnn"].build(3, BackboneChoice("resnet18"), {"channels": 16})
    save_network(net, tmp_path, channels=16)  # pyright: ignore[reportArgumentType]
    load_trained("maskrcnn", tmp_path)
    file = tmp_path / "network.json"
    # 360 GB of one layer's values.
    file.write_text(file.read_text().replace('"channels": 16', '"channels": 100000'))
    with pytest.raises(DatasetError, match=r"network\.safetensors: .* is \[.*16.*\], and \[.*100000.*\] by network"):
        load_trained("maskrcnn", tmp_path)


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


def test_a_network_that_nobody_knows_is_refused_with_the_names_of_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown network 'unet'; expected one of deeplabv2, "):
        load_trained("unet", tmp_path)


BACKBONE = {"backbone": "resnet18", "convention": "torchvision", "pretrained": True}
EARLIER: dict[str, dict[str, Any]] = {
    # The first version recorded neither name nor size.
    "deeplabv2": {"options": {}, **BACKBONE, "output_stride": 8},
    "deeplabv3plus": {
        "network": "deeplabv3plus",
        "options": {"dsc": True},
        "image_size": [120, 160],
        **BACKBONE,
        "output_stride": 16,
    },
    "cooperative-danet": {
        "network": "cooperative-danet",
        "options": {"connections": "same-layer", "prediction": None},
        "image_size": None,
        **BACKBONE,
        "output_stride": 8,
    },
    "fcn-basic": {
        "network": "fcn-basic",
        "options": {"input": "local_contrast", "dropout": 0.5},
        "image_size": [32, 48],
    },
    "maskrcnn": {"options": {"channels": 16, "num_proposals": 40}, **BACKBONE, "output_stride": 32},
}


@pytest.mark.parametrize("name", EARLIER)
def test_a_network_that_an_earlier_version_saved_is_loaded(tmp_path: Path, name: str) -> None:
    described = EARLIER[name]
    net = NETWORKS[name].build(3, BackboneChoice("resnet18"), described["options"])
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    save_file(state, tmp_path / "network.safetensors")
    (tmp_path / "network.json").write_text(json.dumps({"num_classes": 3} | described))
    loaded = load_trained(name, tmp_path)
    assert not loaded.training
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    if name != "maskrcnn":
        size = described.get("image_size")
        assert (loaded.name, loaded.image_size) == (name, size and tuple(size))
