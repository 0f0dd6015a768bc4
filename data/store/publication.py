"""Published labels: numbered versions in a folder, each there whole or not at all, and `latest`, for their readers.

<root>/v00003/        version.json, images.jsonl, classes.txt, instances.json, SegmentationClass/, SegmentationObject/
<root>/latest         a link to the version that readers take, moved last
<root>/held/v00004/   a version that awaits review
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.files import ArtifactError, explain_os_errors, file_lock, read_regular, refuse_special
from data.formats.label_folder import value_names
from data.names import is_plain, is_unsafe

log = logging.getLogger(__name__)
LATEST, HELD, RUNS = "latest", "held", "runs"
RECORD, ENTRIES, PROVENANCE = "version.json", "images.jsonl", "provenance"
DRAFT, BEGUN = ".draft-", ".publishing"


TEXTS = list[str]
RECORD_FIELDS = {"number": int, "images": int, "created": str, "reasons": TEXTS, "held": TEXTS, "means": dict}
RECORD_FIELDS |= {"settings": dict, "store": str, "corrected": int, "taught": dict, "scores": dict}
ENTRY_FIELDS = {"id": str, "image": str, "labels": TEXTS, "artifact": str}
ENTRY_FIELDS |= {"background": float, "classes": int, "instances": int}
# Of versions that were made with saliency, with maps of another method, with regions of a segmenter or with hints, and
# of images that a person corrected.
MORE_ENTRY_FIELDS = dict.fromkeys(("saliency", "cams", "corrections", "regions", "hints", "doubts", "unfit"), str)
MANIFEST_FIELDS = {"stage": str, "key": str, "recipe": dict, "device": str, "versions": dict, "finished": str}
RECIPE_FIELDS = {"settings": dict, "source": str, "inputs": dict, "samples": dict}


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a version.

    Attributes:
        id: The sample's.
        image: SHA-256 of its file.
        labels: The names of its image-level labels.
        artifact: Key of the store's artifact of stage `labels` that its labels come from.
        background: Share of its pixels that are background.
        classes: Classes in its label map.
        instances: Instances found.
        saliency: SHA-256 of its map of saliency, or of the network that found it; None without.
        cams: SHA-256 of its class attention maps, where another method made them.
        corrections: Which corrections lie over its labels (`data.store.corrections.Corrections.state`), or None.
        regions: SHA-256 of its regions, where a segmenter found any.
        hints: SHA-256 of what a person said of its pixels beforehand (`--hints`), or None.
        doubts: What was not known or not sure of its image-level labels; None where all was.
        unfit: Why its corrections do not fit, so that its labels are the automatic ones; None where they do.
    """

    id: str
    image: str
    labels: tuple[str, ...]
    artifact: str
    background: float
    classes: int
    instances: int
    saliency: str | None = None
    cams: str | None = None
    corrections: str | None = None
    regions: str | None = None
    hints: str | None = None
    doubts: str | None = None
    unfit: str | None = None


