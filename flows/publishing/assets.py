"""Published labels as Prefect's assets: the set, its networks, each version and what readers take, with lineage.

The key of an asset has no path: Prefect refuses blanks and other signs in it. Its name and link have the folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.settings import get_current_settings

from data.store.publication import LATEST, Publication, name_of
from flows.deployment.names import slug
from flows.engine.server import OWN_VARIABLE
from flows.publishing.request import RegenerateRequest, networks_of
from tasks.engine.run_record import read_run

BY = "pseudomask"


def has_server() -> bool:
    """Return whether somebody can look at assets: the run has a Prefect server that is not its own and ends with it."""
    return get_current_settings().api.url is not None and OWN_VARIABLE not in os.environ


def show_assets(publication: Publication, request: RegenerateRequest, answer: Mapping[str, Any]) -> None:
    """Tell Prefect of a version that a night made, of the networks that it trained, and of what readers take now.

    A night that made no version tells of none. To be called in a flow.

    Raises:
        ArtifactError: The version's record is damaged.
    """
    number = answer["version"]
    if number is None or not has_server():
        return
    record = publication.record(number, "networks", "means", "reasons")
    source = set_asset(request.data)
    trainer = networks_of(publication, number)
    networks = networks_asset(publication, trainer)
    if record["trained"]:
        trained_on = read_run(trainer)
        facts = {"version": number, "images": trained_on.images.count, "classes": list(trained_on.classes.real_names)}
        _materialize("networks", networks, [source], facts)
    version = version_asset(publication, number)
    base = record["base"]
    before = [] if base is None or record["trained"] else [version_asset(publication, base)]
    names = ("images", "created", "reasons", "changes", "means", "agreement", "scores", "held", "trained", "corrected")
    facts = {"version": number, **{name: record.get(name) for name in names}}
    _materialize("version", version, [source, networks, *before], facts)
    if number == answer["latest"]:
        facts = {"version": number, "images": record["images"], "reasons": record["reasons"]}
        _materialize(LATEST, latest_asset(publication), [version], facts)


def show_latest(out: Path, answer: Mapping[str, Any]) -> None:
    """Tell Prefect which version readers take now that a person decided it.

    Args:
        answer: Of `approve_version` or `roll_back`.
    """
    if not has_server():
        return
    publication, number = Publication(out), answer["latest"]
    facts = {"version": number, "before": answer["before"], "by": answer["by"]}
    facts["images"] = publication.record(number, "images")["images"]
    _materialize(LATEST, latest_asset(publication), [version_asset(publication, number)], facts)


def set_asset(folder: Path) -> Asset:
    """Return the asset of a data set."""
    return _asset(f"sets/{slug(folder)}", f"set {folder}", folder)


def networks_asset(publication: Publication, run: Path) -> Asset:
    """Return the asset of the networks that a run of a publication trained."""
    name = f"networks {run.name} of {publication.root}"
    return _asset(f"labels/{slug(publication.root)}/networks/{run.name}", name, run)


def version_asset(publication: Publication, number: int) -> Asset:
    """Return the asset of a version of published labels."""
    name = f"version {number} of {publication.root}"
    return _asset(f"labels/{slug(publication.root)}/{name_of(number)}", name, publication.folder(number))


def latest_asset(publication: Publication) -> Asset:
    """Return the asset of what readers of published labels take."""
    root = publication.root
    return _asset(f"labels/{slug(root)}/{LATEST}", f"labels {root}", root / LATEST)


def _asset(place: str, name: str, folder: Path) -> Asset:
    properties = AssetProperties(name=name, url=folder.absolute().as_uri())
    return Asset(key=f"pseudomask://{place}", properties=properties)


def _materialize(what: str, asset: Asset, sources: Sequence[Asset], facts: dict[str, Any]) -> None:
    """Run the task in which Prefect records that an asset was made, from which others, and what is known of it."""

    @materialize(asset, by=BY, name=f"asset: {what}", asset_deps=list(sources), cache_policy=NO_CACHE)
    def record() -> None:
        add_asset_metadata(asset, facts)

    record()
