"""Training requests of the deployments: one class per settings class, whose form in Prefect's UI has these settings."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from flows.training.request import TrainRequest
from tasks.networks import NETWORKS, NetworkSpec, families


def _request(specs: Sequence[NetworkSpec]) -> type[TrainRequest]:
    """Return the request of a deployment; without a network's name it trains the default of the settings."""
    settings = specs[0].settings
    default = settings.model_fields["network"].default
    what = specs[0].title if len(specs) == 1 else f"one of {', '.join(spec.name for spec in specs)}"
    return type(
        settings.__name__.replace("Settings", "Request"),
        (TrainRequest,),
        {
            "__module__": __name__,
            "__doc__": f"A training of {what}.",
            "__annotations__": {"settings": settings},
            "settings": Field(default_factory=NETWORKS[default].presets["quick"]),
            "default_network": default,
            "preset_names": tuple(dict.fromkeys(name for spec in specs for name in spec.presets)),
        },
    )


TRAIN_REQUESTS: dict[str, type[TrainRequest]] = {flow: _request(specs) for flow, specs in families().items()}
"""Deployment -> its request."""

# A request that is sent to another process is found by the name of its class.
globals().update({request.__name__: request for request in TRAIN_REQUESTS.values()})
