"""Children of the product run no file of the current folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine.processes import ROOT, SPIN_VARIABLES, SPINS, python_command, python_environment, safe_path


def test_children_do_not_run_files_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colorsys.py").write_text("open('RAN', 'w')")
    monkeypatch.chdir(tmp_path)
    # `python -m` puts the folder there; a list of the user's may have it in other words.
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", ".", *sys.path])
    code = "import colorsys, subprocess, sys; subprocess.run([sys.executable, '-c', 'import colorsys'], check=True)"
    subprocess.run(python_command("-c", code), env=os.environ | python_environment(), check=True)
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("words", [["--version"], ["models", "--json"]])
def test_the_command_line_runs_no_file_of_the_current_folder(tmp_path: Path, words: list[str]) -> None:
    for name in ("csv", "email", "zipfile", "pathlib", "json", "typing", "numpy", "tyro"):
        (tmp_path / f"{name}.py").write_text("open('RAN', 'a').write(__name__)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONSAFEPATH", None)
    command = [sys.executable, "-m", "flows", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "RAN").exists()


def test_children_find_the_product_where_this_process_was_started_in_its_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    assert safe_path()[0] == str(ROOT)
    monkeypatch.setattr(sys, "path", [name for name in sys.path if name != str(ROOT)])
    assert safe_path()[0] == str(ROOT)


@pytest.mark.parametrize("folder", ["flows", "tasks", "data", "models", "kernels"])
def test_every_child_in_python_is_started_with_a_safe_path(folder: str) -> None:
    lines = [line for file in (ROOT / folder).rglob("*.py") for line in file.read_text().splitlines()]
    assert [line for line in lines if "sys.executable" in line] in ([], ['    return [sys.executable, "-P", *words]'])


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_threads_of_children_sleep_where_they_wait_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name in SPIN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code = f"import os; print({{name: os.environ[name] for name in {SPIN_VARIABLES!r} if name in os.environ}})"
    child = subprocess.run(
        python_command("-c", code), env=os.environ | python_environment(), capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == str(given or {"GOMP_SPINCOUNT": str(SPINS)})
