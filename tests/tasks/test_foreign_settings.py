"""Libraries take no settings from a folder that may have come with a data set."""

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import pseudomask
from flows.cli import main
from tasks.engine.foreign_settings import MAX_BYTES, TRUSTED_FOLDERS_VARIABLE, refuse_foreign_settings
from tasks.engine.processes import ROOT, python_command, python_environment

HOSTILE = {
    "prefect.toml": '[logging]\nconfig_path = "logging.yml"\n',
    ".env": "export PREFECT_LOGGING_CONFIG_PATH=logging.yml\n",
    "pyproject.toml": '[tool."prefect".logging]\nconfig_path = "logging.yml"\n',
    ".numba_config.yaml": "cache_dir: cache\n",
    "matplotlibrc": "text.usetex: true\n",
}
HARMLESS = {
    ".env": "AWS_REGION=eu\n# nothing of prefect_ here\n",
    "pyproject.toml": '[tool.ruff]\n[project]\nname = "prefect"\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_settings_of_the_current_folder_are_refused_by_every_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(HOSTILE[name])
    monkeypatch.chdir(tmp_path)
    for words in (["doctor", "--data", "."], ["run", "--data", ".", "--out", "run"], ["status", "run"]):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert str(tmp_path / name) in said
        assert f"{TRUSTED_FOLDERS_VARIABLE}={tmp_path}" in said
    assert sorted(file.name for file in tmp_path.iterdir()) == [name]


def test_they_are_refused_from_python_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prefect.toml").write_text(HOSTILE["prefect.toml"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PermissionError, match="Prefect takes settings"):
        pseudomask.label(tmp_path / "photos", out=tmp_path / "run")


@pytest.mark.parametrize("name", HARMLESS)
def test_settings_of_other_tools_are_nothing_to_us(name: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool = 5\n")
    refuse_foreign_settings(tmp_path)
    (tmp_path / name).write_text(HARMLESS[name])
    refuse_foreign_settings(tmp_path)


@pytest.mark.parametrize("name", [".env", "pyproject.toml"])
def test_a_file_that_cannot_be_read_here_may_be_read_by_the_library(name: str, tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00 = [", b"#" * (MAX_BYTES + 1)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PermissionError, match="Prefect takes settings"):
            refuse_foreign_settings(tmp_path)


def test_a_link_to_nothing_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "prefect.toml").symlink_to(tmp_path / "later.toml")
    with pytest.raises(PermissionError, match="Prefect takes settings"):
        refuse_foreign_settings(tmp_path)


def test_folders_that_the_user_trusts_and_the_products_own_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_foreign_settings(ROOT)
    (tmp_path / "prefect.toml").write_text(HOSTILE["prefect.toml"])
    monkeypatch.setenv(TRUSTED_FOLDERS_VARIABLE, os.pathsep.join(["/elsewhere", str(tmp_path)]))
    refuse_foreign_settings(tmp_path)
    monkeypatch.setenv(TRUSTED_FOLDERS_VARIABLE, "")
    with pytest.raises(PermissionError):
        refuse_foreign_settings(tmp_path)


def test_a_logging_configuration_beside_a_data_set_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "prefect.toml").write_text('[logging]\nconfig_path = "logging.yml"\n')
    (tmp_path / "logging.yml").write_text("version: 1\nhandlers: {own: {(): os.mkdir, path: RAN}}\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red"), ("d", "blue")):
        Image.new("RGB", (32, 32), color).save(photos / f"{name}.png")
    (photos / "labels.csv").write_text("image,labels\na,red\nb,blue\nc,red\nd,blue\n")
    command = python_command("-m", "flows", "run", "--data", "photos", "--out", "run")
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | python_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "prefect.toml" in done.stderr
    assert not (tmp_path / "RAN").exists()
