"""The objects of the synthetic set: each class's signed distance and pattern, and how they are laid out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]

_TOUCHING_SHARE = 0.45
_EMPTY_SHARE = 0.05
_MIN_VISIBLE = 0.015
# Relative to the short side: half of the diameters 25 % to 60 %.
_RADIUS_RANGE = (0.125, 0.30)
# Half of the gap between objects of one class that are to stay apart.
_HALF_GAP_PX = 3.0
_TRIES = 8


@dataclass(frozen=True)
class Shape:
    """A class: outline and texture in the object's own frame, where a disc of equal extent has radius 1.

    Attributes:
        name: The class's name.
        distance: (u, v) -> signed distance to the outline, negative inside; exact near the edges.
        wave: (u, v) -> pattern around 0, about -1 to 1.
        pigment: The mean colour of its kind, RGB in [0, 255]; single objects are far from it.
    """

    name: str
    distance: Callable[[Plane, Plane], Plane]
    wave: Callable[[Plane, Plane], Plane]
    pigment: tuple[int, int, int]


def _disc(u: Plane, v: Plane) -> Plane:
    return np.hypot(u, v) - 1


def _square(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - 0.88


def _triangle(u: Plane, v: Plane) -> Plane:
    half, slant = 0.5 * v, math.sqrt(0.75) * u
    return np.maximum(-v, half + np.abs(slant)) - 0.68


def _star(u: Plane, v: Plane, tip: float = 1.35, notch: float = 0.65) -> Plane:
    # Ten mirrored sectors hold one edge each, from a tip on the axis to a notch at 36 degrees.
    sector = math.pi / 5
    angle = np.abs((np.arctan2(v, u) + sector) % (2 * sector) - sector)
    edge = np.array([notch * math.cos(sector) - tip, notch * math.sin(sector)])
    normal_x, normal_y = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    length = np.hypot(u, v)
    return (length * np.cos(angle) - tip) * float(normal_x) + length * np.sin(angle) * float(normal_y)


def _cross(u: Plane, v: Plane, arm: float = 1.1, width: float = 0.42) -> Plane:
    u, v = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(u - arm, v - width), np.maximum(u - width, v - arm))


SHAPES = (
    Shape("ball", _disc, lambda u, v: np.cos(12 * np.hypot(u, v)), (200, 70, 60)),
    Shape("crate", _square, lambda u, v: np.cos(10 * u), (70, 90, 200)),
    Shape("pennant", _triangle, lambda u, v: 2 * np.sin(6 * u) * np.sin(6 * v), (70, 170, 80)),
    Shape("starfish", _star, lambda u, v: np.cos(9 * u) + np.cos(9 * v) - 0.6, (215, 175, 60)),
    Shape("windmill", _cross, lambda u, v: np.cos(8 * np.arctan2(v, u)), (170, 70, 180)),
)


@dataclass(frozen=True, eq=False)
class Placement:
    """One object in an image of the given size.

    Attributes:
        kind: Index into `SHAPES`.
        centre: (y, x), pixels.
        radius: Pixels.
        angle: Radians.
        size: (H, W) of the image.
        u, v: float32 [H, W], every pixel's position in the object's frame.
        distance: float32 [H, W], pixels to the outline, negative inside.
    """

    kind: int
    centre: tuple[float, float]
    radius: float
    angle: float
    size: tuple[int, int]
    u: Plane = field(init=False, repr=False)
    v: Plane = field(init=False, repr=False)
    distance: Plane = field(init=False, repr=False)

    def __post_init__(self) -> None:
        y = (np.arange(self.size[0], dtype=np.float32)[:, None] - self.centre[0]) / self.radius
        x = (np.arange(self.size[1], dtype=np.float32)[None, :] - self.centre[1]) / self.radius
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        u, v = cosine * x + sine * y, cosine * y - sine * x
        object.__setattr__(self, "u", u)
        object.__setattr__(self, "v", v)
        object.__setattr__(self, "distance", SHAPES[self.kind].distance(u, v) * self.radius)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels whose centre lies inside the outline, [H, W]."""
        return self.distance <= 0

    @property
    def mostly_inside(self) -> bool:
        """Whether the frame cuts off only a minor part."""
        margin = 0.6 * self.radius
        return all(margin <= c <= side - margin for c, side in zip(self.centre, self.size, strict=True))

    def clearance(self, other: Placement) -> float:
        """Return half the gap between two objects in pixels; negative is how deep they overlap."""
        return float(np.maximum(self.distance, other.distance).min())


