"""Nights in which the set changes, and people decide: what happens in each, and what has to come of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.night_place import Place, night
from benchmarks.night_world import SIZE, Expected, Said
from data.files import file_digest
from data.store.corrections import FIRST_CLASS
from data.store.decisions import read_decisions

FIRST_IMAGES = 16
HOLD = ("--gate.background", "0", "0.001")
HELD_CODE = 4
SLIP, NEW = "craet", "kite"


@night("first")
def first(place: Place) -> tuple[Expected, Said]:
    """A set is labelled from nothing, without a Prefect server."""
    world = place.world
    new = world.add(FIRST_IMAGES)
    return place.published(trained=True, added=new), world.command(environment=place.server.alone)


@night("nothing")
def nothing(place: Place) -> tuple[Expected, Said]:
    """Nothing changed."""
    return place.unchanged(), place.world.command()


@night("additions")
def additions(place: Place) -> tuple[Expected, Said]:
    """Two images were added."""
    new = place.world.add(2)
    return place.published(added=new), place.world.command()


@night("removal")
def removal(place: Place) -> tuple[Expected, Said]:
    """An image was removed."""
    gone = place.world.remove(place.world.ids[2])
    return place.published(removed=gone), place.world.command()


@night("tags-corrected")
def tags_corrected(place: Place) -> tuple[Expected, Said]:
    """The tags of two images were corrected."""
    world = place.world
    both = world.tag(world.ids[0], "crate") | world.tag(world.ids[1], "ball", "windmill")
    return place.published(relabelled=both), world.command()


@night("photograph-replaced")
def photograph_replaced(place: Place) -> tuple[Expected, Said]:
    """A photograph was replaced by another of the same name."""
    changed = place.world.turn(place.world.ids[3])
    return place.published(changed=changed), place.world.command()


@night("labels-corrected")
def labels_corrected(place: Place) -> tuple[Expected, Said]:
    """A person painted a class into the labels of an image."""
    world, id = place.world, place.world.ids[4]
    mask = np.zeros(SIZE, np.uint16)
    mask[:10, :20] = FIRST_CLASS
    digest = file_digest(world.set / f"{id}.jpg")
    world.corrections.add(id, digest, author="Ada", made_on=place.latest, classes=[world.tags[id][0]], semantic=mask)
    return place.published(with_other_corrections=frozenset((id,))), world.command()


@night("all-at-once")
def all_at_once(place: Place) -> tuple[Expected, Said]:
    """Images were added, removed, replaced and tagged anew on one day."""
    world = place.world
    removed, changed = world.remove(world.ids[5]), world.turn(world.ids[6])
    relabelled, added = world.tag(world.ids[7], "pennant"), world.add(1)
    expected = place.published(removed=removed, changed=changed, relabelled=relabelled, added=added)
    return expected, world.command()


@night("tag-misspelt")
def tag_misspelt(place: Place) -> tuple[Expected, Said]:
    """An image was added with a misspelt tag."""
    place.world.add(1, (SLIP,))
    return _slip(place), place.world.command()


@night("tag-misspelt-again")
def tag_misspelt_again(place: Place) -> tuple[Expected, Said]:
    """The tag is misspelt still."""
    return _slip(place), place.world.command()


def _slip(place: Place) -> Expected:
    return Expected("Held", f"the new class '{SLIP}' has 1 image", HELD_CODE, latest=place.latest)


@night("tag-mended")
def tag_mended(place: Place) -> tuple[Expected, Said]:
    """The misspelt tag was mended."""
    world = place.world
    slips = [id for id, tags in world.tags.items() if tags == (SLIP,)]
    mended = frozenset().union(*(world.tag(id, "crate") for id in slips))
    return place.published(added=mended), world.command()


@night("new-class")
def new_class(place: Place) -> tuple[Expected, Said]:
    """Three images of a new class were added."""
    new = place.world.add(3, (NEW,))
    expected = place.published(trained=True, added=new)
    return replace(expected, message=f"the networks do not know the classes {NEW}"), place.world.command()


@night("version-held")
def version_held(place: Place) -> tuple[Expected, Said]:
    """Images were added whose labels leave the gate."""
    new = place.world.add(2)
    number = place.world.publication.next
    expected = replace(place.published(added=new), state="Held", message=f"Held v{number}: ", code=HELD_CODE)
    return replace(expected, latest=place.latest), place.world.command(*HOLD)


@night("version-held-again")
def version_held_again(place: Place) -> tuple[Expected, Said]:
    """The version awaits review still."""
    number = place.world.publication.held[-1]
    message = f"Held v{number}: awaits review, and nothing changed since"
    return Expected("Held", message, HELD_CODE, latest=place.latest), place.world.command(*HOLD)


@night("approval")
def approval(place: Place) -> tuple[Expected, Said]:
    """A person approved the version, then the night came."""
    world, number = place.world, place.world.publication.held[-1]
    return _decided(place, "approve", number, ["approve", str(world.out), "--by", "Ada"])


@night("rollback")
def rollback(place: Place) -> tuple[Expected, Said]:
    """A person went back by a version, then the night came."""
    world, number = place.world, place.world.publication.published[-2]
    expected, said = _decided(place, "rollback", number, ["rollback", str(world.out), "--by", "Ada"])
    newest = world.publication.published[-1]
    return replace(expected, message=f"v{newest} has just these labels and was rolled back, v{number} stays"), said


@night("forward-again")
def forward_again(place: Place) -> tuple[Expected, Said]:
    """The newest version was taken after all, and an image was added."""
    world, newest = place.world, place.world.publication.published[-1]
    faults = world.other("approve", str(world.out), str(newest), "--by", "Bob")
    expected = place.published(added=world.add(1))
    said = world.command()
    said.faults += faults
    return expected, said


def _decided(place: Place, action: str, number: int, words: list[str]) -> tuple[Expected, Said]:
    """Have a person decide, and then a night that must leave it at that."""
    world = place.world
    faults = world.other(*words)
    decision = read_decisions(world.out)[-1]
    if (decision.action, decision.version, decision.by) != (action, number, "Ada"):
        faults.append(f"the decision is recorded as {decision}")
    if place.latest != number:
        faults.append(f"latest is {place.latest} after the decision, expected {number}")
    said = world.command()
    said.faults += faults
    return place.unchanged(), said


@night("broken-photograph")
def broken_photograph(place: Place) -> tuple[Expected, Said]:
    """An image that was added is broken."""
    world = place.world
    (id,) = world.add(1)
    file = world.set / f"{id}.jpg"
    file.write_bytes(file.read_bytes()[:300])
    return place.failed(file.name), world.command()


@night("broken-photograph-gone")
def broken_photograph_gone(place: Place) -> tuple[Expected, Said]:
    """The broken image was taken away."""
    world = place.world
    world.remove(*(world.tags.keys() - world.versions[place.latest].keys()))
    return place.unchanged(), world.command()


@night("versions-tidied")
def versions_tidied(place: Place) -> tuple[Expected, Said]:
    """Old versions and what only they needed were deleted, then the night came."""
    world = place.world
    faults = world.other("gc", str(world.out), "--keep", "3", "--keep-days", "0", "--delete")
    faults += world.other("gc", str(world.store), "--delete")
    if len(world.publication.published) > 8 or place.latest not in world.publication.published:
        faults.append(f"after gc there are the versions {world.publication.published}")
    said = world.command()
    said.faults += faults
    return place.unchanged(), said


@night("many-images")
def many_images(place: Place) -> tuple[Expected, Said]:
    """So many images were added that the networks have not seen a third of the set."""
    new = place.world.add(4)
    expected = place.published(trained=True, added=new)
    return replace(expected, message="the networks have not seen"), place.world.command()
