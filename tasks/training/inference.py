"""Images through a trained network: decoded ahead of it, in batches of one size."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import Sample
from tasks.training.augment import resize
from tasks.training.precision import autocast
from tasks.training.working_size import LongSide, file_working_size, read_working_image

Input = TypeVar("Input")

# Of a batch on a GPU: eleven photographs of 500 x 375. On a CPU a batch gains nothing and takes memory.
BATCH_PIXELS = 2**21
# Batches that are decoded before the network gets to them.
AHEAD = 2


class Pyramid(NamedTuple):
    """An image's size (H, W), and the image at every scale, uint8 [3, scale * H, scale * W], RGB."""

    size: tuple[int, int]
    scales: list[Tensor]

    @classmethod
    def of(cls, image: NDArray[np.uint8], scales: tuple[float, ...]) -> Pyramid:
        """Resize an image [H, W, 3] by every factor."""
        resized = [torch.from_numpy(resize(image, scale, cv2.INTER_CUBIC)).permute(2, 0, 1) for scale in scales]
        height, width = image.shape[:2]
        return cls((height, width), resized)


def batches(
    samples: Sequence[Sample],
    prepare: Callable[[NDArray[np.uint8]], Input],
    device: str,
    long_side: LongSide = None,
) -> Iterator[tuple[list[Sample], list[Input]]]:
    """Yield all samples in batches whose images have one size, each image as `prepare` makes it of its pixels.

    Reading and preparing run in threads, ahead of whoever takes the batches. The batches depend on the images'
    sizes and the kind of device alone. Images come at the working size that `long_side` sets.

    Raises:
        DatasetError: An image cannot be read.
    """
    on_cpu = device == "cpu"
    with ThreadPoolExecutor(1 if on_cpu else min(8, os.cpu_count() or 1)) as pool:

        def submit(batch: list[Sample]) -> tuple[list[Sample], list[Future[Input]]]:
            futures = [
                pool.submit(lambda file: prepare(read_working_image(file, long_side)), sample.image) for sample in batch
            ]
            return batch, futures

        ahead: deque[tuple[list[Sample], list[Future[Input]]]] = deque()
        try:
            for batch in _of_one_size(samples, 1 if on_cpu else BATCH_PIXELS, long_side):
                ahead.append(submit(batch))
                if len(ahead) > AHEAD:
                    yield _finished(*ahead.popleft())
            while ahead:
                yield _finished(*ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _finished(batch: list[Sample], futures: list[Future[Input]]) -> tuple[list[Sample], list[Input]]:
    return batch, [future.result() for future in futures]


def _of_one_size(samples: Sequence[Sample], max_pixels: int, long_side: LongSide) -> Iterator[list[Sample]]:
    """Yield lists of samples whose images have one size and not more pixels together, or are alone."""
    groups: dict[tuple[int, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[file_working_size(sample.image, long_side)].append(sample)
    for (height, width), group in groups.items():
        length = max(1, max_pixels // (height * width))
        for begin in range(0, len(group), length):
            yield group[begin : begin + length]


def inference_autocast(device: str) -> contextlib.AbstractContextManager:
    """Return bfloat16 autocast on a GPU, and on a CPU that multiplies bfloat16 in hardware; nothing elsewhere."""
    return autocast(device, "fastest")
