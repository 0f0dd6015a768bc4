"""What was downloaded is there with its SHA-256, or not at all. The network is played by addresses of files."""

import hashlib
from pathlib import Path

import pytest

from data.dataset import DatasetError
from data.downloads import fetch
from data.formats import voc


def served(folder: Path, content: bytes) -> tuple[str, str]:
    """Return the address of a file and its SHA-256."""
    (folder / "served").write_bytes(content)
    return (folder / "served").as_uri(), hashlib.sha256(content).hexdigest()


def test_a_file_is_downloaded_once(tmp_path: Path) -> None:
    url, sha256 = served(tmp_path, b"archive")
    file = tmp_path / "deep/archive.tar"
    fetch(url, file, sha256)
    assert file.read_bytes() == b"archive"
    (tmp_path / "served").unlink()
    fetch(url, file, sha256)
    assert [found.name for found in file.parent.iterdir()] == ["archive.tar"]


def test_a_wrong_file_is_refused_by_name_and_removed(tmp_path: Path) -> None:
    url, _ = served(tmp_path, b"another")
    file = tmp_path / "deep/archive.tar"
    with pytest.raises(DatasetError, match=r"archive\.tar: expected the SHA-256 ab.* it was removed"):
        fetch(url, file, "ab" * 32)
    assert list(file.parent.iterdir()) == []


def test_a_damaged_file_is_downloaded_again(tmp_path: Path) -> None:
    url, sha256 = served(tmp_path, b"archive")
    (tmp_path / "archive.tar").write_bytes(b"arch")
    fetch(url, tmp_path / "archive.tar", sha256)
    assert (tmp_path / "archive.tar").read_bytes() == b"archive"


def test_without_a_network_the_file_and_the_address_are_named(tmp_path: Path) -> None:
    url = (tmp_path / "nowhere").as_uri()
    with pytest.raises(DatasetError, match=r"archive\.tar: expected to download it from file://.*nowhere"):
        fetch(url, tmp_path / "archive.tar", "ab" * 32)
    assert list(tmp_path.iterdir()) == []


def test_archives_of_every_year_have_a_sha256_and_the_addresses_that_torchvision_knows() -> None:
    from torchvision.datasets import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    assert voc.VOC_ARCHIVES.keys() == {str(year) for year in range(2007, 2013)}
    for year, (archive, sha256) in voc.VOC_ARCHIVES.items():
        assert len(bytes.fromhex(sha256)) == 32
        assert DATASET_YEAR_DICT[year]["url"] == f"{voc.VOC_ADDRESS}/voc{year}/{archive}"
    assert SBDataset.url == f"{voc.SBD_ADDRESS}/{voc.SBD_ARCHIVE[0]}"
    assert SBDataset.filename == voc.SBD_ARCHIVE[0]
