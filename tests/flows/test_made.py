"""A run is collected without Prefect where every artifact is there byte for byte, and only then."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data.store import Store
from flows.engine.made import is_whole, may_be_made
from flows.engine.request import Request
from tasks.engine.run_record import FILE_NAME


@pytest.mark.parametrize("harm", ["none", "damaged", "missing"])
def test_a_run_is_whole_where_no_byte_of_an_artifact_differs(tmp_path: Path, harm: str) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    for key in ("a", "b"):
        with store.create("labels", key) as draft:
            (draft.folder / "file").write_text(key)
    stage = SimpleNamespace(name="labels")
    keys = ["a", "b", "c"] if harm == "missing" else ["a", "b"]
    if harm == "damaged":
        (store.path("labels", "b") / "file").write_text("x")
    artifacts = [SimpleNamespace(stage=stage, key=key) for key in keys]
    prepared: Any = SimpleNamespace(store=store, plan=SimpleNamespace(artifacts=artifacts))
    assert is_whole(prepared) == (harm == "none")


def test_only_a_run_that_was_begun_and_that_no_server_is_to_hear_of_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not may_be_made(Request(out=tmp_path))
    (tmp_path / FILE_NAME).write_text("{}")
    assert may_be_made(Request(out=tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert not may_be_made(Request(out=tmp_path))
