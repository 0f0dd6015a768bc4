"""The simulated nights: three of them, and that their checks see what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.night_checks import Snapshot, check_latest, check_night, check_page, look
from benchmarks.night_world import SIZE, Expected, Said, World, make_pool
from benchmarks.nights import NIGHTS, main
from data.formats.label_folder import KINDS
from data.formats.label_maps import write_label_map
from data.store.publication import Entry

FINE = Expected("Published", "Published v1: ", version=1, latest=1)
SAID = Said(0, "Published", "Published v1: there is no version yet")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("pool"))


@pytest.fixture
def world(pool: Path, tmp_path: Path) -> World:
    """Return a set of two images whose version 1 was published."""
    world = World(tmp_path / "a", tmp_path / "disk", pool, {})
    world.add(2)
    publish(world)
    world.versions[1] = world.known()
    return world


def publish(world: World) -> None:
    names = sorted({name for tags in world.tags.values() for name in tags})
    publication = world.publication
    with publication.lock(), publication.draft() as draft:
        (draft / "classes.txt").write_text("".join(f"{name}\n" for name in names))
        content = {"images": [{"file_name": f"{id}.jpg"} for id in world.ids]}
        (draft / "instances.json").write_text(json.dumps(content))
        for kind in KINDS:
            (draft / kind).mkdir()
            for id in world.ids:
                labels = np.zeros(SIZE, np.uint8)
                labels[:8] = 1 + names.index(world.tags[id][0])
                write_label_map(draft / kind / f"{id}.png", labels)
        facts = {"created": "2026-01-01", "reasons": [], "held": [], "means": {}, "base": None, "trained": False}
        facts |= {"changes": {"added": 0}, "corrected": 0, "run": None}
        entries = [Entry(id, digest, tags, "k", 0.5, 1, 1) for id, (digest, tags) in world.known().items()]
        publication.publish(draft, facts, entries)


def test_a_version_that_is_right_has_no_fault(world: World) -> None:
    assert check_latest(world, 1) == []
    assert check_night(world, FINE, SAID, Snapshot({}, {}))[1] == []


def test_what_is_wrong_with_latest_is_seen(world: World) -> None:
    first, second = world.ids
    file = world.out / "v00001" / KINDS[0] / f"{first}.png"
    kept = file.read_bytes()
    assert check_latest(world, 2) == ["latest is version 1, expected 2"]
    file.unlink()
    assert check_latest(world, 1) == [f"{KINDS[0]}: lacks {first}"]
    write_label_map(file, np.full(SIZE, 200, np.uint8))
    assert check_latest(world, 1) == [f"{first}: pixels of [200], which is no tag of it"]
    write_label_map(file, np.zeros((4, 4), np.uint8))
    assert check_latest(world, 1) == [f"{first}: a label map of (4, 4)"]
    file.write_bytes(kept)
    world.versions[1][first] = ("0" * 64, world.tags[first])
    assert "the bytes of another photograph" in check_latest(world, 1)[0]
    del world.versions[1][first]
    faults = check_latest(world, 1)
    assert f"{KINDS[1]}: has {first}, which should not be there" in faults
    assert not any(second in fault for fault in faults)


def test_work_that_need_not_be_is_seen(world: World) -> None:
    before = look(world)
    manifest = world.store / "classifier" / "k" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    idle = Expected("Unchanged", "Unchanged since v1", latest=1)
    said = Said(0, "Unchanged", "Unchanged since v1")
    work, faults = check_night(world, idle, said, before)
    assert work.made == {"classifier": 1}
    assert faults == [
        "made for nothing: [('classifier', 'k')]",
        "1 artifacts of classifier, at most 0 were called for",
    ]
    again = replace(before, artifacts={("classifier", "k"): 1})
    assert "made again: ('classifier', 'k')" in check_night(world, idle, said, again)[1]


def test_what_a_night_says_wrongly_is_seen(world: World) -> None:
    before = replace(look(world), artifacts={})
    idle = Expected("Unchanged", "Unchanged since v1", latest=1)
    faults = check_night(world, idle, Said(4, "Held", "Held v2", ["a traceback"]), before)[1]
    assert len(faults) == 4
    label = world.out / "v00001" / "classes.txt"
    label.chmod(0o644)
    label.write_text(label.read_text() + "more\n")
    assert "version 1 is not as it was" in check_night(world, idle, Said(0, "Unchanged", idle.message), before)[1]
    page = "**Published v2: 1 images added**\n- added: 1 (`a`)"
    night = Expected("Published", "Published v2", changes={"added": frozenset("a")})
    assert check_page(page, night) == []
    assert check_page(page, replace(night, changes={"added": frozenset("b")})) == [
        "the page does not say which were added"
    ]


def test_there_are_thirty_nights_of_names_of_their_own() -> None:
    assert len({night.name for night in NIGHTS}) == len(NIGHTS) == 30
    assert all(night.happened for night in NIGHTS)


@pytest.mark.slow
def test_some_nights_have_no_fault(tmp_path: Path) -> None:
    results = tmp_path / "nights.json"
    code = main(only=("nothing", "tag-misspelt"), json_file=results)
    rows = json.loads(results.read_text())["nights"]
    assert [row["night"] for row in rows] == ["first", "nothing", "tag-misspelt", "tag-misspelt-again"]
    assert [row["faults"] for row in rows] == [[]] * 4
    assert code == 0
    assert rows[0]["made"]["irnet"] == 1
    assert [row["made"] for row in rows[1:]] == [{}] * 3
