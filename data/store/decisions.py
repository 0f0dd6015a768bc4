"""Who approved or rolled back which version of published labels, and when.

<root>/decisions/d00001.json     records are added and never changed
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from data.files import ArtifactError, atomic_write, explain_os_errors, read_regular

FOLDER = "decisions"
Action = Literal["approve", "rollback"]


@dataclass(frozen=True)
class DecisionRecord:
    """What a person decided.

    Attributes:
        action: "approve" or "rollback".
        version: The version that became the latest.
        before: The latest version until then; None where there was none.
        by: Who decided.
        at: When, in ISO 8601 with its zone.
    """

    action: Action
    version: int
    before: int | None
    by: str
    at: str


def record_decision(root: Path, action: Action, version: int, before: int | None, by: str) -> DecisionRecord:
    """Write a decision down, and return it. Whoever calls it holds the publication's lock.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    record = DecisionRecord(action, version, before, by, datetime.now(UTC).isoformat(timespec="seconds"))
    folder = root / FOLDER
    with explain_os_errors(folder):
        folder.mkdir(exist_ok=True)
        number = max((_number(file) for file in folder.glob("d*.json")), default=0) + 1
        atomic_write(folder / f"d{number:05d}.json", json.dumps(asdict(record)), durable=True)
    return record


def _number(file: Path) -> int:
    text = file.stem[1:]
    return int(text) if text.isdecimal() else 0


def read_decisions(root: Path) -> list[DecisionRecord]:
    """Return what was decided, oldest first.

    Raises:
        ArtifactError: A record is damaged; it is named.
    """
    return [_read(file) for file in sorted((root / FOLDER).glob("d*.json"))]


def _read(file: Path) -> DecisionRecord:
    try:
        values = json.loads(read_regular(file))
        record = DecisionRecord(**values)
        if not (isinstance(record.version, int) and isinstance(record.by, str) and isinstance(record.at, str)):
            raise ValueError("expected a version, a name and a time")
        if record.action not in ("approve", "rollback"):
            raise ValueError(f"expected approve or rollback, found {record.action!r:.80}")
        return record
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file}: unreadable ({error})") from None
