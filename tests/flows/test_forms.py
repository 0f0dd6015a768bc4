"""The forms of deployments in Prefect's UI: what can be chosen, what it means, and no wrong defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from prefect.utilities.callables import parameter_schema

from flows.labels.flow import pseudo_labels
from flows.publishing.flow import regenerate_labels
from flows.training.flow import cooperative, deeplabv2, predict, segnet

# The classes' own docstrings say nothing about these.
SPEAK_FOR_THEMSELVES = {"batch_size", "epochs", "weight_decay", "crf_iterations"}


def form_of(flow: Any) -> dict[str, Any]:
    """Return the schema that a deployment gets."""
    return parameter_schema(flow).model_dump(mode="json")


def properties(schema: dict[str, Any], tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, schema) of the fields of a table, and of the tables in it."""
    if "$ref" in tree:
        tree = schema["definitions"][tree["$ref"].rpartition("/")[2]]
    for name, each in tree.get("properties", {}).items():
        yield name, each
        for part in (each, *each.get("anyOf", ())):
            yield from properties(schema, part)


@pytest.mark.parametrize("flow", [pseudo_labels, regenerate_labels, segnet, deeplabv2, cooperative])
def test_a_preset_is_chosen_and_decides_about_settings(flow: Any) -> None:
    schema = form_of(flow)
    request = dict(properties(schema, schema["properties"]["request"]))
    assert {"quick", "demo"} <= set(request["preset"]["enum"])
    settings = dict(properties(schema, request["settings"]))
    assert len(settings) > 10
    assert [name for name, each in settings.items() if "default" in each] == []
    assert "default" not in request["settings"]


@pytest.mark.parametrize("flow", [pseudo_labels, regenerate_labels, segnet, predict])
def test_every_field_of_a_form_has_its_own_text(flow: Any) -> None:
    schema = form_of(flow)
    fields = list(properties(schema, schema["properties"]["request"]))
    assert {name for name, each in fields if not each.get("description")} <= SPEAK_FOR_THEMSELVES
    texts = dict(fields)
    assert texts["out"]["description"].startswith("Folder")
    assert "Attributes:" not in str(texts)


def test_a_wrong_preset_and_a_missing_request_are_refused_by_the_form() -> None:
    schema = form_of(pseudo_labels)
    good = {"request": {"data": "/p", "out": "/o", "preset": "quick", "settings": {"walk": {"beta": 8}}}}
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError, match="'qick' is not one of"):
        jsonschema.validate({"request": good["request"] | {"preset": "qick"}}, schema)
    with pytest.raises(jsonschema.ValidationError, match="'request' is a required property"):
        jsonschema.validate({}, schema)
