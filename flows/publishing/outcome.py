"""What became of a regeneration, in a word, a sentence and an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flows.engine.exit_codes import HELD, WORK_TO_DO


@dataclass(frozen=True)
class Outcome:
    """What became of a regeneration.

    Attributes:
        state: Name of the flow run's state, which is of type Completed.
        message: One sentence that begins with it.
        code: Exit code of the command.
    """

    state: Literal["Published", "Unchanged", "Held", "Planned"]
    message: str
    code: int = 0


def outcome_of(answer: Mapping[str, Any]) -> Outcome:
    """Return what became of a regeneration, from its answer (`describe_work`)."""
    version, same, held = answer["version"], answer["same"], answer["held"]
    if held:
        number = version or same
        name = "Held" if number is None else f"Held v{number}"
        waiting = "awaits review, and nothing changed since: " if same else ""
        return Outcome("Held", f"{name}: {waiting}{'; '.join(held)}", HELD)
    if version is not None:
        return Outcome("Published", f"Published v{version}: {'; '.join(answer['reasons'])}")
    latest = answer["latest"]
    if same is not None:
        return Outcome("Unchanged", f"Unchanged: v{same} has just these labels and was rolled back, v{latest} stays")
    if answer["reasons"]:
        return Outcome("Planned", f"Planned: {'; '.join(answer['reasons'])}", WORK_TO_DO)
    return Outcome("Unchanged", f"Unchanged since v{latest}")
