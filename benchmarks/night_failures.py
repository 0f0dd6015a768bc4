"""Nights in which machines fail, and nights that Prefect's server and workers have."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.kills import processes_left
from benchmarks.night_checks import artifacts, check_latest, check_night, look
from benchmarks.night_place import Place, night
from benchmarks.night_server import NightServer, wait_for
from benchmarks.night_world import Expected, Said
from flows.deployment.names import slug
from flows.publishing.deployment import EVENT
from flows.publishing.deployment import resource as resource_of

NOBODY_COMES_S = 15.0
NO_ROOM = "no space left"


@night("killed-with-all")
def killed_with_all(place: Place) -> tuple[Expected, Said]:
    """The command was killed with all its processes, and typed again."""
    return _killed(place, lambda process: os.killpg(process.pid, signal.SIGKILL))


@night("killed-alone")
def killed_alone(place: Place) -> tuple[Expected, Said]:
    """The command alone was killed, as by want of memory, and typed again."""
    return _killed(place, lambda process: os.kill(process.pid, signal.SIGKILL))


def _killed(place: Place, kill: Callable[[subprocess.Popen[str]], None]) -> tuple[Expected, Said]:
    world = place.world
    expected, before = place.published(added=world.add(1)), artifacts(world).keys()
    process = world.start()
    wait_for(lambda: process.poll() is not None or artifacts(world).keys() - before, "an artifact")
    kill(process)
    process.communicate()
    faults = [f"a process of the killed command lived on: {line}" for line in processes_left(world.folder)]
    faults += [f"after the kill: {fault}" for fault in check_latest(world, place.latest)]
    between = artifacts(world)
    said = world.command()
    now = artifacts(world)
    said.faults += [*faults, *(f"made twice: {key}" for key, moment in between.items() if now.get(key) != moment)]
    return expected, said


@night("disk-full")
def disk_full(place: Place) -> tuple[Expected, Said]:
    """The disk is full, and has room again when the command is typed a second time."""
    world = place.world
    expected, before = place.published(added=world.add(1)), look(world)
    with _no_room(place) as told:
        full = world.command()
    _, faults = check_night(world, place.failed(told), full, before)
    said = world.command()
    said.faults += [f"on the full disk: {fault}" for fault in faults]
    return expected, said


@contextmanager
def _no_room(place: Place) -> Iterator[str]:
    """Fill the disk, or where it is not our own let no file grow; yield what the command has to say of it."""
    if place.has_disk:
        filler = place.world.disk / "filler"
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(place.world.disk).free - 16_000)
        try:
            yield NO_ROOM
        finally:
            filler.unlink()
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        yield ""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@night("deployed")
def deployed(place: Place) -> tuple[Expected, Said]:
    """A night of a deployment: an image was added, another removed."""
    world = place.world
    expected = place.published(added=world.add(1), removed=world.remove(world.ids[8]))
    return expected, _deployed_night(place, expected)


@night("deployed-nothing")
def deployed_nothing(place: Place) -> tuple[Expected, Said]:
    """A night of a deployment: nothing changed."""
    return place.unchanged(), _deployed_night(place, place.unchanged())


def _deployed_night(place: Place, expected: Expected) -> Said:
    server = place.server
    name = server.schedule(place.world)
    _have_worker(server)
    return server.said_of(server.end_of(server.ask(name)), place.world, expected)


def _have_worker(server: NightServer) -> None:
    if not server.workers:
        server.start_worker()


@night("schedule-paused")
def schedule_paused(place: Place) -> tuple[Expected, Said]:
    """The schedule was paused while images landed, and resumed."""
    world, server = place.world, place.server
    name = server.schedule(world)
    _have_worker(server)
    server.command("flows", "schedule", "pause", str(world.out))
    before = len(server.runs(name))
    expected, faults = place.published(added=world.add(1)), []
    emit = ("prefect", "event", "emit", EVENT, "--resource-id", resource_of(slug(world.out)))
    server.command(*emit)
    time.sleep(NOBODY_COMES_S)
    if len(server.runs(name)) != before:
        faults.append("images that landed began a run of a paused schedule")
    server.command("flows", "schedule", "resume", str(world.out))
    server.command(*emit)
    wait_for(lambda: len(server.runs(name)) > before, "a run of the resumed schedule")
    said = server.said_of(server.end_of(server.runs(name)[-1]["id"]), world, expected)
    said.faults += faults
    return expected, said


@night("worker-killed")
def worker_killed(place: Place) -> tuple[Expected, Said]:
    """The worker was killed in the middle of the night, and started again."""
    world, server = place.world, place.server
    name = server.schedule(world)
    _have_worker(server)
    expected, run = _begun(place, name)
    server.kill_worker()
    time.sleep(3)
    server.start_worker()
    end = server.end_of(run)
    said = server.said_of(end, world, expected)
    if end["run_count"] != 2:
        said.faults.append(f"the run was begun {end['run_count']} times, expected 2")
    return expected, said


@night("server-killed")
def server_killed(place: Place) -> tuple[Expected, Said]:
    """Prefect's server was killed in the middle of the night, and started again; a run that failed is repeated."""
    world, server = place.world, place.server
    name = server.schedule(world)
    _have_worker(server)
    expected, run = _begun(place, name)
    server.restart()
    end = server.end_of(run)
    if end["state"]["type"] == "COMPLETED":
        return expected, server.said_of(end, world, expected)
    end = server.end_of(server.ask(name))
    if end["state"]["name"] == "Unchanged" and world.publication.linked == expected.version:
        # The version was published, and its run lost the server afterwards.
        return expected, Said(0, "Published", expected.message)
    return expected, server.said_of(end, world, expected)


def _begun(place: Place, name: str) -> tuple[Expected, str]:
    """Add images and ask for a night; return it when it has made something."""
    world = place.world
    expected, before = place.published(added=world.add(1)), artifacts(world).keys()
    run = place.server.ask(name)
    wait_for(lambda: artifacts(world).keys() - before, "an artifact of the night")
    return expected, run


@night("two-on-two-workers")
def two_on_two_workers(place: Place) -> tuple[Expected, Said]:
    """Two publications have their nights at once, on two workers."""
    server, worlds = place.server, (place.world, place.other)
    second = replace(place, world=place.other)
    expected = [place.published(added=place.world.add(1)), second.published(trained=True, added=place.other.add(8))]
    names, before = [server.schedule(world) for world in worlds], look(place.other)
    _have_worker(server)
    wait_for(lambda: server.call("/v2/concurrency_limits/filter", {}), "the limit that a worker sets")
    server.stop_workers()
    server.command("prefect", "gcl", "update", f"gpu-{os.uname().nodename}", "--limit", "2")
    for _ in worlds:
        server.start_worker("--limit", "1")
    runs = [server.end_of(run) for run in [server.ask(name) for name in reversed(names)]][::-1]
    said = [server.said_of(*each) for each in zip(runs, worlds, expected, strict=True)]
    _, faults = check_night(place.other, expected[1], said[1], before)
    said[0].faults += [f"the second publication: {fault}" for fault in faults]
    if max(run["start_time"] for run in runs) > min(run["end_time"] for run in runs):
        said[0].faults.append("the two were not at work at once")
    return expected[0], said[0]
