"""The list of a store's runs: the same on every machine, and of published labels as well."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fabricated_run import make_run
from support.published_labels import make_publication

from flows.commands.looking import status
from tasks.engine.run_record import read_run


def _of(monkeypatch: pytest.MonkeyPatch, run: Path, artifacts: set[tuple[str, str]]) -> dict[str, Any]:
    # As at an address: what is there is in its list, and no folder of it is on this machine.
    store = SimpleNamespace(users=lambda: [run], exists=lambda: True, address="s3://b/s", artifacts=lambda: artifacts)
    monkeypatch.setattr(status, "open_store", lambda _: store)
    (found,) = status.runs_of("s3://b/s")["runs"]
    return found


def test_artifacts_that_another_machine_made_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    made = {(name, key) for name, stage in read_run(run).stages.items() for key in stage.keys.values()}
    assert made
    stages = _of(monkeypatch, run, made)["stages"]
    assert all(stage["cached"] == stage["total"] for stage in stages.values())
    assert sum(stage["cached"] for stage in _of(monkeypatch, run, set())["stages"].values()) == 0


def test_the_run_of_a_published_version_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = make_publication(tmp_path)
    assert _of(monkeypatch, labels / "runs/v00001", set())["finished"]
    (labels / "v00001/version.json").unlink()
    assert not _of(monkeypatch, labels / "runs/v00001", set())["finished"]