def place_objects(rng: np.random.Generator, size: tuple[int, int], main_kind: int) -> list[Placement]:
    """Lay out the objects of one image in drawing order: later ones hide earlier ones.

    About half of the images get a group of touching instances of `main_kind`; a few get nothing. An object
    that finds no room, or of which less than 1.5 % of the image would stay visible, is left out.
    """
    if rng.random() < _EMPTY_SHARE:
        return []
    touching = rng.random() < _TOUCHING_SHARE
    num_objects = int(rng.choice([2, 3, 4] if touching else [1, 2, 3]))
    has_second_kind = rng.random() < 0.5 and num_objects > 1 + touching
    num_main = num_objects - (int(rng.integers(1, num_objects - touching)) if has_second_kind else 0)
    second_kind = (main_kind + int(rng.integers(1, len(SHAPES)))) % len(SHAPES)

    placed: list[Placement] = []
    for index in range(num_objects):
        kind = main_kind if index < num_main else second_kind
        partners = [p for p in placed if p.kind == kind] if touching and kind == main_kind else []
        candidate = _find_room(rng, size, kind, placed, partners)
        if candidate is not None:
            placed.append(candidate)
    order = rng.permutation(len(placed))
    return _drop_hidden([placed[i] for i in order])


def paint_ids(placements: list[Placement], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the map of visible instances, [H, W]: 0 background, then 1 for the first placement and so on."""
    ids = np.zeros(size, np.uint8)
    for index, placement in enumerate(placements, start=1):
        ids[placement.mask] = index
    return ids


def _drop_hidden(placements: list[Placement]) -> list[Placement]:
    if not placements:
        return []
    size = placements[0].size
    visible = np.bincount(paint_ids(placements, size).ravel(), minlength=len(placements) + 1)[1:]
    # One pass is enough: what is left can only gain from what goes.
    return [p for p, area in zip(placements, visible, strict=True) if area >= _MIN_VISIBLE * size[0] * size[1]]


def _find_room(
    rng: np.random.Generator,
    size: tuple[int, int],
    kind: int,
    placed: list[Placement],
    partners: list[Placement],
) -> Placement | None:
    """Draw poses until one touches one of the partners, if there are any, and keeps off all others."""
    short_side = min(size)
    for _ in range(_TRIES):
        radius = short_side * float(rng.uniform(*_RADIUS_RANGE))
        angle = float(rng.uniform(0, 2 * math.pi))
        if partners:
            partner = partners[int(rng.integers(len(partners)))]
            candidate = _attach(rng, partner, radius, angle)
        else:
            partner = None
            y, x = (float(rng.uniform(0.8 * radius, side - 0.8 * radius)) for side in size)
            candidate = Placement(kind, (y, x), radius, angle, size)
        if candidate.mostly_inside and all(_compatible(candidate, other) for other in placed if other is not partner):
            return candidate
    return None


def _compatible(candidate: Placement, other: Placement) -> bool:
    """Two objects of one class keep apart; of two classes, one may hide a little of the other."""
    return candidate.clearance(other) > (_HALF_GAP_PX if candidate.kind == other.kind else -_HALF_GAP_PX)


def _attach(rng: np.random.Generator, partner: Placement, radius: float, angle: float) -> Placement:
    """Slide an object of the partner's class away from it until they barely overlap."""
    depth = float(rng.uniform(0.5, 0.5 + 0.1 * min(radius, partner.radius)))
    direction = float(rng.uniform(0, 2 * math.pi))

    def away(shift: float) -> Placement:
        y, x = partner.centre
        centre = (y + shift * math.sin(direction), x + shift * math.cos(direction))
        return Placement(partner.kind, centre, radius, angle, partner.size)

    near, far = 0.0, 1.5 * (radius + partner.radius)
    for _ in range(6):
        middle = (near + far) / 2
        if away(middle).clearance(partner) < -depth:
            near = middle
        else:
            far = middle
    return away(near)
