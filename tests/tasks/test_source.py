"""The source digest changes with what a stage uses, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine.source import source_digest, source_parts
from tasks.networks import NETWORKS
from tasks.pipeline import STAGES

STAGE = "tasks.walk:walk"

FILES = {
    "tasks/__init__.py": "",
    "tasks/walk.py": (
        "from kernels.steps import propagate, unused\n"
        "from data.limits import LIMIT\n"
        "def walk(job):\n"
        '    """Doc."""\n'
        "    return propagate(job, LIMIT)\n"
        "def other(job):\n"
        "    return unused(job)\n"
    ),
    "kernels/__init__.py": "",
    "kernels/steps/__init__.py": "from .dispatch import propagate, unused\n",
    "kernels/steps/dispatch.py": (
        "from kernels.steps import fast as quick\n"
        "import kernels.steps.table\n"
        "SIZE = 3\n"
        "OTHER = 4\n"
        "def unused(x):\n"
        "    return OTHER\n"
        "def propagate(x, limit, size=SIZE):\n"
        "    from kernels.lazy import helper\n"
        "    return helper(quick.run(x)) + kernels.steps.table.ROWS\n"
    ),
    "kernels/steps/fast.py": "def run(x):\n    return x\ndef idle(x):\n    return x\n",
    "kernels/steps/table.py": "ROWS = 1\nCOLUMNS = 2\n",
    "kernels/lazy.py": "class Base:\n    pass\nclass helper(Base):\n    rows: int = 1\n",
    "data/__init__.py": "",
    "data/limits.py": "LIMIT = 1\n",
}

Edit = Callable[[str, str, str], bool]


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _changes(tmp_path: Path, before: dict[str, str], after: dict[str, str]) -> bool:
    # The answers are kept per process, so each version gets its own folder.
    old, new = _write(tmp_path / "old", before), _write(tmp_path / "new", after)
    return source_digest(STAGE, old) != source_digest(STAGE, new)


def _replaced(file: str, old: str, new: str) -> dict[str, str]:
    assert FILES[file].count(old) == 1
    return FILES | {file: FILES[file].replace(old, new)}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("tasks/walk.py", "propagate(job", "propagate(None", id="its own body"),
        pytest.param("kernels/steps/dispatch.py", "x)) +", "x)) -", id="a function behind a re-export"),
        pytest.param("kernels/steps/dispatch.py", "SIZE = 3", "SIZE = 5", id="a constant in a default"),
        pytest.param("kernels/steps/fast.py", "run(x):\n    return x", "run(x):\n    return -x", id="a module alias"),
        pytest.param("kernels/steps/table.py", "ROWS = 1", "ROWS = 2", id="a dotted module"),
        pytest.param("kernels/lazy.py", "rows: int = 1", "rows: int = 2", id="an import inside a function"),
        pytest.param("kernels/lazy.py", "class Base:\n    pass", "class Base:\n    x = 1", id="a base class"),
        pytest.param("data/limits.py", "LIMIT = 1", "LIMIT = 2", id="an imported constant"),
        pytest.param("kernels/__init__.py", "", "print('hi')", id="a statement of a parent package"),
        pytest.param("data/limits.py", "LIMIT = 1", "LIMIT = 1\nLIMIT += 1", id="a second assignment"),
        pytest.param("tasks/walk.py", "def walk", "@print\ndef walk", id="a decorator"),
    ],
)
def test_an_edit_of_what_the_stage_uses_changes_the_digest(tmp_path: Path, file: str, old: str, new: str) -> None:
    after = FILES | {file: new} if not old else _replaced(file, old, new)
    assert _changes(tmp_path, FILES, after)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("tasks/walk.py", "return unused(job)", "return None", id="another function"),
        pytest.param("kernels/steps/dispatch.py", "OTHER = 4", "OTHER = 5", id="an unused constant"),
        pytest.param("kernels/steps/fast.py", "idle(x):\n    return x", "idle(x):\n    return -x", id="unused"),
        pytest.param("kernels/steps/table.py", "COLUMNS = 2", "COLUMNS = 3", id="beside a used constant"),
        pytest.param("tasks/walk.py", '    """Doc."""\n', '    """Other."""\n', id="a docstring"),
        pytest.param("tasks/walk.py", '    """Doc."""\n', "", id="no docstring"),
        pytest.param("tasks/walk.py", "propagate(job, LIMIT)", "propagate(  # why\n  job, LIMIT)", id="layout"),
        pytest.param("data/limits.py", "LIMIT = 1", 'LIMIT = 1\n"""How much."""', id="an attribute's docstring"),
        pytest.param(
            "data/limits.py", "LIMIT = 1", 'LIMIT = 1\nif __name__ == "__main__":\n    print()', id="what a script runs"
        ),
    ],
)
def test_other_edits_leave_the_digest(tmp_path: Path, file: str, old: str, new: str) -> None:
    assert not _changes(tmp_path, FILES, _replaced(file, old, new))


DYNAMIC = {
    "a module passed on": "from kernels import extra\ndef walk(job):\n    return getattr(extra, job)\n",
    "a star import": "from kernels.extra import *\ndef walk(job):\n    return hidden(job)\n",
    "a module's name in a string": 'TABLE = {"x": "kernels.extra:hidden"}\ndef walk(job):\n    return TABLE[job]\n',
    "a computed import": 'import importlib\ndef walk(job):\n    importlib.import_module(f"kernels.{job}")\n',
    "an attribute of a package": "import kernels.extra\ndef walk(job):\n    return kernels.extra.hidden(job)\n",
    "a relative import": "from .near import hidden\ndef walk(job):\n    return hidden(job)\n",
    "an optional import": (
        "try:\n    from kernels.extra import hidden\nexcept ImportError:\n    hidden = None\n"
        "def walk(job):\n    return hidden(job)\n"
    ),
    "a conditional definition": (
        "import sys\nif sys.platform:\n    from kernels.extra import hidden as run\n"
        "def walk(job):\n    return run(job)\n"
    ),
}


@pytest.mark.parametrize("text", DYNAMIC.values(), ids=DYNAMIC.keys())
def test_what_cannot_be_told_statically_counts(tmp_path: Path, text: str) -> None:
    files = {
        "tasks/__init__.py": "",
        "tasks/walk.py": text,
        "tasks/near.py": "from kernels.extra import hidden\n",
        "kernels/__init__.py": "",
        "kernels/extra.py": "def hidden(x):\n    return x\n",
    }
    assert _changes(tmp_path, files, files | {"kernels/extra.py": "def hidden(x):\n    return -x\n"})


def test_a_registration_counts_though_nobody_names_it(tmp_path: Path) -> None:
    files = {
        "tasks/__init__.py": "",
        "tasks/walk.py": "from kernels import REGISTRY\ndef walk(job):\n    return REGISTRY[job]()\n",
        "kernels/__init__.py": "from kernels.registry import REGISTRY\nimport kernels.entry\n",
        "kernels/registry.py": "REGISTRY = {}\ndef register(f):\n    REGISTRY[f.__name__] = f\n    return f\n",
        "kernels/entry.py": "from kernels.registry import register\n@register\ndef fast():\n    return 1\n",
    }
    edited = files["kernels/entry.py"].replace("return 1", "return 2")
    assert _changes(tmp_path, files, files | {"kernels/entry.py": edited})


def test_circular_imports_come_to_an_end(tmp_path: Path) -> None:
    files = {
        "tasks/__init__.py": "from tasks.walk import walk\n",
        "tasks/walk.py": "import tasks\nfrom tasks.other import *\ndef walk(job):\n    return tasks, missing\n",
        "tasks/other.py": "from tasks.walk import *\nfrom tasks import walk\n",
    }
    assert "tasks.walk:walk" in source_parts(STAGE, _write(tmp_path, files))


def test_an_unknown_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such function"):
        source_digest("tasks.walk:nothing", _write(tmp_path, FILES))


EVERY_STAGE = (*STAGES, *(stage for spec in NETWORKS.values() for stage in spec.pipeline))


@pytest.mark.parametrize("stage", EVERY_STAGE, ids=lambda stage: stage.name)
def test_every_stage_of_the_table_has_a_source_without_the_engine(stage) -> None:
    parts = source_parts(stage.function)
    modules = {part.partition(":")[0] for part in parts}
    assert stage.function in parts
    assert not modules & {
        "tasks.engine.artifact",
        "tasks.engine.plan",
        "tasks.engine.source",
        "tasks.engine.prefect_task",
        "tasks.engine.run_record",
    }
    assert not [module for module in modules if module.startswith(("flows", "tasks.reporting", "data.store"))]
    # A training in several processes lets its processes die with it, and uses no more of the workers' module.
    assert not parts.keys() & {"tasks.engine.workers:WorkerPool", "tasks.engine.workers:main"}


def test_a_branch_for_timm_alone_does_not_count(tmp_path: Path) -> None:
    plain = FILES | {"tasks/walk.py": FILES["tasks/walk.py"].replace("import LIMIT", "import LIMIT, is_timm")}
    branch = "def walk(job):\n    if is_timm(job):\n        return unused(job)\n"
    with_branch = plain | {"tasks/walk.py": plain["tasks/walk.py"].replace("def walk(job):\n", branch)}
    assert not _changes(tmp_path / "branch", plain, with_branch)
    otherwise = branch + "    else:\n        job = None\n"
    with_else = plain | {"tasks/walk.py": plain["tasks/walk.py"].replace("def walk(job):\n", otherwise)}
    assert _changes(tmp_path / "else", plain, with_else)
