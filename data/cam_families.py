"""Families of class attention maps: how each method's files are known, read and thresholded. Adding one is one entry.

Where files have only one row of scores per class, a pixel is background below a constant. A method that scores the
background too, by a row of its own or by (1 - max) ** alpha, is brought to that form, in which its labels are the same:
`BACKGROUND_ROW` and `constant_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from data.pickles import TorchArray

Content = Mapping[Any, Any]
"""What a file of maps holds: name, or number of a class -> array; `PLAIN` -> array for a file of one array."""
PLAIN = "array"


class Presets(NamedTuple):
    """A method's own thresholds of background.

    Attributes:
        foreground: Below it, a pixel is not surely foreground, in the labels that IRNet learns from.
        background: Below it, a pixel is surely background there.
        labels: Of the walked scores.
    """

    foreground: float
    background: float
    labels: float


@dataclass(frozen=True)
class CamFamily:
    """Files of one form.

    Attributes:
        name: As `--cam-family` takes it.
        writer: Whose code writes them.
        recognises: Whether a file's content has the form.
        presets: The method's own thresholds, on VOC 2012 where they depend on the set; None where it has none.
        coco: Its thresholds on COCO 2014, from its code for that set; None where it has none, or the same.
        maps: Fields with maps [rows, h, w], the preferred one first; one on the grid at stride 4 goes before others.
            () where the content is class number -> map.
        keys: Field of the rows' classes; None where each class of the table has a row.
        background: A row of background is always there. Its scores weigh those of the classes ("weighs"), or the
            method thresholds the classes' rows alone ("dropped"). None: there is one only where the files show it.
        power: Exponent of scores that a row of background weighs, as in the method's walk.
        scale: "maximum": each map is divided by its highest value. "kept": probabilities, and the like, stay.
        may_miss_tags: Its classes are predicted or are all there are, so that they need not be the image's tags.
    """

    name: str
    writer: str
    recognises: Callable[[Content], bool]
    presets: Presets | None
    maps: tuple[str, ...] = ()
    keys: str | None = "keys"
    background: Literal["weighs", "dropped"] | None = None
    power: float = 1.0
    scale: Literal["maximum", "kept"] = "maximum"
    may_miss_tags: bool = False
    coco: Presets | None = None


def constant_of(alpha: float) -> float:
    """Return the score m at which a class equals a background of (1 - m) ** alpha: above it, the class wins."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if middle > (1 - middle) ** alpha else (middle, high)
    return round(low, 3)


def unpublished(best: float) -> Presets:
    """Return thresholds about the one that suits the maps best, by the rule that ReCAM's authors give in issue 15."""
    return Presets(round(best + 0.125, 3), round(best - 0.1, 3), best)


def row_presets(power: float = 1.0) -> Presets:
    """Return thresholds of scores c ** p / (c ** p + b ** p) for a background row b.

    The class wins where its score is above 1/2; and where half the background would win, background is sure.
    """
    halved = 0.5**power
    return Presets(0.5, round(halved / (1 + halved), 3), 0.5)


def _fields(*names: str, torch: tuple[str, ...] = (), numpy: tuple[str, ...] = ()) -> Callable[[Content], bool]:
    """Return a test that a content has fields, some of them of torch's or NumPy's kind."""

    def recognises(content: Content) -> bool:
        return (
            all(isinstance(content.get(name), np.ndarray) for name in names)
            and all(isinstance(content[name], TorchArray) for name in torch)
            and not any(isinstance(content[name], TorchArray) for name in numpy)
        )

    return recognises


def _has_row_beyond_keys(content: Content) -> bool:
    return _fields("keys", "cam")(content) and len(content["cam"]) == content["keys"].size + 1


def _has_0_among_keys(content: Content) -> bool:
    return any(_fields("keys", name)(content) for name in KEYED) and 0 in content["keys"]


def _is_numbered(content: Content) -> bool:
    return all(isinstance(key, int) and isinstance(value, np.ndarray) for key, value in content.items())


def _is_numbered_with_0(content: Content) -> bool:
    return _is_numbered(content) and 0 in content


KEYED = ("high_res", "hr_cam", "attn_highres", "valid_lam", "valid_cam", "rw", "cam")
_IRN: dict[str, Any] = {"recognises": _fields("keys", "cam", "high_res"), "maps": ("cam", "high_res")}
_NUMBERED: dict[str, Any] = {"recognises": _is_numbered, "keys": None}
_ROW: dict[str, Any] = {"background": "weighs", "scale": "kept"}
_SIPE: dict[str, Any] = {"presets": row_presets(1.5), "power": 1.5, **_ROW}
_LAM: dict[str, Any] = {"presets": unpublished(0.5), "scale": "kept", "may_miss_tags": True}
# Where psa's (1 - max) ** alpha loses: alpha 4 for sure foreground, 32 for sure background, 16 for the labels.
_PSA = Presets(constant_of(4), constant_of(32), constant_of(16))

