"""Keys of a bucket in a block of Prefect: a deployed run has them, and no record, log or parameter does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from services_support import ROOT, Prefect, labels_request

from data.store.credentials import BLOCK_VARIABLE

BLOCK, OTHER, SECRET, TOKEN = "keys", "no-json", "Xq7SECRETq7X", "Yz8TOKENz8Y"
AWS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
SAVE = """
import json, sys
from prefect.blocks.system import Secret
for name, value in json.load(sys.stdin).items():
    Secret(value=value).save(name, overwrite=True)
"""


@pytest.fixture(scope="module")
def endpoint(bucket: str) -> str:
    return str(boto3.client("s3").meta.endpoint_url)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Iterator[Prefect]:
    """Return a server with the keys in a block, and a worker that knows the block's name alone."""
    folder = tmp_path_factory.mktemp("secrets")
    with pytest.MonkeyPatch.context() as environment:
        for name in AWS:
            environment.delenv(name)
        environment.setenv(BLOCK_VARIABLE, f"secret/{BLOCK}")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("PSEUDOMASK_CACHE", str(folder / "cache"))
        environment.setenv("PSEUDOMASK_ON_FAILURE", f"false https://hooks.host/{TOKEN}")
        service = Prefect(folder)
    try:
        keys = {"key": "AKIDOFTEST", "secret": SECRET, "endpoint_url": endpoint}
        values = {BLOCK: keys, OTHER: SECRET}
        subprocess.run(
            [sys.executable, "-c", SAVE],
            input=json.dumps(values),
            text=True,
            env=service.environment,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        deployed = service.command("flows", "deploy", "--json")
        assert deployed.returncode == 0, deployed.stderr
        service.start_worker()
        yield service
    finally:
        service.stop()


def told(server: Prefect) -> str:
    """Return all that the server tells of runs: parameters, states, logs, artifacts, events, deployments."""
    kinds = ("flow_runs", "task_runs", "logs", "artifacts", "deployments", "events")
    return json.dumps([server.call(f"/{kind}/filter", {}) for kind in kinds])


def kept(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        yield from ((file, file.read_bytes()) for file in folder.rglob("*") if file.is_file())


def check_silence(server: Prefect, endpoint: str, *folders: Path) -> None:
    """See that neither the secret nor the hook's token stands anywhere."""
    words = (SECRET.encode(), TOKEN.encode())
    files = [*kept(server.folder, *folders)]
    assert any(file.name == "run.json" for file, _ in files)
    assert any(file.name == "worker.log" for file, _ in files)
    # The database too: blocks are encrypted in it.
    assert any(file.name == "prefect.db" for file, _ in files)
    assert [file for file, content in files if any(word in content for word in words)] == []
    everything = told(server)
    assert "flow_run" in everything
    assert not any(word.decode() in everything for word in words)
    client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="x", aws_secret_access_key="y")
    names = [each["Key"] for each in client.list_objects_v2(Bucket="pseudomask")["Contents"]]
    assert any(name.endswith("manifest.json") for name in names)
    for name in names:
        content = client.get_object(Bucket="pseudomask", Key=name)["Body"].read()
        assert not any(word in content for word in words), name


def test_a_run_has_the_keys_of_a_block_and_nothing_else_does(
    server: Prefect, endpoint: str, bucket: str, tiny_data: Path
) -> None:
    request = labels_request(tiny_data, server.folder / "results" / "run") | {"store": f"{bucket}/block"}
    said = server.watch("pseudo-labels/by-hand", request)
    assert said.returncode == 0, said.stdout + said.stderr
    # A run that fails has its reason in logs and states.
    failing = labels_request(tiny_data, server.folder / "results" / "none") | {"store": "s3://no-such-bucket/x"}
    failed = server.watch("pseudo-labels/by-hand", failing)
    assert failed.returncode == 1
    assert "s3://no-such-bucket/x: cannot be read or written" in failed.stdout
    status = server.command("flows", "status", server.folder / "results" / "run", "--json", "-v")
    assert status.returncode == 0, status.stderr
    assert {stage["state"] for stage in json.loads(status.stdout)["stages"].values()} == {"cached"}
    for answer in (said, failed, status):
        assert SECRET not in answer.stdout + answer.stderr
    check_silence(server, endpoint)


@pytest.mark.parametrize("address", [f"s3://AKID:{SECRET}@pseudomask/x", f"s3://pseudomask/x?X-Amz-Signature={SECRET}"])
def test_keys_in_an_address_are_refused_before_the_server_keeps_them(
    server: Prefect, endpoint: str, tiny_data: Path, address: str
) -> None:
    request = labels_request(tiny_data, server.folder / "results" / "no") | {"store": address}
    said = server.watch("pseudo-labels/by-hand", request)
    assert said.returncode == 1
    assert "Created flow run" not in said.stdout
    typed = server.command(
        "flows", "run", "--data", tiny_data, "--out", server.folder / "results/no", "--store", address
    )
    assert typed.returncode == 2
    assert "PSEUDOMASK_STORE_BLOCK" in typed.stderr
    assert SECRET not in typed.stdout + typed.stderr
    check_silence(server, endpoint)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("secret/absent", f"found secret/{BLOCK}, secret/{OTHER}"),
        (f"secret/{OTHER}", "expected JSON in the block"),
        ("slack-webhook/team", "one of secret/NAME"),
    ],
)
def test_a_block_that_does_not_do_is_named(server: Prefect, bucket: str, block: str, said: str) -> None:
    server.environment[BLOCK_VARIABLE] = block
    try:
        answer = server.command("flows", "status", f"{bucket}/block")
    finally:
        server.environment[BLOCK_VARIABLE] = f"secret/{BLOCK}"
    assert answer.returncode == 1
    text = " ".join(answer.stderr.split())
    assert text.startswith(f"{BLOCK_VARIABLE}={block}: ")
    assert said in text
    assert SECRET not in answer.stdout + answer.stderr


def test_a_block_needs_a_server_that_has_it(server: Prefect, bucket: str, tiny_data: Path, tmp_path: Path) -> None:
    address = server.environment.pop("PREFECT_API_URL")
    try:
        words = ("run", "--data", tiny_data, "--out", tmp_path / "run", "--store", f"{bucket}/block")
        answer = server.command("flows", *words)
    finally:
        server.environment["PREFECT_API_URL"] = address
    assert answer.returncode == 1
    assert f"{BLOCK_VARIABLE}=secret/{BLOCK}" in answer.stderr
    assert "export PREFECT_API_URL" in " ".join(answer.stderr.split())


def test_a_profile_of_aws_has_the_keys_too(
    endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Prefect
) -> None:
    (tmp_path / "config").write_text(f"[profile labels]\nregion = us-east-1\nendpoint_url = {endpoint}\n")
    (tmp_path / "credentials").write_text(f"[labels]\naws_access_key_id = a\naws_secret_access_key = {SECRET}\n")
    profile = {
        "AWS_PROFILE": "labels",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }
    for name, value in profile.items():
        monkeypatch.setitem(server.environment, name, value)
    monkeypatch.delitem(server.environment, BLOCK_VARIABLE)
    answer = server.command("flows", "status", f"{bucket}/block", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["runs"]
