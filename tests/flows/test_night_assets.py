"""When Prefect hears of assets: only where somebody can look at them, and never at a version's cost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.published_labels import make_publication

from data.store.publication import Publication
from flows.deployment.ui import showing
from flows.engine.server import OWN_VARIABLE
from flows.publishing import assets
from flows.publishing.request import RegenerateRequest


@pytest.mark.parametrize(("address", "own", "expected"), [("http://a/api", False, True), ("http://a/api", True, False)])
def test_a_server_of_the_runs_own_hears_of_no_assets(
    monkeypatch: pytest.MonkeyPatch, address: str, own: bool, expected: bool
) -> None:
    monkeypatch.delenv(OWN_VARIABLE, raising=False)
    if own:
        monkeypatch.setenv(OWN_VARIABLE, "1")
    with temporary_settings({PREFECT_API_URL: address}):
        assert assets.has_server() is expected
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert assets.has_server() is False


def test_what_prefect_is_told_of_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publication = Publication(make_publication(tmp_path / "a folder"))
    told = {}
    monkeypatch.setattr(assets, "has_server", lambda: True)
    monkeypatch.setattr(assets, "_materialize", lambda what, *more: told.update({what: more}))
    request = RegenerateRequest(data=tmp_path / "a folder" / "data", out=publication.root)
    assets.show_assets(publication, request, {"version": None, "latest": 1})
    assert told == {}
    assets.show_assets(publication, request, {"version": 1, "latest": 1})
    assert list(told) == ["networks", "version", "latest"]
    asset, sources, facts = told["version"]
    assert asset.key.endswith("/v00001")
    assert [source.key.split("/")[2] for source in sources] == ["sets", "labels"]
    assert (facts["version"], facts["images"], facts["reasons"]) == (1, 5, ["made up"])
    # A held version is not what readers take.
    told.clear()
    assets.show_assets(publication, request, {"version": 1, "latest": None})
    assert list(told) == ["networks", "version"]


def test_a_server_that_is_gone_costs_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publication = Publication(make_publication(tmp_path))
    monkeypatch.setattr(assets, "has_server", lambda: True)

    def fail(*_: object) -> None:
        raise RuntimeError("Failed to reach API")

    monkeypatch.setattr(assets, "_materialize", fail)
    request = RegenerateRequest(data=tmp_path / "data", out=publication.root)
    with caplog.at_level(logging.WARNING), showing("the assets of the night"):
        assets.show_assets(publication, request, {"version": 1, "latest": 1})
    assert "the assets of the night could not be shown: Failed to reach API" in caplog.text
