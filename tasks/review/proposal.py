"""Which images are worth a correction most: those that are unsure, typical of the unsure ones, and unlike each other.

Information density (Settles and Craven 2008, Eq. 13) weighs how unsure an example is by how much others are like it.
Here each of these others counts by how unsure it is itself, and as far as no image that was taken is like it already:
with the share u of an image's pixels that are unsure, similarity s, and the similarity c of an image to that one of
the taken which is most similar,

    value_j = u_j * sum_i u_i * max(0, s_ij - c_i).

Without the factor u_j this is the greedy rule for facility location (Wei, Iyer and Bilmes 2015).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from data.store import ArtifactError
from tasks.review.features import image_features
from tasks.review.subject import ReviewImage, Subject

NEAR = 0.9
"""Images at least so similar are one photograph twice: the second waits until nothing else is left."""
MOST_COMPARED = 2000
"""Images that are compared with each other: the least sure ones. Their similarities take 16 MB."""


def propose(subject: Subject, budget: int) -> Subject:
    """Return what is reviewed with the images alone that are worth a correction most, the first first.

    Images that people have corrected, accepted or rejected are not proposed again. Those that were not rejected count
    as taken: what is like them waits. Images of which no quality is known come last.

    Args:
        subject: What is reviewed.
        budget: How many images are proposed; all, where there are fewer.

    Raises:
        ArtifactError: The quality of no image is known, or the store no longer has the run's networks.
        DatasetError: A photograph or a correction cannot be read.
    """
    known = [image for image in subject.images.values() if image.unsure is not None]
    if not known:
        raise ArtifactError(
            f"{subject.folder}: expected labels whose quality is known, found none; "
            "the command of the run again measures it, or review without --budget"
        )
    done, rejected = _looked_at(subject)
    # Of equals the first by its id comes first, whatever order they came in.
    known = sorted((image for image in known if image.id not in rejected), key=lambda i: (-_unsure(i), i.id))
    compared = known[:MOST_COMPARED]
    taken = [place for place, image in enumerate(compared) if image.id in done]
    unsure = np.array([_unsure(image) for image in compared])
    order = [compared[place] for place in choose(unsure, image_features(subject, compared), budget, taken)]
    seen = {image.id for image in compared} | done | rejected
    order += [image for image in (*known, *subject.images.values()) if image.id not in seen]
    return replace(subject, images={image.id: image for image in order[:budget]}, proposed=True)


def choose(
    unsure: Float[np.ndarray, " n"], features: Float[np.ndarray, "n d"], count: int, taken: Collection[int] = ()
) -> list[int]:
    """Return the positions of the examples that are worth most, one after another; of equals the first.

    Args:
        unsure: How unsure each is, in [0, 1].
        features: Of each; their scales and offsets do not count.
        count: How many; all that were not taken, where there are fewer.
        taken: Positions that are none of them, and cover what is like them.
    """
    if not len(unsure):
        return []
    similar = similarities(features)
    left = np.ones(len(unsure), bool)
    left[list(taken)] = False
    covered = similar[~left].max(axis=0, initial=0)
    chosen: list[int] = []
    for _ in range(min(count, int(left.sum()))):
        values = unsure * (unsure @ (similar - covered[:, None]).clip(min=0))
        # A second photograph of the same comes after all others; so does what nobody doubts, by the order of places.
        candidates = left & (covered < NEAR) if (left & (covered < NEAR)).any() else left
        best = int(np.where(candidates, values, -1).argmax())
        chosen.append(best)
        left[best] = False
        covered = np.maximum(covered, similar[best])
    return chosen


def similarities(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Return exp(-2 (d / m)^2) of each pair: d is its distance in standardised features, m the median of distances."""
    spread = features.std(axis=0)
    found = ((features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    lengths = np.square(found).sum(axis=1)
    squares = (lengths[:, None] + lengths - 2 * found @ found.T).clip(min=0)
    np.fill_diagonal(squares, 0)
    pairs = squares[np.triu_indices(len(squares), 1)]
    middle = float(np.median(pairs)) if len(pairs) else 0.0
    return np.exp(-2 * squares / (middle or 1.0))


def _unsure(image: ReviewImage) -> float:
    return image.unsure or 0.0


def _looked_at(subject: Subject) -> tuple[set[str], set[str]]:
    """Return the ids of the images that people said something of, and of those that they rejected."""
    done, rejected = set(), set()
    for id in subject.corrections.images:
        image = subject.images.get(id)
        if image is None or not _has_records(subject, image):
            continue
        (rejected if subject.corrections.rejection(id, image.digest) else done).add(id)
    return done, rejected


def _has_records(subject: Subject, image: ReviewImage) -> bool:
    return any(record.digest == image.digest for record in subject.corrections.records(image.id))
