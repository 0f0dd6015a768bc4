"""Keys of a store: refused in its address, taken from a block or from variables, and never shown."""

import copy
import pickle
import re
import traceback
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from data.store import ArtifactError, credentials, open_store, remote, store_address
from data.store.credentials import BLOCK_VARIABLE, PATTERN, AddressError, read_blocks_by
from data.store.remote import RemoteStore, cache_folder
from data.text import hide_passwords

WITH_KEYS = [
    ("ftp://user:SECRET@127.0.0.1:1/x", "ftp://user@127.0.0.1:1/x"),
    ("sftp://user:SECRET@host/x/", "sftp://user@host/x"),
    ("ftp://user:SEC@RET@host/x", "ftp://user@host/x"),
    ("ftp://user:SEC/RET@host/x", "ftp://user@host/x"),
    ("ftp://:SECRET@host/a@b", "ftp://host/a@b"),
    ("ftp://user:SECRET@[::1]:21/x", "ftp://user@[::1]:21/x"),
    ("s3://SEC:SEC/RET+x@bucket/p", "s3://bucket/p"),
    ("s3://SECRET@bucket/p", "s3://bucket/p"),
    ("https://SECRET@host/x", "https://host/x"),
    ("https://bucket.host/x?X-Amz-Signature=SECRET", "https://bucket.host/x"),
]
WITHOUT = [
    "s3://bucket/a:b@c",
    "ftp://host:21/x@y",
    "ftp://user@other/x",
    "memory://a",
    "ftp://[::2]:21/x",
    "abfs://box@account.host/x",
    "/srv/x@y:z",
]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, Any]]]:
    """Return the blocks that are there; none is named."""
    known: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(credentials, "_readers", [])
    monkeypatch.delenv(BLOCK_VARIABLE, raising=False)
    read_blocks_by(known.__getitem__)
    yield known
    credentials._read.cache_clear()


@pytest.mark.parametrize(("given", "expected"), WITH_KEYS)
def test_an_address_with_keys_is_refused_without_a_word_of_them(given: str, expected: str) -> None:
    with pytest.raises(AddressError) as error:
        store_address(given)
    said = str(error.value)
    assert said.startswith(f"{expected}: ")
    assert "PSEUDOMASK_STORE_BLOCK=secret/NAME" in said
    assert not {"SECRET", "SEC", "RET"} & set(re.split(r"\W+", said))
    # Prefect's server checks parameters by this pattern, before it keeps them.
    assert not re.match(PATTERN, given)


@pytest.mark.parametrize("address", WITHOUT)
def test_an_address_without_keys_stays_as_it_is(address: str) -> None:
    assert store_address(address) == address
    assert re.match(PATTERN, address)


def test_the_keys_of_a_block_reach_the_file_system_and_no_message(
    monkeypatch: pytest.MonkeyPatch, blocks: dict[str, dict[str, Any]]
) -> None:
    blocks["secret/ftp"] = {"password": "HIDDEN", "client_kwargs": {"token": "BURIED"}, "username": "user"}
    monkeypatch.setenv(BLOCK_VARIABLE, "secret/ftp")
    asked: dict[str, Any] = {}

    def url_to_fs(address: str, **options: Any) -> Any:
        asked.update(options, address=address)
        try:
            raise OSError(f"BURIED of {options['username']}")
        except OSError as error:
            raise OSError(f"530 for {options['password']} at ftp://u:{options['password']}@h") from error

    monkeypatch.setattr(remote, "url_to_fs", url_to_fs)
    store = open_store("ftp://user@host/x")
    packed = pickle.dumps(store)
    assert b"HIDDEN" not in packed
    assert b"secret/ftp" in packed
    monkeypatch.delenv(BLOCK_VARIABLE)
    # The worker of a cluster, which gets the store like that, reads the block itself. A copy passes the same state on.
    for each in (store, copy.deepcopy(store)):
        assert isinstance(each, RemoteStore)
        asked.clear()
        with pytest.raises(ArtifactError) as error:
            each.exists()
        assert asked == {"address": "ftp://user@host/x"} | blocks["secret/ftp"]
        shown = "".join(traceback.format_exception(error.value))
        assert "530 for *** at ftp://u:***@h" in shown
        assert "HIDDEN" not in shown
        assert "BURIED" not in shown


def test_a_password_of_the_file_systems_own_variable_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, blocks: dict[str, dict[str, Any]]
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "ftp", {"password": "HIDDEN"})

    def url_to_fs(address: str) -> Any:
        raise OSError("530 for HIDDEN")

    monkeypatch.setattr(remote, "url_to_fs", url_to_fs)
    with pytest.raises(ArtifactError) as error:
        open_store("ftp://host/x").exists()
    assert "HIDDEN" not in "".join(traceback.format_exception(error.value))


def test_a_block_without_a_reader_is_an_error(monkeypatch: pytest.MonkeyPatch, blocks: dict[str, Any]) -> None:
    credentials._readers.clear()
    try:
        monkeypatch.setenv(BLOCK_VARIABLE, "secret/none")
        with pytest.raises(ArtifactError, match=f"{BLOCK_VARIABLE}=secret/none"):
            open_store("memory://x").exists()
    finally:
        read_blocks_by(blocks.__getitem__)


def test_the_folder_of_copies_does_not_depend_on_the_keys(
    monkeypatch: pytest.MonkeyPatch, blocks: dict[str, Any]
) -> None:
    plain = open_store("s3://bucket/x").root
    monkeypatch.setenv(BLOCK_VARIABLE, "secret/keys")
    assert open_store("s3://bucket/x").root == plain == cache_folder("s3://bucket/x")


def test_secrets_in_addresses_are_shown_as_stars() -> None:
    text = "postgresql://me:SECRET@db/x and http://a:p@ss@h/y, http://127.0.0.1:4200/api, s3://bucket/a@b"
    expected = "postgresql://me:***@db/x and http://a:***@h/y, http://127.0.0.1:4200/api, s3://bucket/a@b"
    assert hide_passwords(text) == expected
    signed = "'https://TOKEN@h/x?X-Amz-Expires=60&X-Amz-Signature=abc/%2B', s3://KEY@b/x, http://h/?id=1&token=abc d"
    hidden = "'https://***@h/x?X-Amz-Expires=***&X-Amz-Signature=***', s3://***@b/x, http://h/?id=1&token=*** d"
    assert hide_passwords(signed) == hidden
