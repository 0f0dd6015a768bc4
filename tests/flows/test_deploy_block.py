"""`pseudomask deploy --store-block`: a block that the server does not have is told at once, not in the night."""

import pytest

from data.store import ArtifactError
from flows.cli import main
from flows.commands.publishing import deploy as command
from flows.deployment import deployments


def test_an_unknown_block_is_refused_before_anything_is_deployed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(block: str) -> None:
        raise ArtifactError(f"{block}: expected a block that is there, found none")

    deployed: list[object] = []
    monkeypatch.setattr(command, "read_block", read)
    monkeypatch.setattr(deployments, "deploy", deployed.append)
    assert main(["deploy", "--store", "s3://b/s", "--store-block", "secret/nokeys"]) == 1
    assert "secret/nokeys: expected a block that is there" in " ".join(capsys.readouterr().err.split())
    assert deployed == []
