"""The images below a folder, and what else lies there."""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.dataset import Problem
from data.files import OWN_RECORDS, leads_nowhere, walk_visible
from data.formats.images import HEIF_REMEDY, HEIF_SUFFIXES
from data.formats.label_folder import INSTANCES, SEMANTIC
from data.names import has_control_characters, shortened
from data.readers.image_names import IMAGE_SUFFIXES, image_id

GROUND_TRUTH_FOLDERS = (SEMANTIC, INSTANCES)
"""Of these names none has photographs."""
_MASK_FOLDER = re.compile(
    r"masks?|labels?|annotations?|gts?|groundtruths?(masks?)?|segs?|segmentations?(masks?)?|semantic(masks?)?|labelmaps?"
    r"|(train|val|test)(annot(ation)?s?|masks?|labels?)|trimaps?|segmentation(class|object)(aug|raw)?|segmentation(sure|confidence)|saliency"
    # Of sets of scenes.
    r"|gtfine|gtcoarse|labeledapproved(full)?|sunrgbdtraintestlabels|duts(tr|te)mask"
)
"""Of these names, in any case and without `_`, some have photographs."""
OLD_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Where a file of these and one of the others are of the same name, the other one is a thumbnail, a mask or a map."""
CAMERA_SUFFIXES = frozenset([".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"])
PICTURE_SUFFIXES = frozenset({".psd", ".svg", ".eps", ".pdf", ".exr", ".dcm", ".nii", ".jxl", ".mp4", ".avi", ".mov"})
_MASK_ENDING = re.compile(r"[_\-. ](?:mask|masks|gt|seg|label|labels|labelids|groundtruth|matte)$")
LISTED = 3
MAX_NAME_BYTES = 240
"""Of a part of an id. File systems have 255, and label files are written as `.NAME.png` with an ending first."""


@dataclass
class Index:
    """What lies below a folder.

    Attributes:
        folder: Where it was looked.
        images: Sample id -> file.
        aside: Sample id -> file, of images in folders that are named as folders of masks are, and hold such.
        mask_folders: The names of these folders.
        problems: Of the files.
        notes: What was left out, and why.
    """

    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    aside: dict[str, Path] = field(default_factory=dict)
    mask_folders: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def stem_of(id: str) -> str:
    """Return what an image and its mask have in common in their names."""
    name = id.rpartition("/")[2].casefold()
    return _MASK_ENDING.sub("", name) or name


def is_folder_name(name: str) -> bool:
    """Tell whether a name has no ending, as those of folders: "images", "2024.05", "v1.2"."""
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 -- a path per file is slow
    return not suffix or suffix[1:].isdecimal()


def is_mask_folder(name: str) -> bool:
    return _MASK_FOLDER.fullmatch(re.sub(r"[_\- ]", "", name.casefold())) is not None


def index_images(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Return id -> file of all images below a folder, as `index_folder`, and the problems."""
    index = index_folder(folder)
    return index.images, index.problems


def index_folder(folder: Path) -> Index:
    """Find all images below a folder; hidden ones, ground truth and what systems and this product wrote are left out.

    Files that share an id ("a.jpg", "a.png") are a problem, and so are names that no label file can have, and
    folders that cannot be read. Links to folders are followed where they lead out of the folder.
    """
    index = Index(folder)
    files: list[str] = []
    unread: dict[str, list[str]] = defaultdict(list)
    for parent, names in _walk(index):
        prefix = "" if parent == folder else parent.relative_to(folder).as_posix() + "/"
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 -- a path per file is slow
            if name[0] == ".":
                continue
            if suffix in IMAGE_SUFFIXES:
                files.append(prefix + name)
            elif suffix in CAMERA_SUFFIXES or suffix in PICTURE_SUFFIXES or (not suffix and _is_image(parent / name)):
                unread[suffix].append(prefix + name)
            elif is_folder_name(name) and (target := leads_nowhere(parent / name)) is not None:
                message = f"expected a file or a folder of images, found a link to {target}, where nothing is"
                index.problems.append(Problem(parent / name, message))
    _sort_in(index, files)
    _name_unread(index, unread)
    _set_masks_aside(index)
    return index


def _walk(index: Index) -> Iterator[tuple[Path, list[str]]]:
    """Give each folder that may have photographs with the names of its files, ascending."""
    left: list[str] = []

    def failed(error: OSError) -> None:
        if isinstance(error, FileNotFoundError) and not index.folder.exists():
            return
        message = f"expected a folder that can be read, but {error.strerror or error}: its images are not in the set"
        index.problems.append(Problem(Path(error.filename or index.folder), message))

    def leave(path: Path, why: str) -> None:
        left.append(path.relative_to(index.folder).as_posix() + (f" ({why})" if why else ""))

    for parent, _, names in walk_visible(index.folder, failed, leave, own=OWN_RECORDS, skip=GROUND_TRUTH_FOLDERS):
        yield parent, names
    if left:
        index.notes.append(f"folders that hold no photographs of the set, left out: {shortened(left, LISTED)}")


