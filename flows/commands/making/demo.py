"""`pseudomask demo`: the whole pipeline on a synthetic set, with its report."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from data.files import read_regular
from data.ownership import own
from data.store import explain_os_errors
from data.synthetic.dataset import write_synthetic
from flows.commands.command import HIDDEN, Command, answering
from flows.commands.looking.report import make_report
from flows.commands.making.run import run_pipeline, show_results
from flows.engine.collect import writing
from flows.engine.request import Request
from flows.labels.presets import PRESETS
from flows.labels.request import NetworkName, RunRequest
from tasks.pipeline.settings import PipelineConfig

DEMO_SIZE = (128, 160)
DEMO_STAMP = "recipe.json"
# A recipe that asks for more is none of a demo.
MAX_OLD_DEMO = 10_000


class DemoRequest(Request):
    """The pipeline on a synthetic set.

    Attributes:
        out: Folder of the results; the set is its folder `data`.
        images: Images of the set; a quarter more are for validation.
        data_seed: Everything random of the set derives from it.
        train: Networks to train on the labels.
        settings: The settings of all stages.
    """

    out: Path = Path("runs/demo")
    preset: str = "demo"
    images: int = 256
    data_seed: int = 0
    train: tuple[NetworkName, ...] = ()
    settings: PipelineConfig = Field(default_factory=PRESETS["demo"])


def run_demo(request: DemoRequest) -> dict[str, Any]:
    """Write the set, run the pipeline over it, make the report, and return what `run_pipeline` returns."""
    data = request.out.absolute() / "data"
    given = {name: value for name, value in request if name not in ("images", "data_seed")}
    run = RunRequest(**given, data=data, split="train", val="val" if request.train else None)
    with writing(run, "run"):
        write_demo_set(data, request.images, request.data_seed)
        result = run_pipeline(run)
    make_report(request.out)
    return result


def write_demo_set(folder: Path, num_images: int, seed: int) -> None:
    """Write the demo's data set into a folder that is empty or holds an earlier one of its own.

    Raises:
        ArtifactError: The folder holds something else.
    """
    recipe = _demo_recipe(num_images, seed)
    stamp = folder / DEMO_STAMP
    before = _read_demo(stamp)
    if before == recipe:
        return
    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary, "new")
        names = _write_demo(new, recipe)
        # A set from before there were marks is told by its recipe.
        old = None if before is None else _write_demo(Path(temporary, "old"), before)
        with own(folder, "demo", old=old) as output, explain_os_errors(folder):
            output.claim(names)
            stamp.unlink(missing_ok=True)
            output.remove(output.below("") - names)
            for name in sorted(names - {DEMO_STAMP}):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(new / name, folder / name)
            shutil.copyfile(new / DEMO_STAMP, stamp)


def _demo_recipe(num_images: int, seed: int) -> dict[str, Any]:
    return {"images": num_images, "seed": seed, "size": list(DEMO_SIZE), "format": 1}


def _read_demo(stamp: Path) -> dict[str, Any] | None:
    """Return the recipe of the demo's set in a folder, None where there is none."""
    try:
        recipe = json.loads(read_regular(stamp))
        known = recipe == _demo_recipe(int(recipe["images"]), int(recipe["seed"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return recipe if known and 0 < recipe["images"] <= MAX_OLD_DEMO else None


def _write_demo(folder: Path, recipe: dict[str, Any]) -> set[str]:
    """Write the set of a recipe, and return the names of its files."""
    images = recipe["images"]
    write_synthetic(folder, num_images=images, seed=recipe["seed"], size=DEMO_SIZE, num_val=images // 4)
    (folder / DEMO_STAMP).write_text(json.dumps(recipe))
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


COMMAND = Command(
    name="demo",
    help="The whole pipeline on a synthetic set, with its report.",
    request=DemoRequest,
    carry_out=answering(run_demo, show_results),
    written={"preset": HIDDEN},
    presets=PRESETS,
    preset="demo",
)
