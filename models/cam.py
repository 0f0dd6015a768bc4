"""The image classifier and its class attention maps (Ahn et al. 2019, Sec. 3)."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import Backbone, build_backbone, load_trunk
from models.reference_checkpoints import reference_backbone_state


class CAMNet(nn.Module):
    """A backbone, pooling and a linear classifier without bias.

    Gradients stop behind the third feature level (stride 8), as in the reference, unless the backbone is
    trained from random weights.

    Attributes:
        top_share: Half of a class's logit is the mean over this share of the cells, those where it is highest, the
            other half the mean over all of them. 0 is global average pooling, as in the paper.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, top_share: float = 0.0) -> None:
        super().__init__()
        self.top_share = top_share
        self.backbone = backbone
        self.num_classes = num_classes
        self.classifier = nn.Conv2d(backbone.channels[-1], num_classes, 1, bias=False)

    @classmethod
    def from_reference(cls, state_dict: Mapping[str, Tensor]) -> CAMNet:
        """Build the network from a checkpoint of the reference's classifier (keys `resnet50.*`, `classifier.weight`).

        Raises:
            ValueError: A key is missing or has another shape than a ResNet-50's.
        """
        weight = state_dict.get("classifier.weight")
        if weight is None:
            raise ValueError("not a checkpoint of the reference's classifier: it has no 'classifier.weight'")
        net = cls(build_backbone("resnet50"), num_classes=weight.shape[0])
        load_trunk(net.backbone, reference_backbone_state(state_dict), source="the checkpoint")
        net.classifier.load_state_dict({"weight": weight}, strict=True)
        return net

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Return the classes' logits for normalised input."""
        stop_after = 3 if self.backbone.pretrained else 0
        features = self.backbone(x, stop_gradient_after=stop_after)[-1]
        logits = self.classifier(features.mean(dim=(2, 3), keepdim=True)).flatten(1)
        if not self.top_share:
            return logits
        cells = self.classifier(features).flatten(2)
        highest = cells.topk(max(1, round(self.top_share * cells.shape[2])), dim=2).values
        return (logits + highest.mean(dim=2)) / 2

    def activations(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h16 w16"]:
        """Return relu of the classifier applied at each place: Eq. 1 before its normalisation."""
        return F.relu(self.classifier(self.backbone(x)[-1]))
