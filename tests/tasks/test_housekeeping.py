"""What may be deleted from a store."""

import os
import shutil
import time
from pathlib import Path

import pytest
from fabricated_run import make_run

from data.store import ArtifactError, Store
from flows.commands.storing.gc import ALL_STAGES, collect_garbage
from tasks.engine.garbage import leftovers
from tasks.engine.run_record import FILE_NAME

DAY = 86_400


def add_artifact(store: Store, stage: str, key: str) -> None:
    with store.create(stage, key) as draft:
        (draft.folder / "file").write_text("content")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run of yesterday, whose store has an artifact and checkpoints of nobody."""
    run = make_run(tmp_path)
    store = Store(tmp_path / "store")
    # The fabricated labels are there without a manifest.
    shutil.rmtree(store.path("labels", "d"))
    add_artifact(store, "labels", "d")
    add_artifact(store, "walk", "orphan")
    add_artifact(store, "classifier", "c1")
    store.register(run)
    scratch = store.scratch("irnet", "stopped")
    (scratch / "checkpoint.pt").write_bytes(bytes(100))
    for file in (run / FILE_NAME, scratch):
        os.utime(file, (time.time() - DAY,) * 2)
    return run


def names(store: Path, since: float) -> list[str]:
    return [f"{found.stage}-{found.folder.name}" for found in leftovers(Store(store), ALL_STAGES, since)]


def test_a_recent_run_keeps_all_it_was_made_from(run: Path) -> None:
    store = run.parent / "store"
    assert names(store, time.time() - 2 * DAY) == ["classifier-c1", "walk-orphan"]


def test_an_old_run_keeps_its_networks(run: Path) -> None:
    found = names(run.parent / "store", time.time())
    assert found == [
        "cams-c",
        "classifier-c1",
        "fields-f",
        "labels-d",
        "relations-r",
        "walk-orphan",
        "irnet-irnet-stopped",
    ]


def test_a_deleted_run_keeps_nothing_once_it_is_forgotten(run: Path) -> None:
    store = run.parent / "store"
    shutil.rmtree(run)
    with pytest.raises(ArtifactError, match=f"{run}.*--forget {run}"):
        collect_garbage(store, 0, delete=True)
    assert Store(store).verify("irnet", "i") is None
    collect_garbage(store, 0, delete=True, forget=(run,))
    assert not list(Store(store).artifacts())
    assert Store(store).users() == []


@pytest.mark.parametrize("content", ['{"version": 3}', "{", "", '{"unknown": 1}'])
def test_gc_deletes_nothing_where_a_run_cannot_be_read(run: Path, content: str) -> None:
    store = run.parent / "store"
    (run / FILE_NAME).write_text(content)
    before = list(Store(store).artifacts())
    with pytest.raises(ArtifactError, match=f"{run}/{FILE_NAME}"):
        collect_garbage(store, 0, delete=True)
    with pytest.raises(ArtifactError, match="is there, so it is not forgotten"):
        collect_garbage(store, 0, delete=True, forget=(run,))
    assert list(Store(store).artifacts()) == before


def test_gc_forgets_no_run_whose_disk_is_not_there(run: Path) -> None:
    store = Store(run.parent / "store")
    far = run.parent / "disk" / "run"
    store.register(run.parent / "disk/run")
    with pytest.raises(ArtifactError, match="not mounted"):
        collect_garbage(store.root, 0, delete=True, forget=(far,))
    with pytest.raises(ArtifactError, match="not a run of"):
        collect_garbage(store.root, 0, delete=True, forget=(far.parent,))


def test_a_store_that_was_renamed_keeps_what_its_runs_need(run: Path) -> None:
    store = run.parent / "store"
    moved = store.rename(run.parent / "store2")
    collect_garbage(moved, 2, delete=True)
    assert Store(moved).verify("irnet", "i") is None
    assert Store(moved).verify("labels", "d") is None
    # A new store in the old place has nothing of it.
    Store(store).prepare()
    collect_garbage(moved, 2, delete=True)
    assert Store(moved).verify("irnet", "i") is None


def test_gc_deletes_only_artifacts(run: Path) -> None:
    store = run.parent / "store"
    (store / "site/app").mkdir(parents=True)
    (store / "walk/mine").mkdir()
    for folder in (store / "site/app", store / "walk/mine"):
        (folder / "manifest.json").write_text("{}")
    (store / ".scratch/mine").mkdir()
    os.utime(store / ".scratch/mine", (0, 0))
    said = collect_garbage(store, 0, delete=True)
    assert all((store / name).is_dir() for name in ("site/app", "walk/mine", ".scratch/mine"))
    assert any("walk/mine" in problem for problem in said["unreadable"])
    assert not (store / "walk/orphan").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"folder": 5}', '{"folder": "relative"}'])
def test_a_torn_note_of_a_user_is_named_and_gc_deletes_nothing(run: Path, content: str) -> None:
    store = run.parent / "store"
    (store / ".users/zz.json").write_text(content)
    before = list(Store(store).artifacts())
    with pytest.raises(ArtifactError, match=r"zz\.json"):
        collect_garbage(store, 0, delete=True)
    assert list(Store(store).artifacts()) == before


def test_deleting_deletes_just_that(run: Path) -> None:
    store = run.parent / "store"
    said = collect_garbage(store, 2)
    assert (said["deleted"], said["kept"]) == (False, 5)
    assert said["stages"]["walk"] == {"artifacts": 1, "bytes": said["stages"]["walk"]["bytes"]}
    assert (store / "walk/orphan").is_dir()
    assert collect_garbage(store, 2, delete=True)["bytes"] == said["bytes"]
    assert not (store / "walk/orphan").exists()
    assert Store(store).verify("labels", "d") is None
    assert collect_garbage(store, 2)["stages"] == {}
    assert (store / ".scratch/irnet-stopped").is_dir()
    collect_garbage(store, 0, delete=True)
    assert not (store / ".scratch/irnet-stopped").exists()
    assert [stage for stage, _ in Store(store).artifacts()] == ["irnet"]


def test_a_store_that_knows_no_run_is_left_alone(tmp_path: Path) -> None:
    add_artifact(Store(tmp_path), "walk", "orphan")
    with pytest.raises(ArtifactError, match="knows of none"):
        collect_garbage(tmp_path, 0, delete=True)
    with pytest.raises(ArtifactError, match="found none"):
        collect_garbage(tmp_path / "nowhere")
    assert (tmp_path / "walk/orphan").is_dir()


def test_a_run_of_another_store_keeps_nothing_here(run: Path, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    add_artifact(other, "cams", "c")
    other.register(run)
    assert [found.stage for found in leftovers(other, ALL_STAGES, 0)] == ["cams"]
