"""Names of timm's networks as backbones, checked against timm's registry. timm, and torch with it, is loaded late."""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType

from models.backbones import TIMM

INSTALL = "pip install 'pseudomask[timm]'"


def load_timm() -> ModuleType:
    """Return the package timm.

    Raises:
        ValueError: It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ValueError(f"a backbone {TIMM}NAME needs the package timm, which is not installed: {INSTALL}") from None


def full_name(name: str) -> str:
    """Return a backbone's name with the tag of its weights: "timm:resnet50" is "timm:resnet50.a1_in1k".

    Args:
        name: "timm:ARCHITECTURE", whose tag is timm's default, or "timm:ARCHITECTURE.TAG".

    Raises:
        ValueError: timm is not installed, or has no such network.
    """
    timm = load_timm()
    architecture, _, tag = name.removeprefix(TIMM).partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; its names are alike: {', '.join(near)}" if near else ""
        raise ValueError(f"{name}: timm {timm.__version__} has no network {architecture!r}{hint}")
    try:
        found = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    except RuntimeError:
        offered = timm.list_models(f"{architecture}.*", pretrained=True)
        tags = ", ".join(each.partition(".")[2] for each in offered)
        raise ValueError(f"{name}: timm has no weights {tag!r} of {architecture}; expected one of {tags}") from None
    tag = tag or (found and found.tag) or ""
    return f"{TIMM}{architecture}{tag and '.'}{tag}"


def check_timm(name: str, weights: object) -> None:
    """Check that timm has a network, and weights of it where they are to be downloaded.

    Args:
        name: See `full_name`.
        weights: "imagenet" for timm's download; a file or None is not looked at.

    Raises:
        ValueError: timm is not installed, or lacks one of them.
    """
    full = full_name(name)
    if weights == "imagenet" and not load_timm().is_model_pretrained(full.removeprefix(TIMM)):
        raise ValueError(f"{name}: timm offers no weights of it for download; give a file (--weights FILE), or none")
