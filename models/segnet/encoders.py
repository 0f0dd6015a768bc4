"""The two encoders: the 13 convolutions of VGG16 with batch norm, and the four of SegNet-Basic."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from models.backbones.base import load_imagenet_state
from models.layers import conv_norm
from models.segmenter import Segmenter
from models.segnet.inputs import INPUTS, Input

VGG16_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Dropout is behind this encoder, those that are deeper, and their decoders.
FIRST_DROPOUT = 2
BASIC_WIDTH = 64
BASIC_KERNEL = 7
BASIC_DEPTH = 4
# torchvision's download is of these.
IMAGENET = "vgg16_bn"


class Encoder(nn.Module):
    """Encoders, each to be followed by pooling.

    Attributes:
        encoders: As given.
        dropouts: What follows the pooling behind each encoder: dropout, or nothing.
        input: What the network is shown.
        normalize: From RGB pixels [B, 3, H, W] in [0, 255] to the network's input.
        pretrained: Whether its weights are those of ImageNet.
    """

    def __init__(self, encoders: list[nn.Module], input: Input, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dropouts = nn.ModuleList(
            nn.Dropout(dropout) if dropout and number >= FIRST_DROPOUT else nn.Identity()
            for number in range(len(encoders))
        )
        self.input: Input = input
        self.pretrained = False
        self.normalize = INPUTS[input]()


class VGG16(Encoder):
    """The 13 convolutions of VGG16, 3 x 3, each with batch norm and a rectifier, in five encoders.

    Args:
        input: What the network is shown.
        dropout: Behind the pooling of the three deepest encoders (Sec. 4), as the authors' files have it. Before
            pooling it would choose other maxima in training, and unpooling would bring values back to other places.
        dilation: Of the convolutions of the fifth.
    """

    def __init__(self, input: Input = "imagenet", dropout: float = 0.0, dilation: int = 1) -> None:
        encoders: list[nn.Module] = []
        channels = 3
        for number, widths in enumerate(VGG16_WIDTHS):
            layers = nn.Sequential()
            for width in widths:
                layers.extend(conv_norm(channels, width, 3, dilation=dilation if number == 4 else 1))
                channels = width
            encoders.append(layers)
        super().__init__(encoders, input, dropout)

    def load(self, weights: str | Path) -> dict[str, Tensor]:
        """Take ImageNet's weights: torchvision's download ("imagenet-v1"), or a file in the layout of its VGG16.

        A file without batch norm gives the convolutions alone.

        Returns:
            All weights that there are, those of the fully connected layers among them.

        Raises:
            ValueError: The file's keys or shapes are not those of VGG16.
        """
        state = load_imagenet_state(IMAGENET, weights)
        with_norm = any(key.endswith("running_mean") for key in state)
        layers = [module for module in self.encoders.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
        if not with_norm:
            layers = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        names = list(dict.fromkeys(key.rpartition(".")[0] for key in state if key.startswith("features.")))
        if len(names) != len(layers):
            raise ValueError(f"{weights}: not the weights of VGG16: {len(names)} layers, expected {len(layers)}")
        for name, layer in zip(names, layers, strict=True):
            load_layer(layer, state, name, weights)
        self.pretrained = True
        return state


def load_layer(layer: nn.Module, state: Mapping[str, Tensor], name: str, weights: str | Path) -> None:
    """Take the weights of VGG16's layer of a name; a convolution takes those of a fully connected layer too.

    Raises:
        ValueError: They are not those of such a layer.
    """
    own = {key.rpartition(".")[2]: value for key, value in state.items() if key.rpartition(".")[0] == name}
    try:
        if isinstance(layer, nn.Conv2d) and "weight" in own and own["weight"].dim() == 2:
            own["weight"] = own["weight"].unflatten(1, (-1, *layer.kernel_size))
        layer.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"{weights}: not the weights of VGG16: {name}: {error}") from error


class BasicEncoder(Encoder):
    """Four encoders of one 7 x 7 convolution each, 64 maps, without biases (Sec. 3.1)."""

    def __init__(self, input: Input = "local_contrast") -> None:
        channels = (3, *[BASIC_WIDTH] * BASIC_DEPTH)
        super().__init__([conv_norm(a, b, BASIC_KERNEL, bias=False) for a, b in pairwise(channels)], input)


class SceneNetwork(Segmenter):
    """A network on one of the encoders.

    Attributes:
        least_side: Of an image, in pixels: the stride of its deepest maps, which otherwise see more border than image.
    """

    least_side: int
    stored_maps: float | None = 0

    def __init__(self, backbone: Encoder, num_classes: int, num_poolings: int | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.least_side = 2 ** (num_poolings or len(backbone.encoders))
        self.register_forward_pre_hook(_refuse_small)

    def load(self, weights: str | Path) -> None:
        """Start from ImageNet's weights; see `VGG16.load`."""
        assert isinstance(self.backbone, VGG16)
        self.backbone.load(weights)


def _refuse_small(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    height, width = inputs[0].shape[2:]
    assert isinstance(net, SceneNetwork)
    if min(height, width) < net.least_side:
        raise ValueError(
            f"{net.name}: expected images of at least {net.least_side} x {net.least_side}, got {height} x {width}"
        )
