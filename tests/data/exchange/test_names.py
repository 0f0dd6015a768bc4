"""What tools call an image: which names are those of one of ours."""

from pathlib import Path

import pytest

from data.dataset import ClassTable, Sample
from data.exchange.spec import Labels


def labels(*ids: str, photographs: str = "/home/ada/photos") -> Labels:
    samples = tuple(Sample(id, Path(photographs) / f"{id}.jpg", ()) for id in ids)
    return Labels(Path("labels"), samples, ClassTable(("cat",)))


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("1", "1"),
        ("./1.png", "1"),
        ("a/1.png", "a/1"),
        ("photos/1.png", "1"),
        ("photos\\a\\1.png", "a/1"),
        ("/home/ada/photos/a/1.jpg", "a/1"),
        ("2.png", "b/2"),
        # Of another machine.
        ("/mnt/b/2.png", "b/2"),
        ("C:\\set\\b\\2.png", "b/2"),
        ("s3://bucket/b/2.png", "b/2"),
        ("mixed 1.5", "mixed 1.5"),
        ("mixed 1.5.png", "mixed 1.5"),
        ("/mnt/mixed 1.5", "mixed 1.5"),
    ],
)
def test_an_image_is_found_by_its_id_and_by_paths_to_it(name: str, id: str) -> None:
    assert labels("1", "a/1", "b/2", "mixed 1.5", "mixed 1").find(name).id == id


@pytest.mark.parametrize(
    "name",
    ["c/1.png", "other/mixed.png", "a/2.png", "/mnt/a/1.png", "/mnt/c/2.png", "x/photos/mixed.png", "", "/", "3"],
)
def test_an_image_of_another_folder_is_none_of_ours(name: str) -> None:
    with pytest.raises(ValueError, match="expected an image of the labels"):
        labels("1", "a/1", "b/2", "mixed").find(name)


def test_a_name_of_two_images_is_that_of_none() -> None:
    with pytest.raises(ValueError, match="one of 2 images called so"):
        labels("a/1", "b/1").find("1.png")
