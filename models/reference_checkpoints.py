"""The key layout of the IRNet authors' checkpoints, which name every backbone tensor several times."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_PREFIX = "resnet50."


def reference_backbone_state(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the ResNet-50 of a reference checkpoint in torchvision's key layout.

    Raises:
        ValueError: There is none.
    """
    state = {
        key.removeprefix(_PREFIX): value
        for key, value in state_dict.items()
        if key.startswith(_PREFIX) and not key.startswith(f"{_PREFIX}fc.")
    }
    if not state:
        raise ValueError("not a checkpoint of the reference: it has no 'resnet50.*' keys")
    return state
