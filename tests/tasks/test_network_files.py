"""What `network.json` states is checked before a network of that size is made."""

import json
from pathlib import Path

import pytest

from data.dataset import DatasetError
from tasks.networks import load_classifier


@pytest.mark.parametrize("count", [20_000_000, 0, -3, "4", 2.5])
def test_a_number_of_classes_that_cannot_be_is_refused(tmp_path: Path, count: object) -> None:
    (tmp_path / "network.json").write_text(json.dumps({"num_classes": count}))
    with pytest.raises(DatasetError, match=r"network\.json: expected at most 2000 classes"):
        load_classifier(tmp_path)
