"""`pseudomask regenerate`: what changed in a data set, as the next version of its published labels."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator
from rich.console import Console

from data.store.publication import Publication
from flows.commands.command import Command, CommandEnded, Output, Written, answer
from flows.engine.embedded import embedded_server
from flows.labels.presets import PRESETS
from flows.publishing.outcome import outcome_of
from flows.publishing.request import RegenerateRequest, check_place, describe_work, find_work
from tasks.pipeline import stages_of


def regenerate_published(request: RegenerateRequest, *, dry_run: bool = False) -> dict[str, Any]:
    """Run the flow where there is something to do, and return what it answers.

    Raises:
        DatasetError: The data set cannot be used; every problem is listed.
        StageError: The training or a shard failed; the others were finished.
        ArtifactError: The store, or the folder of the versions, cannot be read or written.
    """
    publication = Publication(request.out)
    check_place(request)
    if not dry_run and publication.unfinished is not None:
        with publication.lock():
            pass
    # Neither faults of the set nor the news that nothing changed need a server.
    work = find_work(request, publication)
    if dry_run or work.waits:
        return _with_outcome({**describe_work(publication, work), "dry_run": dry_run})
    with embedded_server(request, stages_of(request.settings.refiner)):
        from flows.publishing.flow import regenerate_labels

        return _with_outcome({**regenerate_labels(request), "dry_run": False})


def _with_outcome(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "outcome": outcome_of(answer).state, "message": outcome_of(answer).message}


def show_regeneration(result: dict[str, Any], console: Console) -> None:
    """Print what was done, or would be, and why; and the next command to type."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    folder, version = result["publication"], result["version"]
    for line in result["left_out"]:
        say(f"left out: {line}")
    if result["same"] is not None:
        say(result["message"])
        say(f"next: pseudomask approve {folder} {result['same']}")
        return
    if result["held"] and version is None:
        say("held before any training:")
        for doubt in result["held"]:
            say(f"  {doubt}")
        say("next: correct the tags; or name the class in classes.txt of the set, or --retrain always, to train for it")
        return
    work = (
        f"train the networks, and label {result['images']} images"
        if result["train"]
        else (f"label {result['images']} images")
    )
    for reason in result["reasons"]:
        say(f"because {reason}")
    if result["dry_run"]:
        say(f"would {work}" if result["reasons"] else "would do nothing: nothing changed")
        return
    if version is None:
        say(f"nothing changed since version {result['latest']}")
        return
    say(f"did {work}")
    for fault in result.get("not_applied", ()):
        say(f"correction {fault}")
    if result["held"]:
        say(f"version {version} is held for review:")
        for objection in result["held"]:
            say(f"  {objection}")
        say(f"next: look at {folder}/held, then pseudomask approve {folder} {version}")
        return
    say(f"version {version} is the latest: {folder}/latest")
    say(f"next: pseudomask versions {folder}")


def show_schedule(result: dict[str, Any], console: Console) -> None:
    """Print when the labels are regenerated, and how to have it done at once."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    if result["cron"] is None:
        say(f"{result['publication']}: no schedule any more")
        return
    say(f"{result['publication']}: regenerated at {result['cron']!r} ({result['timezone']}), by {result['deployment']}")
    say(f"at once: prefect event emit {result['event']} --resource-id {result['resource']}")


class RegenerateOptions(Output):
    """Options beside the regeneration.

    Attributes:
        dry_run: Only say what would be done, and why.
        schedule: Have it done at these times (cron) and when images land; off ends that.
        timezone: Where the times of the schedule are read, such as Europe/Berlin; by default UTC.
    """

    dry_run: bool = False
    schedule: str | None = None
    timezone: str | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.schedule is not None and self.dry_run:
            raise ValueError("--dry-run and --schedule: expected one of them")
        if self.timezone is not None and self.schedule is None:
            raise ValueError("--timezone: expected --schedule beside it")
        return self


def _carry_out(request: RegenerateRequest, options: RegenerateOptions) -> None:
    if options.schedule is not None:
        from flows.publishing.schedule import schedule

        answer(schedule(request, options.schedule, options.timezone or "UTC"), show_schedule, options.as_json)
        return
    result = regenerate_published(request, dry_run=options.dry_run)
    answer(result, show_regeneration, options.as_json)
    if code := outcome_of(result).code:
        raise CommandEnded(code)


COMMAND = Command(
    name="regenerate",
    help="Bring published labels up to a data set: only what changed gets new labels, as the next version.",
    request=RegenerateRequest,
    carry_out=_carry_out,
    options=RegenerateOptions,
    written={"preset": Written(Literal[tuple(PRESETS)])},  # pyright: ignore
    presets=PRESETS,
)
