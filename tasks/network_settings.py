"""The settings of networks that are trained on label maps or instance masks, and of their testing.

The defaults are those of the papers; `flows.presets` has smaller ones.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from tasks.config import Config
from tasks.settings import Fraction, NonNegative, OptimizerName, Positive, PositiveInt, Range, RunConfig

Side = Annotated[int, Field(ge=32)]


class TrainerConfig(Config):
    """What the trainer of every network can be told.

    Attributes:
        batch_size: Images of a step, of all processes together.
        batch_parts: A process's share of a step is computed in this many parts, which takes less memory.
        epochs: Passes over the set.
        optimizer: "sgd", "adam" or "adamw".
        learning_rate: Of the backbone.
        head_lr_factor: What is not the backbone learns this many times faster.
        momentum: Of SGD.
        power: Learning rates decay by (1 - step / steps) ** power.
        warmup_steps: Steps in which they grow from nothing first.
        clip_norm: Largest norm of the gradients; None for any.
        ema_decay: Decay of a moving average of the weights, which is then what is tested and kept; None for none.
        precision: Of the network's arithmetic; "auto" is bfloat16 on a GPU and float32 elsewhere. With float16 losses
            are scaled.
        freeze_norm: Keep batch norm at the statistics of the pretrained weights. Without such it is trained.
        sync_norm: Batch norm over the images of all processes; without, each has its own share's.
        validate_epochs: The network is tested on the validation images after this many epochs, at one scale.
        keep: The network that comes out: the "last", or the "best" on the validation images.
        log_steps: TensorBoard's logs get the mean of so many steps; 0 for no logs.
    """

    batch_size: PositiveInt = 10
    batch_parts: PositiveInt = 1
    epochs: PositiveInt = 19
    optimizer: OptimizerName = "sgd"
    learning_rate: Positive = 2.5e-4
    head_lr_factor: Positive = 10.0
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 5e-4
    power: NonNegative = 0.9
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    freeze_norm: bool = True
    sync_norm: bool = False
    validate_epochs: PositiveInt = 1
    keep: Literal["last", "best"] = "last"
    log_steps: Annotated[int, Field(ge=0)] = 10


class PixelTrainerConfig(TrainerConfig):
    """Training of a network that gives every pixel a class.

    Attributes:
        class_weights: Of the cross-entropy: "none"; "median_frequency", the median of the classes' frequencies over
            a class's own, a frequency being that among the pixels of the images that have the class; "inverse_log",
            1 / ln(1.02 + the class's share of all pixels).
        keep_by: What the best network is the best in: the mean IoU, or the share of pixels that are right.
    """

    class_weights: Literal["none", "median_frequency", "inverse_log"] = "none"
    keep_by: Literal["miou", "accuracy"] = "miou"


class SegmenterConfig(PixelTrainerConfig):
    """Training on random crops.

    Attributes:
        crop_size: Side of the square training crop in pixels; what the image does not fill is ignored.
        rescale: Range of the random rescaling before the crop.
        photometric: Strength of random brightness, contrast and saturation, 0 for none.
    """

    crop_size: Annotated[int, Field(ge=32)] = 321
    rescale: Range = (0.5, 1.5)
    photometric: Fraction = 0.0


class SceneConfig(PixelTrainerConfig):
    """Training on whole images of one size (Badrinarayanan et al. 2017, Sec. 3.2 and 4).

    Attributes:
        image_size: (H, W) that every image is resized to, in training and testing.
        mirror: Mirror training images at random.
        input: What the network is shown: "local_contrast" (pixels against their surroundings, which the paper has for
            the decoder variants), or "imagenet" (by ImageNet's mean and deviation, which VGG16's weights expect).
        dropout: Of the networks on VGG16.
        recompute_norms: Before each evaluation the statistics of batch norm are computed anew, over the whole training
            set. Without, they are running means of the last batches.
    """

    batch_size: PositiveInt = 12
    epochs: PositiveInt = 330
    learning_rate: Positive = 0.1
    head_lr_factor: Positive = 1.0
    momentum: Fraction = 0.9
    power: NonNegative = 0.0
    freeze_norm: bool = False
    validate_epochs: PositiveInt = 33
    keep: Literal["last", "best"] = "best"
    keep_by: Literal["miou", "accuracy"] = "accuracy"
    class_weights: Literal["none", "median_frequency", "inverse_log"] = "median_frequency"
    image_size: tuple[Side, Side] = (360, 480)
    mirror: bool = False
    input: Literal["imagenet", "local_contrast"] = "local_contrast"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    recompute_norms: bool = True


class SegmentationConfig(Config):
    """Label maps from a trained network.

    Attributes:
        scales: The image is seen at each of these sizes; the probabilities are averaged.
        mirror: So are those of the mirrored image.
        crf_iterations: Of a dense CRF on the probabilities; 0 leaves it out.
    """

    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 1.5, 2.0)
    mirror: bool = True
    crf_iterations: Annotated[int, Field(ge=0)] = 0


class DeepLabV2Settings(RunConfig):
    """DeepLab v2; the defaults are the original's for VOC 2012: 20,000 steps of 10 of its 10,582 images."""

    network: Literal["deeplabv2"] = "deeplabv2"
    training: SegmenterConfig = SegmenterConfig()
    testing: SegmentationConfig = SegmentationConfig()


class DetectorConfig(TrainerConfig):
    """Training of a network that finds instances and their masks.

    Attributes:
        min_score: Of the instance labels; those that score lower are regions to ignore, neither object nor background.
        rescale: Range of the random rescaling, before the network brings the image to its own size.
        crop_size: Side of a square cut from the rescaled image; None for the whole image.
        min_size: The network resizes images so that their short side has this many pixels,
        max_size: or fewer, where the long side would have more than this.
        anchor_sizes: Sides of the anchors at strides 4, 8, 16, 32 and 64, in pixels of the resized image.
        channels: Of the feature pyramid and the mask branch; the box branch has four times as many.
        num_proposals: Regions of an image that are looked at in training; half as many in testing.
        num_sampled: Of these, the regions that the branches learn from.
    """

    batch_size: PositiveInt = 16
    epochs: PositiveInt = 30
    learning_rate: Positive = 0.02
    head_lr_factor: Positive = 1.0
    weight_decay: NonNegative = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    min_score: Fraction = 0.3
    rescale: Range = (1.0, 1.0)
    crop_size: PositiveInt | None = None
    min_size: PositiveInt = 800
    max_size: PositiveInt = 1333
    anchor_sizes: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (32, 64, 128, 256, 512)
    channels: PositiveInt = 256
    num_proposals: PositiveInt = 2000
    num_sampled: PositiveInt = 512


class DetectionConfig(Config):
    """Instances from a trained network.

    Attributes:
        min_score: Detections that score lower are dropped.
        mask_threshold: Pixels whose probability reaches this belong to the mask.
    """

    min_score: Fraction = 0.05
    mask_threshold: Fraction = 0.5


class MaskRCNNSettings(RunConfig):
    """Mask R-CNN with a feature pyramid; the defaults are Detectron's, but for the steps.

    The polynomial decay stands for Detectron's two drops of the rate; 30 epochs of VOC's 10,582 images are 20,000
    steps.
    """

    network: Literal["maskrcnn"] = "maskrcnn"
    training: DetectorConfig = DetectorConfig()
    testing: DetectionConfig = DetectionConfig()


SceneNetworkName = Literal[
    "segnet",
    "segnet-basic",
    "segnet-basic-encoder-addition",
    "segnet-basic-single-channel-decoder",
    "bilinear-interpolation",
    "fcn-basic",
    "fcn-basic-no-addition",
    "fcn-basic-no-dim-reduction",
    "fcn-basic-no-addition-no-dim-reduction",
    "fcn-fixed",
    "fcn-learned",
    "deeplab-largefov",
    "deconvnet",
]
SCENE_NETWORKS: tuple[SceneNetworkName, ...] = get_args(SceneNetworkName)


class SceneSettings(RunConfig):
    """SegNet, its decoder variants, and what it is measured against; the defaults are the paper's for the variants.

    Attributes:
        backbone: Of those on VGG16; the others start from random weights.
    """

    network: SceneNetworkName = "segnet-basic"
    backbone: Literal["vgg16"] = "vgg16"  # pyright: ignore[reportIncompatibleVariableOverride]
    training: SceneConfig = SceneConfig()
    testing: SegmentationConfig = SegmentationConfig(scales=(1.0,), mirror=False)


NETWORK_SETTINGS: dict[str, type[RunConfig]] = {
    "deeplabv2": DeepLabV2Settings,
    "maskrcnn": MaskRCNNSettings,
    **dict.fromkeys(SCENE_NETWORKS, SceneSettings),
}
"""Network -> its settings."""
