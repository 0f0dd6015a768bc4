"""Settings of stages that a run does not have are named on the command line: they do nothing."""

from pathlib import Path

import pytest

from flows.cli import main
from flows.labels.presets import voc12
from flows.labels.request import RunRequest
from tasks.pipeline.settings import WalkConfig


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--refiner", "none", "--walk.beta", "4"], "walk.beta: without effect in a run with refiner none"),
        (["--refiner", "none", "--pixels.rounds", "3", "--irnet.epochs", "9"], "irnet.epochs, pixels.rounds: without"),
        (["--affinity-walk.beta", "4"], "affinity_walk.beta: without effect in a run with refiner irnet"),
        (["--refiner", "affinitynet", "--fields.pad-to", "64"], "fields.pad_to: without effect"),
        (
            ["--cams", "maps", "--classifier.epochs", "3"],
            "classifier.epochs: without effect in a run with refiner irnet",
        ),
        (["--networks", "old", "--irnet.epochs", "3"], "with refiner irnet, networks of --networks"),
    ],
)
def test_a_setting_that_does_nothing_is_named(
    words: list[str], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = ["--weights", str(tmp_path / "weights.pth")]
    assert main(["run", "--data", str(tmp_path / "no-set"), "--out", str(tmp_path / "out"), *weights, *words]) == 1
    assert any(said in message for message in caplog.messages)


@pytest.mark.parametrize(
    "words",
    [
        ["--refiner", "none", "--pixels.folds", "0"],
        ["--refiner", "affinitynet", "--affinity-walk.beta", "4"],
        ["--networks", "old", "--walk.beta", "4", "--pixels.scales", "1"],
        ["--regions", "masks", "--regions.largest", "0.5"],
        ["--preset", "voc12", "--refiner", "none"],
    ],
)
def test_settings_of_stages_that_are_there_pass_and_so_does_what_leaves_a_stage_out(
    words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--data", str(tmp_path / "no-set"), "--out", str(tmp_path / "out"), *words]) == 1
    assert not any("without effect" in message for message in caplog.messages)
    assert "no-set" in capsys.readouterr().err


def test_whole_settings_of_a_record_pass() -> None:
    settings = voc12().model_copy(update={"refiner": "none", "walk": WalkConfig(beta=4)})
    assert RunRequest(data=Path("set"), out=Path("out"), settings=settings).settings == settings