class Publication:
    """The versions in a folder.

    Whoever writes holds the `lock`. A kill at any moment leaves whole versions, and drafts that the next removes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def published(self) -> list[int]:
        """The numbers of the versions that may be read, ascending."""
        return _numbers(self.root)

    @property
    def held(self) -> list[int]:
        """The numbers of the versions that await review, ascending."""
        return _numbers(self.root / HELD)

    @property
    def latest(self) -> int | None:
        """The number of the version that readers take; None before the first.

        Raises:
            ArtifactError: The link leads nowhere, or is none: without it classes would get new values.
        """
        number, link = self.linked, self.root / LATEST
        self._refuse_no_link()
        if number not in self.published and link.is_symlink():
            raise ArtifactError(f"{link}: leads to {link.readlink()}, which is no version; roll back to one that is")
        return number

    @property
    def linked(self) -> int | None:
        """The number that `latest` names, whether there is such a version or not."""
        link = self.root / LATEST
        return _number(link.readlink().name) if link.is_symlink() else None

    @property
    def unfinished(self) -> int | None:
        """The number of a version that a killed writer published and did not make the latest; None without one."""
        published, linked = self.published, self.linked
        if not published:
            return None
        if linked is None:
            return None if os.path.lexists(self.root / LATEST) else published[-1]
        try:
            begun = _number(read_regular(self.root / BEGUN).decode())
        except (OSError, UnicodeDecodeError):
            return None
        return begun if begun in published and begun != linked else None

    @property
    def next(self) -> int:
        """The number of the version that would be published next."""
        number = max([0, *self.published, *self.held]) + 1
        # A folder of that name which is no version is somebody's.
        while any(os.path.lexists(parent / name_of(number)) for parent in (self.root, self.root / HELD)):
            number += 1
        return number

    def folder(self, number: int) -> Path:
        """Return the folder of a version, published or held.

        Raises:
            ArtifactError: There is no such version.
        """
        for parent in (self.root, self.root / HELD):
            if (parent / name_of(number) / RECORD).is_file():
                return parent / name_of(number)
        known = ", ".join(map(str, [*self.published, *self.held])) or "none"
        raise ArtifactError(f"{self.root}: has no version {number}; there are: {known}")

    def record(self, number: int, *needed: str) -> dict[str, Any]:
        """Read what a version says of itself.

        Args:
            number: The version.
            needed: Fields that must be there.

        Raises:
            ArtifactError: There is no such version, or its record is damaged or lacks a field.
        """
        file = self.folder(number) / RECORD
        try:
            record = json.loads(read_regular(file))
            _check_fields(record, RECORD_FIELDS, needed)
            if record.get("number", number) != number:
                raise ValueError(f"expected version {number}, found {record['number']}")
            for name in ("networks", "run"):
                if (record.get(name) is not None or name in needed) and not _is_run(record[name]):
                    raise ValueError(f"expected the folder of a run, {RUNS}/vNNNNN, found {record[name]!r}")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{file}: unreadable ({error})") from None
        return record

    def entries(self, number: int) -> Iterator[Entry]:
        """Yield a version's images, ascending by id.

        Raises:
            ArtifactError: There is no such version, or its list is damaged.
        """
        file = self.folder(number) / ENTRIES
        try:
            refuse_special(file)
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    values = json.loads(line)
                    if not isinstance(values["id"], str) or is_unsafe(values["id"]):
                        raise ValueError(f"expected an image's id inside its folder, found {values['id']!r}")
                    if not is_plain(values["artifact"]):
                        raise ValueError(f"expected the key of an artifact, found {values['artifact']!r}")
                    _check_fields(values, ENTRY_FIELDS | MORE_ENTRY_FIELDS, ENTRY_FIELDS)
                    yield Entry(**values | {"labels": tuple(values["labels"])})
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{file}: unreadable ({error})") from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process writes here, and keep all others out; a killed holder holds nothing."""
        with explain_os_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = contextlib.ExitStack()
            waiting = f"{self.root}: another process is at work here; waiting for it"
            lock.enter_context(file_lock(self.root / ".lock", waiting))
        with lock:
            for draft in self.root.glob(f"{DRAFT}*"):
                shutil.rmtree(draft, ignore_errors=True)
            for link in self.root.glob(f".{LATEST}-*"):
                link.unlink(missing_ok=True)
            if (number := self.unfinished) is not None:
                log.warning("%s: version %d was published, but not made the latest: done now", self.root, number)
                self.lead_to(number)
            yield

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Give a new folder for the files of a version; what is left of it at the end is removed."""
        folder = self.root / f"{DRAFT}{secrets.token_hex(4)}"
        with explain_os_errors(self.root):
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, draft: Path, record: dict[str, Any], entries: Iterable[Entry], *, hold: bool = False) -> int:
        """Make a draft the next version, and `latest` unless it is held; return its number.

        Raises:
            ArtifactError: The disk is full, or the folder cannot be written.
        """
        number = self.next
        with explain_os_errors(self.root):
            ordered = sorted(entries, key=lambda entry: entry.id)
            lines = (json.dumps(_fields(entry), separators=(",", ":")) + "\n" for entry in ordered)
            _write(draft / ENTRIES, lines)
            _write(
                draft / RECORD,
                [json.dumps({"number": number, "images": len(ordered), **record}, indent=1)],
            )
            for file in draft.rglob("*"):
                if file.is_file():
                    file.chmod(0o444)
            parent = self.root / HELD if hold else self.root
            parent.mkdir(exist_ok=True)
            if not hold:
                # After a kill, who takes the lock next makes that version the latest.
                _write(self.root / BEGUN, [name_of(number)])
            draft.rename(parent / name_of(number))
        if not hold:
            self.lead_to(number)
        return number

    def manifest(self, number: int, stage: str, key: str) -> dict[str, Any]:
        """Read the manifest of an artifact that a version's labels came from; the store may have it no more.

        Raises:
            ArtifactError: There is no such version, or it keeps no such manifest.
        """
        if not is_plain(stage) or not is_plain(key):
            raise ArtifactError(f"{self.root}: expected stage and key of an artifact, found {stage!r} {key!r}")
        file = self.folder(number) / provenance_file(stage, key)
        try:
            manifest = json.loads(read_regular(file))
            _check_fields(manifest, MANIFEST_FIELDS, MANIFEST_FIELDS)
            _check_fields(manifest["recipe"], RECIPE_FIELDS, RECIPE_FIELDS)
            if not all(_is_texts(keys) and keys for keys in manifest["recipe"]["inputs"].values()):
                raise ValueError("expected keys as inputs")
            return manifest
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{file}: unreadable ({error})") from None

    def lead_to(self, number: int) -> None:
        """Make a version `latest`; one that is held is published by that.

        Raises:
            ArtifactError: There is no such version, a value of its label maps has another class in a version that
                was published, or the folder cannot be written.
        """
        self.check_fit(number)
        folder = self.folder(number)
        with explain_os_errors(self.root):
            _write(self.root / BEGUN, [name_of(number)])
            if folder.parent != self.root:
                folder.rename(self.root / name_of(number))
            link = self.root / f".{LATEST}-{secrets.token_hex(4)}"
            link.symlink_to(name_of(number))
            link.replace(self.root / LATEST)
            (self.root / BEGUN).unlink(missing_ok=True)

    def check_fit(self, number: int) -> None:
        """Check that a version may become the latest.

        Raises:
            ArtifactError: As of `lead_to`.
        """
        self._refuse_no_link()
        folder = self.folder(number)
        if folder.parent != self.root:
            self._refuse_other_values(folder)

    def remove(self, number: int) -> None:
        """Delete a version that is not the latest; nobody sees a part of it, also after a kill. Under the `lock`.

        Raises:
            ArtifactError: There is no such version, it is the latest, or the folder cannot be written.
        """
        folder = self.folder(number)
        if number == self.latest:
            raise ArtifactError(f"{folder}: expected a version that is not the latest")
        with explain_os_errors(folder):
            # What is left of it under this name goes with the next lock.
            gone = folder.rename(self.root / f"{DRAFT}{secrets.token_hex(4)}")
            shutil.rmtree(gone)

    def _refuse_no_link(self) -> None:
        link = self.root / LATEST
        if os.path.lexists(link) and not link.is_symlink():
            raise ArtifactError(
                f"{link}: expected a link to a version, found none, as copies that follow links make it; move it away, "
                "and say which version it was: pseudomask rollback --to NUMBER"
            )

    def _refuse_other_values(self, folder: Path) -> None:
        """Refuse a version in which a value has another class than readers have seen; tables only ever append."""
        names = value_names(folder)
        for number in self.published:
            seen = value_names(self.folder(number))
            for value, (name, other) in enumerate(zip(names, seen, strict=False)):
                if name != other:
                    raise ArtifactError(
                        f"{folder}: its value {value} is {name!r}, and {other!r} in the published version {number}: "
                        "values would change their meaning. Make it anew: pseudomask regenerate --retrain always"
                    )


def provenance_file(stage: str, key: str) -> Path:
    """Return where a version keeps an artifact's manifest, from the version's folder."""
    return Path(PROVENANCE) / f"{stage}-{key}.json"


def name_of(number: int) -> str:
    """Return the name of a version's folder."""
    return f"v{number:05d}"


