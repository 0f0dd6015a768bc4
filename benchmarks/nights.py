"""Simulated nights of published labels: python -m benchmarks.nights [--nights 30] [--only NAME ...].

A tiny set grows, shrinks and is corrected from night to night, and machines fail. After each night `latest` must be
whole and right, the record, the state and the page must say what happened, and nothing may have been trained or
labelled that need not be. A row per night is kept after every night; the exit code is 1 where there is any fault.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks import night_failures as failures
from benchmarks import night_stories as stories
from benchmarks.machine import describe_machine, results_file, write_results
from benchmarks.night_checks import Work, check_night, look
from benchmarks.night_place import Night, Place
from benchmarks.night_server import NightServer
from benchmarks.night_world import World, make_pool

logger = logging.getLogger(__name__)
DISK_MIB = 1500
OTHER_BEGINS = 44
NIGHTS = (
    *(stories.first, stories.nothing, stories.additions, stories.removal, stories.tags_corrected),
    *(stories.photograph_replaced, stories.labels_corrected, stories.all_at_once),
    *(stories.tag_misspelt, stories.tag_misspelt_again, stories.tag_mended, stories.new_class),
    *(stories.version_held, stories.version_held_again, stories.approval, stories.rollback, stories.forward_again),
    *(stories.broken_photograph, stories.broken_photograph_gone),
    *(failures.killed_with_all, failures.killed_alone, failures.disk_full),
    *(stories.versions_tidied, stories.many_images),
    *(failures.deployed, failures.deployed_nothing, failures.schedule_paused),
    *(failures.worker_killed, failures.server_killed, failures.two_on_two_workers),
)


@dataclass(frozen=True)
class Row:
    """A night.

    Attributes:
        night: Its name.
        happened: What happened, in words.
        state: That it came to, with its message.
        latest: The version that readers take afterwards.
        made: Stage -> artifacts that were made.
        reused: Artifacts of its run that were there already.
        seconds: It took, with starts of processes and servers.
        faults: What is wrong.
    """

    night: str
    happened: str
    state: str
    latest: int | None
    made: dict[str, int]
    reused: int
    seconds: float
    faults: list[str]


def main(
    nights: int = len(NIGHTS),
    only: tuple[str, ...] = (),
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """Have the nights, and print a line for each.

    Args:
        nights: The first so many.
        only: Of them those whose names begin with one of these, after the first.
        json_file: Results; benchmarks/results/nights-<machine>.json if not said, where no night is left out.
    """
    machine = describe_machine()
    chosen = [night for night in NIGHTS[:nights] if not only or night.name.startswith((NIGHTS[0].name, *only))]
    if json_file is None and chosen == list(NIGHTS):
        json_file = results_file(machine, "nights")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="nights-") as name, small_disk(Path(name) / "disk") as disk:
        root = Path(name)
        server = NightServer(root / "server")
        try:
            pool = make_pool(root / "pool")
            worlds = [
                World(root / f"set-{letter}", disk / letter, pool, server.environment, skip)
                for letter, skip in (("a", 0), ("b", OTHER_BEGINS))
            ]
            place = Place(worlds[0], worlds[1], server, has_disk=os.path.ismount(disk))
            for night in chosen:
                rows.append(have(night, place))
                shown = rows[-1]
                logger.info("%s: %.0f s, %s %s", night.name, shown.seconds, shown.state, "; ".join(shown.faults))
                write_results({"machine": machine, "nights": [asdict(row) for row in rows]}, json_file)
        finally:
            server.stop()
    faults = sum(len(row.faults) for row in rows)
    print(json.dumps({"nights": len(rows), "faults": faults}))
    return int(bool(faults))


def have(night: Night, place: Place) -> Row:
    """Have a night, and check what it left; a night that breaks off has that as its fault."""
    world, before, begun = place.world, look(place.world), time.perf_counter()
    try:
        expected, said = night.tell(place)
        seconds = time.perf_counter() - begun
        work, faults = check_night(world, expected, said, before)
        state = f"{said.state}: {said.message[-300:]}" if said.state == "Failed" else said.message
    except Exception as error:
        logger.exception("%s", night.name)
        work, faults, state = Work({}, 0), [f"{type(error).__name__}: {error}"], "broke off"
        seconds = time.perf_counter() - begun
    latest = world.publication.linked
    return Row(night.name, night.happened, state, latest, work.made, work.reused, round(seconds, 1), faults)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Give a folder that is a small file system of its own, where this process may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(tyro.cli(main, description=__doc__))
