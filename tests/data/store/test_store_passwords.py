"""A password in a store's address is used, and never shown nor kept."""

import copy
from typing import Any

import pytest

from data.store import ArtifactError, open_store, password_of, remote, store_address
from data.store.remote import RemoteStore, cache_folder
from data.text import hide_passwords

GIVEN = [
    ("ftp://user:SECRET@127.0.0.1:1/x", "ftp://user@127.0.0.1:1/x"),
    ("sftp://user:SECRET@host/x/", "sftp://user@host/x"),
    ("ftp://user:SEC@RET@host/x", "ftp://user@host/x"),
    ("ftp://user:SEC/RET@host/x", "ftp://user@host/x"),
    ("ftp://:SECRET@host/a@b", "ftp://host/a@b"),
    ("ftp://user:SECRET@[::1]:21/x", "ftp://user@[::1]:21/x"),
]


@pytest.mark.parametrize(("given", "expected"), GIVEN)
def test_a_password_is_split_off_a_stores_address(given: str, expected: str) -> None:
    assert store_address(given) == expected
    assert f":{password_of(expected)}@" in given
    assert not {"SECRET", "SEC", "RET"} & set(expected.replace("/", ":").replace("@", ":").split(":"))
    store = open_store(given)
    assert store.address == expected
    assert "SEC" not in str(cache_folder(store.address))


@pytest.mark.parametrize(
    "address", ["s3://bucket/a:b@c", "ftp://host:21/x@y", "ftp://user@other/x", "memory://a", "ftp://[::2]:21/x"]
)
def test_an_address_without_password_stays_as_it_is(address: str) -> None:
    assert store_address(address) == address
    assert password_of(address) is None


def test_the_password_reaches_the_file_system_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def url_to_fs(address: str, **options: Any) -> Any:
        asked.update(options, address=address)
        raise OSError(f"530 for {options['password']} at ftp://u:{options['password']}@h")

    monkeypatch.setattr(remote, "url_to_fs", url_to_fs)
    store = open_store("ftp://user:HIDDEN@host/x")
    # So has a copy, which is made as one for another process of the run is.
    for each in (store, copy.copy(store)):
        assert isinstance(each, RemoteStore)
        asked.clear()
        with pytest.raises(ArtifactError) as error:
            each.exists()
        assert asked == {"password": "HIDDEN", "address": "ftp://user@host/x"}
        assert "HIDDEN" not in str(error.value)


def test_passwords_in_addresses_are_shown_as_stars() -> None:
    text = "postgresql://me:SECRET@db/x and http://a:p@ss@h/y, http://127.0.0.1:4200/api, s3://bucket/a@b"
    expected = "postgresql://me:***@db/x and http://a:***@h/y, http://127.0.0.1:4200/api, s3://bucket/a@b"
    assert hide_passwords(text) == expected
