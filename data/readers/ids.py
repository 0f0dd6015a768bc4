"""Sample ids, the lists that name them, and the class names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from data.dataset import DatasetError, Problem

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
GROUND_TRUTH_FOLDERS = ("SegmentationClass", "SegmentationObject")


def image_id(name: str) -> str:
    """Return the sample id of an image's name: "./a/b.jpg" and "a/b" are both "a/b"; other dots are kept."""
    path = PurePosixPath(name.strip())
    return (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).as_posix()


def is_unsafe(name: str) -> bool:
    """Tell whether files named after it could land outside their folder, on any system."""
    path = PureWindowsPath(name)
    return bool(path.anchor) or ".." in path.parts or not path.parts


def unsafe_problem(file: Path, name: str, where: str) -> Problem:
    return Problem(file, f"{where}: expected a path inside the folder of images, found {name!r}")


def index_images(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Return id -> file of all images below a folder, hidden ones and ground truth left out.

    Files that share an id ("a.jpg", "a.png") are a problem.
    """
    images: dict[str, Path] = {}
    problems = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in GROUND_TRUTH_FOLDERS)
        for name in sorted(files):
            file = Path(parent, name)
            if name[0] == "." or file.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            id = image_id(file.relative_to(folder).as_posix())
            if id in images:
                message = f"expected one image with the id {id!r}, found {images[id].name} too"
                problems.append(Problem(file, message, id))
            else:
                images[id] = file
    return images, problems


def read_split(root: Path, split: str | Path) -> tuple[Path, list[str], list[Problem]]:
    """Read a list of images, given by its name or its file; images may have suffixes.

    Returns:
        The file, its distinct ids, and a problem for each one that is listed twice or leaves the folder.

    Raises:
        DatasetError: There is no such list.
    """
    file = find_split(root, split)
    if file is None:
        places = "ImageSets/Segmentation, ImageSets/Main or the folder itself"
        raise DatasetError([Problem(Path(split), f"expected a file, or the name of a .txt list in {places} of {root}")])
    lines = [line.strip() for line in read_text(file).splitlines()]
    counts = Counter(image_id(line) for line in lines if line and not is_unsafe(line))
    problems = [
        unsafe_problem(file, line, f"line {number}")
        for number, line in enumerate(lines, start=1)
        if line and is_unsafe(line)
    ]
    problems += [
        Problem(file, f"expected each image once, found {id!r} {count} times", id)
        for id, count in counts.items()
        if count > 1
    ]
    return file, list(counts), problems


def find_split(root: Path, split: str | Path) -> Path | None:
    """Return the file of a list, or None: a list of the set goes before a file of the same name elsewhere."""
    places = [root / "ImageSets" / "Segmentation", root / "ImageSets" / "Main", root]
    candidates = [place / f"{split}.txt" for place in places]
    return next((file for file in [*candidates, Path(split)] if file.is_file()), None)


def case_problems(files: dict[str, Path]) -> list[Problem]:
    """Return a problem for each id that differs from an earlier one in case only: their label files would be one
    file on a system that ignores case."""
    seen: dict[str, str] = {}
    problems = []
    for id in sorted(files):
        first = seen.setdefault(id.casefold(), id)
        if first != id:
            message = f"expected ids that differ in more than case, found {first!r} and {id!r}"
            problems.append(Problem(files[id], message, id))
    return problems


def read_class_names(root: Path, classes: Path | None) -> tuple[str, ...] | None:
    """Read a table of foreground classes, a name a line; `classes.txt` in the root unless a file is given.

    Returns:
        The names, or None where no file is given and the root has none.

    Raises:
        DatasetError: The file is missing or empty, or a name comes twice or is the background's.
    """
    file = classes or root / "classes.txt"
    if classes is None and not file.is_file():
        return None
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    problems = [
        Problem(file, f"expected each class once, found {name!r} {count} times")
        for name, count in Counter(names).items()
        if count > 1
    ]
    if "background" in names:
        problems.append(Problem(file, "expected foreground classes only, found 'background', which has value 0"))
    if not names:
        problems.append(Problem(file, "expected the name of a class a line, found none"))
    if problems:
        raise DatasetError(problems)
    return tuple(names)


def read_text(file: Path) -> str:
    """Read UTF-8, with or without a byte order mark.

    Raises:
        DatasetError: The file is missing or not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError([Problem(file, f"expected a text file in UTF-8, but {error}")]) from error


def shortened(names: Iterable[str], limit: int = 25) -> str:
    """Join names for a message, the first of them if they are many."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
