"""The person at work, by the name of the account."""

from __future__ import annotations

import getpass

from data.files import ArtifactError


def user_name(option: str) -> str:
    """Return the name of the user's account.

    Args:
        option: Of the command, which says the name instead: "--author".

    Raises:
        ArtifactError: The account has no name, as that of an unknown number in a container.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise ArtifactError(f"the name of the user is not known; give {option}") from None