def _sort_in(index: Index, files: list[str]) -> None:
    """Give each file its id; what cannot be in the set becomes a problem or a note."""
    old = [name for name in files if _suffix(name) in OLD_SUFFIXES]
    stems = {stem_of(image_id(name)) for name in old} if len(old) < len(files) else set()
    doubles = []
    for name in sorted(files, key=lambda name: (_suffix(name) not in OLD_SUFFIXES, name)):
        id = image_id(name)
        file = index.folder / name
        if _suffix(name) not in OLD_SUFFIXES and stem_of(id) in stems:
            doubles.append(name)
        elif fault := id_fault(id):
            # A name that is not UTF-8 would not go into a record.
            broken = _is_broken(name)
            index.problems.append(Problem(index.folder if broken else file, fault, None if broken else id))
        elif id in index.images:
            message = f"expected one image with the id {id!r}, found {index.images[id].name} too"
            index.problems.append(Problem(file, message, id))
        elif not stat.S_ISREG(_mode(file)):
            index.problems.append(Problem(file, "expected an image, found a broken link, a pipe or a device", id))
        else:
            index.images[id] = file
    index.images = dict(sorted(index.images.items()))
    index.problems += nested_problems(index.images)
    if doubles:
        index.notes.append(f"pictures beside photographs of the same name, left unread: {shortened(doubles, LISTED)}")


def _name_unread(index: Index, unread: dict[str, list[str]]) -> None:
    """Tell of files that look like images; those of a camera that have no other file are a problem each."""
    stems = {stem_of(id) for id in index.images}
    for suffix, names in sorted(unread.items()):
        lost = [name for name in names if suffix in CAMERA_SUFFIXES and stem_of(name.rpartition(".")[0]) not in stems]
        remedy = HEIF_REMEDY if suffix in HEIF_SUFFIXES else "convert it to JPEG"
        for name in lost:
            message = f"expected a photograph as JPEG, PNG, TIFF, WebP or the like, found {suffix}: {remedy}"
            index.problems.append(Problem(index.folder / name, message, name.rpartition(".")[0]))
        if rest := [name for name in names if name not in set(lost)]:
            index.notes.append(
                f"files {suffix or 'without a suffix'} that may be images, left unread: {shortened(rest, LISTED)}"
            )


def _set_masks_aside(index: Index) -> None:
    """Set aside the folders that are named as folders of masks are, if their files are named as others' are."""
    folders = mask_folders(index.images)
    inside = {id for ids in folders.values() for id in ids}
    stems = {stem_of(id) for id in index.images if id not in inside}
    for folder, ids in folders.items():
        if 2 * sum(stem_of(id) in stems for id in ids) >= len(ids):
            set_aside_folder(index, folder, ids)


def mask_folders(ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the folders that are named as folders of masks are, and the ids of their images."""
    folders: dict[str, list[str]] = defaultdict(list)
    for id in ids:
        parts = id.split("/")
        depth = next((depth for depth, part in enumerate(parts[:-1], start=1) if is_mask_folder(part)), None)
        if depth is not None:
            folders["/".join(parts[:depth])].append(id)
    return folders


def set_aside_folder(index: Index, folder: str, ids: list[str]) -> None:
    """Take the images of a folder of masks out of an index."""
    index.aside |= {id: index.images.pop(id) for id in ids}
    index.mask_folders[folder] = len(ids)


def mask_notes(index: Index, ground_truth: Collection[str] = ()) -> list[str]:
    """Tell what the folders of masks were taken for."""
    read = "is taken for masks, not for photographs: read as ground truth, since its values are those of the tags"
    unread = (
        "is taken for masks, not for photographs, and left unread; ground truth is called SegmentationClass and has "
        "the values of the classes"
    )
    return [
        f"{folder}/ ({count} files) {read if folder in ground_truth else unread}"
        for folder, count in index.mask_folders.items()
    ]


def nested_problems(images: Mapping[str, Path]) -> list[Problem]:
    """Return a problem for each id whose label file's folder is another one's label file."""
    problems = []
    for id in (id for id in images if ".png/" in id):
        for end in re.finditer(r"\.png(?=/)", id):
            if (other := id[: end.start()]) in images:
                message = f"expected ids whose label files can stand side by side, found {other!r} and {id!r}"
                problems.append(Problem(images[id], message, id))
    return problems


def id_fault(id: str) -> str | None:
    """Return what keeps an id from being the name of label files; None if nothing does."""
    if _is_broken(id):
        # Only letters that stand for bytes of a file's name can be bytes again.
        escaped = all("\udc80" <= letter <= "\udcff" for letter in id if "\ud800" <= letter <= "\udfff")
        found = repr(id.encode("utf-8", "surrogateescape")) if escaped else ascii(id)
        return f"expected a file name in UTF-8, found {found}: rename the file"
    if has_control_characters(id):
        return f"expected a name without control characters and line breaks, found {id!r}: rename the file"
    longest = max(id.split("/"), key=lambda part: len(part.encode()))
    if (size := len(longest.encode())) > MAX_NAME_BYTES:
        return f"expected a name of at most {MAX_NAME_BYTES} bytes, since label files are named after it, found {size}"
    return None


def _is_broken(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_image(file: Path) -> bool:
    """Tell whether a file begins as common images do."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return False
        with file.open("rb") as stream:
            start = stream.read(12)
    except OSError:
        return False
    return start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*")) or start[8:] == b"WEBP"


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:
        return 0


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 -- a path per file is slow
