"""The commands and their options, as functions whose parameters the command line is made of."""

from __future__ import annotations

from collections.abc import Callable

from flows.arguments.answers import CommandFailed
from flows.arguments.comparing import compare, tune
from flows.arguments.looking import LOOKING
from flows.arguments.making import making
from flows.arguments.publishing import publishing
from flows.arguments.running import RUNNING
from tasks.networks import NetworkSettings

__all__ = ["CommandFailed", "commands"]


def commands(preset: str, network_settings: NetworkSettings) -> dict[str, Callable[..., None]]:
    """Return every command by its name.

    Args:
        preset: Its settings are the defaults of the options.
        network_settings: The defaults of `train`, of the network that is to be trained.
    """
    every = (*making(preset, network_settings), *publishing(preset), compare, tune, *RUNNING, *LOOKING)
    return {command.__name__.replace("_", "-"): command for command in every}
