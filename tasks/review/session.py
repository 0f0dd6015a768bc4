"""One review: images in their order, their labels as they are corrected, and each step written down at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import RESERVED, VOID
from data.files import ArtifactError
from data.formats.label_folder import KINDS
from data.formats.label_maps import read_label_map
from data.names import alike, clean_name, name_fault
from data.store.corrections import Record, Verdict, apply_corrections
from data.store.publication import Publication
from tasks.review.difference import Maps, Masks, apply_masks, difference
from tasks.review.pictures import boundary_file, color_of, heat_file, photo_file
from tasks.review.scribbles import refine_scribbles
from tasks.review.spans import encode_spans
from tasks.review.subject import ReviewImage, Subject, check_photograph

KEPT = 12
"""States of images that are kept in memory."""
NO_BOUNDARY = "the run that made these labels has kept no boundary map"


class Unknown(Exception):
    """There is no such image, class, step or map."""


class Session:
    """A review by one person.

    Methods that take an image's id raise Unknown where there is none of it, and DatasetError where a file of it
    cannot be read or the photograph has changed since its labels were made.

    Args:
        subject: What is reviewed.
        author: Who corrects.
    """

    def __init__(self, subject: Subject, author: str) -> None:
        self.subject, self.author = subject, author
        self._names = list(subject.names)
        # What an image was like after some steps never changes: steps are added alone.
        self._known: OrderedDict[tuple[str, int], Maps] = OrderedDict()
        self._done: set[str] = set()
        self._lock = threading.RLock()

    def queue(self, start: int, count: int) -> dict[str, Any]:
        """Return images in the order of review, with what was said of each, how many are done, and whether they were
        proposed.

        Done is an image with a record of the bytes that it has.
        """
        corrected = {*self.subject.corrections.images} & self.subject.images.keys()
        # Records are never deleted: what is done stays so.
        self._done |= {id for id in corrected - self._done if self._records(self.subject.images[id])}
        ids = list(self.subject.images)
        images = []
        for id in ids[start : start + count]:
            image = self.subject.images[id]
            records = self._records(image) if id in self._done else []
            images.append(
                {
                    "image": id,
                    "quality": image.quality,
                    "why": image.why,
                    "steps": len(records),
                    "verdict": records[-1].verdict if records else None,
                }
            )
        return {
            "name": self.subject.name,
            "author": self.author,
            "count": len(ids),
            "done": len(self._done),
            "proposed": self.subject.proposed,
            "images": images,
        }

    def state(self, id: str) -> dict[str, Any]:
        """Return an image's labels with all corrections over them, and what else the page shows of it."""
        image = self._image(id)
        with self._lock:
            maps = self._now(image)
            records = self.subject.corrections.records(id)
            own = [record for record in records if record.digest == image.digest]
            tags = self._tags(image)
            evidence = image.evidence
            height, width = maps.labels.shape
            return {
                "image": id,
                "quality": image.quality,
                "why": image.why,
                "height": height,
                "width": width,
                "classes": [{"name": n, "color": color_of(v)} for v, n in enumerate(self._names)],
                "labels": encode_spans(maps.labels),
                "objects": encode_spans(maps.objects),
                "tags": list(tags),
                "verdict": own[-1].verdict if own else None,
                "records": len(records),
                "steps": len(own),
                "other_bytes": len(records) - len(own),
                "last": {"author": own[-1].author, "created": own[-1].created} if own else None,
                "cams": list(evidence.classes) if evidence and evidence.cams() is not None else [],
                "boundary": evidence is not None and evidence.boundary() is not None,
                "before": image.before is not None,
                "latest": self._other_latest(),
            }

    def _other_latest(self) -> int | None:
        """Return the version that is the latest by now, where it is another than the one that is reviewed."""
        if self.subject.version is None:
            return None
        try:
            latest = Publication(self.subject.folder).latest
        except ArtifactError:
            # What was corrected is saved all the same.
            return None
        return latest if latest != self.subject.version else None

    def before(self, id: str) -> dict[str, Any]:
        """Return the labels of the version before; without one, the automatic labels."""
        image = self._image(id)
        labels, objects = _read(image, image.before or image.folder)
        what = "version before" if image.before else "automatic labels"
        return {"what": what, "labels": encode_spans(labels), "objects": encode_spans(objects)}

    def correct(
        self, id: str, after: int, masks: Masks, *, verdict: Verdict | None, tags: Iterable[str] | None
    ) -> dict[str, Any]:
        """Write a step down, and return the state after it.

        Args:
            after: How many records of the image the person has seen.
            masks: Pixels that change.
            verdict: What the person says of the labels as they are now.
            tags: The image's tags from now on; None for those it has.

        Raises:
            Overtaken: Somebody else corrected the image meanwhile.
            ValueError: A name can be none of a class, or the masks are of another size.
        """
        image = self._image(id)
        with self._lock:
            maps = self._now(image)
            names = self._with_new([*masks.classes, *(tags or ())])
            known, needed = self._tags(image), {*masks.classes} - {*self.subject.names}
            if needed - {*(known if tags is None else tags)}:
                # A class is one of the set's because an image has it as a tag.
                tags = sorted({*(known if tags is None else tags), *needed})
            self._add(image, after, maps, masks, verdict=verdict, tags=tags, names=names)
            return self.state(id)

    def restore(self, id: str, after: int, step: int) -> dict[str, Any]:
        """Bring an image back to what it was after some of its steps, as a further step; return the state.

        Raises:
            Overtaken: Somebody else corrected the image meanwhile.
            Unknown: It never had so many steps.
        """
        image = self._image(id)
        with self._lock:
            target, past = self._at(image, step), self._records(image)[:step]
            verdict = past[-1].verdict if past else None
            self._add(image, after, target, Masks(()), verdict=verdict, tags=None, back_to=step)
            return self.state(id)

    def scribble(self, id: str, after: int, step: int, scribbles: Masks) -> dict[str, Any]:
        """Refine scribbles by the walk, over the labels after some steps; write the result down, return the state.

        Args:
            step: The scribbles that were refined since then are among these, and are taken back.
            scribbles: Semantic mask of what was drawn.

        Raises:
            Overtaken: Somebody else corrected the image meanwhile.
            Unknown: There is no boundary map, or the image never had so many steps.
        """
        image = self._image(id)
        boundary = image.evidence.boundary() if image.evidence else None
        if boundary is None:
            raise Unknown(NO_BOUNDARY)
        assert scribbles.semantic is not None
        with self._lock:
            base = self._at(image, step)
            if scribbles.semantic.shape != base.labels.shape:
                raise ValueError(f"expected scribbles on {id} of its size")
            grown = Masks(scribbles.classes, refine_scribbles(scribbles.semantic, boundary))
            target = apply_masks(base, grown, _values_of(self._names))
            masks = difference(base, target, self._names)
            # Tags that were given since then stay.
            now, then = self._tags(image), self._tags(image, step)
            self._add(image, after, base, masks, verdict=None, tags=None if now == then else now, back_to=step)
            return self.state(id)

    def photo(self, id: str, most_px: int | None = None) -> bytes:
        """Return an image's photograph as JPEG."""
        return photo_file(self._image(id).file, most_px)

    def boundary(self, id: str) -> bytes:
        """Return the class boundaries as PNG; Unknown where there are none."""
        evidence = self._image(id).evidence
        if evidence is None or (found := evidence.boundary()) is None:
            raise Unknown(NO_BOUNDARY)
        return boundary_file(found.numpy())

    def cam(self, id: str, name: str) -> bytes:
        """Return the class attention map of a class as PNG; Unknown where there is none."""
        evidence = self._image(id).evidence
        found = evidence.cams() if evidence and name in evidence.classes else None
        if evidence is None or found is None:
            raise Unknown(f"{id} has no attention map of {name!r}")
        return heat_file(found[evidence.classes.index(name)].numpy())

    def size(self, id: str) -> tuple[int, int]:
        """Return an image's (H, W)."""
        height, width = self._now(self._image(id)).labels.shape
        return height, width

    def _image(self, id: str) -> ReviewImage:
        if id not in self.subject.images:
            raise Unknown(f"expected the id of an image under review, found {id!r:.80}")
        return self.subject.images[id]

    def _records(self, image: ReviewImage) -> list[Record]:
        return [record for record in self.subject.corrections.records(image.id) if record.digest == image.digest]

    def _tags(self, image: ReviewImage, step: int | None = None) -> tuple[str, ...]:
        """Return an image's tags after some steps; by default after all."""
        made = self.subject.corrections.counting(image.id, image.digest, step)
        given = [record.tags for record in made if record.tags is not None]
        return given[-1] if given else image.tags

    def _with_new(self, names: Iterable[str]) -> list[str]:
        """Return what values are called, with new classes at the end; as in a `ClassTable`, none has the value of void.

        Raises:
            ValueError: It can be no name, or differs from a known one in case alone.
        """
        found = list(self._names)
        for name in names:
            if name != clean_name(name) or name_fault(name) is not None:
                raise ValueError(f"expected the name of a class, found {name!r:.80}")
            if name in found:
                continue
            if groups := alike({*found, name}):
                raise ValueError(f"expected names that differ in more than case, found {groups[0]}")
            found += [RESERVED, name] if len(found) == VOID else [name]
        return found

    def _now(self, image: ReviewImage) -> Maps:
        with self._lock:
            return self._at(image, len(self._records(image)))

    def _at(self, image: ReviewImage, step: int) -> Maps:
        """Return the labels after some steps."""
        check_photograph(image)
        if (image.id, step) not in self._known:
            if not 0 <= step <= (made := len(self._records(image))):
                raise Unknown(f"{image.id}: expected a step of 0 to {made}, found {step}")
            corrections = list(self.subject.corrections.of(image.id, image.digest, step))
            said = [name for each in corrections for name in (*each.record.classes, *(each.record.tags or ()))]
            self._names = self._with_new(said)
            maps = apply_corrections(*_read(image, image.folder), corrections, _values_of(self._names))
            self._keep(image, step, Maps(*maps))
        return self._known[image.id, step]

    def _keep(self, image: ReviewImage, step: int, maps: Maps) -> None:
        self._known[image.id, step] = maps
        while len(self._known) > KEPT:
            self._known.popitem(last=False)

    def _add(
        self,
        image: ReviewImage,
        after: int,
        maps: Maps,
        masks: Masks,
        *,
        verdict: Verdict | None,
        tags: Iterable[str] | None,
        names: list[str] | None = None,
        back_to: int | None = None,
    ) -> None:
        """Write a step down that is made on labels, `maps`; then its new `names` are known.

        `maps` are those of now, or with `back_to` those after so many steps.
        """
        names = self._names if names is None else names
        after_it, step = apply_masks(maps, masks, _values_of(names)), len(self._records(image))
        self.subject.corrections.add(
            image.id,
            image.digest,
            author=self.author,
            made_on=self.subject.version,
            verdict=verdict,
            tags=tags,
            classes=masks.classes,
            semantic=masks.semantic,
            instances=masks.instances,
            back_to=back_to,
            after=after,
        )
        self._names = names
        self._keep(image, step + 1, after_it)


def _values_of(names: Iterable[str]) -> dict[str, int]:
    return {name: value for value, name in enumerate(names)}


def _read(image: ReviewImage, folder: Path) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]:
    labels, objects = (read_label_map(folder / kind / f"{image.id}.png") for kind in KINDS)
    return labels, objects
