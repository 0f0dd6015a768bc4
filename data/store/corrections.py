"""Corrections that people made of labels, kept apart from the versions of these labels, for good.

<root>/<image id>/c00001.json             who, when, on which version and which bytes of the image, and what
<root>/<image id>/c00001-semantic.png     the classes that pixels have instead
<root>/<image id>/c00001-instances.png    the instances that pixels belong to instead

Records are added and never changed: a later one lies over the earlier ones, or takes some of them back. The masks name
what they hold by the record's own list of classes, so that no class table can change what a correction means. A record
appears last, so that a correction is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data.dataset import VOID, DatasetError, LabelMap, Problem, value_type
from data.files import atomic_write, explain_os_errors, file_digest, file_lock, read_regular, sync
from data.formats.label_maps import read_label_map, write_label_map
from data.names import clean_name, is_unsafe, name_fault

FOLDER = "corrections"
UNCHANGED, BACKGROUND, UNSURE, FIRST_CLASS = 0, 1, 2, 3
"""Values of a semantic mask: as it was, background, void, and the first of the record's classes."""
NO_INSTANCE, FIRST_INSTANCE = 1, 2
"""Values of an instance mask beside `UNCHANGED`: none, and the first of the new instances."""
MOST_INSTANCES = 1 << 15
Verdict = Literal["accepted", "rejected"]
MOST_TEXT, FORMAT = 1000, 1
REMEDY = "bring the file back from a copy, or move this correction's files away: the others stay"
DIGEST = re.compile(r"[0-9a-f]{64}")


class Overtaken(Exception):
    """An image was corrected by somebody else since its corrections were read; nothing was written."""


@dataclass(frozen=True)
class Record:
    """One correction of one image.

    Attributes:
        image: The sample's id.
        digest: SHA-256 of the image's bytes that the person saw.
        author: Who made it.
        created: When, in ISO 8601 with its zone.
        made_on: The number of the version that was corrected; None of a run's labels.
        verdict: What the person said of the labels as they are, or None.
        tags: The names of the image's image-level labels from now on, or None for those it has.
        classes: What the values of the semantic mask mean, from `FIRST_CLASS`.
        semantic: SHA-256 of the semantic mask's file, or None where no pixel's class was changed.
        instances: The same of the mask of instances.
        back_to: Of the records of these bytes before this one so many count from now on, the others no more; None where
            all count.
        format: Of this record.
    """

    image: str
    digest: str
    author: str
    created: str
    made_on: int | None = None
    verdict: Verdict | None = None
    tags: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    semantic: str | None = None
    instances: str | None = None
    back_to: int | None = None
    format: int = FORMAT

    @classmethod
    def read(cls, text: bytes) -> Record:
        """Read a record's file.

        Raises:
            ValueError: It is not what `Corrections.add` writes.
        """
        document: Any = json.loads(text)
        if isinstance(document, dict):
            # Earlier versions took nothing back: their undo said again what had been.
            document.setdefault("back_to", None)
        if not isinstance(document, dict) or document.keys() != CHECKS.keys():
            raise ValueError(f"expected the fields {', '.join(CHECKS)}")
        _check_fields(document)
        fields: dict[str, Any] = dict(document)
        for name in ("tags", "classes"):
            fields[name] = None if fields[name] is None else tuple(fields[name])
        return cls(**fields)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value.strip()) > 0 and len(value) <= MOST_TEXT


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _are_tags(value: Any) -> bool:
    # They become classes, as those of any list of labels.
    return _are_names(value) and all(name == clean_name(name) and name_fault(name) is None for name in value)


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: type(value) is int and value == FORMAT, str(FORMAT)),
    "image": (_is_text, "the id of an image"),
    "digest": (_is_digest, "a SHA-256"),
    "author": (_is_text, "a name"),
    "created": (_is_time, "a time with its zone"),
    "made_on": (
        lambda value: value is None or (type(value) is int and value > 0),
        "the number of a version, or null",
    ),
    "verdict": (lambda value: value in (None, "accepted", "rejected"), "accepted, rejected or null"),
    "tags": (lambda value: value is None or _are_tags(value), "names of classes, each once, or null"),
    "classes": (_are_names, "names, each once"),
    "semantic": (lambda value: value is None or _is_digest(value), "a SHA-256, or null"),
    "instances": (lambda value: value is None or _is_digest(value), "a SHA-256, or null"),
    "back_to": (lambda value: value is None or (type(value) is int and value >= 0), "a number of records, or null"),
}
"""Field of a record -> whether a value of JSON can be its, and what is expected."""


