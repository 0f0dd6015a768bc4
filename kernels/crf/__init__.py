"""Dense CRF refinement of label maps or probabilities against their photograph (IRNet, Sec. 4.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor

from kernels.backend import choose

__all__ = [
    "label_marginals",
    "marginals_of_many",
    "refine_batch",
    "refine_labels",
    "refine_many",
    "refine_probabilities",
]

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)
# Each has `build(image)` and `marginals(built, unaries, iterations)`; loaded when chosen.
# That of "triton" takes the images, and so the unaries of their maps, of a batch.
MODULES = {"numba": "cpu", "torch": "reference", "triton": "gpu", "pydensecrf": "authors"}
# Labels of all maps that are filtered at a time, which bounds the memory that many maps take.
MAX_CHANNELS = 64
# A label that a network is sure is absent may still win, at a price.
LEAST_PROBABILITY = 1e-20


def refine_labels(
    image: ArrayT,
    labels: ArrayT,
    num_labels: int,
    *,
    iterations: int = 10,
    confidence: float = 0.7,
    backend: str = "auto",
) -> ArrayT:
    """Move the borders of a label map to the edges of its image by a dense CRF.

    The case of one map of `refine_many`, which has the arguments and errors.

    Returns:
        A new map of the labels' kind, data type and device.
    """
    return refine_many(image, [labels], [num_labels], iterations=iterations, confidence=confidence, backend=backend)[0]


def refine_many(
    image: np.ndarray | Tensor,
    labels: Sequence[ArrayT],
    num_labels: Sequence[int],
    *,
    iterations: int = 10,
    confidence: float = 0.7,
    backend: str = "auto",
) -> list[ArrayT]:
    """Refine several label maps of one image, each by itself, with what the image decides computed once.

    Two pairwise terms: a Gaussian over positions, a bilateral one over positions and colours; their widths
    and weights are those of the IRNet authors' code. A map of one value comes back as it is, since every
    message supports that value.

    Args:
        image: RGB, uint8 [H, W, 3], numpy or torch.
        labels: Maps [H, W] of integers in [0, the map's number of labels).
        num_labels: Number of labels that compete, a map; a label that no pixel has may still win.
        iterations: Of mean-field inference.
        confidence: Probability that a pixel's label is right, in (0, 1).
        backend: "numba" (CPU), "triton" (CUDA), "torch" (plain, any device), "pydensecrf" (on the CPU, for an image
            anywhere), or "auto": numba for an image on the CPU, triton for one on a GPU where it is installed,
            else torch.

    Returns:
        New maps, each of its labels' kind, data type and device.

    Raises:
        ValueError: A shape, type or value other than above, or a backend that is unknown or cannot run.
    """
    run = {"iterations": iterations, "confidence": confidence, "backend": backend}
    return refine_batch([image], [labels], [num_labels], **run)[0]


def refine_batch(
    images: Sequence[np.ndarray | Tensor],
    labels: Sequence[Sequence[ArrayT]],
    num_labels: Sequence[Sequence[int]],
    *,
    iterations: int = 10,
    confidence: float = 0.7,
    backend: str = "auto",
) -> list[list[ArrayT]]:
    """Refine the label maps of several images of any sizes, all at once on a GPU.

    Arguments, results and errors are those of `refine_many`, an image each; images share their device.
    """
    if not len(images) == len(labels) == len(num_labels):
        raise ValueError(
            f"need maps and numbers of labels for each image, got {len(images)} images, "
            f"{len(labels)} and {len(num_labels)}"
        )
    pixels = [_as_tensor(image) for image in images]
    given = [[_as_tensor(each) for each in maps] for maps in labels]
    for image, maps, counts in zip(pixels, given, num_labels, strict=True):
        _check(image, maps, counts, iterations, confidence)
    if not pixels:
        return []
    name = _choose(backend, pixels[0])
    refined = [[each.clone() for each in maps] for maps in given]
    # (image, map) of those that have something to refine.
    mixed = [(i, m) for i, maps in enumerate(given) for m, each in enumerate(maps) if (each != each[0, 0]).any()]
    used = sorted({i for i, _ in mixed})

    def unaries_of(i: int) -> Iterator[Tensor]:
        for j, m in mixed:
            if j == i:
                yield _as_unary(given[i][m], num_labels[i][m], confidence, pixels[i].device)

    inferred = _infer([pixels[i] for i in used], [unaries_of(i) for i in used], iterations, name)
    for (i, m), marginals in zip(mixed, inferred, strict=True):
        # On a CPU `argmax` over the first axis takes several times as long.
        refined[i][m].copy_(marginals.max(0).indices)
    return [[_in_kind(new, old) for new, old in zip(*pair, strict=True)] for pair in zip(refined, labels, strict=True)]


def label_marginals(
    image: ArrayT,
    labels: ArrayT,
    num_labels: int,
    iterations: int,
    confidence: float,
    *,
    backend: str = "auto",
) -> ArrayT:
    """Return each pixel's distribution over the labels, float32 [num_labels, H, W], of the labels' kind and device.

    The case of one map of `marginals_of_many`.
    """
    return marginals_of_many(image, [labels], [num_labels], iterations, confidence, backend=backend)[0]


def marginals_of_many(
    image: np.ndarray | Tensor,
    labels: Sequence[ArrayT],
    num_labels: Sequence[int],
    iterations: int,
    confidence: float = 0.7,
    *,
    backend: str = "auto",
) -> list[ArrayT]:
    """Return the distributions of which `refine_many` returns the most probable labels.

    A pixel starts with probability `confidence` of its label and shares the rest among the others. Arguments and
    errors are those of `refine_many`.

    Returns:
        For each map float32 [L, H, W] over its own number of labels, of the labels' kind and device.
    """
    pixels, given = _as_tensor(image), [_as_tensor(each) for each in labels]
    _check(pixels, given, num_labels, iterations, confidence)
    unaries = [_as_unary(each, count, confidence, pixels.device) for each, count in zip(given, num_labels, strict=True)]
    found = _infer([pixels], [unaries], iterations, _choose(backend, pixels)) if given else ()
    return [_in_kind(marginals.to(each.device), old) for marginals, each, old in zip(found, given, labels, strict=True)]


def refine_probabilities(
    image: np.ndarray | Tensor, probabilities: ArrayT, *, iterations: int = 10, backend: str = "auto"
) -> ArrayT:
    """Refine a network's distributions over the labels: the unary of the CRF is -log of these (DeepLab, Sec. 3.3).

    Args:
        image: RGB, uint8 [H, W, 3], numpy or torch.
        probabilities: Of the labels, float [L, H, W] in [0, 1], to sum to 1 over the labels.
        iterations: Of mean-field inference.
        backend: As of `refine_many`.

    Returns:
        The refined distributions, float32 [L, H, W], of the probabilities' kind and device.

    Raises:
        ValueError: A shape, type or value other than above, or a backend that is unknown or cannot run.
    """
    pixels, given = _as_tensor(image), _as_tensor(probabilities)
    if pixels.dtype != torch.uint8 or given.ndim != 3 or given.numel() == 0 or pixels.shape != (*given.shape[1:], 3):
        raise ValueError(
            f"image must be uint8 [H, W, 3] and probabilities [L, H, W], not empty, "
            f"got {pixels.dtype} {tuple(pixels.shape)} and {tuple(given.shape)}"
        )
    if not given.is_floating_point() or not (given >= 0).all() or not (given <= 1).all():
        raise ValueError("probabilities must be floats in [0, 1]")
    if iterations < 0:
        raise ValueError(f"need iterations >= 0, got {iterations=}")
    unary = given.to(pixels.device, torch.float32).clamp(min=LEAST_PROBABILITY).log()
    (marginals,) = _infer([pixels], [[unary]], iterations, _choose(backend, pixels))
    return _in_kind(marginals.to(given.device), probabilities)


def _as_tensor(array: np.ndarray | Tensor) -> Tensor:
    # Torch takes neither negative strides nor read-only memory.
    return array.detach() if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def _in_kind(result: Tensor, given: ArrayT) -> ArrayT:
    if isinstance(given, Tensor):
        return result
    return result.numpy()


def _choose(backend: str, image: Tensor) -> str:
    return backend if backend == "pydensecrf" else choose("crf", backend, image, backends=("numba", "torch", "triton"))


@torch.no_grad()
def _infer(
    images: list[Tensor],
    unaries: Sequence[Iterable[Float32[Tensor, "l h w"]]],
    iterations: int,
    backend: str,
) -> Iterator[Float32[Tensor, "l h w"]]:
    """Yield the marginals of each image's maps, on the device of the backend."""
    module = import_module(f"kernels.crf.{MODULES[backend]}")
    if backend == "triton" and images:
        yield from chain.from_iterable(module.marginals(module.build(images), list(map(list, unaries)), iterations))
        return
    for image, some in zip(images, unaries, strict=True):
        built = module.build(image)
        for chunk in _chunks(some):
            yield from module.marginals(built, chunk, iterations)


def _as_unary(
    labels: Integer[Tensor, "h w"], num_labels: int, confidence: float, device: torch.device
) -> Float32[Tensor, "l h w"]:
    """Return the log-probabilities of labels that are right with probability `confidence`, up to a constant."""
    certainty = math.log(confidence / (1 - confidence) * max(num_labels - 1, 1))
    unary = torch.zeros(num_labels, *labels.shape, device=device)
    return unary.scatter_(0, labels[None].to(device, torch.int64), certainty)


def _chunks(unaries: Iterable[Float32[Tensor, "l h w"]]) -> Iterator[list[Float32[Tensor, "l h w"]]]:
    """Yield successive maps that have MAX_CHANNELS labels together, or one that has more by itself."""
    chunk: list[Tensor] = []
    for unary in unaries:
        if chunk and sum(map(len, chunk)) + len(unary) > MAX_CHANNELS:
            yield chunk
            chunk = []
        chunk.append(unary)
    yield chunk


def _check(image: Tensor, maps: list[Tensor], num_labels: Sequence[int], iterations: int, confidence: float) -> None:
    if len(maps) != len(num_labels):
        raise ValueError(f"need a number of labels for each map, got {len(num_labels)} for {len(maps)} maps")
    for labels, count in zip(maps, num_labels, strict=True):
        image_type, labels_type = (str(each.dtype).removeprefix("torch.") for each in (image, labels))
        if image.dtype != torch.uint8 or labels.numel() == 0 or image.shape != (*labels.shape, 3):
            raise ValueError(
                f"image must be uint8 [H, W, 3] and labels [H, W], not empty, "
                f"got {image_type} {tuple(image.shape)} and {tuple(labels.shape)}"
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be integers, got {labels_type}")
        # Not every integer type can be compared.
        least, most = labels.long().aminmax()
        if least < 0 or most >= count:
            raise ValueError(f"labels must be integers in [0, {count}), got {labels_type} in [{least}, {most}]")
    if iterations < 0 or not 0 < confidence < 1:
        raise ValueError(f"need iterations >= 0 and 0 < confidence < 1, got {iterations=}, {confidence=}")
