"""The tables of `docs/papers` say what the presets have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from flows.labels.presets import PRESETS
from tasks.networks import NETWORKS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted((ROOT / "docs" / "papers").glob("*.md"))
HEAD = ["Paper", "Here", "Same?"]
LEAST_SETTINGS = {"irnet.md": 40, "affinitynet.md": 22, "segnet.md": 75}
COMPLETE = ["irnet.md", "affinitynet.md", "segnet.md", "saliency_colearning.md", "cooperative.md"]
# No paper speaks of these: how a run is divided and reported, and stages that the preset leaves out.
NOT_OF_A_PAPER = {
    "run": r"seed|shard_size|refiner|quality\..*|saliency\..*|regions\..*|pixels\..*|.*\.threshold_images|"
    r"labels\.(.*pixel_thresholds?|walk_power)",
    "network": r"seed|shard_size|network|"
    r"training\.(batch_parts|sync_norm|validate_epochs|log_steps|keep_by|dropout|confidence_weight)",
}
# Of two papers that one preset serves, each has its own settings.
OF_ANOTHER_PAPER = {"irnet.md": r"affinit.*", "affinitynet.md": r"(?!affinit).*"}


class Row(NamedTuple):
    preset: str
    here: str
    same: str


def rows_of(text: str) -> Iterator[Row]:
    """Yield the rows of the tables with `HEAD`; each table has its preset in the last line of text before it."""
    preset, inside = "", False
    for line in text.splitlines():
        if not line.startswith("|"):
            if line.strip():
                preset = line.removeprefix("Preset: ") if line.startswith("Preset: ") else ""
            inside = False
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells == HEAD:
            assert preset, "expected a line `Preset: NAME` before each table"
            inside = True
        elif inside and set(line) - set("|-: "):
            assert len(cells) == len(HEAD), line
            yield Row(preset, *cells[1:])


def settings_of(preset: str) -> BaseModel:
    """Return the settings of "voc12", or of "segnet camvid", a network and one of its presets."""
    network, _, name = preset.rpartition(" ")
    return NETWORKS[network].presets[name]() if network else PRESETS[name]()


def values_of(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name of each setting, "walk.beta" for one, with its value."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from values_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def left_out(rows: list[Row], preset: str, others_of: str = "") -> list[str]:
    """Return the settings of a preset that no row of it has, but those whose names match `others_of`.

    What a row of an earlier preset of the same settings class has need not be said again where it has not changed.
    """
    settings = settings_of(preset)
    values = dict(values_of(settings.model_dump(mode="json")))
    kind = NOT_OF_A_PAPER["network" if " " in preset else "run"]
    wanted = {name for name in values if not re.fullmatch(kind, name) and not re.fullmatch(others_of, name)}
    for earlier in dict.fromkeys(row.preset for row in rows):
        others = settings_of(earlier)
        if type(others) is type(settings):
            same = {name for name, value in values_of(others.model_dump(mode="json")) if values[name] == value}
            named = (re.findall(r"`([\w.]+) = [^`]+`", row.here) for row in rows if row.preset == earlier)
            wanted -= {name for names in named for name in names if name in same}
        if earlier == preset:
            break
    return sorted(wanted)


def faults(row: Row) -> list[str]:
    """Return what is not as a row says."""
    found = []
    settings = settings_of(row.preset).model_dump(mode="json")
    for code in re.findall(r"`([^`]+)`", row.here):
        path, equals, literal = code.partition(" = ")
        if equals:
            value = settings
            for part in path.split("."):
                value = value[part]
            if value != json.loads(literal):
                found.append(f"{code}: {row.preset} has {json.dumps(value)}")
        elif "/" in code and not (ROOT / code).is_file():
            found.append(f"{code}: no such file")
    if row.same != "same" and not row.same.startswith("differs: because "):
        found.append(f"expected 'same' or 'differs: because ...', found {row.same!r}")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_tables_of_a_paper_are_those_of_its_presets(document: Path) -> None:
    rows = list(rows_of(document.read_text()))
    compared = sum(len(re.findall(r"` *[\w.]+ = [^`]+`", row.here)) for row in rows)
    assert rows
    assert compared >= LEAST_SETTINGS.get(document.name, 1)
    assert [fault for row in rows for fault in faults(row)] == []


def others_of(document: str, preset: str) -> str:
    """Return the pattern of a preset's settings that another paper's page has."""
    return "" if " " in preset else OF_ANOTHER_PAPER.get(document, "")


@pytest.mark.parametrize("document", COMPLETE)
def test_every_setting_of_a_preset_is_in_its_table(document: str) -> None:
    rows = list(rows_of((ROOT / "docs" / "papers" / document).read_text()))
    presets = {row.preset for row in rows}
    assert {preset: names for preset in presets if (names := left_out(rows, preset, others_of(document, preset)))} == {}
    without = [row for row in rows if "`backbone = " not in row.here]
    assert "backbone" in left_out(without, rows[0].preset)


def test_a_table_that_is_wrong_is_found() -> None:
    head = "Preset: voc12\n\n| Paper | Here | Same? |\n|---|---|---|\n"
    (right,) = rows_of(head + "| x | `walk.beta = 10.0`, `models/irnet.py` | same |")
    assert faults(right) == []
    (wrong,) = rows_of(head + "| x | `walk.beta = 9`, `models/none.py` | nearly |")
    assert len(faults(wrong)) == 3
    with pytest.raises(KeyError):
        faults(Row("voc12", "`walk.gamma = 1`", "same"))
    with pytest.raises(KeyError):
        faults(Row("deeplabv2 nobody", "", "same"))
    assert faults(Row("deeplabv2 voc12", "`training.crop_size = 321`", "same")) == []
    with pytest.raises(AssertionError, match="expected a line `Preset: NAME`"):
        list(rows_of("Some text.\n\n| Paper | Here | Same? |\n|---|---|---|\n| x | y | same |"))
