"""What the page may ask for: every request is checked against these before anything else looks at it."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from data.store.corrections import MOST_TEXT, Verdict
from tasks.config import Config
from tasks.review.difference import Masks
from tasks.review.spans import decode_spans

MOST_SPANS, MOST_PIXELS, MOST_NAMES = 3_000_000, 1 << 31, 1000
Spans = Annotated[list[Annotated[int, Field(strict=True, ge=0, le=MOST_PIXELS)]], Field(max_length=MOST_SPANS)]
"""Start, length and value of each span of a mask, one after another."""
Name = Annotated[str, Field(min_length=1, max_length=MOST_TEXT)]
Names = Annotated[tuple[Name, ...], Field(max_length=MOST_NAMES)]


class Asked(Config):
    """A change of an image.

    Attributes:
        image: Its id.
        after: How many records of the image the page has seen.
    """

    image: Name
    after: NonNegativeInt


class Step(Asked):
    """A correction, in the values of `data.store.corrections`.

    Attributes:
        classes: What the values of the semantic mask mean, from its `FIRST_CLASS`.
        semantic: The pixels that get a class.
        instances: The pixels that are grouped anew.
        verdict: What is said of the labels as they are.
        tags: The image's tags from now on.
    """

    classes: Names = ()
    semantic: Spans | None = None
    instances: Spans | None = None
    verdict: Verdict | None = None
    tags: Names | None = None

    def masks(self, size: tuple[int, int]) -> Masks:
        """Return the masks, for an image of this size.

        Raises:
            ValueError: The spans are none of such an image.
        """
        return Masks(self.classes, _mask(self.semantic, size), _mask(self.instances, size))


class Restore(Asked):
    """An image as it was after some of its steps.

    Attributes:
        step: How many of them.
    """

    step: NonNegativeInt


class Scribbles(Restore):
    """Scribbles for the walk.

    Attributes:
        step: The labels that they were begun on.
        classes: What the values mean, as of a `Step`.
        semantic: What was drawn.
    """

    classes: Names = ()
    semantic: Spans

    def masks(self, size: tuple[int, int]) -> Masks:
        """Return what was drawn, for an image of this size.

        Raises:
            ValueError: The spans are none of such an image.
        """
        return Masks(self.classes, decode_spans(self.semantic, size))


def _mask(spans: list[int] | None, size: tuple[int, int]) -> NDArray[np.uint16] | None:
    return None if spans is None else decode_spans(spans, size)
