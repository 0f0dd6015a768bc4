"""CAMNet and IRNet on the reference's checkpoint layout give the reference's numbers."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.cam import CAMNet
from models.irnet import IRNet

pytestmark = pytest.mark.oracles


def formula_state_dict(layout: dict[str, dict]) -> dict[str, Tensor]:
    """Return the formula weights of the oracles' README for every key of a reference checkpoint."""
    state: dict[str, Tensor] = {}
    for key, entry in layout.items():
        if "same_tensor_as" in entry:
            state[key] = state[entry["same_tensor_as"]]
            continue
        shape = entry["shape"]
        if key.endswith("num_batches_tracked") or key.startswith("path_indices"):
            state[key] = torch.zeros(shape, dtype=torch.long)
            continue
        values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
        if key.endswith("running_var"):
            values = np.abs(values) * 0.2 + 0.9
        elif key.endswith("running_mean"):
            values = 0.1 * values
        elif len(shape) == 1:
            values = 0.05 * values + (1.0 if key.endswith("weight") else 0.0)
        else:
            values = values / np.sqrt(np.prod(shape[1:]))
        state[key] = torch.from_numpy(values.astype(np.float32))
    return state


@pytest.fixture(scope="module")
def layouts(oracles: Path) -> dict:
    return json.loads((oracles / "reference_state_dict.json").read_text())


@pytest.fixture(scope="module")
def expected(oracles: Path) -> dict[str, np.ndarray]:
    with np.load(oracles / "networks.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@torch.no_grad()
def test_classifier_and_cams_match_the_reference(layouts: dict, expected: dict) -> None:
    net = CAMNet.from_reference(formula_state_dict(layouts["cam"])).eval()
    image = torch.from_numpy(expected["image"])
    np.testing.assert_allclose(net(image), expected["logits"], atol=1e-3, rtol=1e-3)
    both = net.activations(torch.cat([image, image.flip(-1)]))
    np.testing.assert_allclose(both[0] + both[1].flip(-1), expected["cam_flip_sum"], atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_boundary_and_displacement_match_the_reference(layouts: dict, expected: dict) -> None:
    net = IRNet.from_reference(formula_state_dict(layouts["irn"])).eval()
    image = torch.from_numpy(expected["image"])[..., :93, :121]
    boundary, displacement = net.infer(image, pad_to=(160, 160))
    np.testing.assert_allclose(boundary, expected["boundary_93x121"], atol=1e-3)
    np.testing.assert_allclose(displacement[0], expected["displacement_93x121"], atol=1e-3, rtol=1e-3)


def test_parameter_counts_are_the_reference_s(layouts: dict) -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    irnet = IRNet.from_reference(formula_state_dict(layouts["irn"]))
    assert count(irnet.boundary) == 125_409
    assert count(irnet.displacement) == 1_269_120
    assert count(irnet.backbone) == 23_508_032
    assert count(CAMNet.from_reference(formula_state_dict(layouts["cam"]))) == 23_548_992


def test_a_checkpoint_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classifier\.weight"):
        CAMNet.from_reference({"conv1.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="resnet50"):
        IRNet.from_reference({"conv1.weight": torch.zeros(1)})
