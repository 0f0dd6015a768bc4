"""Reviewing labels: steps are saved, taken back without being deleted, and never overwrite another's unasked."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricated_run import make_run
from support.published_labels import make_publication

from data.dataset import RESERVED, VOID, DatasetError
from data.formats.label_folder import AUTOMATIC, KINDS
from data.formats.label_maps import read_label_map, write_label_map
from data.store import ArtifactError
from data.store.corrections import BACKGROUND, FIRST_CLASS, FIRST_INSTANCE, UNSURE, Corrections, Overtaken
from data.store.publication import Publication
from kernels.affinity import boundary_to_affinity, offsets
from kernels.random_walk.absorbing import absorb
from tasks.review.difference import Maps, Masks, apply_masks, difference
from tasks.review.scribbles import refine_scribbles
from tasks.review.session import Session, Unknown
from tasks.review.spans import decode_spans, encode_spans
from tasks.review.subject import open_subject

NAMES = ["background", "dog", "sofa"]
WORST = "train_00001"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_publication(tmp_path_factory.mktemp("published"))


@pytest.fixture
def session(published: Path, tmp_path: Path) -> Session:
    # Each test has corrections of its own.
    return Session(replace(open_subject(published), corrections=Corrections(tmp_path / "corrections")), "Ada")


def square(code: int, rows: slice = slice(4, 12), columns: slice = slice(6, 20)) -> np.ndarray:
    mask = np.zeros((66, 82), np.uint16)
    mask[rows, columns] = code
    return mask


def painted(session: Session, image: str = WORST) -> Maps:
    state = session.state(image)
    size = (state["height"], state["width"])
    return Maps(decode_spans(state["labels"], size), decode_spans(state["objects"], size))


def grouped(objects: np.ndarray) -> np.ndarray:
    """Return ids by the places where they come first, so that only groups of pixels count."""
    _, first, ids = np.unique(objects, return_index=True, return_inverse=True)
    return np.where(objects == 0, -1, first[ids.reshape(objects.shape)])


def brush(session: Session, after: int, code: int = FIRST_CLASS, name: str = "crate", **where: slice) -> dict:
    classes = (name,) if code >= FIRST_CLASS else ()
    return session.correct(WORST, after, Masks(classes, square(code, **where)), verdict=None, tags=None)


def test_spans_are_the_map_that_they_were_made_of() -> None:
    values = np.random.default_rng(0).integers(0, 3, (7, 9)).astype(np.uint16)
    np.testing.assert_array_equal(decode_spans(encode_spans(values), (7, 9)), values)
    assert encode_spans(np.zeros((3, 4), np.uint16)) == []


@pytest.mark.parametrize(
    "spans",
    [[0, 1], [0, 0, 1], [5, 2, 1, 6, 1, 1], [5, 2, 1, 0, 1, 1], [60, 4, 1], [-1, 2, 1], [0, 1, 0], [0, 1, 1 << 16]],
)
def test_spans_of_no_map_are_refused(spans: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        decode_spans(spans, (7, 9))


def test_the_difference_turns_labels_into_the_others() -> None:
    rng, values = np.random.default_rng(1), {name: value for value, name in enumerate(NAMES)}
    for _ in range(30):
        coarse = rng.choice([0, 1, 2, VOID], (2, 4, 5)).repeat(3, 1).repeat(3, 2)
        owners = rng.integers(1, 4, (2, 4, 5)).repeat(3, 1).repeat(3, 2)
        now, target = (
            Maps(c.astype(np.uint8), np.where((c == 0) | (c == VOID), 0, o).astype(np.uint8))
            for c, o in zip(coarse, owners, strict=True)
        )
        found = apply_masks(now, difference(now, target, NAMES), values)
        np.testing.assert_array_equal(found.labels, target.labels)
        np.testing.assert_array_equal(grouped(found.objects), grouped(target.objects))


def test_the_least_sure_image_comes_first(session: Session) -> None:
    found = session.queue(0, 2)
    assert (found["count"], found["done"]) == (5, 0)
    assert found["images"][0]["image"] == WORST
    assert found["images"][0]["quality"] == pytest.approx(0.4)
    assert len(found["images"]) == 2


def test_a_step_is_saved_before_its_answer_and_seen_by_the_next_review(session: Session) -> None:
    state = brush(session, 0)
    assert (state["records"], state["steps"], state["last"]["author"]) == (1, 1, "Ada")
    value = [each["name"] for each in state["classes"]].index("crate")
    assert (painted(session).labels[4:12, 6:20] == value).all()
    again = Session(session.subject, "Bo")
    np.testing.assert_array_equal(painted(again).labels, painted(session).labels)
    assert session.subject.corrections.records(WORST)[0].made_on == 1
    assert session.queue(0, 1)["done"] == 1


def test_undo_and_redo_are_steps_that_delete_nothing(session: Session) -> None:
    states = [painted(session)]
    brush(session, 0)
    states.append(painted(session))
    session.correct(WORST, 1, Masks((), None, square(FIRST_INSTANCE)), verdict="accepted", tags=["ball"])
    states.append(painted(session))
    for count, step in enumerate([1, 0, 2, 1], start=2):
        found = session.restore(WORST, count, step)
        assert found["records"] == count + 1
        now = painted(session)
        np.testing.assert_array_equal(now.labels, states[step].labels)
        np.testing.assert_array_equal(grouped(now.objects), grouped(states[step].objects))
        assert found["tags"] == (["ball"] if step == 2 else ["ball", "crate"])
        assert found["verdict"] == ("accepted" if step == 2 else None)
    with pytest.raises(Unknown, match="step"):
        session.restore(WORST, 6, 9)


def test_what_was_undone_is_said_of_no_pixel(session: Session) -> None:
    brush(session, 0)
    session.scribble(WORST, 1, 1, Masks(("crate",), square(FIRST_CLASS, columns=slice(30, 40))))
    session.scribble(WORST, 2, 1, Masks(("crate",), square(FIRST_CLASS, columns=slice(50, 60))))
    session.correct(WORST, 3, Masks((), square(BACKGROUND, slice(0, 66), slice(0, 82))), verdict=None, tags=None)
    session.restore(WORST, 4, 3)
    corrections, digest = session.subject.corrections, session.subject.images[WORST].digest
    masks = [each.semantic for each in corrections.of(WORST, digest) if each.semantic is not None]
    # The brush, and the second scribble, which has taken the first one's place.
    assert len(masks) == 2
    assert not masks[1][:, 30:40].any()
    assert not any((mask == BACKGROUND).any() for mask in masks)
    session.restore(WORST, 5, 0)
    assert corrections.state(WORST, digest) is None
    assert session.state(WORST)["tags"] == list(session.subject.images[WORST].tags)


def test_tags_that_came_between_two_scribbles_stay(session: Session) -> None:
    session.scribble(WORST, 0, 0, Masks(("crate",), square(FIRST_CLASS)))
    session.correct(WORST, 1, Masks(()), verdict=None, tags=["ball", "crate", "lamp"])
    found = session.scribble(WORST, 2, 0, Masks(("crate",), square(FIRST_CLASS, columns=slice(6, 24))))
    assert found["tags"] == ["ball", "crate", "lamp"]


def test_who_was_overtaken_changes_nothing(session: Session) -> None:
    other = Session(session.subject, "Bo")
    brush(other, 0)
    before = painted(session)
    for late in (
        lambda: brush(session, 0, BACKGROUND),
        lambda: session.restore(WORST, 0, 0),
        lambda: session.scribble(WORST, 0, 0, Masks(("crate",), square(FIRST_CLASS))),
    ):
        with pytest.raises(Overtaken):
            late()
    assert len(session.subject.corrections.records(WORST)) == 1
    np.testing.assert_array_equal(painted(session).labels, before.labels)
    assert brush(session, 1, BACKGROUND)["records"] == 2


def test_a_new_class_becomes_a_tag_and_odd_names_are_refused(session: Session) -> None:
    state = brush(session, 0, name="kite")
    assert "kite" in state["tags"]
    assert [each["name"] for each in state["classes"]][-1] == "kite"
    for name in ("Kite", "a;b", "background", " kite", "a\nb"):
        with pytest.raises(ValueError, match="expected"):
            brush(session, 1, name=name)
    assert len(session.subject.corrections.records(WORST)) == 1


def test_no_new_class_gets_the_value_of_void(session: Session) -> None:
    room = VOID - len(session.state(WORST)["classes"])
    state = session.correct(WORST, 0, Masks(()), verdict=None, tags=[f"new {number:03}" for number in range(room)])
    assert len(state["classes"]) == VOID
    brush(session, 1, name="the next")
    names = [each["name"] for each in session.state(WORST)["classes"]]
    assert names[VOID:] == [RESERVED, "the next"]
    assert (painted(session).labels[4:12, 6:20] == VOID + 1).all()
    again = Session(session.subject, "Bo")
    np.testing.assert_array_equal(painted(again).labels, painted(session).labels)


def test_a_name_of_a_step_that_was_not_saved_is_not_on_offer(session: Session) -> None:
    before = session.state(WORST)["classes"]
    brush(Session(session.subject, "Bo"), 0)
    with pytest.raises(Overtaken):
        brush(session, 0, name="kite")
    assert session.state(WORST)["classes"] == before
    with pytest.raises(ValueError, match="expected"):
        session.correct(WORST, 1, Masks(()), verdict=None, tags=["kite", "a;b"])
    assert session.state(WORST)["classes"] == before


def test_an_image_whose_corrections_are_of_other_bytes_is_not_done(session: Session) -> None:
    session.subject.corrections.add(WORST, "0" * 64, author="Bo", verdict="accepted")
    found = session.queue(0, 1)
    assert (found["done"], found["images"][0]["steps"], found["images"][0]["verdict"]) == (0, 0, None)
    session.correct(WORST, 1, Masks(()), verdict="accepted", tags=None)
    assert session.queue(0, 1)["done"] == 1


def test_scribbles_replace_those_that_were_refined_before(session: Session) -> None:
    first = session.scribble(WORST, 0, 0, Masks(("crate",), square(FIRST_CLASS)))
    both = square(FIRST_CLASS)
    both[20:60, 2:6] = BACKGROUND
    second = session.scribble(WORST, 1, 0, Masks(("crate",), both))
    assert (first["steps"], second["steps"]) == (1, 2)
    labels = painted(session).labels
    assert not labels[20:60, 2:6].any()
    assert (labels[4:12, 6:20] > 0).all()
    alone = Session(session.subject, "Bo")
    np.testing.assert_array_equal(painted(alone).labels, labels)


def test_a_photograph_that_changed_is_not_corrected(session: Session, tmp_path: Path) -> None:
    image = session.subject.images[WORST]
    changed = tmp_path / "changed.jpg"
    changed.write_bytes(image.file.read_bytes() + b"0")
    for file, fault in ((changed, "has changed"), (tmp_path / "gone.jpg", "cannot be read")):
        session.subject.images[WORST] = replace(image, file=file)
        with pytest.raises(DatasetError, match=fault):
            session.state(WORST)


def test_there_are_only_the_images_under_review(session: Session) -> None:
    for id in ("", "nothing", "../set/JPEGImages/train_00001", "/etc/passwd"):
        with pytest.raises(Unknown):
            session.photo(id)
    with pytest.raises(Unknown, match="attention map"):
        session.cam(WORST, "windmill")
    assert session.cam(WORST, "crate").startswith(b"\x89PNG")
    assert session.boundary(WORST).startswith(b"\x89PNG")
    assert session.before(WORST)["what"] == "automatic labels"


def test_a_run_is_reviewed_and_keeps_its_corrections(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    session = Session(open_subject(run), "Ada")
    state = session.state(WORST)
    session.correct(WORST, 0, Masks((), square(UNSURE)), verdict=None, tags=None)
    assert Corrections(run / "corrections").records(WORST)[0].made_on is None
    assert (painted(session).labels[4:12, 6:20] == VOID).all()
    assert state["quality"] is None
    with pytest.raises(ArtifactError, match="expected the folder of a run"):
        open_subject(tmp_path / "set")


def test_the_walk_stays_within_the_boundaries() -> None:
    boundary = torch.zeros(30, 40)
    boundary[5:25, 10], boundary[5:25, 30], boundary[5, 10:31], boundary[24, 10:31] = 1, 1, 1, 1
    scribbles = np.zeros((120, 160), np.uint16)
    scribbles[60, 60:100] = 3
    found = refine_scribbles(scribbles, boundary)
    inside = np.zeros_like(scribbles, bool)
    inside[24:96, 44:120] = True
    assert (found[28:92, 48:116] == 3).mean() > 0.98
    assert (found[~inside] == 3).mean() < 0.05
    # A scribble of background takes its side of a box that nothing divides.
    scribbles[30:90, 112] = 1
    both = refine_scribbles(scribbles, boundary)
    assert (both[scribbles > 0] == scribbles[scribbles > 0]).all()
    assert (both[40:80, 106:116] == 1).all()
    assert (both[40:80, 50:90] == 3).all()


def test_strokes_that_touch_share_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    scribbles, found = np.zeros((64, 64), np.uint16), []
    # Cells of 8 pixels: those between the strokes have as much of the one as of the other.
    scribbles[16:48, 28:36], scribbles[16:48, 36:44] = 3, 4

    def kept(*sources: torch.Tensor, **settings: int) -> np.ndarray:
        found.append(absorb(*sources, **settings))
        return found[-1]

    monkeypatch.setattr("tasks.review.scribbles.absorb", kept)
    refined = refine_scribbles(scribbles, torch.zeros(8, 8))
    assert found[0].min() > -0.01
    assert found[0].max() < 1.01
    assert (refined[20:44, 20:36] == 3).all()
    assert (refined[20:44, 36:52] == 4).all()
    with pytest.raises(AssertionError, match="one source"):
        absorb(torch.ones(2, 3, 3), torch.zeros(3, 3), radius=1, beta=1)


def test_a_large_window_is_walked_on_a_coarser_grid_with_its_walls() -> None:
    boundary = torch.zeros(375, 500)
    boundary[:, 250] = 1
    scribbles = np.zeros((1500, 2000), np.uint16)
    scribbles[200:1300, 300], scribbles[200:1300, 1700] = 3, 1
    found = refine_scribbles(scribbles, boundary)
    assert (found[300:1200, 320:960] == 3).mean() > 0.99
    assert (found[300:1200, 1040:1680] == 1).mean() > 0.99


def test_of_published_labels_the_latest_version_is_reviewed_beside_the_one_before(tmp_path: Path) -> None:
    publication = Publication(make_publication(tmp_path))
    entries = list(publication.entries(1))
    with publication.lock(), publication.draft() as draft:
        shutil.copytree(publication.folder(1), draft, dirs_exist_ok=True)
        for kind in KINDS:
            for folder, value in ((draft, 2), (draft / AUTOMATIC, 3)):
                (folder / kind / f"{WORST}.png").unlink(missing_ok=True)
                write_label_map(folder / kind / f"{WORST}.png", np.full((66, 82), value, np.uint8))
        corrected = [replace(each, corrections="c") if each.id == WORST else each for each in entries]
        publication.publish(draft, publication.record(1) | {"number": 2}, corrected)
    session = Session(open_subject(publication.root), "Ada")
    assert session.subject.version == 2
    # What corrections lie over are the automatic labels, not those that have them already.
    assert (painted(session).labels == 3).all()
    assert session.before(WORST)["what"] == "version before"
    before = decode_spans(session.before(WORST)["labels"], (66, 82))
    np.testing.assert_array_equal(before, read_label_map(publication.folder(1) / KINDS[0] / f"{WORST}.png"))
    assert session.state(WORST)["cams"] == ["ball", "crate"]


@pytest.mark.parametrize("shape", [(3, 200), (200, 3), (7, 7), (16, 16), (1, 1)])
def test_a_scribble_fills_a_photograph_of_any_shape_and_nothing_beside_it(shape: tuple[int, int]) -> None:
    scribbles = np.zeros(shape, np.uint16)
    scribbles[shape[0] // 2, shape[1] // 2] = 3
    scribbles[0, 0] = 3
    boundary = torch.full((-(-shape[0] // 4), -(-shape[1] // 4)), 0.1)
    found = refine_scribbles(scribbles, boundary)
    assert found.shape == shape
    assert set(np.unique(found)) <= {0, 3}
    assert found[0, 0] == 3


def test_a_walk_is_lost_nowhere_and_ends_as_a_dense_solution_says() -> None:
    boundary = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) * 0.6
    sources = torch.zeros(3, 4, 5)
    sources[0, 0, 0] = sources[1, 3, 4] = sources[2, 3, 0] = 1
    found = absorb(sources, boundary, radius=3, beta=2)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-6)
    affinity, dense = boundary_to_affinity(boundary, 3).pow(2).numpy(), np.zeros((20, 20))
    for values, (dy, dx) in zip(affinity, offsets(3).tolist(), strict=True):
        for y, x in np.argwhere(values > 0):
            first, second = y * 5 + x, (y + dy) * 5 + x + dx
            dense[first, second] = dense[second, first] = values[y, x]
    step = dense / dense.sum(1, keepdims=True)
    held = sources.any(0).numpy().ravel()
    step[held] = np.eye(20)[held]
    ends = np.linalg.matrix_power(step, 1 << 14) @ sources.numpy().reshape(3, -1).T
    np.testing.assert_allclose(found.reshape(3, -1).T, ends, atol=5e-3)


def test_a_folder_that_cannot_be_reviewed_is_told_what_it_is(published: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"latest: expected published labels, found one version .* the folder above"
    ):
        open_subject(published / "latest")
    with pytest.raises(
        ArtifactError, match=r"nowhere: expected published labels or the folder of a run, found nothing"
    ):
        open_subject(tmp_path / "nowhere")


def test_a_version_that_is_published_meanwhile_is_told(published: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(published, tmp_path / "labels", symlinks=True)
    session = Session(open_subject(copy), "Ada")
    assert session.state(WORST)["latest"] is None
    publication = Publication(copy)
    with publication.lock(), publication.draft() as draft:
        record = {"created": "2026-01-01T00:00:00+00:00", "reasons": [], "held": [], "means": {}}
        publication.publish(draft, record, list(publication.entries(1)))
    assert session.state(WORST)["latest"] == 2
    publication.lead_to(1)
    assert session.state(WORST)["latest"] is None
