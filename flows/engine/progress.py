"""How far a run is: bars on a terminal, now and then a line elsewhere. All on standard error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.engine.printing import PlainConsole
from tasks.engine.artifact import Artifact
from tasks.engine.plan import Plan

LINE_SECONDS = 10.0


Watch = Callable[[str, int, int], None]


class RunProgress:
    """One bar a stage, in images, or in steps where it trains. A context manager.

    Args:
        watch: Is told as well, as `watch(stage, done, total)`.
    """

    def __init__(self, plan: Plan, watch: Watch | None = None, console: Console | None = None) -> None:
        self._watch = watch
        self._console = console or PlainConsole(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._lock = threading.Lock()
        self._done: dict[str, int] = dict.fromkeys(plan.stages, 0)
        self._done_by_label: dict[str, int] = {}
        self._total = {stage: sum(len(artifact.samples) for artifact in plan.of(stage)) for stage in plan.stages}
        self._tasks: dict[str, TaskID] = {
            stage: self._bars.add_task(stage, total=self._total[stage], note="", start=False) for stage in plan.stages
        }
        self._said: dict[str, float] = {}
        self._finished: set[str] = set()

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def reporter(self, artifact: Artifact) -> Callable[[int, int, str], None]:
        """Return the callback of one artifact's job."""

        def report(done: int, total: int, note: str = "") -> None:
            self._update(artifact, done, total, note)

        return report

    def finish(self, artifact: Artifact, note: str = "") -> None:
        """Count an artifact as done, also where it was cached."""
        stage = artifact.stage.name
        total = len(artifact.samples) if artifact.stage.sharded else self._total[stage]
        self._update(artifact, total, total, note)

    def _update(self, artifact: Artifact, done: int, total: int, note: str) -> None:
        stage = artifact.stage.name
        with self._lock:
            if not artifact.stage.sharded:
                self._total[stage] = total
            self._done[stage] += done - self._done_by_label.get(artifact.label, 0)
            self._done_by_label[artifact.label] = done
            count = self._done[stage]
            self._bars.start_task(self._tasks[stage])
            self._bars.update(self._tasks[stage], completed=count, total=self._total[stage], note=note)
            self._say(stage, count, note)
            total = self._total[stage]
        if self._watch:
            self._watch(stage, count, total)

    def _say(self, stage: str, count: int, note: str) -> None:
        if self._console.is_terminal:
            return
        now, finished = time.monotonic(), count >= self._total[stage]
        last = self._said.setdefault(stage, now)
        if stage in self._finished or (not finished and now - last < LINE_SECONDS):
            return
        if finished:
            self._finished.add(stage)
        self._said[stage] = now
        self._console.print(f"{stage}: {count}/{self._total[stage]} {note}".rstrip(), highlight=False, markup=False)
