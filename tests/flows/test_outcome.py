"""What is said of a night: the state's name, its message, and the exit code."""

from __future__ import annotations

from typing import Any

import pytest

from flows.engine.exit_codes import DONE, HELD, WORK_TO_DO
from flows.publishing.outcome import outcome_of


@pytest.mark.parametrize(
    ("answer", "state", "message", "code"),
    [
        ({"version": 7, "reasons": ["3 images added"]}, "Published", "Published v7: 3 images added", DONE),
        ({}, "Unchanged", "Unchanged since v6", DONE),
        ({"version": 8, "held": ["too much background"]}, "Held", "Held v8: too much background", HELD),
        (
            {"same": 8, "held": ["too much background"]},
            "Held",
            "Held v8: awaits review, and nothing changed since: too much background",
            HELD,
        ),
        (
            {"same": 8, "reasons": ["1 images added"]},
            "Unchanged",
            "Unchanged: v8 has just these labels and was rolled back, v6 stays",
            DONE,
        ),
        ({"held": ["the new class 'dgo' has 1 image"]}, "Held", "Held: the new class 'dgo' has 1 image", HELD),
        ({"reasons": ["1 images added"]}, "Planned", "Planned: 1 images added", WORK_TO_DO),
    ],
)
def test_a_night_has_a_state_a_sentence_and_an_exit_code(
    answer: dict[str, Any], state: str, message: str, code: int
) -> None:
    found = outcome_of({"version": None, "same": None, "held": [], "reasons": [], "latest": 6} | answer)
    assert (found.state, found.message, found.code) == (state, message, code)
