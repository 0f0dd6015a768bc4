"""Keys of a store in a block of Prefect: the server has them encrypted, and they are read where the store is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data.store import ArtifactError
from data.store.credentials import BLOCK_VARIABLE
from data.text import hide_passwords

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SECRET = "secret"
AWS_BLOCKS = ("aws-credentials", "minio-credentials")
NAMES = {
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "aws_session_token": "token",
    "minio_root_user": "key",
    "minio_root_password": "secret",
    "profile_name": "profile",
}
"""Names of AWS and of the blocks of prefect-aws -> those of s3fs."""
OF_CLIENT, CLIENT = ("endpoint_url", "use_ssl"), "aws_client_parameters"


def read_block(block: str) -> dict[str, Any]:
    """Return the options of fsspec that a block holds: a secret that is JSON, or credentials of prefect-aws.

    Args:
        block: TYPE/NAME, as secret/s3-keys.

    Raises:
        ArtifactError: No server is configured or answers, there is no such block, or it holds something else.
    """
    # Commands import this before it is known which server they have.
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    kind, _, name = block.partition("/")
    asked = f"{BLOCK_VARIABLE}={block}"
    if kind not in (SECRET, *AWS_BLOCKS) or not name:
        known = ", ".join(f"{each}/NAME" for each in (SECRET, *AWS_BLOCKS))
        raise ArtifactError(f"{asked}: expected a block of Prefect as TYPE/NAME, one of {known}")
    if not get_current_settings().api.url:
        raise ArtifactError(f"{asked}: expected a Prefect server that has the block; set PREFECT_API_URL")
    try:
        with get_client(sync_client=True) as client:
            values = _read(client, kind, name, asked)
    except httpx.HTTPError as error:
        raise ArtifactError(f"{asked}: Prefect's server does not give it ({hide_passwords(str(error))})") from None
    return _options(values)


def _read(client: SyncPrefectClient, kind: str, name: str, asked: str) -> Mapping[str, Any]:
    from prefect.exceptions import ObjectNotFound

    try:
        values = client.read_block_document_by_name(name, kind).data
    except ObjectNotFound:
        documents = client.read_block_documents(include_secrets=False)
        slugs = (f"{each.block_type.slug}/{each.name}" for each in documents if each.block_type and each.name)
        known = ", ".join(sorted(slug for slug in slugs if slug.startswith((f"{SECRET}/", *AWS_BLOCKS)))) or "none"
        raise ArtifactError(
            f"{asked}: expected a block that is there, found {known}; "
            "docs/how-to/set_up_servers.md says how to make one"
        ) from None
    if kind != SECRET:
        return {name: value for name, value in values.items() if name in (*NAMES, CLIENT, "region_name")}
    value = values.get("value")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping) or not value:
        raise ArtifactError(
            f'{asked}: expected JSON in the block, with options of fsspec, as {{"key": ..., "secret": ...}} for s3'
        )
    return value


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of fsspec, of those or of AWS's names for them."""
    of_client = values.get(CLIENT) or {}
    found = {NAMES.get(name, name): value for name, value in values.items() if name != CLIENT}
    found |= {name: of_client[name] for name in OF_CLIENT if name in of_client}
    if region := found.pop("region_name", None):
        found["client_kwargs"] = {"region_name": region} | dict(found.get("client_kwargs") or {})
    return {name: value for name, value in found.items() if value is not None}
