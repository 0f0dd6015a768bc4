"""Class attention maps of any method, made labels by a random walk within boundaries and a dense CRF.

    python examples/refine_cams.py

The CAMs of this example are poor on purpose: spots in the middle of each object, as a classifier finds them. Put those
of your own method in their place: one array [K, h, w] per image, the highest value of each class about 1. The
boundaries are outlines of the ground truth; put those of IRNet or of an edge detector in their place.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

import pseudomask as pm
from data.synthetic.dataset import draw_scene

NUM_IMAGES, SIZE = 6, (128, 160)


def main() -> None:
    """Print how well the pixels of the objects are found, before and after."""
    scenes = [draw_scene(np.random.default_rng(seed), SIZE, main_kind=seed % 5) for seed in range(NUM_IMAGES)]
    images = [image for image, _, _ in scenes]
    classes = [[value for value in np.unique(semantic) if value] for _, semantic, _ in scenes]
    truths = [as_rows(semantic, own) for (_, semantic, _), own in zip(scenes, classes, strict=True)]
    cams = [spots(truth, len(own)) for truth, own in zip(truths, classes, strict=True)]
    boundaries = [outlines(truth) for truth in truths]

    before = [np.where(cam.max(0) > 0.25, cam.argmax(0) + 1, 0) for cam in cams]
    after = [found.semantic for found in pm.refine(images, cams, boundaries)]
    print(f"mIoU of the CAMs        {mean_iou(before, truths):.3f}")
    print(f"mIoU of pm.refine's     {mean_iou(after, truths):.3f}")


def as_rows(semantic: NDArray[np.uint8], own: list[int]) -> NDArray[np.int64]:
    """Return a map [H, W] of 1 + the position of each pixel's class among those of the image, 0 for background."""
    return np.sum([(semantic == value) * (row + 1) for row, value in enumerate(own)], axis=0)


def spots(truth: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Return [K, H, W]: high in the middle of each class's pixels, and vague around them."""
    maps = np.zeros((num_classes, *truth.shape), np.float32)
    for row in range(num_classes):
        inside = cv2.distanceTransform((truth == row + 1).astype(np.uint8), cv2.DIST_L2, 3)
        spot = cv2.GaussianBlur((inside > 0.6 * inside.max()).astype(np.float32), (0, 0), 3)
        maps[row] = spot / max(float(spot.max()), 1e-6)
    return maps


def outlines(truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the outlines of the objects [H, W], in [0, 1]: a stand-in for a network that finds boundaries."""
    change = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    return 0.9 * change.astype(np.float32)


def mean_iou(found: list[NDArray], truths: list[NDArray]) -> float:
    """Return the mean over images of the mean IoU of their classes, background included."""
    scores = []
    for labels, truth in zip(found, truths, strict=True):
        values = np.unique(truth)
        overlaps = [
            ((labels == value) & (truth == value)).sum() / ((labels == value) | (truth == value)).sum()
            for value in values
        ]
        scores.append(np.mean(overlaps))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
