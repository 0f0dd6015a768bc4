"""Presets of the networks that learn from label maps. Each says its command, time and score."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flows.network_presets import deeplabv2, deeplabv3plus, maskrcnn, scenes
from tasks.networks import (
    SCENE_NETWORKS,
    CooperativeSettings,
    DeepLabV3PlusSettings,
    NetworkSettings,
    SaliencySettings,
)

Presets = dict[str, Callable[[], NetworkSettings]]


def _scenes(name: str) -> Presets:
    kinds = {
        "quick": scenes.quick,
        "camvid": scenes.camvid,
        "sunrgbd": scenes.sunrgbd,
        "demo": scenes.demo,
    }
    return {preset: partial(build, name) for preset, build in kinds.items()}  # pyright: ignore[reportArgumentType]


def _on_deeplabv3plus(build: Callable[[], NetworkSettings]) -> Presets:
    kinds = {
        "quick": deeplabv3plus.quick,
        "cityscapes": deeplabv3plus.cityscapes,
        "voc12": deeplabv3plus.voc12,
        "demo": deeplabv3plus.demo,
    }
    return {name: partial(preset, build()) for name, preset in kinds.items()}  # pyright: ignore[reportArgumentType]


NETWORK_PRESETS: dict[str, Presets] = {
    "deeplabv2": {
        "quick": deeplabv2.quick,
        "voc12": deeplabv2.voc12,
        "demo": deeplabv2.demo,
    },
    "maskrcnn": {"quick": maskrcnn.quick, "voc12": maskrcnn.voc12, "demo": maskrcnn.demo},
    "deeplabv3plus": _on_deeplabv3plus(DeepLabV3PlusSettings),
    "saliency-deeplabv3plus": _on_deeplabv3plus(SaliencySettings),
    **{
        name: _on_deeplabv3plus(partial(CooperativeSettings, network=name))
        for name in ("cooperative-danet", "cooperative-deeplabv3plus")
    },
    **{name: _scenes(name) for name in SCENE_NETWORKS},
}
"""Network -> preset -> its settings."""
