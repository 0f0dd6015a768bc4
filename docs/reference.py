"""Pages of the site that are made from the program: `reference/options.md` and `reference/settings.md`.

mkdocs runs this file while it builds.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import mkdocs_gen_files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Write both pages."""
    # Inside, since mkdocs runs this from anywhere.
    sys.path.insert(0, str(ROOT))
    from tasks.networks import NETWORKS
    from tasks.pipeline.settings import PipelineConfig

    write("options.md", ["# Options", "What `pseudomask COMMAND --help` prints.", *options()])
    lines = ["# Settings", "Each is an option of the command line: `walk.beta` is `--walk.beta`."]
    lines += ["## pseudomask run", *settings(PipelineConfig)]
    for spec in NETWORKS.values():
        lines += [f"## pseudomask train {spec.name}", *settings(spec.settings)]
    write("settings.md", lines)


def write(name: str, lines: list[str]) -> None:
    """Write a page of the reference; `lines` are its blocks."""
    with mkdocs_gen_files.open(f"reference/{name}", "w") as page:
        page.write("\n\n".join(lines) + "\n")


def options() -> list[str]:
    """Return a section per command: its name and its help, as plain text."""
    shown = help_of()
    names = re.findall(r"^\W*([a-z][a-z-]+)(?=\s{2,})", shown.partition("subcommands")[2], re.M)
    found = [f"```text\n{shown}\n```"]
    for name in dict.fromkeys(names):
        found += [f"## {name}", f"```text\n{help_of(name)}\n```"]
    return found


def help_of(*words: str) -> str:
    """Return what `--help` prints of a command."""
    command = [sys.executable, "-m", "flows", *words, "--help"]
    environment = {"COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1", "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def settings(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the table of a settings class, and those of the classes in it."""
    texts = attributes(model)
    rows, nested = [], []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested += [f"### {prefix}{name}", first_line(kind), *settings(kind, f"{prefix}{name}.")]
            continue
        default = field.get_default(call_default_factory=True)
        value = "" if default is PydanticUndefined else f"`{default}`"
        rows.append(f"| `{prefix}{name}` | {value} | {texts.get(name, '')} |")
    table = ["| setting | default | |\n|---|---|---|\n" + "\n".join(rows)] if rows else []
    return [*table, *nested]


def first_line(model: type[BaseModel]) -> str:
    """Return the first sentence of a class's docstring."""
    return (inspect.getdoc(model) or "").partition("\n\n")[0]


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return name -> text of the "Attributes:" of a class and its bases."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        section = (inspect.getdoc(each) or "").partition("Attributes:\n")[2]
        for entry in re.split(r"\n(?=    \w[\w, ]*: )", "\n" + section):
            names, _, text = entry.strip().partition(": ")
            line = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
            found |= {name.strip(): line for name in names.split(",")}
    return found


main()
