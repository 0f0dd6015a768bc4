"""Lineage names the people who corrected an image."""

from pathlib import Path

import numpy as np
import pytest
from support.published_labels import make_publication

from data.store.corrections import BACKGROUND, FOLDER, Corrections
from data.store.publication import Publication
from flows.cli import main
from flows.commands.publishing.lineage import trace


def test_lineage_names_the_corrections_that_the_labels_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publication = Publication(make_publication(tmp_path))
    entry = next(publication.entries(1))
    corrections, mask = Corrections(publication.root / FOLDER), np.full((66, 82), BACKGROUND)
    assert trace(entry.id, publication.root)["corrections"] == []
    corrections.add(entry.id, entry.image, author="Bo", tags=["teapot"])
    corrections.add(entry.id, entry.image, author="Ada", tags=entry.labels)
    corrections.add(entry.id, "0" * 64, author="Cy", tags=entry.labels)
    # Pixels of this version are the automatic ones; those that were corrected come with the next.
    corrections.add(entry.id, entry.image, author="Dee", semantic=mask)
    (found,) = trace(entry.id, publication.root)["corrections"]
    assert (found["author"], found["tags"], found["pixels"]) == ("Ada", tuple(sorted(entry.labels)), False)
    assert main(["lineage", entry.id, "--published", str(publication.root)]) == 0
    assert f"Ada, {found['created']}: tags {', '.join(sorted(entry.labels))}" in capsys.readouterr().out


def test_a_state_of_corrections_tells_which_they_are(tmp_path: Path) -> None:
    corrections, digest = Corrections(tmp_path), "a" * 64
    states = []
    for value in (1, 2):
        corrections.add("a", digest, author=f"author {value}", semantic=np.full((2, 2), value))
        corrections.add("a", digest, author="looks", verdict="accepted")
        states.append(corrections.state("a", digest))
    assert [len(corrections.behind("a", digest, state)) for state in states] == [1, 3]
    assert corrections.behind("a", digest, None) == corrections.behind("a", "b" * 64, states[0]) == []
