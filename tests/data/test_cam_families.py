"""Class attention maps of other methods: every form gives the same maps, and what they are is told by the files."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.cam_writers import FORMS, draw_maps, full, write_maps

from data.cam_classes import COCO80, COCO91, numbers_of
from data.cam_families import FAMILIES, constant_of, family_of, row_presets
from data.cam_maps import CamMaps, read_cams
from data.dataset import CamSource, ClassTable, Dataset, DatasetError, Sample
from data.formats.voc import VOC_CLASSES
from data.readers.beside.cams import read_table, with_cams
from data.validation import check_images

SIZES = {"a": (24, 32), "b": (21, 70), "c": (40, 24)}
# One image has class 0, which a 0 among the keys might stand for.
TAGS = {"a": (0, 14), "b": (7,), "c": (3, 7)}
TOLERANCE = {"psa-crf": 1e-3, "sipe": 1e-3, "sfc": 1e-3, "cosa": 2e-5}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "set").mkdir()
    samples = []
    for id, size in SIZES.items():
        Image.new("RGB", size[::-1], (90, 60, 30)).save(tmp_path / f"set/{id}.png")
        samples.append(Sample(id, tmp_path / f"set/{id}.png", TAGS[id]))
    return Dataset(tmp_path / "set", ClassTable(VOC_CLASSES), tuple(samples))


def write_all(folder: Path, form: str, tags: dict[str, tuple[int, ...]] = TAGS) -> Path:
    for number, (id, labels) in enumerate(tags.items()):
        write_maps(folder, form, id, draw_maps(labels, SIZES[id], number), SIZES[id])
    return folder


def read_all(dataset: Dataset) -> dict[str, CamMaps]:
    assert dataset.cams is not None
    return {sample.id: read_cams(sample, dataset.cams, dataset.classes) for sample in dataset.samples}


def cells(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the middle of each 4 x 4 cell of maps at the image's size; maps of cells as they are."""
    return values[:, ::4, ::4] if values.shape[1:] == size else values


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_maps(form: str, dataset: Dataset, tmp_path: Path) -> None:
    known, problems = with_cams(dataset, write_all(tmp_path / form, form))
    assert not problems
    assert known.cams is not None
    # Those of one form cannot be told apart by their content.
    expected = {"irn-pt": "irn", "mctformer": "psa", "cosa": "psa"}.get(form, form)
    assert known.cams.family == expected
    for number, (id, found) in enumerate(read_all(known).items()):
        wanted = np.stack(list(draw_maps(TAGS[id], SIZES[id], number).values()))
        np.testing.assert_allclose(cells(found.values, SIZES[id]), wanted, atol=TOLERANCE.get(form, 1e-6), err_msg=id)
        assert not found.lacking


def test_all_families_have_a_form_that_is_written_here_or_share_one() -> None:
    # By their content these are one of the forms, and are named by --cam-family.
    alike = {"advcam", "recam", "clims", "ssc", "cti", "weaktr", "pot", "row-of-background"}
    assert {family.name for family in FAMILIES} == {*FORMS, *alike} - {"irn-pt"}
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_thresholds_of_methods_that_score_the_background_are_where_it_loses() -> None:
    for alpha in (1, 4, 16, 32):
        at = constant_of(alpha)
        assert (at - 0.002) < (1 - at + 0.002) ** alpha
        assert (at + 0.002) > (1 - at - 0.002) ** alpha
    foreground, background, _ = row_presets(1.5)
    # A class of score c against a background of 1: the class wins at 1, and half the background at 1/2.
    assert foreground == 1 / (1 + 1)
    assert background == pytest.approx(0.5**1.5 / (0.5**1.5 + 1), abs=1e-3)
    assert all(f.presets is None or 0 < f.presets.background < f.presets.foreground < 1 for f in FAMILIES)


