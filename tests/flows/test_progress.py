"""Without a terminal, progress is a line now and then, and one when a stage is done."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from data.dataset import ClassTable, Dataset, Sample
from flows.engine import progress
from tasks.config import Config
from tasks.engine.artifact import Artifact
from tasks.engine.plan import Plan
from tasks.pipeline import STAGES
from tasks.pipeline.settings import PipelineConfig


def plan_of(num_shards: int) -> Plan:
    samples = tuple(Sample(f"s{i}", Path(f"s{i}.jpg"), ()) for i in range(4 * num_shards))
    cams = next(stage for stage in STAGES if stage.name == "cams")
    classes, config = ClassTable(("a",)), PipelineConfig()
    artifacts = tuple(
        Artifact(cams, f"cams {i}", f"k{i}", samples[4 * i : 4 * i + 4], classes, Config(), config)
        for i in range(num_shards)
    )
    return Plan(Dataset(Path(), classes, samples), config, artifacts)


def test_lines_are_rare_and_the_last_is_always_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    plan, out = plan_of(2), io.StringIO()
    with progress.RunProgress(plan, console=Console(file=out, force_terminal=False, width=80)) as bars:
        first = bars.reporter(plan.artifacts[0])
        for done in range(1, 4):
            first(done, 4)
        now = progress.LINE_SECONDS + 1
        first(4, 4)
        bars.finish(plan.artifacts[0])
        bars.finish(plan.artifacts[1], "cached")
        bars.finish(plan.artifacts[1], "cached")
    assert out.getvalue().splitlines() == ["cams: 4/8", "cams: 8/8 cached"]
