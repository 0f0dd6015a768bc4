"""Settings in a file lie over the preset, and under what a request says itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.cli import main
from flows.labels.presets import PRESETS, voc12
from flows.labels.request import RunRequest
from flows.publishing.request import RegenerateRequest

FOLDERS = {"data": "photos", "out": "runs/first"}
TREE = {"labels": {"background_threshold": 0.4, "crf_iterations": 7}, "walk": {"beta": 6}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "best.json").write_text(json.dumps(TREE))
    return tmp_path / "best.json"


@pytest.mark.parametrize("kind", [RunRequest, RegenerateRequest])
def test_a_file_lies_over_the_preset_and_under_the_requests_own(kind: type[RunRequest], file: Path) -> None:
    given: dict[str, Any] = {**FOLDERS, "preset": "voc12", "settings_file": file}
    found = kind.model_validate({**given, "settings": {"walk": {"beta": 3}, "seed": 4}}).settings
    assert (found.walk.beta, found.seed) == (3, 4)
    assert (found.labels.background_threshold, found.labels.crf_iterations) == (0.4, 7)
    assert found.relations == voc12().relations
    # As the command line gives them: whole, and other than the preset where an option was given.
    whole = voc12().model_copy(update={"walk": voc12().walk.model_copy(update={"beta": 3.0, "steps": 9})})
    from_options = kind.model_validate({**given, "settings": whole}).settings
    assert (from_options.walk.beta, from_options.walk.steps) == (3, 9)
    assert from_options.labels == found.labels


def test_a_request_keeps_the_settings_and_not_the_file(file: Path) -> None:
    request = RunRequest.model_validate({**FOLDERS, "preset": "demo", "settings_file": file})
    assert request.settings_file is None
    file.unlink()
    assert RunRequest.model_validate(request.model_dump(mode="json")) == request
    assert request.settings.walk.steps == PRESETS["demo"]().walk.steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "best.json: expected settings in JSON, such as best.json of pseudomask tune, but it cannot be read"),
        ("{", "but it is not JSON"),
        ("[1]", "found list"),
        ('{"walk": {"gamma": 1}}', "but walk.gamma: Extra inputs are not permitted"),
        ('{"labels": {"background_threshold": 2}}', "but labels.background_threshold"),
    ],
)
def test_a_file_without_settings_is_refused_by_name(file: Path, text: str | None, message: str) -> None:
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(ValidationError, match=message.replace(".", r"\.")):
        RunRequest.model_validate({**FOLDERS, "settings_file": file})


@pytest.mark.parametrize("kind", [RunRequest, RegenerateRequest])
@pytest.mark.parametrize(
    "wrong", [{"settings_file": []}, {"preset": []}, {"preset": [], "settings_file": "x"}, {"settings": "x"}]
)
def test_values_of_another_kind_are_refused_by_name(kind: type[RunRequest], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        kind.model_validate({**FOLDERS, **wrong})


def test_the_command_line_takes_the_file_as_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--data", str(tmp_path), "--out", str(tmp_path / "x"), "--settings", str(tmp_path / "gone.json")]
    assert main(words) == 2
    assert "gone.json: expected settings in JSON" in " ".join(capsys.readouterr().err.split())
