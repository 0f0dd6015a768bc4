"""The settings of networks that are trained on label maps or instance masks, and of their testing.

The defaults are those of the papers; `flows.network_presets` has smaller ones.
"""

from __future__ import annotations

from typing import get_args

from tasks.networks.deeplab import (
    PREDICTIONS,
    CooperativeConfig,
    CooperativeSettings,
    DeepLabV2Settings,
    DeepLabV3PlusConfig,
    DeepLabV3PlusSettings,
    SaliencyConfig,
    SaliencySettings,
)
from tasks.networks.maskrcnn import DetectionConfig, DetectorConfig, MaskRCNNSettings
from tasks.networks.pixels import ClassWeights, PixelTrainerConfig, SegmentationConfig, SegmenterConfig
from tasks.networks.segnet import (
    DECODER_VARIANTS,
    ON_VGG16,
    SCENE_NETWORKS,
    SceneConfig,
    SceneNetworkName,
    SceneSettings,
)
from tasks.networks.trainer import TrainerConfig
from tasks.settings import RunConfig

__all__ = [
    "DECODER_VARIANTS",
    "NETWORK_SETTINGS",
    "ON_VGG16",
    "PREDICTIONS",
    "SCENE_NETWORKS",
    "ClassWeights",
    "CooperativeConfig",
    "CooperativeSettings",
    "DeepLabV2Settings",
    "DeepLabV3PlusConfig",
    "DeepLabV3PlusSettings",
    "DetectionConfig",
    "DetectorConfig",
    "MaskRCNNSettings",
    "NetworkSettings",
    "PixelTrainerConfig",
    "SaliencyConfig",
    "SaliencySettings",
    "SceneConfig",
    "SceneNetworkName",
    "SceneSettings",
    "SegmentationConfig",
    "SegmenterConfig",
    "TrainerConfig",
]

NetworkSettings = (
    DeepLabV2Settings
    | DeepLabV3PlusSettings
    | SaliencySettings
    | CooperativeSettings
    | MaskRCNNSettings
    | SceneSettings
)
NETWORK_SETTINGS: dict[str, type[RunConfig]] = {
    name: kind for kind in get_args(NetworkSettings) for name in get_args(kind.model_fields["network"].annotation)
}
"""Network -> its settings."""