def _check_fields(document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        fits, expected = CHECKS[name]
        if not fits(value):
            raise ValueError(f"{name}: expected {expected}, found {value!r:.80}")


@dataclass(frozen=True)
class Correction:
    """A record with its masks.

    Attributes:
        record: What it says.
        semantic: [H, W] of the image: `UNCHANGED`, `BACKGROUND`, `UNSURE`, or a class of the record; or None.
        instances: [H, W]: `UNCHANGED`, `NO_INSTANCE`, or a new instance from `FIRST_INSTANCE`; or None.
    """

    record: Record
    semantic: NDArray[np.integer] | None = None
    instances: NDArray[np.integer] | None = None


class Corrections:
    """The corrections in a folder.

    Raises:
        DatasetError: From each method that reads: a record or a mask is not what was written; it names the file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def images(self) -> list[str]:
        """The ids of the images that have corrections, ascending."""
        if not os.path.lexists(self.root):
            return []
        with _readable(self.root):
            # What cannot be read may hold corrections, and must not count as none.
            found = [folder for folder, names in _folders(self.root) if any(map(_is_record, names))]
        return sorted(folder.relative_to(self.root).as_posix() for folder in found)

    def records(self, image: str) -> list[Record]:
        """Read what was said of an image, the oldest first."""
        return [self._record(file, image) for file in self._files(image)]

    def counting(self, image: str, digest: str, steps: int | None = None) -> list[Record]:
        """Read what was said of these bytes of an image and not taken back, the oldest first; `steps` as of `of`."""
        return [record for _, record in _not_taken_back(self._made_on(image, digest)[:steps])]

    def of(self, image: str, digest: str, steps: int | None = None) -> Iterator[Correction]:
        """Yield the corrections that were made on these bytes of an image and not taken back, the oldest first.

        Args:
            steps: As it was after the first so many records of these bytes; now by default.
        """
        for file, record in _not_taken_back(self._made_on(image, digest)[:steps]):
            yield Correction(record, *(self._mask(file, record, kind) for kind in ("semantic", "instances")))

    def state(self, image: str, digest: str) -> str | None:
        """Return a digest of what the corrections of these bytes change of the masks; None where they change none."""
        return _state_of(self.counting(image, digest))

    def of_other_bytes(self, image: str, digest: str) -> list[Record]:
        """Return what was said of other bytes of an image and not taken back, where nothing was said of these."""
        records = self.records(image)
        if any(record.digest == digest for record in records):
            return []
        others = dict.fromkeys(record.digest for record in records)
        return [record for other in others for record in self.counting(image, other)]

    def behind(self, image: str, digest: str, state: str | None) -> list[Record]:
        """Return the records that a `state` is of, the oldest first; none where there are no such."""
        made = self._made_on(image, digest)
        for steps in range(1, len(made) + 1) if state is not None else ():
            found = [record for _, record in _not_taken_back(made[:steps])]
            if _state_of(found) == state:
                return found
        return []

    def tags(self, image: str, digest: str) -> tuple[str, ...] | None:
        """Return the tags that a person gave these bytes of an image last; None where nobody did."""
        given = [record.tags for record in self.counting(image, digest) if record.tags is not None]
        return given[-1] if given else None

    def rejection(self, image: str, digest: str) -> Record | None:
        """Return the record by which a person rejected these bytes of an image; None where nothing or more was said."""
        said = [record for record in self.records(image) if record.digest == digest]
        return said[-1] if said and said[-1].verdict == "rejected" else None

    def add(
        self,
        image: str,
        digest: str,
        *,
        author: str,
        made_on: int | None = None,
        verdict: Verdict | None = None,
        tags: Iterable[str] | None = None,
        classes: Iterable[str] = (),
        semantic: NDArray[np.integer] | None = None,
        instances: NDArray[np.integer] | None = None,
        back_to: int | None = None,
        after: int | None = None,
    ) -> Record:
        """Write a correction down; it is on disk when this returns. The arguments are those of `Record`, with masks.

        Args:
            after: How many records of the image the author has seen; None where that does not matter.

        Raises:
            Overtaken: There are more of them, or fewer.
            ValueError: A mask holds a value that is none of those said, the masks are not of one size, or a name is
                empty, too long, or there twice.
            ArtifactError: The folder cannot be written, or the disk is full.
        """
        names = list(classes)
        masks = {"semantic": semantic, "instances": instances}
        masks = {kind: mask for kind, mask in masks.items() if mask is not None and (mask != UNCHANGED).any()}
        check_masks(masks, len(names))
        said: dict[str, Any] = {"image": image, "digest": digest, "author": author, "made_on": made_on}
        said |= {"verdict": verdict, "tags": None if tags is None else sorted(tags), "back_to": back_to}
        said["classes"] = names if "semantic" in masks else []
        _check_fields(said)
        with explain_os_errors(self.root):
            folder = self._folder(image)
            folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self.root / ".lock"):
                files = self._files(image)
                if after is not None and len(files) != after:
                    raise Overtaken(f"{image}: expected {after} corrections, found {len(files)}")
                if back_to is not None and back_to > (made := len(self._made_on(image, digest))):
                    raise ValueError(f"back_to: expected 0 to {made}, found {back_to}")
                number = 1 + max(map(_number, files), default=0)
                stem = f"c{number:05d}"
                for kind, mask in masks.items():
                    file = folder / f"{stem}-{kind}.png"
                    write_label_map(file, mask.astype(np.uint16), grey=True)
                    sync(file)
                    said[kind] = file_digest(file)
                said |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), "format": FORMAT}
                document = {name: said.get(name) for name in CHECKS}
                atomic_write(folder / f"{stem}.json", json.dumps(document, indent=1), durable=True)
                sync(folder)
        return Record.read(json.dumps(document).encode())

    def _made_on(self, image: str, digest: str) -> list[tuple[Path, Record]]:
        """Return the files and records of these bytes of an image, the oldest first."""
        pairs = ((file, self._record(file, image)) for file in self._files(image))
        made = [(file, record) for file, record in pairs if record.digest == digest]
        for before, (file, record) in enumerate(made):
            if record.back_to is not None and record.back_to > before:
                message = f"expected a correction that goes back to one of {before} before it, found {record.back_to}"
                raise DatasetError([Problem(file, message, image)])
        return made

    def _folder(self, image: str) -> Path:
        if not image or is_unsafe(image):
            raise DatasetError([Problem(self.root, f"expected the id of an image, found {image!r}")])
        return self.root / image

    def _files(self, image: str) -> list[Path]:
        folder = self._folder(image)
        with _readable(folder), contextlib.suppress(FileNotFoundError):
            return sorted((file for file in folder.iterdir() if _is_record(file.name)), key=_number)
        return []

    def _record(self, file: Path, image: str) -> Record:
        try:
            record = Record.read(read_regular(file))
        except OSError as error:
            raise DatasetError([Problem(file, f"cannot be read ({error.strerror})", image)]) from None
        except (ValueError, RecursionError) as error:
            raise DatasetError([Problem(file, f"expected a correction, but {error}; {REMEDY}", image)]) from None
        if record.image != image:
            raise DatasetError([Problem(file, f"expected a correction of {image}, found one of {record.image}", image)])
        return record

    def _mask(self, file: Path, record: Record, kind: Literal["semantic", "instances"]) -> NDArray[np.integer] | None:
        expected = getattr(record, kind)
        if expected is None:
            return None
        path = file.with_name(f"{file.stem}-{kind}.png")
        if not path.is_file() or file_digest(path) != expected:
            raise DatasetError(
                [Problem(path, f"expected the mask of {file.name}, found another or none; {REMEDY}", record.image)]
            )
        mask = read_label_map(path)
        try:
            check_masks({kind: mask}, len(record.classes))
        except ValueError as error:
            raise DatasetError([Problem(path, str(error), record.image)]) from None
        return mask


def _not_taken_back(made: Sequence[tuple[Path, Record]]) -> list[tuple[Path, Record]]:
    """Return those of an image's records, the oldest first, that none of them has taken back."""
    # What counts after each step, none at first.
    after: list[list[tuple[Path, Record]]] = [[]]
    for file, record in made:
        base = after[-1] if record.back_to is None else after[record.back_to]
        after.append([*base, (file, record)])
    return after[-1]


def _state_of(records: Iterable[Record]) -> str | None:
    changes = [[each.semantic, each.instances, each.classes] for each in records if each.semantic or each.instances]
    return hashlib.sha256(json.dumps(changes).encode()).hexdigest() if changes else None


def apply_corrections(
    labels: LabelMap, objects: LabelMap, corrections: Iterable[Correction], values: Mapping[str, int]
) -> tuple[LabelMap, LabelMap]:
    """Return an image's labels and instances with corrections laid over them, one after another.

    Pixels that get a class and no instance join the instance of that class that they touch most; a region that touches
    none is a new one. Pixels that are background or void belong to no instance.

    Args:
        labels: [H, W] of class values.
        objects: [H, W], an id for each instance, 0 for none, 255 for void.
        corrections: Of this image, the oldest first.
        values: The class value of each name.

    Raises:
        ValueError: A mask is of another size, or of a class that has no value.
    """
    values_now, owners = labels.astype(np.int32), objects.astype(np.int32)
    for correction in corrections:
        semantic, instances = correction.semantic, correction.instances
        for mask in (semantic, instances):
            if mask is not None and mask.shape != values_now.shape:
                raise ValueError(
                    f"expected a correction of {_size(values_now.shape)}, found one of {_size(mask.shape)}"
                )
        if semantic is not None:
            # What changes, and what it touches.
            place = _extent(semantic != UNCHANGED)
            here, theirs = values_now[place], owners[place]
            theirs[_unowned(here, semantic[place], correction.record, values)] = 0
            free = (semantic[place] != UNCHANGED) & (here != 0) & (here != VOID) & (theirs == 0)
            _join(here, theirs, free, owners)
        if instances is not None:
            owners[instances == NO_INSTANCE] = 0
            place = _extent(instances >= FIRST_INSTANCE)
            new, theirs = instances[place], owners[place]
            for number in np.unique(new[new >= FIRST_INSTANCE]):
                theirs[new == number] = _new_id(owners)
    kinds = (value_type(max(values.values(), default=0) + 1), value_type(int(owners.max(initial=0)) + 1))
    return values_now.astype(kinds[0]), owners.astype(kinds[1])


def _unowned(
    labels: NDArray[np.int32], semantic: NDArray[np.integer], record: Record, values: Mapping[str, int]
) -> NDArray[np.bool_]:
    """Give pixels their new values, in place; return those that no longer belong to the instance that they had."""
    if unknown := [name for name in record.classes if name not in values]:
        raise ValueError(f"a correction names {', '.join(unknown)}, which the classes do not")
    lookup = np.array([0, 0, VOID, *(values[name] for name in record.classes)], np.int32)
    new = np.where(semantic == UNCHANGED, labels, lookup[semantic])
    changed = new != labels
    labels[...] = new
    return changed


def _extent(marked: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns that are marked, and one more on each side."""
    sides = [np.flatnonzero(marked.any(axis)) for axis in (1, 0)]
    first, second = (slice(max(int(s[0]) - 1, 0), int(s[-1]) + 2) if len(s) else slice(0) for s in sides)
    return first, second


def _join(
    labels: NDArray[np.int32], objects: NDArray[np.int32], free: NDArray[np.bool_], whole: NDArray[np.int32]
) -> None:
    """Give each region of free pixels of one class the instance that it touches most, or a new one; in place.

    Args:
        whole: All objects of the image, of which `objects` is a view.
    """
    for value in np.unique(labels[free]):
        parts, _ = ndimage.label(free & (labels == value))  # pyright: ignore[reportGeneralTypeIssues]
        owners = np.where((labels == value) & (objects != VOID), objects, 0)
        for number, place in enumerate(ndimage.find_objects(parts), start=1):
            # With a rim: what it touches.
            place = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in place)
            part = parts[place] == number
            around = owners[place][ndimage.binary_dilation(part) & ~part]
            touched = np.bincount(around[around > 0])
            objects[place][part] = int(touched.argmax()) if len(touched) else _new_id(whole)


def _new_id(objects: NDArray[np.int32]) -> int:
    id = int(objects.max(initial=0, where=objects != VOID)) + 1
    return id + (id == VOID)


def check_masks(masks: Mapping[str, NDArray[np.integer]], num_classes: int) -> None:
    """Raise ValueError where a mask, "semantic" or "instances", is none of a correction that names so many classes."""
    most = {"semantic": FIRST_CLASS + num_classes - 1, "instances": FIRST_INSTANCE + MOST_INSTANCES}
    for kind, mask in masks.items():
        if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
            raise ValueError(f"expected integers [H, W] as {kind}, got {mask.dtype} {list(mask.shape)}")
        if mask.min() < UNCHANGED or mask.max() > most[kind]:
            raise ValueError(f"expected {kind} of 0 to {most[kind]}, found {mask.min()} to {mask.max()}")
    if len({mask.shape for mask in masks.values()}) > 1:
        raise ValueError("expected masks of one size")


def _number(file: Path) -> int:
    digits = file.stem.removeprefix("c")
    return int(digits) if file.stem.startswith("c") and digits.isdecimal() else 0


def _is_record(name: str) -> bool:
    return name.endswith(".json") and _number(Path(name)) > 0


def _folders(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and each one below it with the names of its files; links are followed, but none to what is above.

    Raises:
        OSError: A folder cannot be read, or a link leads to nothing: what it led to may have corrections.
    """
    place = os.path.realpath(folder)
    if place in above:
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink() and not Path(entry.path).exists():
            raise OSError(errno.EIO, "a link in it leads to nothing", entry.path)
    yield folder, [entry.name for entry in entries if not entry.is_dir()]
    for entry in entries:
        if entry.is_dir():
            yield from _folders(Path(entry.path), above | {place})


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn what keeps corrections from being looked for into a problem of the folder."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"expected a folder of corrections that can be read, but {error.strerror}"
        raise DatasetError([Problem(Path(error.filename or folder), message)]) from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
