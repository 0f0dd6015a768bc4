"""What people are shown: as it is, whatever names of files and classes look like."""

from __future__ import annotations

import logging
from typing import Any

from rich.console import Console
from rich.text import Text

from data.text import hide_passwords, shown


class PlainConsole(Console):
    """A console that takes no text for markup, in tables neither.

    Control characters are shown escaped, and passwords as ***.
    """

    def __init__(self, **options: Any) -> None:
        plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
        super().__init__(**plain | options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as it is printed."""
        options |= {"markup": False, "emoji": False}
        return super().render_str(shown(hide_passwords(text)), **options)


class PlainFormatter(logging.Formatter):
    """Log lines likewise."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a line."""
        return shown(hide_passwords(super().format(record)))


def is_for_people(record: logging.LogRecord) -> bool:
    """Whether a log line is shown on the terminal: what a command explains itself, Prefect's traceback does not.

    The run's page in Prefect's UI has it all the same.
    """
    return not (record.exc_info and record.name.startswith(("prefect.flow_runs", "prefect.task_runs")))
