"""What a training needs to go on from where it was stopped: written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from data.files import atomic_write

log = logging.getLogger(__name__)
SECONDS_BETWEEN = 20.0
# Nor may saving take more than this share of the time.
SHARE = 0.03


class Stateful(Protocol):
    """Whatever can give its state and take it back."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: Steps done.
        history: Mean figures of each epoch.
        running: Figures of each step of the epoch that has begun.
        best: The highest figure of validation so far.
        recent: The losses of the last steps.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    running: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    recent: list[float] = field(default_factory=list)


class Checkpoint:
    """The file `checkpoint.pt` of a folder, and beside it `best.pt`, the best network so far.

    Args:
        folder: Made if need be.
        parts: All that has state: the network, its optimiser, ...
    """

    def __init__(self, folder: Path, parts: dict[str, Stateful]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "checkpoint.pt"
        self._best = folder / "best.pt"
        self._parts = parts
        self._saved_at = time.monotonic()
        self._wait = SECONDS_BETWEEN

    def load(self) -> Progress:
        """Put the parts into the state that was saved, and return how far it was; the beginning where there is none.

        Files that cannot be read, as a power cut leaves them, are set aside: training starts anew.
        """
        if not self._file.is_file():
            return Progress()
        state = _read(self._file)
        if state is None or (state["progress"]["best"] is not None and _read(self._best) is None):
            self._best.unlink(missing_ok=True)
            self._file.unlink(missing_ok=True)
            return Progress()
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        progress = Progress(**state["progress"])
        log.info("going on from step %d", progress.step)
        return progress

    @property
    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_at > self._wait

    def save(self, progress: Progress) -> None:
        """Write the state of all parts."""
        begun = time.monotonic()
        _write(
            self._file, {name: part.state_dict() for name, part in self._parts.items()} | {"progress": asdict(progress)}
        )
        self._saved_at = time.monotonic()
        self._wait = max(SECONDS_BETWEEN, (self._saved_at - begun) / SHARE)

    def save_best(self, net: nn.Module) -> None:
        """Keep a network's state as the best so far."""
        _write(self._best, net.state_dict())

    def load_best(self, net: nn.Module) -> None:
        """Put a network into the best state so far."""
        net.load_state_dict(torch.load(self._best, map_location="cpu", weights_only=True))


def _read(path: Path) -> dict[str, Any] | None:
    """Read what was saved; None, and a copy set aside, where the file is not whole."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, FileNotFoundError) as error:
        log.warning(
            "%s: cannot be read (%s); set aside as .damaged, and training starts anew", path, _first_line(error)
        )
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_suffix(".damaged"))
        return None


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text; torch's go on with advice that fits other cases."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _write(path: Path, state: dict[str, Any]) -> None:
    # Not straight to the file: on a full disk torch's own writer says "unexpected pos" and not why.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic_write(path, buffer.getbuffer(), durable=True)
