"""Steps of training: forward, backward and the optimiser, of both networks that learn a run's labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.inputs import photograph
from benchmarks.row import Speed, synchronised
from models.backbones.base import build_backbone
from models.deeplabv2 import DeepLabV2
from models.maskrcnn import MaskRCNN
from tasks.training import autocast
from tasks.training.norms import freeze_norms

NUM_CLASSES = 21
# Of the original settings.
CROP, SHORT_SIDE, LONG_SIDE = 513, 800, 1066
OBJECTS = 4


def speeds() -> list[Speed]:
    device, batch = ("cuda", 4) if torch.cuda.is_available() else ("cpu", 1)
    found = []
    for name, build in {
        f"DeepLab v2, ResNet-50, {CROP} x {CROP}": _deeplab,
        f"Mask R-CNN, ResNet-50-FPN, {SHORT_SIDE} x {LONG_SIDE}": _maskrcnn,
    }.items():
        work = _lazily(build, device, batch)
        found.append(Speed(f"training, {name}, batch {batch}", synchronised(work) if device == "cuda" else work, batch))
    return found


def _lazily(build: Callable[[str, int], Callable[[], None]], device: str, batch: int) -> Callable[[], None]:
    """Return the step, whose network is built when it is first taken."""
    made = cache(lambda: build(device, batch))
    return lambda: made()()


def _deeplab(device: str, batch: int) -> Callable[[], None]:
    net = DeepLabV2(build_backbone("resnet50", output_stride=8), NUM_CLASSES).train().to(device)
    net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    freeze_norms(net.backbone)
    images = _images(batch, CROP, CROP).to(device, memory_format=torch.channels_last)
    labels = torch.randint(NUM_CLASSES, (batch, CROP, CROP), device=device)

    def loss() -> Tensor:
        with autocast(device):
            logits = net(net.backbone.normalize(images))
        return F.cross_entropy(logits.float(), labels)

    return _step(net, loss)


def _maskrcnn(device: str, batch: int) -> Callable[[], None]:
    backbone = build_backbone("resnet50", output_stride=32)
    # As with ImageNet weights: batch norms and the first levels do not learn.
    backbone.pretrained = True
    net = MaskRCNN(backbone, NUM_CLASSES).to(device).train()
    images = list(_images(batch, SHORT_SIDE, LONG_SIDE).to(device))
    masks = torch.zeros(OBJECTS, SHORT_SIDE, LONG_SIDE, dtype=torch.uint8)
    boxes = torch.tensor([[60.0 + 200 * k, 100.0 + 50 * k, 240.0 + 200 * k, 500.0 + 50 * k] for k in range(OBJECTS)])
    for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    taught = {"boxes": boxes, "labels": torch.arange(1, OBJECTS + 1), "masks": masks, "ignored": torch.zeros(0, 4)}
    targets = [{name: value.to(device) for name, value in taught.items()}] * batch

    def loss() -> Tensor:
        with autocast(device):
            losses = net(images, targets)
        return torch.stack([value.float() for value in losses.values()]).sum()

    return _step(net, loss)


def _step(net: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def _images(batch: int, height: int, width: int) -> Tensor:
    pixels = torch.from_numpy(photograph(height, width)).permute(2, 0, 1).float()
    return pixels.expand(batch, -1, -1, -1).contiguous()
