"""A run or a training asked for by another Python process: JSON on standard input, JSON on standard output.

`pseudomask.label` and `pseudomask.train` use it, so that Prefect, which reads its settings once per process, and the
threads of a run stay out of the caller's process.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.logging import RichHandler

from data.dataset import DatasetError, Problem
from data.store import ArtifactError
from flows.engine.printing import PlainConsole, PlainFormatter, is_for_people
from flows.engine.server import ServerError
from flows.labels.request import RunRequest
from flows.training.request import TrainRequest
from tasks.engine.foreign_settings import refuse_foreign_settings
from tasks.engine.processes import python_command, python_environment
from tasks.engine.workers import ROOMS, StageError, die_with_parent

Kind = Literal["run", "train"]
ERRORS = {error.__name__: error for error in (ArtifactError, StageError, ServerError, OSError)}


def call(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    """Run the pipeline or a training in a child process, which ends with this one.

    Args:
        kind: "run" or "train".
        values: The fields of a `RunRequest` or `TrainRequest`, as JSON has them; paths may be `Path`.

    Returns:
        What the command prints with `--json`.

    Raises:
        pydantic.ValidationError: A field or a setting is unknown or out of range.
        DatasetError, ArtifactError, StageError, ServerError, OSError: As the command fails.
        RuntimeError: The child ended without an answer; its messages are on standard error.
    """
    # Faults of options are found here, without a child.
    make_request(kind, values)
    refuse_foreign_settings()
    asked = json.dumps({"kind": kind, "values": values, "parent": os.getpid()}, default=_plain)
    environment = os.environ | python_environment()
    command = python_command("-m", "flows.calls")
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        message = f"the process of the {kind} ended with exit code {done.returncode}; standard error has its messages"
        raise RuntimeError(message) from None
    if "error" in answer:
        raise _error_of(answer)
    return answer["result"]


def make_request(kind: Kind, values: Mapping[str, Any]) -> RunRequest | TrainRequest:
    """Return the request that values make.

    Raises:
        pydantic.ValidationError: One is unknown or out of range.
    """
    return (RunRequest if kind == "run" else TrainRequest).model_validate(dict(values))


def main() -> None:
    """Serve one call: `python -P -m flows.calls`."""
    # Whatever else is printed goes to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        asked = json.load(sys.stdin)
        die_with_parent(asked["parent"])
        _set_up_logging()
        json.dump(_answer(asked["kind"], asked["values"]), stream)


def _answer(kind: Kind, values: dict[str, Any]) -> dict[str, Any]:
    request = make_request(kind, values)
    try:
        if isinstance(request, RunRequest):
            from flows.commands.making.run import run_pipeline

            return {"result": run_pipeline(request)}
        from flows.commands.making.train import train_network

        return {"result": train_network(request)}
    except DatasetError as error:
        problems = [(str(problem.file), problem.message, problem.sample) for problem in error.problems]
        told = {"message": str(error), "problems": problems, "of_images": error.of_images}
        return {"error": "DatasetError", **told}
    except tuple(ERRORS.values()) as error:
        name = "OSError" if isinstance(error, OSError) else type(error).__name__
        return {"error": name, "message": str(error)}


def _error_of(answer: dict[str, Any]) -> Exception:
    if answer["error"] == "DatasetError":
        problems = [Problem(Path(file), message, sample) for file, message, sample in answer["problems"]]
        return DatasetError(problems or answer["message"], of_images=answer["of_images"])
    return ERRORS[answer["error"]](answer["message"])


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"expected a value that JSON has, or a path, got {type(value).__name__}")


def _set_up_logging() -> None:
    handler = RichHandler(console=PlainConsole(stderr=True), show_path=False, show_time=False)
    handler.setFormatter(PlainFormatter("%(message)s"))
    handler.addFilter(is_for_people)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for room in ("flows", *ROOMS):
        logging.getLogger(room).setLevel(logging.INFO)


if __name__ == "__main__":
    main()
