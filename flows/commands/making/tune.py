"""`pseudomask tune`: the settings after the networks, searched on what a run has made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from data.dataset import DatasetError
from data.ownership import own, refuse_nesting
from data.store import explain_os_errors, open_store
from flows.commands.command import POSITIONAL, Command, Written, answering
from flows.commands.tables import percent
from flows.engine.request import ListName, LocalRequest
from tasks.engine.run_record import read_run
from tasks.tuning.space import DEFAULT_CRITERION, Criterion, read_values

SHOWN = ("default", "chosen", "oracle")
TITLES = {"default": "the run's own", "chosen": "chosen", "oracle": "best by ground truth"}


class TuneRequest(LocalRequest):
    """A search of settings, in the store of the run.

    Attributes:
        run: Folder of a finished run.
        gt: Images whose ground truth decides: a file, the name of a list of the set, or none; by default all that have.
        set: A setting and the values to try, such as walk.beta 6 8 10; by default thresholds and CRF iterations.
        trials: Candidates at most; where there are no more, all of them.
        images: Images that are looked at, at most, at even distances in the set.
        criterion: What decides without ground truth: one criterion, or the mean of all.
    """

    run: Path
    gt: ListName | None = None
    set: tuple[tuple[str, ...], ...] = ()
    trials: int = Field(default=200, ge=1)
    images: int = Field(default=100, ge=2)
    criterion: Criterion = DEFAULT_CRITERION


def tune_run(request: TuneRequest) -> dict[str, Any]:
    """Search, and return what `tune.json` holds.

    Raises:
        ArtifactError: The run cannot be used, or the folder of the results holds something else.
        DatasetError: A setting cannot be searched; or the list names no images with ground truth.
        StageError: A walk could not be made.
        pydantic.ValidationError: A value is out of range.
    """
    record = read_run(request.run)
    refuse_nesting(request.out, open_store(record.store).root, record.root)
    # Only who searches waits for torch and Optuna.
    from tasks.tuning.tune import FILES, TuneOptions, tune

    with own(request.out, "tune") as output, explain_os_errors(request.out):
        try:
            options = TuneOptions(
                run=request.run,
                out=request.out,
                gt=request.gt,
                asked=read_values(request.set),
                trials=request.trials,
                images=request.images,
                criterion=request.criterion,
                workers=request.num_workers,
                device=request.torch_device,
            )
            output.claim(FILES)
            return tune(options)
        except ValueError as error:
            if type(error) is ValueError:
                raise DatasetError(str(error)) from None
            raise


def show_tuning(result: dict[str, Any], console: Console) -> None:
    """Print the settings, what they are worth, how sure that is, and the next command."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if "chosen" in result:
        console.print(_table(result))
        say(f"{result['candidates']} of {result['of']} candidates on {result['images']} images, by {result['by']}")
    if uncertain := result.get("uncertainty"):
        say(_certainty(uncertain))
    if instances := result.get("instances"):
        before, after = instances["default"], instances["chosen"]
        said = ", ".join(f"{name} {value:g}" for name, value in after.items() if name != "ap50")
        say(f"instances: AP50 {percent(before['ap50'])} -> {percent(after['ap50'])} with {said}")
    for remark in result["remarks"]:
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)
    out = result["out"]
    say(f"table    {out}/candidates.csv\npicture  {out}/score.png\nsettings {out}/best.json")
    if result["best"]:
        say(f"next: the run's command with --settings {out}/best.json and another --out")
    else:
        say("the run's own settings are the best of those that were tried")


def _table(result: dict[str, Any]) -> Table:
    shown = {name: result[name] for name in SHOWN if name in result}
    table = Table(title="Settings of the labels", title_justify="left")
    table.add_column("")
    for name in shown:
        table.add_column(TITLES[name], justify="right")
    for key in result["chosen"]:
        values = [row.get(key) for row in shown.values()]
        if key in result["space"]:
            table.add_row(key, *(f"{value:g}" for value in values))
        elif any(value is not None for value in values):
            title = "mIoU, in percent" if key == "miou" else f"criterion: {key}, in percent"
            table.add_row(title, *map(percent, values))
    return table


def _certainty(found: dict[str, Any]) -> str:
    low, high = (100 * end for end in found["gain_interval"])
    text = (
        f"gain {100 * found['gain']:+.1f} points of mIoU over the run's own settings; by resampling the "
        f"{found['images']} images, 95 % between {low:+.1f} and {high:+.1f}"
    )
    if found["gain_elsewhere"] is not None:
        text += f", on images that did not choose {100 * found['gain_elsewhere']:+.1f}"
    ranges = (f"{name} {ends[0]:g} to {ends[1]:g}" for name, ends in found["settings"].items())
    return f"{text}; what is chosen: {', '.join(ranges)}"


COMMAND = Command(
    name="tune",
    help="Search the settings after the networks, on what a run has made; a search that was stopped goes on.",
    request=TuneRequest,
    carry_out=answering(tune_run, show_tuning),
    written={"run": POSITIONAL, "set": Written(metavar="NAME VALUE ...", adds_up=True)},
)