FAMILIES: tuple[CamFamily, ...] = (
    CamFamily(
        "pseudomask", "pseudomask export cams", _fields("scores", "classes"), None, ("scores",), "classes", scale="kept"
    ),
    CamFamily(
        "amn",
        "gaviotas/AMN",
        _has_row_beyond_keys,
        Presets(0.45, 0.15, 0.25),
        ("cam", "high_res"),
        background="dropped",
        # Its walk on COCO starts from scores to the power 1.3, which are not taken.
        coco=Presets(0.45, 0.15, 0.22),
    ),
    CamFamily(
        "lpcam",
        "zhaozhengChen/LPCAM",
        _fields("keys", "cam", "high_res", torch=("high_res",), numpy=("keys",)),
        Presets(0.45, 0.25, 0.35),
        ("cam", "high_res"),
    ),
    CamFamily("irn", "jiwoon-ahn/irn", presets=Presets(0.30, 0.05, 0.25), **_IRN),
    CamFamily("advcam", "jbeomlee93/AdvCAM", presets=Presets(0.35, 0.15, 0.25), **_IRN),
    CamFamily(
        "recam", "zhaozhengChen/ReCAM", presets=Presets(0.35, 0.10, 0.28), coco=Presets(0.30, 0.05, 0.25), **_IRN
    ),
    CamFamily("clims", "CVI-SZU/CLIMS", presets=Presets(0.30, 0.10, 0.20), coco=Presets(0.35, 0.10, 0.25), **_IRN),
    CamFamily("ssc", "SSC", presets=Presets(0.30, 0.10, 0.25), **_IRN),
    CamFamily("puzzlecam", "shjo-april/PuzzleCAM", _fields("keys", "hr_cam"), Presets(0.40, 0.10, 0.35), ("hr_cam",)),
    CamFamily("puzzlecam-walk", "shjo-april/PuzzleCAM", _fields("keys", "rw"), Presets(0.40, 0.10, 0.35), ("rw",)),
    CamFamily(
        "clip-es",
        "linyq2117/CLIP-ES",
        _fields("keys", "attn_highres"),
        unpublished(constant_of(1)),
        ("attn_highres",),
    ),
    CamFamily("psa", "jiwoon-ahn/psa", presets=_PSA, **_NUMBERED),
    CamFamily("cti", "yoon307/CTI", presets=Presets(0.40, 0.26, 0.33), **_NUMBERED),
    CamFamily("weaktr", "hustvl/WeakTr", presets=unpublished(0.43), **_NUMBERED),
    CamFamily("mctformer", "xulianuwa/MCTformer", presets=unpublished(0.42), **_NUMBERED),
    CamFamily("cosa", "youshyee/CoSA", presets=None, **_NUMBERED),
    CamFamily("psa-crf", "jiwoon-ahn/psa", _is_numbered_with_0, row_presets(), keys=None, **_ROW),
    CamFamily("sfc", "Barrett-python/SFC", _fields("keys", "IS_CAM1"), maps=("IS_CAM1",), **_SIPE),
    CamFamily("pot", "jianwang91/POT", _fields("keys", "IS_CAM1"), maps=("IS_CAM1",), **_SIPE),
    CamFamily("sipe", "chenqi1126/SIPE", _fields("keys", "IS_CAM"), maps=("IS_CAM",), **_SIPE),
    CamFamily("more", "zwyang6/MoRe and ExCEL", _fields("keys", "valid_lam"), maps=("valid_lam",), **_LAM),
    CamFamily("more-cam", "zwyang6/MoRe", _fields("keys", "valid_cam"), maps=("valid_cam",), **_LAM),
    CamFamily("fma", "HAL-42/FMA-WSSS", _fields("cam", "fg_cls"), None, ("cam",), "fg_cls"),
    CamFamily("sam3", "sam3_remote_wsss", _fields("cams", "class_ids"), maps=("cams",), keys="class_ids", **_LAM),
    CamFamily("toco", "rulixiang/ToCo", _fields("keys", "high_res"), None, ("high_res",), scale="kept"),
    CamFamily("afa", "rulixiang/afa", _fields("keys", "cam"), None, ("cam",)),
    CamFamily("row-of-background", "no method of this list", _has_0_among_keys, row_presets(), KEYED, **_ROW),
    CamFamily("array", "one array of all classes", _fields(PLAIN), None, (PLAIN,), None, may_miss_tags=True),
)
"""Every family. Of those that know all files of a folder, and give their classes the images' tags, the first is taken
unless another is named: files that can be either are told apart so."""


def family_of(name: str) -> CamFamily:
    """Return a family by its name.

    Raises:
        ValueError: There is none of this name.
    """
    known = {family.name: family for family in FAMILIES}
    if name not in known:
        raise ValueError(f"cam_family {name!r}: expected one of {', '.join(known)}")
    return known[name]
