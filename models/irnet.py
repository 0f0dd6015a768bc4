"""IRNet: class boundaries and displacement fields from the five levels of a frozen backbone (Sec. 4.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import OUTPUT_STRIDE, Backbone, build_backbone, load_trunk
from models.reference_checkpoints import reference_backbone_state

FIRST_STRIDES = (4, 4, 8)


def _reduce(in_channels: int, out_channels: int, groups: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.GroupNorm(groups, out_channels)]


def _upsample(x: Tensor, factor: int, like: Tensor) -> Tensor:
    """Upsample by a whole factor, then crop to the size of `like`: grids of odd sizes are ceil(size / 2)."""
    if factor > 1:
        x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return x[..., : like.shape[-2], : like.shape[-1]]


class BoundaryBranch(nn.Module):
    """Every level to 32 channels at stride 4, concatenated, to one logit: B of Eq. 7 is its sigmoid."""

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.factors = [stride // 4 for stride in strides]
        self.reduce = nn.ModuleList(nn.Sequential(*_reduce(width, 32, 4)) for width in channels)
        self.predict = nn.Conv2d(32 * len(channels), 1, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        reduced = [
            F.relu(_upsample(reduce(level), factor, like=levels[1]))
            for reduce, level, factor in zip(self.reduce, levels, self.factors, strict=True)
        ]
        return self.predict(torch.cat(reduced, dim=1))


class DisplacementBranch(nn.Module):
    """A top-down path to two channels (dy, dx) in feature pixels: D of Eq. 5.

    Attributes:
        mean: Mean of the field over the training images, which inference subtracts.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.factors = [stride // 8 for stride in strides[2:]]
        # Levels narrower than the reference's are widened to the same numbers of channels.
        widths = ((64, 8), (128, 16), (256, 16), (256, 16), (256, 16))
        self.reduce = nn.ModuleList(
            nn.Sequential(*_reduce(width, out, groups)) for width, (out, groups) in zip(channels, widths, strict=True)
        )
        self.merge_deep = nn.Sequential(*_reduce(3 * 256, 256, 16))
        self.merge_all = nn.Sequential(*_reduce(64 + 128 + 256, 256, 16), nn.ReLU())
        self.predict = nn.Conv2d(256, 2, 1, bias=False)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, levels: list[Tensor]) -> Tensor:
        shallow = [F.relu(reduce(x)) for reduce, x in zip(self.reduce[:2], levels[:2], strict=True)]
        deep = [
            F.relu(_upsample(reduce(x), factor, like=levels[2]))
            for reduce, x, factor in zip(self.reduce[2:], levels[2:], self.factors, strict=True)
        ]
        merged = F.relu(_upsample(self.merge_deep(torch.cat(deep, dim=1)), 2, like=levels[1]))
        return self.predict(self.merge_all(torch.cat([*shallow, merged], dim=1)))


