"""Retention of published versions: which stay, which go with their runs, and what the store knows then."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from data.dataset import ClassTable
from data.files import file_digest
from data.store import ArtifactError, open_store
from data.store.corrections import Corrections
from data.store.publication import Entry, Publication, name_of
from flows import cli
from flows.commands.storing.gc_versions import collect_versions, show_versions_gone
from tasks.engine.image_list import ImageList
from tasks.engine.run_record import RunRecord, StageRecord

NOW = datetime.now(UTC)


def record_of(number: int) -> RunRecord:
    """Return the record of the run that made the labels of a version."""
    return RunRecord(
        version=2,
        preset="quick",
        settings={},
        request={},
        root=Path("photos"),
        classes=ClassTable(("cat",)),
        images=ImageList(),
        validation=ImageList(),
        store="store",
        stages={"labels": StageRecord(keys={0: f"key{number}"})},
    )


@pytest.fixture
def published(tmp_path: Path) -> Publication:
    """Return seven versions, a day apart: 1 and 4 trained networks, 5 is the latest, 6 held, 7 rolled back."""
    publication, store = Publication(tmp_path / "labels"), open_store(tmp_path / "store")
    store.prepare()
    for number in range(1, 8):
        run = publication.root / "runs" / name_of(number)
        run.mkdir(parents=True)
        record_of(number).write(run)
        store.register(run)
        record = {
            "created": (NOW - timedelta(days=10 - number)).isoformat(),
            "reasons": ["a test"],
            "store": str(tmp_path / "store"),
            "run": f"runs/{name_of(number)}",
            "networks": f"runs/{name_of(4 if number >= 4 else 1)}",
        }
        with publication.lock(), publication.draft() as draft:
            (draft / "a.png").write_text(str(number))
            entry = Entry("a", "ab" * 32, ("cat",), f"key{number}", 0.5, 1, 1)
            assert publication.publish(draft, record, [entry], hold=number == 6) == number
    with publication.lock():
        publication.lead_to(5)
    return publication


def runs(publication: Publication) -> list[str]:
    return sorted(run.name for run in (publication.root / "runs").iterdir())


def test_the_newest_stay_with_all_that_stands_on_something_else(published: Publication) -> None:
    said = collect_versions(published.root, keep=2, keep_days=None)
    # Nothing is done unasked.
    assert (published.published, said["deleted"], len(runs(published))) == ([1, 2, 3, 4, 5, 7], False, 7)
    assert [version["number"] for version in said["versions"]] == [1, 2, 3, 4]
    assert said["kept"] == {
        "5": "the latest",
        "6": "held for review",
        "7": "rolled back: the next regeneration looks at it",
    }
    Corrections(published.root / "corrections").add("a", "ab" * 32, author="Ada", made_on=2, verdict="accepted")
    said = collect_versions(published.root, keep=2, keep_days=6.5, delete=True)
    assert [version["number"] for version in said["versions"]] == [1, 3]
    assert said["kept"]["2"] == "a correction was made on it"
    assert said["kept"]["4"] == "made in the last 6.5 days"
    assert (published.published, published.held, published.latest) == ([2, 4, 5, 7], [6], 5)
    # Version 2 has the networks of run 1, and 5 those of run 4.
    assert runs(published) == [name_of(number) for number in (1, 2, 4, 5, 6, 7)]
    known = {folder.name for folder in open_store(published.root.parent / "store").users()}
    assert known == set(runs(published))
    assert (published.root / "latest/a.png").read_text() == "5"


def test_a_run_stays_whose_labels_a_later_version_still_has(published: Publication) -> None:
    entries = [Entry(name, "ab" * 32, ("cat",), f"key{run}", 0.5, 1, 1) for name, run in (("a", 8), ("b", 3))]
    run = published.root / "runs" / name_of(8)
    run.mkdir()
    record_of(8).write(run)
    with published.lock(), published.draft() as draft:
        facts = {"created": NOW.isoformat(), "reasons": [], "store": str(published.root.parent / "store")}
        facts |= {"run": f"runs/{name_of(8)}", "networks": f"runs/{name_of(8)}"}
        assert published.publish(draft, facts, entries) == 8
    collect_versions(published.root, keep=1, keep_days=None, delete=True)
    # The held version 6 has its networks of run 4.
    assert published.published == [8]
    assert runs(published) == [name_of(number) for number in (3, 4, 6, 8)]


def test_what_a_kill_left_of_a_deletion_goes_with_the_next_lock(
    published: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data.store.publication.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            published.remove(1)
    assert 1 not in published.published
    assert list(published.root.glob(".draft-*"))
    with published.lock():
        assert not list(published.root.glob(".draft-*"))


def test_the_latest_is_never_removed_and_a_lost_link_deletes_nothing(published: Publication) -> None:
    with pytest.raises(ArtifactError, match="not the latest"):
        published.remove(5)
    before = file_digest(published.root / "v00001/a.png")
    (published.root / "latest").unlink()
    (published.root / "latest").symlink_to("v00099")
    with pytest.raises(ArtifactError, match="which is no version"):
        collect_versions(published.root, keep=1, keep_days=None, delete=False)
    assert file_digest(published.root / "v00001/a.png") == before


def test_the_command_knows_labels_from_a_store(published: Publication, capsys: pytest.CaptureFixture) -> None:
    labels, store = str(published.root), str(published.root.parent / "store")
    assert cli.main(["gc", labels, "--keep", "1", "--json"]) == 0
    assert [version["number"] for version in json.loads(capsys.readouterr().out)["versions"]] == [1, 2, 3, 4]
    assert cli.main(["gc", labels]) == 1
    assert "--keep 10" in capsys.readouterr().err
    assert cli.main(["gc", store, "--keep", "1"]) == 1
    assert "published labels" in capsys.readouterr().err
    assert cli.main(["gc", labels, "--keep", "0"]) == 2
    assert cli.main(["gc", labels, "--keep-days", "1e308"]) == 2
    assert cli.main(["gc", labels, "--keep", "1", "--delete"]) == 0
    assert "version 5 stays: the latest" in capsys.readouterr().out
    assert published.published == [5, 7]


@pytest.mark.parametrize(
    ("keep", "days", "options"),
    [(1, 0, "--keep 1 --keep-days 0"), (1_000_000, 0.5, "--keep 1000000 --keep-days 0.5"), (None, 0, "--keep-days 0")],
)
def test_the_next_command_has_the_numbers_that_were_given(
    published: Publication, keep: int | None, days: float, options: str
) -> None:
    said = collect_versions(published.root, keep, days)
    console = Console(record=True, width=500, file=io.StringIO())
    show_versions_gone(said | {"runs": ["a"]}, console)
    assert f"gc {published.root} {options} --delete" in console.export_text()
