"""Corrections that do not fit their image: told wherever a version is told of, and never claimed as applied."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from support.published_labels import make_publication

from data.formats.label_folder import AUTOMATIC, DETECTIONS, SEMANTIC
from data.formats.label_maps import read_label_map
from data.store import ArtifactError
from data.store.corrections import BACKGROUND, FIRST_CLASS, FOLDER, Corrections
from data.store.publication import Publication
from flows.cli import main
from flows.commands.publishing.lineage import trace
from flows.commands.publishing.regenerate import show_regeneration
from flows.engine.printing import PlainConsole
from flows.labels.presets import PRESETS
from flows.publishing.flow import _regenerate
from flows.publishing.page import summary
from flows.publishing.request import RegenerateRequest, find_work
from tasks.publishing.decide import Gate

UNFIT = "expected a correction of 82 x 66, found one of 4 x 4"


def _published(folder: Path) -> tuple[Publication, RegenerateRequest]:
    publication = Publication(make_publication(folder))
    request = RegenerateRequest(
        data=folder / "set",
        out=publication.root,
        store=str(folder / "store"),
        # So many of so few images are corrected that networks would be trained anew.
        retrain="never",
        settings=PRESETS["quick"](),
        gate=Gate(background=(0, 1), classes=(0, 9), agreement=0),
    )
    return publication, request


def test_what_does_not_fit_is_told_on_every_page_and_counted_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publication, request = _published(tmp_path)
    corrections, (fit, unfit, later, *_) = Corrections(publication.root / FOLDER), publication.entries(1)
    corrections.add(fit.id, fit.image, author="Ada", semantic=np.full((66, 82), BACKGROUND))
    corrections.add(unfit.id, unfit.image, author="Bo", classes=["ball"], semantic=np.full((4, 4), FIRST_CLASS))
    corrections.add(unfit.id, unfit.image, author="Cy", tags=unfit.labels)

    work = find_work(request, publication)
    answer, outcome = _regenerate(request)
    assert (answer["version"], answer["corrected"], len(answer["not_applied"])) == (2, 1, 1)
    told = f"correction {corrections.root / unfit.id}: not applied: {UNFIT}"
    out = io.StringIO()
    show_regeneration({**answer, "dry_run": False, "message": outcome.message}, PlainConsole(file=out, width=300))
    assert told in out.getvalue().splitlines()
    assert f"- {told}" in summary(publication, work, answer, outcome, None).splitlines()

    (applied,) = trace(fit.id, publication.root)["corrections"]
    assert (applied["pixels"], applied["not_applied"]) == (True, None)
    found = {each["author"]: each["not_applied"] for each in trace(unfit.id, publication.root)["corrections"]}
    assert found == {"Bo": UNFIT, "Cy": None}
    assert main(["lineage", unfit.id, "--published", str(publication.root)]) == 0
    assert f"pixels, not applied: {UNFIT}" in capsys.readouterr().out
    # They are known, so that they make no version, and told again where another reason makes one.
    assert _regenerate(request)[0]["version"] is None
    corrections.add(later.id, later.image, author="Ada", semantic=np.full((66, 82), BACKGROUND))
    answer, _ = _regenerate(request)
    assert (answer["version"], answer["corrected"], len(answer["not_applied"])) == (3, 2, 1)
    # Without the correction that did not fit, the others are laid over the labels.
    for file in (corrections.root / unfit.id).glob("c00001*"):
        file.unlink()
    corrections.add(unfit.id, unfit.image, author="Bo", semantic=np.full((66, 82), BACKGROUND))
    answer, _ = _regenerate(request)
    assert (answer["version"], answer["corrected"], answer["not_applied"]) == (4, 3, [])
    assert not read_label_map(publication.folder(4) / SEMANTIC / f"{unfit.id}.png").any()
    assert [each["not_applied"] for each in trace(unfit.id, publication.root)["corrections"]] == [None, None]


def test_damaged_masks_of_published_instances_are_refused_by_the_image_s_name(tmp_path: Path) -> None:
    publication, request = _published(tmp_path)
    corrections, (first, second, *_) = Corrections(publication.root / FOLDER), publication.entries(1)
    corrections.add(first.id, first.image, author="Ada", semantic=np.full((66, 82), BACKGROUND))
    assert _regenerate(request)[0]["version"] == 2
    file = publication.folder(2) / AUTOMATIC / DETECTIONS / f"{first.id}.json"
    records = json.loads(file.read_text())
    assert records
    for record in records:
        # Runs of no pixel: a decoder that trusts them gives whatever lay in memory.
        record["segmentation"]["counts"] = "0"
    file.chmod(0o644)
    file.write_text(json.dumps(records))
    corrections.add(second.id, second.image, author="Ada", semantic=np.full((66, 82), BACKGROUND))
    with pytest.raises(
        ArtifactError, match=rf"instances of {first.id} are unreadable .*pixels in all, found 0.*retrain"
    ):
        _regenerate(request)
    assert publication.latest == 2


def test_corrections_of_other_bytes_are_told_in_the_answer_and_in_lineage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publication, request = _published(tmp_path)
    corrections, (old, new, *_) = Corrections(publication.root / FOLDER), publication.entries(1)
    corrections.add(old.id, "0" * 64, author="Ada", semantic=np.full((66, 82), BACKGROUND))
    corrections.add(new.id, new.image, author="Bo", semantic=np.full((66, 82), BACKGROUND))
    answer, _ = _regenerate(request)
    assert answer["corrected"] == 1
    (fault,) = answer["not_applied"]
    assert f"{old.id}: not applied: 1 correction by Ada on other bytes of the image" in fault
    (told,) = trace(old.id, publication.root)["corrections"]
    assert (told["author"], told["not_applied"]) == ("Ada", "made on other bytes of the image")
    assert main(["lineage", old.id, "--published", str(publication.root)]) == 0
    assert "pixels, not applied: made on other bytes of the image" in capsys.readouterr().out
