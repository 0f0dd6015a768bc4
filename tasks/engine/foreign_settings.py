"""Settings that libraries take from the current folder, which may have come with a data set."""

from __future__ import annotations

import errno
import os
import re
import tomllib
from pathlib import Path

from data.files import read_regular
from tasks.engine.processes import ROOT

SETTINGS_FILES = {"prefect.toml": "Prefect", ".numba_config.yaml": "Numba", "matplotlibrc": "Matplotlib"}
"""Files that a library reads in the current folder -> the library. What they say decides which code runs: a logging
configuration of Prefect names any function, a cache of Numba holds compiled code."""
MIXED_FILES = (".env", "pyproject.toml")
"""Files of many tools, in which Prefect has a part."""
MAX_BYTES = 1 << 20
TRUSTED_FOLDERS_VARIABLE = "PSEUDOMASK_TRUSTED_FOLDERS"


def refuse_foreign_settings(folder: Path | None = None) -> None:
    """See that no library takes settings from the current folder.

    The product's own folder is trusted, and the folders that `PSEUDOMASK_TRUSTED_FOLDERS` lists, as `PATH` does.

    Args:
        folder: Where libraries look; the current folder by default.

    Raises:
        PermissionError: A file there has settings of Prefect, Numba or Matplotlib; the error names it.
    """
    try:
        here = (folder or Path.cwd()).resolve()
    except FileNotFoundError:
        return
    trusted = os.environ.get(TRUSTED_FOLDERS_VARIABLE, "").split(os.pathsep)
    if here == ROOT or here in {Path(name).resolve() for name in trusted if name}:
        return
    found = {here / name: library for name, library in SETTINGS_FILES.items() if os.path.lexists(here / name)}
    found |= {here / name: "Prefect" for name in MIXED_FILES if _has_settings_of_prefect(here / name)}
    for file, library in found.items():
        said = f"{library} takes settings from this file, and it may have come with a data set"
        remedy = f"start pseudomask in another folder, or set {TRUSTED_FOLDERS_VARIABLE}={here} if the file is yours"
        raise PermissionError(errno.EPERM, f"{said}; {remedy}", str(file))


def _has_settings_of_prefect(file: Path) -> bool:
    if not file.is_file():
        return False
    try:
        if file.stat().st_size > MAX_BYTES:
            return True
        text = read_regular(file).decode("utf-8-sig")
        if file.suffix != ".toml":
            return re.search(r"^\s*(export\s+)?[\"']?prefect_\w+", text, re.IGNORECASE | re.MULTILINE) is not None
        tool = tomllib.loads(text).get("tool")
        return isinstance(tool, dict) and "prefect" in tool
    except (OSError, ValueError):
        # What cannot be read here may be read by Prefect.
        return True
