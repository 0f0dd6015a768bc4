"""The page of every paper's tables names commands that there are."""

import re
import shlex
from pathlib import Path

from flows.comparison.refiners import TABLE as REFINERS_TABLE
from flows.comparison.request import TABLES
from flows.labels.presets import PRESETS
from tasks.networks import NETWORKS

ROOT = Path(__file__).resolve().parents[1]
RESOURCES = "segnet-resources"


def commands() -> list[list[str]]:
    text = (ROOT / "docs" / "tables.md").read_text() + (ROOT / "docs" / "reproduce.md").read_text()
    return [shlex.split(words) for words in re.findall(r"compare [\w-]+ --[^`\n]+", text)]


def values_of(words: list[str], option: str) -> list[str]:
    """Return the words behind an option, up to the next one."""
    if option not in words:
        return []
    rest = words[words.index(option) + 1 :]
    ends = [k for k, word in enumerate(rest) if word.startswith("--")]
    return rest[: ends[0] if ends else len(rest)]


def test_every_table_has_a_command_and_every_command_is_one() -> None:
    found = commands()
    assert {words[1] for words in found} == {*TABLES, RESOURCES, REFINERS_TABLE}
    for words in found:
        (preset,) = values_of(words, "--preset") or [None]
        rows = TABLES.get(words[1], {})  # pyright: ignore[reportCallIssue, reportArgumentType]
        assert set(values_of(words, "--rows")) <= set(rows)
        for row in rows.values():
            assert preset in NETWORKS[row.network].presets, words
        if words[1] == REFINERS_TABLE:
            assert preset in PRESETS


def test_a_figure_is_of_the_rows_that_the_command_names() -> None:
    lines = [line for line in (ROOT / "docs" / "tables.md").read_text().splitlines() if " --rows " in line]
    checked = []
    for line in lines:
        _, command, figures, *_ = line.split(" | ")
        for row in values_of(shlex.split(command.strip("`")), "--rows"):
            if figures.startswith("not measured") or f"`{row}` is not measured" in figures:
                continue
            page = re.search(r"\]\((\w+\.md)", figures)
            assert page, line
            measured = re.findall(rf"^\| `{row}` \|(.*)", (ROOT / "docs" / page[1]).read_text(), flags=re.M)
            said = set(re.findall(r"\d+\.\d", figures.partition("](")[0]))
            assert any(said & set(re.findall(r"\d+\.\d", cells)) for cells in measured), row
            checked.append(row)
    assert "segmentation-only" in checked
