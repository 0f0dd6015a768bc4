"""A run's labels for other programs, in any of the exchange formats."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import glob
import json
import os
import secrets
import shutil
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import Progress

from data.concurrency import map_in_threads
from data.dataset import DatasetError, Problem
from data.exchange import FORMATS
from data.files import exchange, file_digest, is_held, refuse_special
from data.formats.label_folder import DETECTIONS, KINDS, SURE
from data.ownership import EXPORT, read_export, refuse_inside, short_digest
from data.store import ArtifactError, explain_os_errors
from flows.commands.storing.export_source import LIST, open_source, write_list

if TYPE_CHECKING:
    Format = str
else:
    Format = Literal[("both", *FORMATS)]
BOTH = ("voc", "coco")
UNFINISHED = ".unfinished"
"""Is in the folder of an export that is being written."""


def export_labels(run: Path, out: Path, format: Format = "both") -> dict[str, Any]:
    """Write the labels of a run or a published version into a folder of their own, which appears whole or not at all.

    Photographs are not copied, but into a Hugging Face dataset. `images.csv` says where each one is, and which
    photograph and which labels were exported, by their digests; `export.json` of which run or version.

    Args:
        run: Folder of a finished run, of published labels (their latest version), or of a version.
        out: A folder that does not exist, is empty, or holds an earlier export, which is replaced.
        format: A name of `data.exchange.FORMATS`, or "both" for VOC and COCO.

    Returns:
        "out", "format", "images", "digest" of the labels, what the format does not keep as "loss", and what the format
        counts: of COCO the number of "annotations".

    Raises:
        ArtifactError: The folder holds no labels, or `out` holds something else or cannot be written.
        DatasetError: Labels are missing, all of them listed, or damaged, or a file of an image would lie where
            one of the export's own does.
    """
    source = open_source(run)
    names = BOTH if format == "both" else (format,)
    for name in names:
        if suffix := FORMATS[name].suffix:
            _refuse_own_names((f"{sample.id}{suffix}" for sample in source.labels.samples), run)

    def write(folder: Path) -> dict[str, Any]:
        digest = write_list(folder / LIST, source)
        total = len(source.labels.samples) * len(names)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("export", total=total)
            labels = replace(source.labels, place=out, done=lambda: bar.advance(task))
            counts = [FORMATS[name].write(labels, folder) for name in names]
        loss = "" if format == "both" else FORMATS[format].loss
        said = {"format": format, "images": len(labels.samples), "digest": digest, "loss": loss}
        return said | dict(ChainMap(*counts))

    return write_export(source.stamp, source.root, out, write)


def _refuse_own_names(files: Iterable[str], run: Path) -> None:
    """Refuse files of images that would lie where the export's own files do.

    Raises:
        DatasetError: Names each.
    """
    own = (EXPORT, LIST, UNFINISHED)
    if taken := [file for file in files if PurePosixPath(file).parts[0] in own]:
        message = "the export has a file of its own there; rename the image, or choose another format, such as png"
        raise DatasetError([Problem(run, f"the labels of an image would be {file}: {message}") for file in taken])


def write_export(
    stamp: Mapping[str, Any], root: Path, out: Path, write: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Write a folder of something of a run's, which appears whole or not at all, and is replaced by the next.

    Args:
        stamp: What the export says of where it is from.
        root: Folder of the data set.
        out: A folder that does not exist, is empty, or holds an earlier export.
        write: Writes into a folder, and returns what is said of it.

    Returns:
        "out", and what `write` returned.

    Raises:
        ArtifactError: `out` holds something else, or files that were changed since they were exported; it lies in the
            data set, or cannot be written.
    """
    _refuse_foreign(out)
    refuse_inside(out, root)
    with explain_os_errors(out), _draft(out) as temporary:
        answer = {"out": str(out), **write(temporary)}
        found = {file.relative_to(temporary).as_posix(): file for file in temporary.rglob("*") if file.is_file()}
        names = sorted(found.keys() - {UNFINISHED})
        digests = map_in_threads(lambda name: short_digest(file_digest(found[name])), names)
        document = {**answer, **stamp, "files": dict(zip(names, digests, strict=True))}
        (temporary / EXPORT).write_text(json.dumps(document), encoding="utf-8")
        (temporary / UNFINISHED).unlink()
        _refuse_foreign(out)
        _replace(out, temporary)
    return answer


