"""Where nights happen, and what a night is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.night_server import NightServer
from benchmarks.night_world import Expected, Said, World


@dataclass
class Place:
    """Where nights happen.

    Attributes:
        world: The publication that they are about.
        other: A second one, for the night of two.
        server: Prefect's.
        has_disk: What is made lies on a small file system.
    """

    world: World
    other: World
    server: NightServer
    has_disk: bool

    @property
    def latest(self) -> int:
        """The version that readers take."""
        return self.world.publication.linked or 0

    def published(self, *, trained: bool = False, **changes: frozenset[str]) -> Expected:
        """Expect a next version that is published; its new labels are of what was added, changed or relabelled."""
        number = self.world.publication.next
        new = frozenset().union(*(changes.get(kind, frozenset()) for kind in ("added", "changed", "relabelled")))
        inferred = frozenset(self.world.tags) if trained else new
        told = {kind.replace("_", " "): ids for kind, ids in changes.items()}
        corrected = len(self.world.corrections.images)
        return Expected("Published", f"Published v{number}: ", 0, number, number, trained, inferred, told, corrected)

    def unchanged(self, message: str = "") -> Expected:
        """Expect that nothing is done."""
        return Expected("Unchanged", message or f"Unchanged since v{self.latest}", latest=self.latest)

    def failed(self, message: str) -> Expected:
        """Expect a failure that leaves `latest` alone."""
        return Expected("Failed", message, 1, latest=self.latest or None)


Tell = Callable[[Place], tuple[Expected, Said]]


@dataclass(frozen=True)
class Night:
    """A night: its name, what happened in words, and the function in which it happens."""

    name: str
    happened: str
    tell: Tell


def night(name: str) -> Callable[[Tell], Night]:
    """Make a function a night; its docstring says what happens."""
    return lambda tell: Night(name, (tell.__doc__ or "").strip().rstrip("."), tell)
