"""Pages of the site that are made from the program: `reference/options.md` and `reference/settings.md`.

mkdocs runs this file while it builds.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import mkdocs_gen_files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

if TYPE_CHECKING:
    from flows.commands.command import Command

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
    from flows.commandline.page import page_of, page_of_all
    from flows.commands import COMMANDS, ROOMS

    found = [f"```text\n{page_of_all(ROOMS)}\n```"]
    for name, command in COMMANDS.items():
        found += [f"## {name}", f"```text\n{page_of(command, command.preset)}\n```"]
        for word, variant in one_of_each(command.variants).items():
            found += [f"### {name} {word}", f"```text\n{page_of(variant, variant.preset, word=word)}\n```"]
    return found


def one_of_each(variants: Mapping[str, Command]) -> dict[str, Command]:
    """Return the first of the variants that have the same options."""
    found: dict[tuple[type, ...], tuple[str, Command]] = {}
    for word, variant in variants.items():
        kinds = (type(make()) for make in variant.presets.values())
        found.setdefault((variant.request, *kinds), (word, variant))
    return dict(found.values())


def settings(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the table of a settings class, and those of the classes in it."""
    from flows.commandline.options import attributes

    texts = attributes(model)
    rows, nested = [], []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested += [f"### {prefix}{name}", first_line(kind), *settings(kind, f"{prefix}{name}.")]
            continue
        default = field.get_default(call_default_factory=True)
        value = "" if default is PydanticUndefined else f"`{default}`"
        rows.append(f"| `{prefix}{name}` | {value} | {escaped(texts.get(name, ''))} |")
    table = ["| setting | default | |\n|---|---|---|\n" + "\n".join(rows)] if rows else []
    return [*table, *nested]


def escaped(text: str) -> str:
    """Return a text as it stands in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def first_line(model: type[BaseModel]) -> str:
    """Return the first sentence of a class's docstring."""
    return (inspect.getdoc(model) or "").partition("\n\n")[0]


main()
