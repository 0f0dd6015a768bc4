"""The packages are the checkout's, and the parent process of a run stays light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "models", "kernels", "data")
MOST_ROOMS, MOST_MODULES, MOST_LINES = 10, 14, 60
# Modules and functions whose move or cut would change the keys of artifacts, which are hashes of names and sources.
LARGER_FOLDERS = {"models": 18}
LONGER_FUNCTIONS = {
    "tasks/training/loop.py:fit": 66,
    "kernels/crf/cpu_lattice.py:_enclose": 73,
    "kernels/random_walk/stencil.py:add_neighbours": 61,
    "data/readers/coco.py:read_coco_set": 67,
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_resolves_into_the_repository(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file) == ROOT / name / "__init__.py"


@pytest.mark.parametrize("name", PACKAGES)
def test_every_folder_with_modules_is_a_package(name: str) -> None:
    folders = {file.parent for file in (ROOT / name).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_no_folder_has_more_rooms_or_modules_than_one_can_look_over(name: str) -> None:
    for folder in {file.parent for file in (ROOT / name).rglob("*.py")}:
        modules = [file for file in folder.glob("*.py") if file.stem != "__init__"]
        rooms = list(folder.glob("*/__init__.py"))
        most = LARGER_FOLDERS.get(folder.relative_to(ROOT).as_posix(), MOST_MODULES)
        assert len(modules) <= most, f"{folder} has {len(modules)} modules, {most} at most: put yours into a room of it"
        assert len(rooms) <= MOST_ROOMS, folder


@pytest.mark.parametrize("name", PACKAGES)
def test_no_function_is_longer_than_a_screen(name: str) -> None:
    for file in (ROOT / name).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                where = f"{file.relative_to(ROOT).as_posix()}:{node.name}"
                assert num_lines(node) <= LONGER_FUNCTIONS.get(where, MOST_LINES), where


def num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    assert function.end_lineno is not None
    first = function.body[0]
    if ast.get_docstring(function) is None or first.end_lineno is None:
        return function.end_lineno - function.lineno + 1
    return function.end_lineno - function.lineno - (first.end_lineno - first.lineno)


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


def test_the_scripts_of_the_review_are_short_and_none_imports_one_that_imports_it() -> None:
    scripts = {file.name: file.read_text() for file in (ROOT / "flows/review/page").glob("*.js")}
    assert 0 < len(scripts) <= MOST_MODULES
    assert max(text.count("\n") for text in scripts.values()) <= 400
    imports = {name: set(re.findall(r'^import .* from "\./(.+)";$', text, re.M)) for name, text in scripts.items()}
    assert {each for found in imports.values() for each in found} <= scripts.keys()
    while imports:
        last = {name for name, found in imports.items() if not found & imports.keys()}
        assert last, f"a circle of imports: {sorted(imports)}"
        imports = {name: found for name, found in imports.items() if name not in last}
