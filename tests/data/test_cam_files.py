"""Files of class attention maps that are not to be trusted: code, false sizes, damage, scores that are none."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.cam_maps import _REMEDY, ABOVE_1, NEGATIVE, NOT_FINITE, read_cams
from data.dataset import CamSource, ClassTable, Dataset, DatasetError, Sample
from data.formats.voc import VOC_CLASSES
from data.pickles import PickleError, TorchArray, read_npy, read_zip
from data.readers.beside.cams import with_cams
from data.validation import check_images

SIZE = (24, 32)
PSA, CLIP = CamSource("psa", VOC_CLASSES), CamSource("clip-es", VOC_CLASSES)
MAP = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(SIZE)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    Image.new("RGB", SIZE[::-1], (9, 9, 9)).save(tmp_path / "a.png")
    (tmp_path / "maps").mkdir()
    return Sample("a", tmp_path / "a.png", (7,), cams=tmp_path / "maps/a.npy")


def read(sample: Sample, source: CamSource = PSA) -> Any:
    return read_cams(sample, source, ClassTable(VOC_CLASSES))


def file_of(sample: Sample) -> Path:
    assert sample.cams is not None
    return sample.cams


def npy_of(pickled: bytes) -> bytes:
    """Return the bytes of an .npy file that holds a pickle."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + pickled


