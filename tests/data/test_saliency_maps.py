"""Maps of saliency: what is read, how they are found, and what is refused by its name."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, Dataset, DatasetError, Sample
from data.formats.unit_maps import read_unit_map
from data.readers.beside.saliency import find_maps, with_saliency
from data.saliency_maps import read_saliency
from data.validation import check_images

SIZE = (4, 6)
RAMP = np.linspace(0, 1, 24, dtype=np.float32).reshape(SIZE)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph of 6 x 4 pixels."""
    file = tmp_path / "a.png"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(file)
    return file


def read(photo: Path, saliency: Path) -> np.ndarray:
    return read_saliency(Sample("a", photo, (0,), saliency=saliency))


@pytest.mark.parametrize(
    "stored",
    [RAMP, RAMP.astype(np.float64), RAMP[None], np.rint(RAMP * 255).astype(np.uint8), RAMP > 0.5],
    ids=["float32", "float64", "one channel", "uint8", "bool"],
)
def test_arrays_of_any_kind_are_read_as_0_to_1(photo: Path, tmp_path: Path, stored: np.ndarray) -> None:
    np.save(tmp_path / "map.npy", stored)
    expected = stored.reshape(SIZE).astype(np.float64) / (255 if stored.dtype == np.uint8 else 1)
    found = read(photo, tmp_path / "map.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16", "1"])
def test_pngs_are_read_by_their_depth(photo: Path, tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image, expected = Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), RAMP
    elif mode == "1":
        image, expected = Image.fromarray(RAMP > 0.5), RAMP > 0.5
    else:
        image, expected = Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert(mode), RAMP
    image.save(tmp_path / "map.png")
    np.testing.assert_allclose(read(photo, tmp_path / "map.png"), expected, atol=0.5 / 255)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.full(SIZE, np.nan), "finite"),
        (np.full(SIZE, np.inf), "finite"),
        (RAMP * 1.5, "from 0 to 1, found 0 to 1.5"),
        (RAMP - 0.5, "from 0 to 1, found -0.5 to 0.5"),
        (np.zeros((2, *SIZE), np.float32), r"of shape \[H, W\] or \[1, H, W\], found \[2, 4, 6\]"),
        (np.zeros((0, 6), np.float32), "of shape"),
        (np.zeros(SIZE, np.int64), "of float, uint8 or bool, found int64"),
        (np.eye(4, 6, dtype=np.uint8), "found only 0 and 1: write 255 where it is 1"),
        (RAMP.T, "lies as its image does, found 4 x 6, the image is 6 x 4"),
    ],
)
def test_other_arrays_are_refused_with_what_was_found(
    photo: Path, tmp_path: Path, stored: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "map.npy", stored)
    with pytest.raises(DatasetError, match=rf"map\.npy: .*{message}"):
        read(photo, tmp_path / "map.npy")


def test_pickles_damaged_files_colours_and_masks_of_one_are_refused(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1.0]))
    with (tmp_path / "objects.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (1, 1)})
        stream.write(pickle.dumps([1.0]))
    np.save(tmp_path / "whole.npy", RAMP)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-8])
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:45])
    (tmp_path / "empty.npy").touch()
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[0, 0] = 1, 2, 3
    Image.fromarray(colours).save(tmp_path / "colours.png")
    Image.fromarray(np.eye(4, 6, dtype=np.uint8)).save(tmp_path / "ones.png")
    names = ["pickle.npy", "objects.npy", "cut.npy", "cut.png", "empty.npy", "colours.png", "ones.png", "none.npy"]
    for name in [*names, "none.png"]:
        with pytest.raises(DatasetError, match=f"{name}: expected a map of saliency"):
            read(photo, tmp_path / name)


