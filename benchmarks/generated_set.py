"""A tagged set of any number of classes, each an emblem of its own shape, colour and stripes before clutter."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap, value_type
from data.formats.label_maps import write_label_map

SIZE = (144, 192)


def write_generated(root: Path, *, num_classes: int, num_images: int, seed: int, untagged: int = 0) -> None:
    """Write a plain folder of images with `labels.csv` and, for scores, `SegmentationClass`.

    Every image has one or two emblems of different classes; a class goes round, so that all have about as many images.

    Args:
        root: The folder; made if it does not exist.
        num_classes: Of the set; their names say nothing.
        num_images: With emblems.
        seed: Of the set.
        untagged: Images without any emblem.
    """
    (root / "SegmentationClass").mkdir(parents=True, exist_ok=True)
    names = [f"emblem {number:03d}" for number in range(num_classes)]
    rows = ["image,labels"]
    for index in range(num_images + untagged):
        rng = np.random.default_rng([seed, index])
        wanted = [] if index >= num_images else [index % num_classes]
        if wanted and num_classes > 2 and rng.random() < 0.3:
            wanted.append(int((wanted[0] + rng.integers(1, num_classes)) % num_classes))
        image, labels = _draw(rng, wanted)
        id = f"{index:05d}"
        cv2.imwrite(str(root / f"{id}.jpg"), image[:, :, ::-1])
        write_label_map(root / "SegmentationClass" / f"{id}.png", labels)
        rows.append(f"{id},{';'.join(names[c] for c in sorted(wanted))}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


def _draw(rng: np.random.Generator, classes: list[int]) -> tuple[NDArray[np.uint8], LabelMap]:
    """Return an image [H, W, 3] and its label map [H, W]; the emblems lie side by side."""
    height, width = SIZE
    ground = rng.uniform(60, 190, (6, 8, 1)) + rng.normal(0, 20, (6, 8, 3))
    canvas = cv2.resize(ground.astype(np.float32), (width, height))
    canvas += rng.normal(0, 6, canvas.shape).astype(np.float32)
    for _ in range(8):
        start, end = rng.uniform(0, (width, height), (2, 2)).astype(int)
        colour = rng.uniform(40, 200, 3).tolist()
        cv2.line(canvas, start.tolist(), end.tolist(), colour, int(rng.integers(1, 6)))
    labels = np.zeros(SIZE, np.uint16)
    for position, c in enumerate(classes):
        middle = width * (position + 0.5) / len(classes), height / 2
        centre = np.array(middle) + rng.uniform(-12, 12, 2)
        radius = rng.uniform(24, 42 if len(classes) > 1 else 56)
        mask = _outline(c, centre, radius, rng.uniform(-0.4, 0.4))
        canvas[mask] = _pattern(c, rng)[mask] + rng.normal(0, 8, (mask.sum(), 3))
        # The value of void belongs to no class.
        labels[mask] = c + 1 + (c >= VOID - 1)
    return canvas.clip(0, 255).astype(np.uint8), labels.astype(value_type(int(labels.max()) + 1))


def _outline(c: int, centre: NDArray, radius: float, turn: float) -> NDArray[np.bool_]:
    """Return the emblem's pixels: a star of 3 to 8 points, as blunt as its class says."""
    points, bluntness = 3 + c % 6, 0.45 + 0.5 * (c // 6 % 3) / 2
    angles = turn + np.pi * np.arange(2 * points) / points
    lengths = radius * np.where(np.arange(2 * points) % 2, bluntness, 1.0)
    corners = centre + lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    mask = np.zeros(SIZE, np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    return mask.astype(bool)


def _pattern(c: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return stripes in the class's two hues and direction, [H, W, 3]."""
    hue = 180 * (c * 0.618 % 1)
    pair = np.array([[[hue, 220, 220], [(hue + 60) % 180, 200, 150]]], np.uint8)
    first, second = cv2.cvtColor(pair, cv2.COLOR_HSV2RGB)[0].astype(np.float32)
    angle = np.pi * (c // 3 % 8) / 8
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (0.35 + 0.3 * (c % 2)) + rng.uniform(0, 6))
    return np.where(wave[..., None] > 0, first, second)
