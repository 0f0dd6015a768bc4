"""A Prefect flow as the product has them: alike on the command line and deployed."""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_type_hints

from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.runtime import flow_run

from data.text import hide_passwords
from flows.deployment.hooks import tell_of_failure, tell_of_review
from flows.deployment.liveness import at_work
from flows.deployment.shared import POOL_VARIABLE, SHARED_VARIABLE, check_shared

P = ParamSpec("P")
R = TypeVar("R")


def deployable(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function `(request) -> ...` a flow whose runs are named like machine and folder of their results.

    A deployed run is at work (`at_work`) while it lasts, and all runs tell of their failure.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        # Prefect looks the names of annotations up in the module of what it is given, which is not the function's.
        function.__annotations__ = get_type_hints(function)

        # Not `at_work()` as a decorator: the flow is sent to the workers of a cluster, which a generator cannot be.
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with at_work():
                _check_folders(*args, **kwargs)
                return function(*args, **kwargs)

        flow = _Deployable(
            run,
            name=name,
            flow_run_name=run_name,
            on_completion=[tell_of_review],
            on_failure=[tell_of_failure],
            on_crashed=[tell_of_failure],
        )
        _bind_without_request(flow, run)
        return flow

    return decorate


def run_name() -> str:
    """Return the name of the run under way: "HOST:/whole/path" of its results, wherever the command was typed.

    The host of a container is a name that nobody knows; its pool stands in its place.
    """
    host = os.environ.get(POOL_VARIABLE) or socket.gethostname()
    return f"{host}:{Path(flow_run.parameters['request'].out).absolute()}"


def _check_folders(*words: Any, **named: Any) -> None:
    """See that what a run in a container writes outlives it; called as the flow is."""
    request = words[0] if words else named["request"]
    check_shared([request.out, getattr(request, "store_address", request.out)], os.environ.get(SHARED_VARIABLE))


def _bind_without_request(flow: Flow[..., Any], run: Callable[..., Any]) -> None:
    """Have a run without its request begin, so that it says what it lacks; the form and the server still require it.

    Prefect binds parameters before a run begins, and one that cannot be bound is a crash without a word.
    """
    required = inspect.signature(run)
    values = required.parameters.values()
    optional = required.replace(parameters=[each.replace(default=None) for each in values])
    for function, signature in ((run, optional), (flow, required)):
        function.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]


class _Deployable(Flow[P, R]):
    """A flow that tells those who watch a run why its request is refused, too."""

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            if lacking := [name for name, value in parameters.items() if value is None]:
                raise ParameterTypeError(
                    f"{self.name}: expected the parameter {', '.join(lacking)}, found none. Schedules of this "
                    "deployment need it among their parameters; `pseudomask regenerate ... --schedule CRON` makes a "
                    "deployment that has it"
                )
            return super().validate_parameters(parameters)
        except ParameterTypeError as error:
            # It repeats what was given, and the server keeps it.
            with at_work():
                raise ParameterTypeError(hide_passwords(str(error))) from None
