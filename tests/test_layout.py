"""The packages are the checkout's, and the parent process of a run stays light."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "models", "kernels", "data")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_resolves_into_the_repository(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file) == ROOT / name / "__init__.py"


@pytest.mark.parametrize("name", PACKAGES)
def test_every_folder_with_modules_is_a_package(name: str) -> None:
    folders = {file.parent for file in (ROOT / name).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_no_top_level_name_hides_one_of_the_standard_library() -> None:
    names = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names >= set(PACKAGES)
    assert not names & sys.stdlib_module_names


@pytest.mark.parametrize("module", ["tasks.engine.plan", "tasks.engine.workers", "data.store", "flows.engine.server"])
def test_what_the_parent_of_a_run_imports_loads_neither_torch_nor_prefect(module: str) -> None:
    script = f"import sys, {module}; print(sorted({{'torch', 'numba', 'prefect'}} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", PACKAGES)
def test_no_package_imports_the_door_or_the_examples(name: str) -> None:
    # import-linter knows packages alone.
    loads = (
        (file, module)
        for file in (ROOT / name).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for module in imported_modules(node)
    )
    assert [load for load in loads if load[1].partition(".")[0] in ("pseudomask", "examples")] == []


def imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_the_version_is_printed_before_anything_is_loaded() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "flows", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    name, version = done.stdout.split()
    assert name == "pseudomask"
    assert version[0].isdigit()
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "importlib.metadata" in loaded
    assert not loaded & {"torch", "numpy", "pydantic", "tyro", "rich", "prefect", "flows.cli"}
