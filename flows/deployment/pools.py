"""Where the runs of deployments happen: a work pool, whose kind is the server's word, and what its runs are given.

Runs of a pool of processes see the folders of their machine. Those of any other kind start in a container, which has
the source in its image, and whose folders end with it: results lie in a volume, artifacts there or at an address.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from data.store.credentials import BLOCK_VARIABLE
from data.store.remote import CACHE_VARIABLE
from flows.deployment.names import POOL
from flows.deployment.shared import POOL_VARIABLE, SHARED_VARIABLE, check_shared
from flows.engine.request import STORE_VARIABLE
from flows.engine.server import ServerError

PROCESS = "process"
IMAGE_FOLDER = "/srv/pseudomask"
"""Where the image of the Dockerfile has the source."""
TEMPLATES = "docs/deploy/KIND-pool.json"
OWN_TEMPLATES = ("docker", "kubernetes")


@dataclass(frozen=True)
class Volume:
    """A folder of containers that outlives them.

    Attributes:
        source: Folder or volume of the machine, or claim of the cluster; None where the pool's own template mounts it.
        path: Where containers have it.
    """

    source: str | None
    path: PurePosixPath
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Volume:
        """Read SOURCE:PATH, SOURCE:PATH:ro or PATH.

        Raises:
            ServerError: It is none of these.
        """
        *source, path = text.removesuffix(":ro").split(":")
        if len(source) > 1 or not path.startswith("/") or source == [""]:
            raise ServerError(f"--volume {text}: expected SOURCE:PATH, SOURCE:PATH:ro or PATH, with a whole path")
        return cls(source[0] if source else None, PurePosixPath(path), text.endswith(":ro"))


@dataclass(frozen=True)
class Place:
    """What deployments are made for.

    Attributes:
        pool: Name of the work pool.
        image: Image of the runs, in pools of containers.
        volumes: Likewise.
        store: Where artifacts lie when a run names no store.
        store_block: TYPE/NAME of the block with the keys of the store.
    """

    pool: str = POOL
    image: str | None = None
    volumes: tuple[Volume, ...] = ()
    store: str | None = None
    store_block: str | None = None


def read_pool(client: SyncPrefectClient, name: str) -> WorkPool:
    """Return a pool; ours of processes is made where it is missing.

    Raises:
        ServerError: There is no pool of the name.
    """
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        if name != POOL:
            template = TEMPLATES.replace("KIND", OWN_TEMPLATES[0])
            raise ServerError(
                f"--pool {name}: the server has no work pool of this name. Make it with `prefect work-pool create "
                f"{name} --type docker --base-job-template {template}`, or --type process without a template"
            ) from None
    template = ProcessWorker.get_default_base_job_template()
    return client.create_work_pool(WorkPoolCreate(name=POOL, type=PROCESS, base_job_template=template))


def fields_of(place: Place, pool: WorkPool) -> dict[str, Any]:
    """Return what deployments get from their place: "job_variables", and "pull" where the source is in an image.

    Raises:
        ServerError: The pool's kind needs more, or takes less.
    """
    store = {STORE_VARIABLE: place.store, BLOCK_VARIABLE: place.store_block}
    environment = {name: value for name, value in store.items() if value}
    if pool.type == PROCESS:
        if place.image or place.volumes:
            raise ServerError(
                f"the work pool {pool.name} is of type process, whose runs see the folders of their machine; leave out "
                "--image and --volume"
            )
        return {"job_variables": {"env": environment}}
    _check_container(place, pool)
    writable = [volume.path for volume in place.volumes if not volume.read_only]
    environment |= {
        POOL_VARIABLE: pool.name,
        SHARED_VARIABLE: os.pathsep.join(map(str, writable)),
        # Else copies of artifacts and checkpoints of trainings end with the container.
        CACHE_VARIABLE: str(writable[0] / "cache"),
    }
    variables = {"image": place.image, "image_pull_policy": "IfNotPresent", "env": environment}
    known = _variables(pool)
    variables = {name: value for name, value in variables.items() if name in known} | _mounts(place, pool)
    return {
        "job_variables": variables,
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": IMAGE_FOLDER}}],
    }


def _check_container(place: Place, pool: WorkPool) -> None:
    known, what = _variables(pool), f"the work pool {pool.name} is of type {pool.type}"
    if "image" not in known or "env" not in known:
        raise ServerError(f"{what}, whose job template has no variables image and env; take a pool of containers")
    if not place.image:
        raise ServerError(
            f"{what}: expected --image, which its runs start in; `docker build --tag pseudomask .` makes one"
        )
    if all(volume.read_only for volume in place.volumes):
        raise ServerError(
            f"{what}: expected --volume SOURCE:PATH, a folder that all its runs share, since results are written there "
            "and folders of a container end with it"
        )
    if "volumes" not in known and any(volume.source for volume in place.volumes):
        raise ServerError(
            f"{what}, whose job template has no variable volumes. Mount the volume there and name its path alone "
            f"(--volume PATH), or take {TEMPLATES.replace('KIND', 'kubernetes')} for a pool of type kubernetes"
        )
    if place.store:
        writable = (str(volume.path) for volume in place.volumes if not volume.read_only)
        check_shared([place.store], os.pathsep.join(writable))


def _variables(pool: WorkPool) -> set[str]:
    return set(pool.base_job_template.get("variables", {}).get("properties", {}))


def _mounts(place: Place, pool: WorkPool) -> dict[str, Any]:
    """Return the job variables of volumes, as the pool's kind has them."""
    mounted = [volume for volume in place.volumes if volume.source]
    if not mounted:
        return {}
    if "volume_mounts" in _variables(pool):
        names = {volume.source: f"volume-{number}" for number, volume in enumerate(mounted)}
        return {
            "volumes": [
                {"name": name, "persistentVolumeClaim": {"claimName": source}} for source, name in names.items()
            ],
            "volume_mounts": [
                {"name": names[volume.source], "mountPath": str(volume.path), "readOnly": volume.read_only}
                for volume in mounted
            ],
        }
    return {"volumes": [f"{each.source}:{each.path}" + (":ro" if each.read_only else "") for each in mounted]}