@pytest.mark.parametrize("scale", [1, 3])
def test_a_map_of_the_photograph_as_it_is_stored_is_turned_upright(tmp_path: Path, scale: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored turned left: upright it is 4 wide and 6 high.
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    stored = np.kron(RAMP, np.ones((scale, scale), np.float32))
    upright = np.rot90(stored, -1)
    for name, each in (("stored", stored), ("upright", upright)):
        np.save(tmp_path / f"{name}.npy", each)
        np.testing.assert_array_equal(read(tmp_path / "a.jpg", tmp_path / f"{name}.npy"), upright)


def _set(root: Path, ids: list[str], untagged: tuple[str, ...] = ()) -> Dataset:
    samples = tuple(Sample(id, root / f"{id}.jpg", () if id in untagged else (0,)) for id in sorted(ids))
    return Dataset(root, ClassTable(("cat",)), samples)


def _write(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, RAMP) if file.suffix == ".npy" else Image.fromarray(np.zeros(SIZE, np.uint8)).save(file)


def test_maps_are_found_by_id_in_folders_or_flat_and_untagged_images_need_none(tmp_path: Path) -> None:
    dataset = _set(tmp_path, ["cats/1", "dogs/2", "none"], untagged=("none",))
    _write(tmp_path / "deep", "cats/1.png", "dogs/2.npy", "none.png", "another.png")
    _write(tmp_path / "flat", "1.npy", "2.png", "another.png")
    for folder, files in (("deep", ["cats/1.png", "dogs/2.npy"]), ("flat", ["1.npy", "2.png"])):
        found, problems = with_saliency(dataset, tmp_path / folder)
        assert [sample.saliency for sample in found.samples] == [*(tmp_path / folder / file for file in files), None]
        assert not problems


def test_a_name_that_may_be_two_images_is_no_map_of_either(tmp_path: Path) -> None:
    _write(tmp_path / "flat", "1.png")
    with pytest.raises(DatasetError, match=r"a/1\.png or \.npy, found none") as caught:
        with_saliency(_set(tmp_path, ["a/1", "b/1"]), tmp_path / "flat")
    assert len(caught.value.problems) == 2


def test_missing_and_double_maps_are_listed_ten_by_name_and_the_rest_counted(tmp_path: Path) -> None:
    ids = [f"{number:02d}" for number in range(25)]
    _write(tmp_path / "maps", "00.png", "01.png", "01.npy")
    dataset = _set(tmp_path, ids)
    with pytest.raises(DatasetError) as caught:
        with_saliency(dataset, tmp_path / "maps")
    told = list(map(str, caught.value.problems))
    assert len(told) == 11
    assert "expected one map of saliency for 01, found 01.npy and 01.png" in told[0]
    assert told[-1].endswith("and 14 more images without a map")
    kept, problems = with_saliency(dataset, tmp_path / "maps", skip_bad=True)
    assert [problem.sample for problem in problems] == ids[1:]
    assert kept.samples[0].saliency == tmp_path / "maps/00.png"


def test_a_network_is_the_source_of_all_tagged_images_and_other_files_of_none(tmp_path: Path) -> None:
    dataset = _set(tmp_path, ["a", "b"], untagged=("b",))
    (tmp_path / "net.onnx").touch()
    found, _ = with_saliency(dataset, tmp_path / "net.onnx")
    assert [sample.saliency for sample in found.samples] == [tmp_path / "net.onnx", None]
    (tmp_path / "net.pth").touch()
    for name in ("net.pth", "gone.onnx", "gone"):
        with pytest.raises(DatasetError, match=f"{name}: expected a folder of maps"):
            with_saliency(dataset, tmp_path / name)


def test_the_check_of_a_set_lists_every_bad_map_with_its_image(tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    for id in ids:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f"{id}.jpg")
    (tmp_path / "maps").mkdir()
    for id, values in zip(ids, (RAMP, RAMP + 1, RAMP * np.nan), strict=True):
        np.save(tmp_path / f"maps/{id}.npy", values)
    dataset, _ = with_saliency(_set(tmp_path, ids), tmp_path / "maps")
    assert [(problem.sample, problem.file.name) for problem in check_images(dataset, 1)] == [
        ("b", "b.npy"),
        ("c", "c.npy"),
    ]


def test_a_map_whose_header_is_no_longer_python_is_a_problem_of_its_image(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "maps").mkdir()
    file = tmp_path / "maps/a.npy"
    np.save(file, RAMP)
    for sign in (b"(", b"'", b"\n"):
        file.write_bytes(file.read_bytes().replace(b"}", sign, 1))
        dataset, _ = with_saliency(_set(tmp_path, ["a"]), tmp_path / "maps")
        (problem,) = check_images(dataset, 1)
        assert (problem.sample, problem.file) == ("a", file)
        assert "expected a map of saliency in NumPy's format" in problem.message
        np.save(file, RAMP)


@pytest.mark.parametrize("name", ["{}.jpg", "{}_edge", "deep/{}.png"])
def test_maps_are_found_with_the_image_s_suffix_or_common_words(name: str, tmp_path: Path) -> None:
    samples = tuple(Sample(id, tmp_path / f"{id}.jpg", (0,)) for id in ("a", "b.1"))
    dataset = Dataset(tmp_path, ClassTable(("cat",)), samples)
    for sample in samples:
        file = tmp_path / "maps" / f"{name.format(sample.id)}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found, notes, problems = find_maps(dataset, tmp_path / "maps", "map of boundaries")
    assert not problems
    assert found == {s.id: tmp_path / "maps" / f"{name.format(s.id)}.png" for s in samples}
    assert ("without '_edge'" in str(notes)) == ("_edge" in name)
    known, _ = with_saliency(dataset, tmp_path / "maps")
    assert {sample.id: sample.saliency for sample in known.samples} == found


def test_a_file_that_holds_an_object_is_called_so(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", {"edge": np.zeros((4, 4))})  # pyright: ignore[reportArgumentType]
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"a\.npy: expected a map, one array \[h, w\], but it holds an object$"):
        read_unit_map(tmp_path / "a.npy", tmp_path / "a.png", "a map")
