"""Every network of the one list is on the command line, in the deployments, the docs and the table of sizes."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from flows.cli import main
from flows.commands.making.train import COMMAND, NetworkPreset
from flows.commands.storing.gc import ALL_STAGES
from flows.labels.presets import PRESETS, network_preset
from flows.labels.request import NetworkName
from flows.training import flow as downstream
from flows.training.network_requests import TRAIN_REQUESTS
from flows.training.request import TrainRequest
from models.backbones import BACKBONES
from tasks.config import BackboneName
from tasks.engine.garbage import kept_stages
from tasks.engine.source import source_parts
from tasks.measurement.sizes import SIZED
from tasks.networks import NETWORKS, families
from tasks.networks.__main__ import networks_table

ROOT = Path(__file__).resolve().parents[2]


def test_every_network_and_preset_is_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert not [name for name in NETWORKS if name not in shown]
    assert tuple(COMMAND.variants) == tuple(NETWORKS)
    assert {*get_args(NetworkPreset)} == {preset for spec in NETWORKS.values() for preset in spec.presets}


def test_every_deployment_of_networks_is_in_prefect_yaml_and_is_a_flow() -> None:
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    entries = {entry["name"]: entry for entry in deployed if entry.get("tags") == ["networks"]}
    assert entries.keys() == {*families(), "predict"}
    for name, entry in entries.items():
        assert entry["entrypoint"] == f"flows/training/flow.py:{name}"
        assert getattr(downstream, name).name == name


@pytest.mark.parametrize("flow", families())
def test_a_deployment_trains_the_networks_of_its_settings(flow: str) -> None:
    request_class = TRAIN_REQUESTS[flow]
    given = {"data": "photos", "val": "val", "out": "run", "preset": "demo"}
    default = request_class.model_validate(given).settings.network
    assert default in {spec.name for spec in families()[flow]}
    for spec in families()[flow]:
        request = request_class.model_validate({**given, "settings": {"network": spec.name}})
        assert request.settings == spec.presets["demo"]()
    # By this name other processes find it.
    assert pkgutil.resolve_name(f"{request_class.__module__}:{request_class.__qualname__}") is request_class
    fields = getattr(downstream, flow).parameters.properties
    assert fields.keys() == {"request"}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_record_is_complete(name: str) -> None:
    spec = NETWORKS[name]
    assert {"quick", "demo"} <= spec.presets.keys()
    for preset in spec.presets.values():
        settings = preset()
        assert settings.network == name
        assert type(settings) is spec.settings
        assert spec.settings.model_validate(settings.model_dump(mode="json")) == settings
    assert [stage.name for stage in spec.pipeline] == [
        name,
        *(f"{name}-{k}" for k in ("predictions", "scores", "metrics")),
    ]
    for stage in spec.pipeline:
        assert stage.function in source_parts(stage.function)
        assert len(stage.source) == 64


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_in_the_table_of_sizes_on_every_backbone(name: str) -> None:
    spec = NETWORKS[name]
    rows = [row.name for row in spec.rows] or [name]
    assert spec.backbones in ((), tuple(BACKBONES))
    expected = {f"{row}-{backbone}" for row in rows for backbone in spec.backbones} or {*rows}
    assert expected <= SIZED.keys()


def test_every_network_is_in_the_docs() -> None:
    assert networks_table() in (ROOT / "docs" / "networks.md").read_text(), "write it anew: python -m tasks.networks"


def test_garbage_collection_keeps_every_network() -> None:
    assert {
        *NETWORKS,
        "classifier",
        "irnet",
        "affinitynet",
        "thresholds",
        "label-thresholds",
        "pixel-classifier",
    } == kept_stages(ALL_STAGES)
    assert not [stage.name for spec in NETWORKS.values() for stage in spec.pipeline if stage not in ALL_STAGES]


def test_networks_that_follow_a_run_have_its_presets_and_need_no_other_images() -> None:
    following = [spec for spec in NETWORKS.values() if spec.follows_run]
    assert get_args(NetworkName) == tuple(spec.name for spec in following)
    for spec in following:
        for preset in PRESETS:
            own = network_preset(preset)
            TrainRequest(labels=Path("run"), out=Path("net"), preset=own, settings=spec.presets[own]())


def test_the_names_of_backbones_in_the_settings_are_the_registrys() -> None:
    literal = get_args(get_args(BackboneName)[0])[0]
    assert get_args(literal) == tuple(BACKBONES)
    assert [name for name, spec in BACKBONES.items() if spec.name != name] == []


def test_the_source_of_a_network_is_not_that_of_others() -> None:
    """Else one more network would make every trained one stale."""
    model, *_ = NETWORKS["deeplabv2"].pipeline
    parts = source_parts(model.function).keys() | source_parts(model.model).keys()
    assert "models.deeplabv2:build" in parts
    others = [part for part in parts if part.startswith(("models.pspnet", "models.danet:", "tasks.networks.pspnet"))]
    assert others == []
    assert "tasks.networks:NETWORKS" not in parts


@pytest.mark.parametrize(
    "module", ["tasks.networks", "flows.training.network_requests", "models.backbones", "flows.cli"]
)
def test_the_lists_load_neither_torch_nor_prefect(module: str) -> None:
    script = f"import sys, {module}; print(sorted({{'torch', 'prefect'}} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
