"""Approvals and rollbacks of published labels: who decided is recorded, and what may not be is refused."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest
from prefect.utilities.callables import parameter_schema

from data.store import ArtifactError
from data.store.decisions import read_decisions
from data.store.publication import Entry, Publication
from flows import cli
from flows.commands.publishing.versions import list_versions
from flows.publishing.approval import approve_version, roll_back
from flows.publishing.approval_flow import approve_labels, rollback_labels


@pytest.fixture
def published(tmp_path: Path) -> Publication:
    """Return two published versions, and two that are held."""
    publication = Publication(tmp_path / "labels")
    for hold in (False, False, True, True):
        with publication.lock(), publication.draft() as draft:
            record = {"created": "2026-01-01T00:00:00+00:00", "reasons": [], "held": ["odd"] * hold, "means": {}}
            publication.publish(draft, record, [Entry("a", "ab" * 32, ("cat",), "k", 0.5, 1, 1)], hold=hold)
    return publication


def test_the_newest_held_version_is_approved_and_who_did_it_is_kept(
    published: Publication, capsys: pytest.CaptureFixture
) -> None:
    assert approve_version(published.root, by="Ada") == {
        "publication": str(published.root),
        "latest": 4,
        "before": 2,
        "by": "Ada",
    }
    assert roll_back(published.root, by="Bo")["latest"] == 2
    assert cli.main(["approve", str(published.root), "3"]) == 0
    told = [(each.action, each.version, each.before, each.by) for each in read_decisions(published.root)]
    assert told == [("approve", 4, 2, "Ada"), ("rollback", 2, 4, "Bo"), ("approve", 3, 2, getpass.getuser())]
    capsys.readouterr()
    assert cli.main(["versions", str(published.root)]) == 0
    said = capsys.readouterr().out
    assert "Ada approved version 4" in said
    assert "Bo went back to version 2" in said
    assert cli.main(["versions", str(published.root), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed["decisions"]) == 3
    assert [each["state"] for each in listed["versions"]] == ["published", "published", "latest", "rolled back"]
    # What is approved after all is rolled back no longer.
    approve_version(published.root, 4, by="Ada")
    assert [each["state"] for each in list_versions(published.root)["versions"]] == [*["published"] * 3, "latest"]
    roll_back(published.root, 2, "Ada")
    taken_back = ["published", "latest", "rolled back", "rolled back"]
    assert [each["state"] for each in list_versions(published.root)["versions"]] == taken_back
    # Forward again: nothing is taken back by that.
    roll_back(published.root, 3, "Ada")
    states = [each["state"] for each in list_versions(published.root)["versions"]]
    assert states == ["published", "published", "latest", "rolled back"]


def test_what_is_refused_is_not_recorded(published: Publication) -> None:
    with pytest.raises(ArtifactError, match="has no version 9"):
        approve_version(published.root, 9, "Ada")
    with pytest.raises(ArtifactError, match="was held, not published"):
        roll_back(published.root, 3, "Ada")
    approve_version(published.root, 3, "Ada")
    approve_version(published.root, 4, "Ada")
    with pytest.raises(ArtifactError, match="expected a version that is held for review, found none"):
        approve_version(published.root, None, "Ada")
    assert len(read_decisions(published.root)) == 2


@pytest.mark.parametrize("text", ["{}", "[]", '{"action": "delete", "version": 1, "before": 1, "by": "x", "at": "y"}'])
def test_a_damaged_record_is_named(published: Publication, text: str) -> None:
    approve_version(published.root, 3, "Ada")
    (published.root / "decisions/d00001.json").write_text(text)
    with pytest.raises(ArtifactError, match="d00001"):
        read_decisions(published.root)


@pytest.mark.parametrize("flow", [approve_labels, rollback_labels])
def test_the_form_asks_who_it_is(flow: object) -> None:
    definitions = parameter_schema(flow).model_dump(mode="json")["definitions"]  # pyright: ignore[reportArgumentType]
    [form] = definitions.values()
    assert set(form["required"]) == ({"out", "version", "by"} if flow is approve_labels else {"out", "by"})
    assert "for the record" in form["properties"]["by"]["description"]


def test_records_keep_their_numbers_where_one_is_lost(published: Publication) -> None:
    approve_version(published.root, 3, "Ada")
    roll_back(published.root, by="Bo")
    (published.root / "decisions/d00001.json").unlink()
    kept = (published.root / "decisions/d00002.json").read_bytes()
    approve_version(published.root, 3, "Cy")
    assert (published.root / "decisions/d00002.json").read_bytes() == kept
    assert read_decisions(published.root)[-1].by == "Cy"


def test_what_is_the_latest_already_is_neither_approved_nor_recorded(published: Publication) -> None:
    latest = published.latest
    with pytest.raises(ArtifactError, match="is the latest already"):
        approve_version(published.root, latest, "Ada")
    with pytest.raises(ArtifactError, match="has no version 99"):
        approve_version(published.root, 99, "Ada")
    assert read_decisions(published.root) == []


def test_nothing_is_approved_by_somebody_without_a_name(
    published: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> str:
        raise KeyError("uid 4711")

    before = published.latest
    monkeypatch.setattr("getpass.getuser", unknown)
    with pytest.raises(ArtifactError, match="give --by"):
        approve_version(published.root, 3)
    assert (published.latest, read_decisions(published.root)) == (before, [])
