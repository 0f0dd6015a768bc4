"""Keys of stores at an address: from the file system's own variables and profiles, or from a block that holds them.

An address has no keys in it: addresses are printed, kept in records and on Prefect's server, and stay in the history
of a shell. `PSEUDOMASK_STORE_BLOCK` names a block. Who reads blocks is given by `read_blocks_by`, since this package
does not know Prefect. Keys are in the memory of the process that uses them, and nowhere else.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from data.files import ArtifactError
from data.text import split_password

BLOCK_VARIABLE = "PSEUDOMASK_STORE_BLOCK"
PATTERN = r"^(?!s3a?://[^/]*@)(?!https?://[^/]*@)(?![^:/]+://[^/:@\[]*:(?![0-9]*(/|$)).*@)(?!.*://.*[?&][^=&]+=).*$"
"""JSON schema's pattern of an address without keys, by which a server refuses others before it keeps them."""
KEYED = ("s3", "s3a", "http", "https")  # What stands before their hosts is a key.
# Options of fsspec that are no secret; all others are hidden where a file system says what was wrong.
PLAIN = {"endpoint_url", "region_name", "profile", "username", "host", "port", "anon", "use_ssl", "project"}
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SHORTEST = 4  # Letters; what is shorter stands in many a word.

Options = dict[str, Any]
Reader = Callable[[str], Options]
_readers: list[Reader] = []


class AddressError(ArtifactError, ValueError):
    """An address has a key, a password or a signature in it."""


def check_address(address: str) -> None:
    """See that an address may be printed and kept.

    Raises:
        AddressError: It may not; the message does not have what is secret in it.
    """
    protocol, _, place = address.partition("://")
    place, password = split_password(place.rstrip("/"))
    if password is None and re.match(PATTERN, address):
        return
    of_key = password is None or protocol in KEYED
    clean = f"{protocol}://{re.sub(r'^[^/@]*@', '', place) if of_key else place}".partition("?")[0]
    raise AddressError(
        f"{clean}: it was given with a key, a password or a query in it, which is refused since addresses are "
        f"recorded. Leave that out, and name a block of Prefect that has the keys ({BLOCK_VARIABLE}=secret/NAME), or "
        f"set {_own_variables(protocol)}"
    )


def read_blocks_by(reader: Reader) -> None:
    """Have blocks read by a function of their TYPE/NAME, which returns options of fsspec."""
    _readers[:] = [reader]
    _read.cache_clear()


def block_name() -> str | None:
    """Return the TYPE/NAME of the block that has the keys of this process's stores, None where there is none."""
    return os.environ.get(BLOCK_VARIABLE) or None


def options_of(block: str | None) -> Options:
    """Return the options by which fsspec opens a store, of a block; read once per process.

    Raises:
        ArtifactError: There is no such block, or what it holds are no options.
    """
    return _read(block) if block else {}


def hide(text: str, protocol: str, options: Mapping[str, Any]) -> str:
    """Return text with *** for whatever is secret of a file system."""
    for secret in sorted(_secrets(protocol, options), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def is_told(error: BaseException, protocol: str, options: Mapping[str, Any]) -> bool:
    """Return whether an error, or what caused it, has a secret in its text: a log must not show it then."""
    text = "".join(traceback.format_exception(error))
    return hide(text, protocol, options) != text


@cache
def _read(block: str) -> Options:
    if not _readers:
        raise ArtifactError(f"{BLOCK_VARIABLE}={block}: blocks are read by the package `flows`; import it first")
    return _readers[0](block)


def _secrets(protocol: str, options: Mapping[str, Any]) -> set[str]:
    # Only who uses such a store waits for its packages.
    from fsspec.config import conf

    named = {**conf.get(protocol, {}), **options}
    found = {*_texts(named), *(os.environ.get(name, "") for name in SECRET_VARIABLES)}
    return {text for text in found if len(text) >= SHORTEST}


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _texts(value)
        elif isinstance(value, str) and name not in PLAIN:
            yield value


def _own_variables(protocol: str) -> str:
    if protocol in ("s3", "s3a"):
        return "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return f"FSSPEC_{protocol.upper()}_PASSWORD, or what else the file system reads"
