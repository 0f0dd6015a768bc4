"""Networks that are trained on label maps or instance masks: `NETWORKS` is the one list of them.

Settings, presets and record of a network are in one file. The defaults of settings are those of the papers.
`docs/how-to/add_a_network.md` says how to add one.
"""

from __future__ import annotations

from tasks.networks import cooperative, deeplabv2, deeplabv3plus, maskrcnn, pspnet, saliency, segnet
from tasks.networks.spec import NetworkSettings, NetworkSpec

__all__ = ["NETWORKS", "NetworkSettings", "NetworkSpec", "families"]

NETWORKS: dict[str, NetworkSpec] = {
    spec.name: spec
    for spec in (
        deeplabv2.SPEC,
        maskrcnn.SPEC,
        deeplabv3plus.SPEC,
        pspnet.SPEC,
        saliency.SPEC,
        *cooperative.SPECS,
        *segnet.SPECS,
    )
}
"""Name -> record."""


def families() -> dict[str, list[NetworkSpec]]:
    """Return deployment -> the networks that share it, and with it their class of settings."""
    found: dict[str, list[NetworkSpec]] = {}
    for spec in NETWORKS.values():
        found.setdefault(spec.flow, []).append(spec)
    return found
