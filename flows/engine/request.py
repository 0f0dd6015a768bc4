"""What every flow is asked for beside its work, and the plan that it becomes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema

from data.dataset import DatasetError, Problem
from data.store import Store, open_store, store_address
from data.store.credentials import read_blocks_by
from flows.engine.form import as_form
from flows.engine.store_block import read_block
from models.backbones import is_timm
from models.backbones.timm_names import check_timm
from tasks.config import Config, RunConfig, StoreAddress
from tasks.engine.artifact import Artifact
from tasks.engine.plan import Plan

Sets = TypeVar("Sets")
Found = TypeVar("Found")
STORE_VARIABLE = "PSEUDOMASK_STORE"


@dataclass(frozen=True)
class CommandLine:
    """Context of the validation of requests that people type.

    Attributes:
        given: The names of the options among the words, without values: "walk.beta".
    """

    given: frozenset[str]


# All that opens a store of a flow comes by here, on a cluster's workers too.
read_blocks_by(read_block)


def _as_typed(name: str, info: ValidationInfo) -> str:
    """Return the whole path of a file that was typed; a recorded name stays, whatever lies in the folder of today."""
    typed = isinstance(info.context, CommandLine)
    return str(Path(name).absolute()) if typed and name and Path(name).is_file() else name


WholePath = Annotated[Path, AfterValidator(Path.absolute)]
ListName = Annotated[str, AfterValidator(_as_typed)]
"""A list of images, or a table: a file, or a name that is known."""


class FormRequest(Config):
    """Parameters of a flow, as a form in Prefect's UI shows them."""

    # The names of presets that a deployment's form has to choose from.
    preset_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        as_form(cls, handler.resolve_ref_schema(schema), handler.resolve_ref_schema, cls.preset_names)
        return schema


class LocalRequest(FormRequest):
    """What a command is asked for beside its work that this machine does alone.

    Attributes:
        out: Folder of the results.
        workers: Worker processes; by default one per core.
        device: Where networks run; auto takes a GPU where there is one.
    """

    out: Path
    workers: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def num_workers(self) -> int:
        """The number of worker processes."""
        if self.workers:
            return self.workers
        # What this process may use, which in a container is less than what the machine has.
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def torch_device(self) -> str:
        """ "cpu" or "cuda". A GPU is looked for by its driver, since this process does not load torch."""
        if self.device != "auto":
            return self.device
        usable = Path("/dev/nvidiactl").exists() and not version("torch").endswith("+cpu")
        return "cuda" if usable else "cpu"


class Request(LocalRequest):
    """What every flow is asked for beside its work: where it happens.

    Attributes:
        store: Folder or s3://bucket/prefix of artifacts. [PSEUDOMASK_STORE or `store` by out]
        cluster: Dask workers for artifacts: local, local:N, or tcp://host:port of a scheduler.
        time_limit: Hours after which it is stopped, from its turn on; what is finished is kept.
        preset: Where the settings start from. `settings` need only name what differs.
    """

    store: StoreAddress | None = None
    cluster: str | None = Field(default=None, pattern=r"^(local(:[1-9][0-9]*)?|(tcp|tls)://.+:[0-9]+)$")
    time_limit: float | None = Field(default=None, gt=0)
    preset: str = "quick"

    @property
    def store_address(self) -> str:
        """The address of the artifacts."""
        return self.store or store_address(os.environ.get(STORE_VARIABLE) or self.out.absolute().parent / "store")

    @property
    def where(self) -> dict[str, Any]:
        """The fields of a request that is a part of this one, so that it works in the same place."""
        same = {name: getattr(self, name) for name in ("workers", "device", "cluster", "preset")}
        return {"store": self.store_address, **same}


def check_backbone(settings: RunConfig) -> None:
    """Check that the backbone of settings is there, and weights of it that are to be downloaded.

    Raises:
        ValueError: It is one of timm, which is not installed or has no such network or weights.
    """
    if is_timm(settings.backbone):
        check_timm(settings.backbone, settings.weights)


@dataclass(frozen=True)
class PlannedRun:
    """A plan with what it takes to run it.

    Attributes:
        problems: What was left out.
        checked: Images were decoded for the check.
    """

    plan: Plan
    store: Store
    problems: tuple[Problem, ...]
    checked: bool = False

    def ready_store(self) -> None:
        """Prove that the store is writable, unless all is in it already and it may only be read.

        Raises:
            ArtifactError: The store cannot be written.
        """
        if not (self.store.read_only and is_made(self.plan, self.store)):
            self.store.prepare()


_handed: list[tuple[Request, Any]] = []


@contextlib.contextmanager
def handed_over(request: Request, found: Any) -> Iterator[None]:
    """Keep what a command found of a request, for the flow that it calls in the block: a set is read once."""
    _handed.append((request, found))
    try:
        yield
    finally:
        _handed.clear()


def take_over(request: Request, find: Callable[[], Found]) -> Found:
    """Return what the command found of a request that called this flow; find it where none did, as when deployed."""
    for given, found in _handed:
        if given == request:
            _handed.clear()
            return found
    return find()


def left_out_of(problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Return what an answer says of images that were left out.

    Returns:
        "left_out": the problems as sentences; "images_left_out": the ids of the images, each once, in that order.
    """
    images = dict.fromkeys(problem.sample for problem in problems if problem.sample)
    return {"left_out": [str(problem) for problem in problems], "images_left_out": list(images)}


def plan_run(
    request: Request,
    read: Callable[[], tuple[Sets, Sequence[Problem]]],
    lay_out: Callable[[Sets], Plan],
    check: Callable[[Sets], list[Problem]],
    drop: Callable[[Sets, list[Problem]], Sets],
    *,
    skip_bad: bool,
) -> PlannedRun:
    """Read the sets of a request, check them, and plan the run.

    Images are decoded for the check only where the plan has work to do, or bad ones are to be left out.

    Args:
        read: Returns the sets, and the problems of what was left out.
        lay_out: Lays out the artifacts over sets.
        check: Returns what is wrong with the files of the sets.
        drop: Returns sets without what has problems.
        skip_bad: Leave out what has problems, in place of refusing the sets.

    Raises:
        DatasetError: Lists every problem of the sets.
        ArtifactError: The store, or a run that is needed, cannot be used.
    """
    store = open_store(request.store_address)
    sets, left_out = read()
    plan = lay_out(sets)
    if is_made(plan, store) and not skip_bad:
        return PlannedRun(plan, store, tuple(left_out))
    problems = check(sets)
    if problems and not skip_bad:
        raise DatasetError(problems, of_images=_can_be_dropped(drop, sets, problems))
    if problems:
        plan = lay_out(drop(sets, problems))
    return PlannedRun(plan, store, (*left_out, *problems), checked=True)


def _can_be_dropped(drop: Callable[[Sets, list[Problem]], Sets], sets: Sets, problems: list[Problem]) -> bool:
    """Return whether anything useful is left of sets without what has problems."""
    try:
        drop(sets, problems)
    except DatasetError:
        return False
    return True


def read_summary(prepared: PlannedRun, artifact: Artifact) -> dict[str, Any]:
    """Return what the stage function that made an artifact returned."""
    return prepared.store.read_manifest(artifact.stage.name, artifact.key)["summary"]


def is_made(plan: Plan, store: Store) -> bool:
    """Return whether every artifact of a plan was published."""
    # Side by side, for stores that take a request each.
    threads = ThreadPoolExecutor()
    try:
        return all(threads.map(lambda artifact: store.has(artifact.stage.name, artifact.key), plan.artifacts))
    finally:
        threads.shutdown(cancel_futures=True)