class Runs:
    """Pickled, it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def globals_of(*calls: tuple[str, str]) -> bytes:
    """Return a pickle that looks names up one after the other."""
    return b"\x80\x02" + b"".join(f"c{module}\n{name}\n0".encode() for module, name in calls) + b"N."


@pytest.mark.parametrize("where", ["alone", "beside", "key", "npz"])
def test_code_in_a_pickle_is_refused_by_its_name_and_not_run(sample: Sample, tmp_path: Path, where: str) -> None:
    mark, file = tmp_path / "ran", file_of(sample)
    call = Runs(os.system, f"touch {mark}")
    content = {"alone": call, "beside": {7: MAP, "x": call}, "key": {7: [call]}, "npz": {7: call}}[where]
    if where == "npz":
        sample = replace(sample, cams=file.with_suffix(".npz"))
        with zipfile.ZipFile(file_of(sample), "w") as archive:
            archive.writestr("cams.npy", npy_of(pickle.dumps(content)))
    else:
        file.write_bytes(npy_of(pickle.dumps(content)))
    with pytest.raises(
        DatasetError, match=r"a\.np[yz]: .* it names posix\.system, which is not looked up; write plain"
    ):
        read(sample)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.serialization", "_get_restore_location"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch.storage", "UntypedStorage"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("collections", "defaultdict"),
    ],
)
def test_no_other_name_is_looked_up(name: tuple[str, str]) -> None:
    with pytest.raises(PickleError, match=f"it names {name[0]}.{name[1]}, which is not looked up"):
        read_npy(npy_of(globals_of(name)))
    assert read_npy(npy_of(globals_of(("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2")))) is None


def legacy_storage(
    kind: str = "FloatStorage", count: int = 6, raw: bytes | None = None, told: int | None = None
) -> bytes:
    """Return a storage as torch pickles it outside of zip archives."""
    raw = np.arange(6, dtype="<f4").tobytes() if raw is None else raw
    head = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    # ("storage", torch.FloatStorage, "0", "cpu", count, None), as a reference to other data.
    parts = b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    parts += pickle.dumps(count, 2)[2:-1] + b"Nt"
    storage = b"\x80\x02" + parts + b"Q."
    return head + storage + pickle.dumps(["0"], 2) + struct.pack("<q", count if told is None else told) + raw


def with_tensor(storage: bytes, offset: int = 0, shape: Any = (2, 3), strides: Any = (3, 1)) -> bytes:
    """Return an .npy file with a pickled tensor."""
    parts = b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n"
    parts += b"B" + struct.pack("<I", len(storage)) + storage + b"\x85R"
    for value in (offset, shape, strides, False):
        parts += pickle.dumps(value, 2)[2:-1]
    return npy_of(parts + b"ccollections\nOrderedDict\n)RtR.")


def test_a_tensor_is_rebuilt_from_its_bytes_without_torch() -> None:
    found = read_npy(with_tensor(legacy_storage()))
    assert isinstance(found, TorchArray)
    np.testing.assert_array_equal(found, np.arange(6).reshape(2, 3))
    turned = read_npy(with_tensor(legacy_storage(), 1, (2, 2), (1, 2)))
    np.testing.assert_array_equal(turned, [[1, 3], [2, 4]])
    assert read_npy(with_tensor(legacy_storage(), 0, (0, 4), (4, 1))).shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_tensor(legacy_storage(count=2**30)), "an array of .1073741824. numbers"),
        (with_tensor(legacy_storage(told=2**30)), "a tensor of 6 numbers, and says that there are 1073741824"),
        (with_tensor(legacy_storage(), 0, (2**30,), (0,)), "a tensor of .1073741824. numbers in a storage of 6"),
        (with_tensor(legacy_storage(), 0, (2, 3), (4, 1)), "a tensor of .2, 3. numbers in a storage of 6"),
        (with_tensor(legacy_storage(), 1, (6,), (1,)), "a tensor of .6. numbers in a storage of 6"),
        (with_tensor(legacy_storage(), -1, (2,), (1,)), "a tensor of .2. numbers in a storage of 6"),
        (with_tensor(legacy_storage(), 5, (2,), (-1,)), "a damaged tensor"),
        (with_tensor(legacy_storage("load")), "it names torch.load inside a tensor"),
        (with_tensor(pickle.dumps(Runs(os.system, "exit 1"))), "it names posix.system inside a tensor"),
        (with_tensor(legacy_storage(raw=b"")), "an array of .6. numbers of float32 in 0 bytes"),
        (npy_of(b"\x80\x04}r\xff\xff\xff\x7f."), "a memo of 2147483647 places"),
        (npy_of(b"\x80\x05\x96" + struct.pack("<Q", 2**32) + b"."), "4294967296 bytes"),
        (npy_of(b"\x80\x04\x8e" + struct.pack("<Q", 2**32) + b"."), "4294967296 bytes"),
        (npy_of(pickle.dumps(np.dtype("f4"))), "it has a damaged array"),
    ],
)
def test_what_a_pickle_claims_is_compared_with_what_is_there(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_npy(content)


def test_data_that_is_nested_in_itself_many_times_takes_no_time() -> None:
    value: Any = [0.0]
    for _ in range(14):
        value = [value] * 100
    assert len(read_npy(npy_of(pickle.dumps(value)))) == 100
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PickleError, match="nested too deeply"):
        read_npy(npy_of(pickle.dumps([endless, 0])))


def test_an_ordered_dictionary_is_a_dictionary() -> None:
    assert read_npy(npy_of(pickle.dumps(OrderedDict(a=1), 2))) == {"a": 1}


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_sizes_that_a_file_only_claims_take_no_memory(sample: Sample) -> None:
    file_of(sample).write_bytes(header((1, 2**15, 2**15)) + b"\0" * 64)
    with pytest.raises(DatasetError, match=r"a\.npy: .*\[1, 32768, 32768\] numbers of float32 in 64 bytes\): copy it"):
        read(sample, CamSource("array", VOC_CLASSES))


def test_an_archive_that_unpacks_to_far_more_than_maps_take_is_refused(sample: Sample) -> None:
    sample = replace(sample, cams=file_of(sample).with_suffix(".npz"))
    with zipfile.ZipFile(file_of(sample), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", header((1, 2**12, 2**12)) + bytes(2**26))
    assert file_of(sample).stat().st_size < 2**18
    with pytest.raises(DatasetError, match=r"a\.npz: .*it unpacks to 6\d+ bytes, more than the \d+ bytes that maps of"):
        read(sample, CamSource("pseudomask", VOC_CLASSES))


def test_a_file_that_is_far_larger_than_maps_are_is_not_read(sample: Sample) -> None:
    with file_of(sample).open("wb") as stream:
        stream.truncate(2**33)
    with pytest.raises(DatasetError, match=r"a\.npy: .*it has 8589934592 bytes, more than the \d+ that maps of"):
        read(sample)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_file_that_is_cut_off_is_named(sample: Sample, share: float) -> None:
    np.save(file_of(sample), {7: MAP, 14: MAP})  # pyright: ignore[reportArgumentType]
    whole = file_of(sample).read_bytes()
    file_of(sample).write_bytes(whole[: int(share * len(whole))])
    told = r"but it is cut off or damaged \(.*\): copy it again, or make it again$"
    with pytest.raises(DatasetError, match=rf"a\.npy: expected class attention maps, {told}"):
        read(sample)
    np.save(file_of(sample), MAP)
    whole = file_of(sample).read_bytes()
    file_of(sample).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=told):
        read(sample, CamSource("array", VOC_CLASSES))


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_an_archive_that_is_cut_off_is_called_so(sample: Sample, share: float) -> None:
    sample = replace(sample, cams=file_of(sample).with_suffix(".pt"))
    torch.save({7: torch.from_numpy(MAP)}, file_of(sample))
    np.testing.assert_array_equal(read(sample).values[0], MAP)
    whole = file_of(sample).read_bytes()
    file_of(sample).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        DatasetError, match=r"a\.pt: .* but it is cut off or damaged \(File is not a zip file\): copy it"
    ):
        read(sample)


@pytest.mark.parametrize(
    ("local", "central", "said"),
    [(6, 8, "encrypted"), (8, 10, "compression method is not supported")],
    ids=["password", "packing"],
)
def test_a_whole_archive_that_is_not_read_here_is_not_called_damaged(
    sample: Sample, local: int, central: int, said: str
) -> None:
    sample = replace(sample, cams=file_of(sample).with_suffix(".npz"))
    np.savez(file_of(sample), maps=MAP)
    content = bytearray(file_of(sample).read_bytes())
    # The flags, or the method, of the one member stand in its own header and in the directory.
    for place in (local, content.index(b"PK\x01\x02") + central):
        content[place : place + 2] = struct.pack("<H", 1 if said == "encrypted" else 99)
    file_of(sample).write_bytes(content)
    with pytest.raises(DatasetError, match=said) as caught:
        read(sample)
    assert "damaged" not in str(caught.value)
    assert str(caught.value).endswith(f"; {_REMEDY}")


def test_a_parameter_is_its_tensor(sample: Sample) -> None:
    sample = replace(sample, cams=file_of(sample).with_suffix(".pt"))
    for trained in (False, True):
        torch.save({7: torch.nn.Parameter(torch.from_numpy(MAP), requires_grad=trained)}, file_of(sample))
        np.testing.assert_array_equal(read(sample).values[0], MAP)
    np.save(file_of(sample).with_suffix(".npy"), {7: torch.nn.Parameter(torch.from_numpy(MAP))})  # pyright: ignore
    np.testing.assert_array_equal(read(replace(sample, cams=file_of(sample).with_suffix(".npy"))).values[0], MAP)
    with pytest.raises(PickleError, match="it has a damaged parameter"):
        read_npy(npy_of(b"\x80\x02ctorch._utils\n_rebuild_parameter\n(N\x88NtR."))


@pytest.mark.parametrize("kind", [list, tuple])
def test_keys_in_a_list_are_taken_as_an_array(sample: Sample, kind: type) -> None:
    np.save(file_of(sample), {"keys": kind([7]), "attn_highres": MAP[None]})  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(read(sample, CLIP).values[0], MAP)
    nothing = {"keys": [], "attn_highres": np.zeros((0, *SIZE), np.float32)}
    np.save(file_of(sample), nothing)  # pyright: ignore[reportArgumentType]
    assert read(replace(sample, labels=()), CLIP).values.shape[0] == 0


def test_what_a_file_holds_is_told_with_its_kinds(sample: Sample) -> None:
    content = {"keys": ["cat", "dog"], "7": MAP, 7: MAP, "size": 3, "of": {"a": 1}}
    np.save(file_of(sample), content)  # pyright: ignore[reportArgumentType]
    told = r"found 'keys': list of 2, '7' \[24, 32\], 7 \[24, 32\], 'size': int, 'of': dict of 1$"
    with pytest.raises(DatasetError, match=told):
        read(sample, CLIP)


def test_maps_that_lie_otherwise_are_not_blamed_on_their_classes(sample: Sample) -> None:
    content = {"keys": np.array([3]), "attn_highres": MAP.T[None]}
    np.save(file_of(sample), content)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DatasetError, match="its maps are 24 x 32, which are not the proportions of its image, 32 x 24"):
        read(sample, CLIP)


def test_pipes_folders_and_other_files_are_refused(sample: Sample, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "text.npy").write_text("no maps")
    for name, message in (
        ("pipe", "no regular file"),
        ("folder", "no regular file"),
        ("text", "neither NumPy's nor torch's form"),
        ("none", "found no file"),
    ):
        with pytest.raises(DatasetError, match=rf"{name}\.npy: expected class attention maps, .*{message}"):
            read(replace(sample, cams=tmp_path / f"{name}.npy"))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({7: MAP[0]}, r"shapes \[\[32\]\]"),
        ({7: np.zeros((0, 4), np.float32)}, r"shapes \[\[0, 4\]\]"),
        ({7: MAP.astype("U8")}, "arrays of other things than numbers"),
        ({7: MAP.astype(bool)}, "its maps are bool, expected numbers"),
        ({7: MAP.T}, "its maps are 24 x 32, which are not the proportions of its image, 32 x 24"),
        ({7: MAP[:, :16]}, "its maps are 16 x 24, which are not the proportions"),
        ({7: np.full(SIZE, np.nan, np.float32)}, "a map has no finite score; make the maps of this image again"),
        ({7: MAP, 14: MAP[:4]}, r"shapes \[\[4, 32\], \[24, 32\]\], expected one"),
    ],
)
def test_maps_of_another_form_or_size_are_refused(sample: Sample, maps: Any, message: str) -> None:
    np.save(file_of(sample), maps)
    with pytest.raises(DatasetError, match=rf"a\.npy: .*{message}"):
        read(sample)


@pytest.mark.parametrize(
    ("keys", "rows", "message"),
    [
        ([7.0], 1, "its keys are float64, expected whole numbers"),
        ([7, 7], 2, r"a class twice: \[7, 7\]"),
        ([7, 14], 5, "it has 5 maps and 2 classes"),
        ([7, 14, 15], 2, "it has 2 maps and 3 classes"),
    ],
)
def test_rows_and_keys_that_do_not_fit_are_refused(sample: Sample, keys: list, rows: int, message: str) -> None:
    content = {"keys": np.array(keys), "attn_highres": np.stack([MAP] * rows)}
    np.save(file_of(sample), content)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DatasetError, match=rf"a\.npy: .*{message}"):
        read(sample, CLIP)


def test_scores_that_are_none_are_0_and_said(sample: Sample) -> None:
    damaged = MAP.copy()
    damaged[0, 0], damaged[0, 1], damaged[0, 2] = np.nan, np.inf, -3
    np.save(file_of(sample), {7: damaged})  # pyright: ignore[reportArgumentType]
    found = read(sample)
    assert found.remarks == {NOT_FINITE, NEGATIVE}
    np.testing.assert_array_equal(found.values[0, 0, :3], 0)
    np.testing.assert_array_equal(found.values[0, 1:], MAP[1:])


def test_maps_that_are_not_scaled_are_divided_by_their_maximum_and_probabilities_are_not(sample: Sample) -> None:
    np.save(file_of(sample), {7: 50 * MAP})  # pyright: ignore[reportArgumentType]
    found = read(sample)
    assert found.remarks == {ABOVE_1}
    np.testing.assert_allclose(found.values[0], MAP, atol=1e-6)
    np.save(file_of(sample), {7: 0.5 * MAP})  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(read(sample).values[0], 0.5 * MAP / (0.5 + 1e-5), atol=1e-6)
    np.save(file_of(sample), {"keys": np.array([7]), "high_res": 0.5 * MAP[None]})  # pyright: ignore
    np.testing.assert_allclose(read(sample, CamSource("toco", VOC_CLASSES)).values[0], 0.5 * MAP)
    np.save(file_of(sample), {7: 0 * MAP})  # pyright: ignore[reportArgumentType]
    assert not read(sample).values.any()


def test_an_image_without_a_class_has_no_map(sample: Sample) -> None:
    content = {"keys": np.zeros(0, np.int64), "cam": np.zeros((0, 6, 8)), "high_res": np.zeros((0, *SIZE))}
    np.save(file_of(sample), content)  # pyright: ignore[reportArgumentType]
    assert read(replace(sample, labels=()), CamSource("irn", VOC_CLASSES)).values.shape[0] == 0


def test_bad_files_are_listed_by_the_check_of_a_set_and_skipped_where_that_is_asked_for(
    sample: Sample, tmp_path: Path
) -> None:
    samples = []
    for id in "abcd":
        file = tmp_path / f"maps/{id}.npy"
        np.save(file, {7: MAP})  # pyright: ignore[reportArgumentType]
        samples.append(replace(sample, id=id, cams=None))
    (tmp_path / "maps/b.npy").write_bytes(npy_of(pickle.dumps(Runs(os.system, "exit 1"))))
    np.save(tmp_path / "maps/c.npy", {7: MAP, 3: MAP})  # pyright: ignore[reportArgumentType]
    dataset = Dataset(tmp_path, ClassTable(VOC_CLASSES), tuple(samples))
    for skip_bad in (False, True):
        known, _ = with_cams(dataset, tmp_path / "maps", skip_bad=skip_bad)
        problems = check_images(known, 1)
        assert [problem.sample for problem in problems] == ["b", "c"]
        assert "posix.system" in problems[0].message
        assert "c.npy: it has a map of class 3 (boat), and the tags of c are cat" in str(problems[1])
    for id in "ad":
        np.save(tmp_path / f"maps/{id}.npy", {7: MAP, 3: MAP})  # pyright: ignore[reportArgumentType]
    with pytest.raises(DatasetError, match=r"^[^\n]*a\.npy: it has a map of class 3 \(boat\)[^\n]*$"):
        with_cams(dataset, tmp_path / "maps")


def test_an_archive_of_torch_with_code_or_false_sizes_is_refused() -> None:
    def archive_of(pickled: bytes, numbers: bytes = b"\0" * 4) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/byteorder", b"little")
            archive.writestr("archive/data/0", numbers)
        return stream.getvalue()

    tensor = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    tensor += (
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR."
    )
    assert read_zip(archive_of(tensor), 10**6).shape == (1,)
    with pytest.raises(PickleError, match=r"\[1\] numbers of float32 in 2 bytes"):
        read_zip(archive_of(tensor, b"\0\0"), 10**6)
    with pytest.raises(PickleError, match=r"it names posix\.system"):
        read_zip(archive_of(pickle.dumps(Runs(os.system, "exit 1"))), 10**6)
    with pytest.raises(PickleError, match="it unpacks to"):
        read_zip(archive_of(tensor, bytes(2000)), 1000)
