"""Masks for a folder of photographs with image-level labels.

    python examples/label_your_photographs.py photos tags.csv runs/first     # your own: minutes to hours
    python examples/label_your_photographs.py                                # a tiny synthetic set: a minute

`tags.csv` has one line per image: `image,labels`, labels joined by `;`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pseudomask as pm
from data.synthetic.dataset import write_synthetic

# Sizes and steps of a trial: its labels are worth nothing.
TRIAL: dict[str, Any] = {
    "backbone": "resnet18",
    "long_side": (64, 80),
    "classifier": {"resize_long": (64, 80), "crop_size": 64, "steps": (2, 2)},
    "cams": {"scales": (1.0,)},
    "irnet": {"crop_size": 64, "radius_px": 3, "steps": (2, 2)},
    "walk": {"steps": 16},
    "go_on": True,
}


def main(photos: Path, tags: Path, out: Path, **options: Any) -> None:
    """Label the photographs, and print what is in the mask of one of them."""
    run = pm.label(photos, labels=tags, out=out, **options)
    print(f"masks of {', '.join(run.classes)}: {run.folder / 'labels'}")
    if "semantic" in run.metrics:
        print(f"mIoU against the ground truth: {run.metrics['semantic']['labels']['miou']:.3f}")
    first = min((run.folder / "labels" / "SegmentationClass").rglob("*.png")).stem
    mask, objects = run.mask(first), run.instances(first)
    print(
        f"{first}: {mask.shape[1]} x {mask.shape[0]} pixels, {np.mean(mask > 0):.0%} labelled, {objects.max()} objects"
    )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        main(*map(Path, sys.argv[1:]), weights="imagenet")
    elif len(sys.argv) == 1:
        with tempfile.TemporaryDirectory() as temporary:
            data = Path(temporary, "photos")
            write_synthetic(data, num_images=8, seed=0, size=(64, 80))
            main(data, data / "labels.csv", Path(temporary, "runs", "first"), **TRIAL)
    else:
        sys.exit(f"usage: {sys.argv[0]} [PHOTOS TAGS OUT]")