def provenance(artifacts: Iterable[str], read: Callable[[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the manifests of all artifacts that artifacts of stage `labels` came from, theirs included.

    Each is read once, and the first artifact's own comes first. A training reads what was made of many images; of
    such inputs only the networks' own are followed.

    Args:
        read: Gives the manifest of a stage and key.
    """
    seen: set[tuple[str, str]] = set()
    for artifact in artifacts:
        pending = deque([("labels", artifact)])
        while pending:
            place = pending.popleft()
            if place in seen:
                continue
            seen.add(place)
            manifest = read(*place)
            yield manifest
            inputs = manifest["recipe"]["inputs"]
            pending += [(stage, keys[0]) for stage, keys in inputs.items() if len(keys) == 1]


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, or where that is impossible copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if value is not None}


def _check_fields(value: Any, fields: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Raise ValueError where JSON is no object, lacks a needed field, or has one of another type than said."""
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    if lacking := [name for name in needed if name not in value]:
        raise ValueError(f"expected {', '.join(lacking)}, found none")
    for name, kind in fields.items():
        found = value.get(name)
        fits = _is_texts(found) if kind is TEXTS else isinstance(found, (int, float) if kind is float else kind)
        if name in value and not fits:
            raise ValueError(f"expected another {name}, found {found!r:.80}")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _write(file: Path, lines: Iterable[str]) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
        stream.flush()
        os.fsync(stream.fileno())


def _numbers(folder: Path) -> list[int]:
    found = (_number(file.parent.name) for file in folder.glob(f"v*/{RECORD}"))
    return sorted(number for number in found if number is not None)


def _is_run(name: Any) -> bool:
    folder, _, version = name.partition("/") if isinstance(name, str) else ("", "", "")
    return folder == RUNS and _number(version) is not None


def _number(name: str) -> int | None:
    digits = name.removeprefix("v")
    return int(digits) if name.startswith("v") and digits.isdecimal() else None
