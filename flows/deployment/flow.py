"""A Prefect flow as the product has them: alike on the command line and deployed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, get_type_hints

from prefect import Flow
from prefect.exceptions import ParameterTypeError

from flows.deployment.hooks import tell_of_failure
from flows.deployment.liveness import at_work

P = ParamSpec("P")
R = TypeVar("R")


def deployable(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function `(request) -> ...` a flow whose runs are named like the folder of their results.

    A deployed run is at work (`at_work`) while it lasts, and all runs tell of their failure.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        # Prefect looks the names of annotations up in the module of what it is given, which is not the function's.
        function.__annotations__ = get_type_hints(function)

        # Not `at_work()` as a decorator: the flow is sent to the workers of a cluster, which a generator cannot be.
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with at_work():
                return function(*args, **kwargs)

        return _Deployable(
            run,
            name=name,
            flow_run_name="{request.out}",
            on_failure=[tell_of_failure],
            on_crashed=[tell_of_failure],
        )

    return decorate


class _Deployable(Flow[P, R]):
    """A flow that tells those who watch a run why its request is refused, too."""

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return super().validate_parameters(parameters)
        except ParameterTypeError:
            with at_work():
                raise