def test_a_0_is_class_0_unless_every_file_has_one_and_the_tags_count_from_1(dataset: Dataset, tmp_path: Path) -> None:
    aeroplanes = replace(dataset, samples=tuple(replace(s, labels=(0, 8)) for s in dataset.samples))
    every = dict.fromkeys(SIZES, (0, 8))
    for form in ("psa", "toco"):
        known, _ = with_cams(aeroplanes, write_all(tmp_path / form, form, every))
        assert known.cams is not None
        assert known.cams.family == form
    # The same keys, and other tags.
    for form in ("psa", "toco"):
        ones = replace(dataset, samples=tuple(replace(s, labels=(7,)) for s in dataset.samples))
        known, _ = with_cams(ones, tmp_path / form)
        assert known.cams is not None
        assert known.cams.family == {"psa": "psa-crf", "toco": "row-of-background"}[form]


def test_a_family_of_the_same_form_is_named(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    known, _ = with_cams(dataset, folder, family="weaktr")
    assert known.cams is not None
    assert known.cams.family == "weaktr"
    with pytest.raises(DatasetError, match=r"a\.npy: expected class attention maps of the form irn, found 0 \["):
        with_cams(dataset, folder, family="irn")
    with pytest.raises(ValueError, match="expected one of pseudomask, amn"):
        family_of("other")


@pytest.mark.parametrize("table", ["coco80", "coco91"])
def test_maps_numbered_by_coco_are_of_voc_s_classes(table: str, dataset: Dataset, tmp_path: Path) -> None:
    names = {"coco80": COCO80, "coco91": COCO91}[table]
    numbers = {voc: number for number, voc in numbers_of(names, VOC_CLASSES).items()}
    assert len(numbers) == 20
    by_coco = {id: tuple(numbers[c] for c in labels) for id, labels in TAGS.items()}
    folder = write_all(tmp_path / "maps", "psa", by_coco)
    known, _ = with_cams(dataset, folder, classes=table)
    for number, (id, found) in enumerate(read_all(known).items()):
        drawn = draw_maps(by_coco[id], SIZES[id], number)
        wanted = np.stack([drawn[numbers[c]] for c in TAGS[id]])
        np.testing.assert_allclose(cells(found.values, SIZES[id]), wanted, atol=1e-6, err_msg=id)
    other = {"coco80": "coco91", "coco91": "coco80"}[table]
    message = r"it has a map of class \d+.*, and the tags of [abc] are .*--cam-classes"
    for wrong in (other, None):
        with pytest.raises(DatasetError, match=message):
            with_cams(dataset, folder, classes=wrong)


def test_a_table_is_read_from_a_file_or_lies_beside_the_maps(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    turned = tmp_path / "turned.txt"
    turned.write_text("".join(f"{name}\n" for name in reversed(VOC_CLASSES)))
    with pytest.raises(DatasetError, match=r"a map of class 0 \(tvmonitor\), and the tags of a are aeroplane, person"):
        with_cams(dataset, folder, classes=str(turned))
    (folder / "classes.txt").write_text(turned.read_text())
    with pytest.raises(DatasetError, match="tvmonitor"):
        with_cams(dataset, folder)
    assert not with_cams(dataset, folder, classes="voc20")[1]
    with pytest.raises(DatasetError, match="expected a table of classes: voc20, coco80, coco91, or a file"):
        read_table("voc21")


def test_images_without_maps_are_an_error_or_left_out_or_empty(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    (folder / "b.npy").unlink()
    with pytest.raises(DatasetError, match=r"expected the maps of b, b\.npy, \.npz or \.pt, found none"):
        with_cams(dataset, folder)
    known, problems = with_cams(dataset, folder, missing="skip")
    assert [problem.sample for problem in problems] == ["b"]
    known, problems = with_cams(dataset, folder, missing="background")
    assert not problems
    assert any("1 images have no map, which is taken for empty: b" in note for note in known.notes)
    empty = read_all(known)["b"]
    assert not empty.values.any()
    assert empty.lacking == TAGS["b"]


def test_a_tag_without_a_map_is_refused_unless_it_may_be_empty(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "clip-es", TAGS | {"c": (3,)})
    (problem,) = check_images(with_cams(dataset, folder)[0], 1)
    assert "c.npy: it has maps of class 3 (boat), and none of cat, a tag of c" in str(problem)
    found = read_all(with_cams(dataset, folder, missing="background")[0])["c"]
    assert found.lacking == (7,)
    assert found.values[0].any()
    assert not found.values[1].any()


def test_files_of_other_images_are_counted_and_the_first_ten_named(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    for number in range(12):
        (folder / f"other{number:02d}.npy").write_bytes(b"never read")
    known, _ = with_cams(dataset, folder)
    (note,) = [note for note in known.notes if "stay unread" in note]
    assert "12 files are of no image of the set" in note
    assert "other09 and 2 more" in note
    assert "other10" not in note


@pytest.mark.parametrize("name", [lambda id: f"{id}.jpg", lambda id: f"session/npy/{id}"])
def test_files_named_with_the_image_s_suffix_or_in_a_folder_are_found(
    name: Callable[[str], str], dataset: Dataset, tmp_path: Path
) -> None:
    for number, id in enumerate(SIZES):
        write_maps(tmp_path / "maps", "psa", name(id), draw_maps(TAGS[id], SIZES[id], number), SIZES[id])
    assert all(sample.cams for sample in with_cams(dataset, tmp_path / "maps")[0].samples)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (lambda id: f"{id}_attn", "_attn"),
        (lambda id: f"cam-{id}", "cam-"),
        (lambda id: f"run/{id}.jpg.maps", ".maps"),
        (lambda id: f"run/my_cam_{id}", "my_cam_"),
    ],
)
def test_files_with_the_same_words_before_or_behind_are_found_and_noted(
    name: Callable[[str], str], words: str, dataset: Dataset, tmp_path: Path
) -> None:
    for number, id in enumerate((*SIZES, "other")):
        maps, size = draw_maps(TAGS.get(id, (0,)), SIZES.get(id, (8, 8)), number), SIZES.get(id, (8, 8))
        write_maps(tmp_path / "maps", "psa", name(id), maps, size)
    known, _ = with_cams(dataset, tmp_path / "maps")
    found = {sample.id: sample.cams for sample in known.samples}
    assert found == {id: tmp_path / f"maps/{name(id)}.npy" for id in SIZES}
    (note,) = [note for note in known.notes if "found by their names" in note]
    assert f"without {words!r}: 'a' is '{name('a')}'" in note
    assert any("1 files are of no image of the set" in note for note in known.notes)


@pytest.mark.parametrize("name", [lambda id: f"{id}_1", lambda id: f"{id}x", lambda id: f"{id}_{ord(id)}_attn"])
def test_of_files_with_other_names_an_example_is_told_and_how_to_name_it(
    name: Callable[[str], str], dataset: Dataset, tmp_path: Path
) -> None:
    for id in SIZES:
        write_maps(tmp_path / "maps", "psa", name(id), draw_maps(TAGS[id], SIZES[id]), SIZES[id])
    hint = f"it holds 3 files of other names, such as {name('a')}.npy; name maps like their images: a.npy"
    for missing in ("error", "skip", "background"):
        with pytest.raises(DatasetError, match="found none") as error:
            with_cams(dataset, tmp_path / "maps", missing=missing)
        assert error.value.problems[-1].message == hint
    assert error.value.problems[-1].count == 0


def test_a_file_with_another_name_is_told_where_its_image_has_no_maps(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    (folder / "b.npy").rename(folder / "b_attn.npy")
    with pytest.raises(DatasetError, match=r"holds 1 file of other names, such as b_attn\.npy; .*: b\.npy$") as error:
        with_cams(dataset, folder)
    assert sum(problem.count for problem in error.value.problems) == 1


def test_a_folder_without_maps_says_so(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/a.mat").write_bytes(b"maps")
    for missing in ("error", "skip", "background"):
        with pytest.raises(DatasetError, match=r"found no \.npy, \.npz or \.pt in it$"):
            with_cams(dataset, tmp_path / "maps", missing=missing)


def test_images_without_maps_are_counted_and_not_lines(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    more = tuple(replace(dataset.samples[0], id=f"more{number:02d}") for number in range(15))
    with pytest.raises(DatasetError, match="and 5 more images without maps") as error:
        with_cams(replace(dataset, samples=(*dataset.samples, *more)), folder)
    assert sum(problem.count for problem in error.value.problems) == 15


def test_coco_s_names_are_found_with_and_without_their_zeros(dataset: Dataset, tmp_path: Path) -> None:
    ids = {"a": "COCO_train2014_000000000009", "b": "000000000025", "c": "COCO_train2014_000000000030"}
    files = {"a": "000000000009", "b": "25", "c": "COCO_train2014_000000000030"}
    for id, file in files.items():
        write_maps(tmp_path / "maps", "psa", file, draw_maps(TAGS[id], SIZES[id]), SIZES[id])
    named = replace(dataset, samples=tuple(replace(sample, id=ids[sample.id]) for sample in dataset.samples))
    found = {sample.id: sample.cams and sample.cams.stem for sample in with_cams(named, tmp_path / "maps")[0].samples}
    assert found == {ids[id]: file for id, file in files.items()}


def test_two_files_of_an_image_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    (folder / "a.npz").write_bytes((folder / "a.npy").read_bytes())
    with pytest.raises(DatasetError, match=r"expected one file of maps for a, found a\.npy and a\.npz"):
        with_cams(dataset, folder, missing="background")


def test_files_of_two_forms_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_all(tmp_path / "maps", "psa")
    write_maps(folder, "clip-es", "c", draw_maps(TAGS["c"], SIZES["c"]), SIZES["c"])
    (problem,) = check_images(with_cams(dataset, folder)[0], 1)
    assert "c.npy: expected class attention maps of the form psa, found 'keys' [2]" in str(problem)
    write_maps(folder, "clip-es", "b", draw_maps(TAGS["b"], SIZES["b"]), SIZES["b"])
    # The form of most files is taken, and the others are told of by the check of all.
    (problem,) = check_images(with_cams(dataset, folder)[0], 1)
    assert "a.npy: expected class attention maps of the form clip-es, found 0" in str(problem)
    with pytest.raises(DatasetError, match=r"b\.npy: expected class attention maps of the form psa"):
        with_cams(dataset, folder, family="psa")


def test_files_of_no_known_form_are_named_with_what_they_hold(dataset: Dataset, tmp_path: Path) -> None:
    for id in SIZES:
        (tmp_path / "maps").mkdir(exist_ok=True)
        np.savez(tmp_path / f"maps/{id}.npz", heat=np.zeros((1, 4, 4)))
    with pytest.raises(DatasetError, match=r"of a known form .*refine_your_cams\.md\), found 'heat' \[1, 4, 4\]"):
        with_cams(dataset, tmp_path / "maps")


def test_maps_on_a_photograph_as_it_is_stored_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", exif=exif)
    upright = draw_maps((7,), (32, 24))[7]
    # Orientation 6 is undone by a quarter turn clockwise.
    np.save(tmp_path / "a.npy", np.array({7: np.rot90(full(upright, (32, 24)))}, dtype=object))
    sample = Sample("a", tmp_path / "a.jpg", (7,), cams=tmp_path / "a.npy")
    found = read_cams(sample, CamSource("psa", VOC_CLASSES), ClassTable(VOC_CLASSES))
    np.testing.assert_allclose(cells(found.values, (32, 24))[0], upright, atol=1e-6)


def test_the_memory_does_not_grow_with_the_number_of_files(dataset: Dataset, tmp_path: Path) -> None:
    sample, size = dataset.samples[0], (200, 240)
    Image.new("RGB", size[::-1]).save(sample.image)
    folder = tmp_path / "maps"
    peaks = []
    for count in (40, 120):
        samples = [replace(sample, id=f"{number:03d}") for number in range(count)]
        for each in samples:
            write_maps(folder, "psa", each.id, draw_maps(sample.labels, size), size)
        tracemalloc.start()
        known, _ = with_cams(replace(dataset, samples=tuple(samples)), folder)
        assert known.cams is not None
        for each in known.samples:
            read_cams(each, known.cams, known.classes)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A file holds 400 kB, so that 80 more that are kept would be 32 MB.
    assert peaks[1] < peaks[0] + 4e6
