"""A synthetic set in the VOC layout: textured objects of five classes before clutter, often touching."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data.formats.label_maps import write_label_map
from data.synthetic.shapes import SHAPES, Placement, Plane, paint_ids, place_objects

_JPEG_QUALITY = 90
_MIN_SIDE_PX = 32
# Share of clutter in the bright colours that objects have, so that colour alone finds no object.
_VIVID_CLUTTER = 0.1


def write_synthetic(
    root: Path, *, num_images: int, seed: int, size: tuple[int, int] = (128, 160), num_val: int = 0
) -> None:
    """Write `num_images` training and `num_val` validation images with all their labels below `root`.

    Files: `JPEGImages`, `SegmentationClass` and `SegmentationObject` (palette PNGs, ids from 1),
    `ImageSets/Segmentation/{train,val}.txt`, `labels.csv` (an image without objects has an empty cell) and
    `classes.txt`. Every image has a random stream of its own, so it stays the same, byte for byte, whatever
    the number of images. Files of the same name are replaced.

    Args:
        root: The folder of the set; made if it does not exist.
        num_images: Images of the training list, called `train_00000` and so on.
        seed: Of the set; two seeds share no image.
        size: (H, W) of every image, at least 32 pixels each.
        num_val: Images of the validation list, called `val_00000` and so on.

    Raises:
        ValueError: A negative number of images, or a side under 32 pixels.
    """
    if min(num_images, num_val) < 0 or min(size) < _MIN_SIDE_PX:
        raise ValueError(
            f"expected num_images >= 0, num_val >= 0 and sides of at least {_MIN_SIDE_PX} px, "
            f"got {num_images}, {num_val}, {size}"
        )
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = [("image", "labels")]
    for split, (name, count) in enumerate((("train", num_images), ("val", num_val))):
        ids = [f"{name}_{index:05d}" for index in range(count)]
        for index, image_id in enumerate(ids):
            rng = np.random.default_rng([seed, split, index])
            # The main class goes round, so that a small set is balanced too.
            labels = _write_image(root, image_id, rng, size, main_kind=index % len(SHAPES))
            rows.append((image_id, ";".join(labels)))
        listing = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        listing.write_text("".join(f"{image_id}\n" for image_id in ids))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    (root / "classes.txt").write_text("".join(f"{shape.name}\n" for shape in SHAPES))


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int], main_kind: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one image.

    Returns:
        The image (uint8 [H, W, 3], RGB), its semantic map (uint8 [H, W], 0 background, index in
        `SHAPES` + 1) and its instance map (uint8 [H, W], ids from 1 without a gap). A pixel belongs to the
        object whose outline holds its centre; the colours mix at the edge.
    """
    placements = place_objects(rng, size, main_kind)
    canvas = _background(rng, size)
    for placement in placements:
        _draw_object(rng, canvas, placement)
    image = _photograph(rng, canvas)
    instances = paint_ids(placements, size)
    kinds = np.array([0, *(p.kind + 1 for p in placements)], np.uint8)
    return image, kinds[instances], instances


def _write_image(
    root: Path, image_id: str, rng: np.random.Generator, size: tuple[int, int], main_kind: int
) -> list[str]:
    """Write one image and its maps; return the names of its classes."""
    image, semantic, instances = draw_scene(rng, size, main_kind)
    _, jpeg = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    (root / "JPEGImages" / f"{image_id}.jpg").write_bytes(jpeg.tobytes())
    write_label_map(root / "SegmentationClass" / f"{image_id}.png", semantic)
    write_label_map(root / "SegmentationObject" / f"{image_id}.png", instances)
    return [SHAPES[value - 1].name for value in np.unique(semantic) if value]


def _smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: float, channels: int) -> Plane:
    """Return noise of unit variance or less whose blobs are about `cell` pixels wide, [H, W, channels]."""
    grid = (math.ceil(size[0] / cell) + 2, math.ceil(size[1] / cell) + 2, channels)
    noise = rng.standard_normal(grid, dtype=np.float32)
    resized = cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return resized.reshape(*size, channels).astype(np.float32, copy=False)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> Plane:
    """Return a textured ground with clutter that has no class's outline, float32 [H, W, 3] in 0..255."""
    canvas = np.broadcast_to(_muted(rng), (*size, 3)).copy()
    for cell, strongest in ((2.5, 14), (8, 22), (22, 24), (60, 34)):
        strength, colourfulness = rng.uniform((0.2, 0), (1, 0.6)).astype(np.float32)
        grey, tint = _smooth_noise(rng, size, cell, 1), _smooth_noise(rng, size, cell, 3)
        canvas += strength * strongest * (grey + colourfulness * tint)
    grain = 18 * _smooth_noise(rng, size, 5, 1)
    for _ in range(int(rng.integers(6, 15))):
        coverage = _clutter_coverage(rng, size)
        left, top, width, height = cv2.boundingRect(coverage)
        box = (slice(top, top + height), slice(left, left + width))
        opacity = coverage[box][:, :, None] * np.float32(rng.uniform(0.5, 1) / 255)
        colour = rng.uniform(10, 245, 3).astype(np.float32) if rng.random() < _VIVID_CLUTTER else _muted(rng)
        canvas[box] += opacity * (colour + grain[box] - canvas[box])
    return canvas


