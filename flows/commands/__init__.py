"""The commands of `pseudomask`: `ROOMS` is the one list of them.

A module has what a command is asked for, what carries it out, and how its answer is shown.
`docs/how-to/add_a_command.md` says how to add one.
"""

from __future__ import annotations

from flows.commands.command import Command
from flows.commands.comparing import compare, compare_runs
from flows.commands.looking import doctor, evaluate, models, report, status
from flows.commands.making import demo, predict, refine, run, train, tune
from flows.commands.publishing import deploy, diff, lineage, regenerate, review, schedule, versions
from flows.commands.storing import download, export, gc, import_corrections

__all__ = ["COMMANDS", "ROOMS"]

ROOMS: dict[str, tuple[Command, ...]] = {
    "make labels and networks": (
        demo.COMMAND,
        run.COMMAND,
        refine.COMMAND,
        tune.COMMAND,
        train.COMMAND,
        predict.COMMAND,
    ),
    "look at what there is": (
        status.COMMAND,
        report.COMMAND,
        evaluate.COMMAND,
        models.COMMAND,
        doctor.COMMAND,
    ),
    "compare": (compare.COMMAND, compare_runs.COMMAND),
    "publish": (
        regenerate.COMMAND,
        schedule.COMMAND,
        review.COMMAND,
        versions.VERSIONS,
        versions.APPROVE,
        versions.ROLLBACK,
        diff.COMMAND,
        lineage.COMMAND,
        deploy.DEPLOY,
        deploy.WORKER,
    ),
    "bring in, hand out, clear up": (download.COMMAND, export.COMMAND, import_corrections.COMMAND, gc.COMMAND),
}
"""What commands are for -> these."""

COMMANDS: dict[str, Command] = {command.name: command for room in ROOMS.values() for command in room}
"""Name -> command."""
