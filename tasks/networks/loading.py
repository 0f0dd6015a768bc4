"""Loading of a trained network by its name."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tasks.networks import NETWORKS
from tasks.training.saving import load_network


def load_trained(network: str, folder: Path, device: str = "cpu") -> nn.Module:
    """Return a network by the name of its training, in evaluation mode.

    Raises:
        ValueError: No network has this name.
        DatasetError: It is not as it was saved, or another version wrote it.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; expected one of {', '.join(NETWORKS)}")
    return load_network(folder, NETWORKS[network].model, device)
