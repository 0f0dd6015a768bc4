"""What `network.json` states is checked before a network of that size is made."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from data.dataset import DatasetError
from models.segnet import build_scene_network
from tasks.networks import load_classifier, load_segmenter, save_network


@pytest.mark.parametrize("count", [20_000_000, 0, -3, "4", 2.5])
def test_a_number_of_classes_that_cannot_be_is_refused(tmp_path: Path, count: object) -> None:
    (tmp_path / "network.json").write_text(json.dumps({"num_classes": count}))
    with pytest.raises(DatasetError, match=r"network\.json: expected at most 2000 classes"):
        load_classifier(tmp_path)


def test_tensors_of_another_version_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    save_network(build_scene_network("fcn-basic", 3, input="local_contrast"), tmp_path)
    state = load_file(tmp_path / "network.safetensors")
    save_file({**state, "reductions.0.0.bias": state["reductions.0.1.bias"].clone()}, tmp_path / "network.safetensors")
    with pytest.raises(DatasetError, match=r"network\.safetensors: .*another version wrote it; train it again"):
        load_segmenter(tmp_path)