def _muted(rng: np.random.Generator) -> Plane:
    """Return a colour of the ground: a grey with a tint."""
    return (rng.uniform(60, 190) + rng.normal(0, 16, 3)).astype(np.float32)


def _clutter_coverage(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return how much of each pixel one stroke, long ellipse or ragged blob covers, 0..255."""
    coverage = np.zeros(size, np.uint8)
    short_side = min(size)
    centre = rng.uniform(0, 1, 2) * (size[1], size[0])
    length, angle = short_side * rng.uniform(0.08, 0.35), rng.uniform(0, math.pi)
    style = rng.integers(3)
    if style == 0:
        reach = 2 * length * np.array([math.cos(angle), math.sin(angle)])
        ends = [tuple(int(c) for c in centre + sign * reach) for sign in (-1, 1)]
        cv2.line(coverage, ends[0], ends[1], 255, int(rng.integers(1, 6)), cv2.LINE_AA)
    elif style == 1:
        axes = (int(length), max(1, int(length * rng.uniform(0.15, 0.5))))
        middle = (int(centre[0]), int(centre[1]))
        cv2.ellipse(coverage, middle, axes, math.degrees(angle), 0, 360, 255, -1, cv2.LINE_AA)
    else:
        turns = np.linspace(0, 2 * math.pi, 9, endpoint=False) + angle
        spokes = 0.7 * length * rng.uniform(0.3, 1.2, 9)
        corners = centre + spokes[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        cv2.fillPoly(coverage, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    return coverage


def _draw_object(rng: np.random.Generator, canvas: Plane, placement: Placement) -> None:
    """Paint one object over the canvas: two colours in its class's pattern, lit from one side."""
    coverage = np.clip(0.5 - placement.distance, 0, 1)[:, :, None]
    ground = canvas[placement.mask].mean(axis=0)
    pigment = np.array(SHAPES[placement.kind].pigment, np.float32)
    colour = _contrasting(rng, ground, enough=70, near=pigment)
    accent = _contrasting(rng, colour, enough=110)
    stretch, phase = rng.uniform(0.85, 1.2), rng.uniform(-0.15, 0.15)
    wave = SHAPES[placement.kind].wave(placement.u * stretch + phase, placement.v * stretch)
    share = np.clip(0.5 + 1.5 * wave, 0, 1)[:, :, None] * np.float32(rng.uniform(0.6, 0.9))
    paint = colour + share * (accent - colour)
    canvas += coverage * (paint * _shading(rng, placement)[:, :, None] - canvas)


def _contrasting(rng: np.random.Generator, reference: Plane, enough: float, near: Plane | None = None) -> Plane:
    """Return the first of some random colours that differs enough from `reference`, else the most different one.

    Colours are drawn from all over, or about `near`, which is then their mean and not much more.
    """
    candidates = rng.uniform(15, 240, (8, 3)).astype(np.float32)
    if near is not None:
        candidates = np.clip(near + rng.normal(0, 36, (8, 3)), 10, 245).astype(np.float32)
    contrast = np.linalg.norm(candidates - reference, axis=1)
    return candidates[np.argmax(np.minimum(contrast, enough))]


def _shading(rng: np.random.Generator, placement: Placement) -> Plane:
    """Return the light on an object, [H, W]: brighter round one of its points, darker towards its rim."""
    glint_u, glint_v = rng.uniform(-0.35, 0.35, 2)
    glint = np.exp(-((placement.u - glint_u) ** 2 + (placement.v - glint_v) ** 2) / 0.4)
    depth = np.clip(-placement.distance / (0.3 * placement.radius), 0, 1)
    dark = rng.uniform(0.55, 0.75)
    return (dark + (1 - dark) * depth + rng.uniform(0.15, 0.45) * glint).astype(np.float32)


def _photograph(rng: np.random.Generator, canvas: Plane) -> NDArray[np.uint8]:
    """Light the scene from one side with a tint, blur it slightly and add sensor noise."""
    height, width = canvas.shape[:2]
    direction = rng.uniform(0, 2 * math.pi)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None] * math.sin(direction)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * math.cos(direction)
    tint = (rng.uniform(0.05, 0.3) + rng.uniform(-0.08, 0.08, 3)).astype(np.float32)
    lit = canvas * (np.float32(rng.uniform(0.75, 1.2)) * (1 + tint * (x + y)))
    lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 0.8))
    lit += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(2, 6))
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