def show_export(result: dict[str, Any], console: Console) -> None:
    """Print what was written, and where."""
    names = BOTH if result["format"] == "both" else (result["format"],)
    written = " and ".join(FORMATS[name].title for name in names)
    console.print(f"{written} of {result['images']} images: {result['out']}", highlight=False, soft_wrap=True)
    if result.get("loss"):
        console.print(f"the format does not keep: {result['loss']}", highlight=False, soft_wrap=True)


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier export as it was written.

    Raises:
        ArtifactError: Names a file that is none of an export's, or that somebody changed since.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    stamp = read_export(out) if out.is_dir() else None
    remedy = "choose another folder, or empty it"
    if stamp is None:
        raise ArtifactError(f"{out}: holds something else than an earlier export; {remedy}")
    files = stamp.get("files")
    # Earlier versions wrote no digests, and before that no names.
    ours = {EXPORT, *files} if isinstance(files, list | dict) else _old_names(out)
    for file in out.rglob("*"):
        if file.is_symlink() or not file.is_dir():
            name = file.relative_to(out).as_posix()
            if name not in ours:
                raise ArtifactError(f"{file}: not a file of the earlier export, which would be replaced; {remedy}")
    if isinstance(files, dict):
        changed = filter(None, map_in_threads(lambda item: _changed(out / item[0], item[1]), files.items()))
        if (first := next(changed, None)) is not None:
            raise ArtifactError(
                f"{first}: changed since it was exported, and would be replaced; import it (pseudomask import "
                "corrections), or choose another folder"
            )


def _changed(file: Path, digest: str) -> Path | None:
    """Return a file that is there and has another digest."""
    try:
        return None if short_digest(file_digest(file)) == digest else file
    except FileNotFoundError:
        return None


def _old_names(out: Path) -> set[str]:
    """Return the names of an export's files that does not list them: those of its images."""
    try:
        refuse_special(out / LIST)
        with (out / LIST).open(newline="", encoding="utf-8") as stream:
            ids = [row["image"] for row in csv.DictReader(stream)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ArtifactError(f"{out}: an earlier export without its list of images ({error}); empty it") from None
    maps = (f"{kind}/{id}.png" for kind in (*KINDS, SURE) for id in ids)
    return {EXPORT, LIST, DETECTIONS, "classes.txt", "ImageSets/Segmentation/train.txt", *maps}


@contextlib.contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Make a folder beside the place of an export; what is there at the end is removed, and what kills left there.

    It is locked, so that another export to the same place leaves it alone.
    """
    place = out.absolute()
    folder = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network disks cannot.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / UNFINISHED).touch()
        yield folder
        for ending in ("", ".old"):
            for leftover in place.parent.glob(f".{glob.escape(place.name)}.{'[0-9a-f]' * 8}{ending}"):
                if _is_left(leftover):
                    shutil.rmtree(leftover, ignore_errors=True)
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Tell whether a folder is what was an export of this place, or should have become one, and is held by nobody."""
    ours = not folder.is_symlink() and (read_export(folder) or (folder / UNFINISHED).is_file())
    return bool(ours) and not is_held(folder)


def _replace(out: Path, folder: Path) -> None:
    """Move a folder to the place of the earlier export, which takes its place; at once where the system can."""
    if os.path.lexists(out):
        if out.is_symlink() or not exchange(folder, out):
            out.rename(folder.with_name(f"{folder.name}.old"))
            folder.rename(out)
    else:
        folder.rename(out)
