"""A segmentation network, trained on label maps and applied to an image that it has not seen.

    python examples/train_on_labels.py [FOLDER]

The labels of this example are the ground truth of a tiny synthetic set. To learn the labels of a run, give the run:
`pm.train("deeplabv2", labels="runs/first", weights="imagenet", out="runs/deeplabv2")`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import pseudomask as pm
from data.synthetic.dataset import write_synthetic


def main(folder: Path) -> None:
    """Train for some seconds, and print what was learned: far too little, in so few steps."""
    data = folder / "data"
    write_synthetic(data, num_images=8, seed=0, size=(64, 80), num_val=4)
    training = pm.train(
        "deeplabv2",
        data=data,
        split="train",
        val="val",
        preset="demo",
        out=folder / "deeplabv2",
        training={"crop_size": 64, "batch_size": 4, "epochs": 2},
        testing={"crf_iterations": 0},
    )
    print(f"mIoU on the images of val: {training.metrics['validation']['miou']:.3f}")

    net = training.load()
    mask = net.predict(data / "JPEGImages" / "val_00000.jpg")
    shares = np.bincount(mask.ravel(), minlength=len(net.classes)) / mask.size
    for name, share in zip(net.classes, shares, strict=False):
        print(f"{name:<12} {share:.0%} of val_00000")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