class IRNet(nn.Module):
    """Both branches on one backbone, whose batch norms are never trained.

    Args:
        backbone: Brings the five feature levels.
        train_backbone: Let gradients into the backbone; the paper keeps it frozen.

    Raises:
        ValueError: The backbone's first three levels are at other strides than 4, 4 and 8.
    """

    def __init__(self, backbone: Backbone, *, train_backbone: bool = False) -> None:
        super().__init__()
        if backbone.strides[:3] != FIRST_STRIDES:
            expected, found = (", ".join(map(str, strides)) for strides in (FIRST_STRIDES, backbone.strides[:3]))
            raise ValueError(f"IRNet needs a backbone whose first levels are at strides {expected}, got {found}")
        self.train_backbone = train_backbone
        self.backbone = backbone
        self.boundary = BoundaryBranch(backbone.channels, backbone.strides)
        self.displacement = DisplacementBranch(backbone.channels, backbone.strides)
        self.backbone.requires_grad_(train_backbone)

    @classmethod
    def from_reference(cls, state_dict: Mapping[str, Tensor]) -> IRNet:
        """Build the network from a checkpoint of the reference's IRNet (keys `resnet50.*`, `fc_edge*`, `fc_dp*`).

        Raises:
            ValueError: A key is missing.
        """
        net = cls(build_backbone("resnet50"))
        load_trunk(net.backbone, reference_backbone_state(state_dict), source="the checkpoint")
        names = {f"fc_edge{k + 1}": f"boundary.reduce.{k}" for k in range(5)}
        names |= {f"fc_dp{k + 1}": f"displacement.reduce.{k}" for k in range(5)}
        names |= {"fc_dp6": "displacement.merge_deep", "fc_dp7": "displacement.merge_all"}
        special = {
            "fc_edge6.weight": "boundary.predict.weight",
            "fc_edge6.bias": "boundary.predict.bias",
            "fc_dp7.3.weight": "displacement.predict.weight",
            "mean_shift.running_mean": "displacement.mean",
        }
        branches = {k: v for k, v in net.state_dict().items() if not k.startswith("backbone.")}
        sources = {target: source for source, target in special.items()}
        sources |= {
            f"{target}.{rest}": f"{source}.{rest}"
            for source, target in names.items()
            for rest in ("0.weight", "1.weight", "1.bias")
        }
        missing = sorted(sources[k] for k in branches if sources[k] not in state_dict)
        if missing:
            raise ValueError(f"not a checkpoint of the reference's IRNet: it has no {', '.join(missing)}")
        loaded = {k: state_dict[sources[k]] for k in branches}
        net.load_state_dict({**net.state_dict(), **loaded}, strict=True)
        return net

    def train(self, mode: bool = True) -> IRNet:
        """Set the branches' mode; the backbone stays in evaluation mode, so that its batch norms do not move."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor]:
        """Return boundary logits [B, 1, h, w] and displacement [B, 2, h, w] (dy, dx), at stride 4.

        The mean displacement is subtracted in evaluation mode only: in training the losses see the raw field.
        """
        with torch.set_grad_enabled(self.train_backbone and torch.is_grad_enabled()):
            levels = self.backbone(x)
        return self.boundary(levels), self._field(levels)

    def _field(self, levels: list[Tensor]) -> Tensor:
        field = self.displacement(levels)
        return field if self.training else field - self.displacement.mean.view(1, 2, 1, 1)

    @torch.no_grad()
    def infer(
        self, x: Float[Tensor, "b 3 h w"], *, mirror: bool = True, pad_to: tuple[int, int] | None = None
    ) -> tuple[Float[Tensor, "b h4 w4"], Float[Tensor, "b 2 h4 w4"]]:
        """Return boundary probabilities in [0, 1] and displacements (dy, dx), at ceil(size / 4).

        Args:
            x: Normalised input of any size.
            mirror: Average the logits with the flipped-back ones of the mirrored images. The displacement is
                the images' alone.
            pad_to: Size that the input is zero-padded to at bottom and right; by default the next multiple of 16.
                (The reference pads to 512 x 512 and cuts off what is larger; the padding enters the group norms.)
        """
        batch, _, height, width = x.shape
        rows, columns = -(-height // 4), -(-width // 4)
        full_height, full_width = pad_to or (
            -(-height // OUTPUT_STRIDE) * OUTPUT_STRIDE,
            -(-width // OUTPUT_STRIDE) * OUTPUT_STRIDE,
        )
        views = torch.cat([x, x.flip(-1)]) if mirror else x
        levels = self.backbone(F.pad(views, (0, full_width - width, 0, full_height - height)))
        logits = self.boundary(levels)[:, 0, :rows, :columns].float()
        if mirror:
            logits = (logits[:batch] + logits[batch:].flip(-1)) / 2
        displacement = self._field([level[:batch] for level in levels])
        return logits.sigmoid(), displacement[..., :rows, :columns].float()
