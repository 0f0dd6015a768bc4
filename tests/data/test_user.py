"""The name of the user, where there is one."""

import os
import pwd

import pytest

from data.files import ArtifactError
from data.user import user_name


def test_an_account_without_a_name_is_told_by_the_option_that_says_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ArtifactError, match="the name of the user is not known; give --by"):
        user_name("--by")
    monkeypatch.setitem(os.environ, "USER", "Ada")
    assert user_name("--by") == "Ada"
