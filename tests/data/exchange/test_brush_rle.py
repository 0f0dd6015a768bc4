"""Label Studio's run lengths: the bytes that its own converter writes, and masks again."""

import hashlib

import numpy as np
import pytest

from data.exchange.shapes.brush_rle import decode_brush, encode_brush


def board(height: int, width: int) -> np.ndarray:
    return np.indices((height, width)).sum(axis=0) % 2 == 0


# Of `label_studio_sdk.converter.brush.encode_rle`, of the mask repeated for four channels, as 0 and 255.
KNOWN = [
    (board(1, 1), [0, 0, 0, 4, 57, 27, 252, 127, 224]),
    (board(2, 4), [0, 0, 0, 32, 57, 27, 252, 127, 241, 128, 71, 255, 56, 4, 127, 241, 128, 71, 254]),
]


@pytest.mark.parametrize(("mask", "data"), KNOWN)
def test_the_bytes_are_those_of_label_studio(mask: np.ndarray, data: list[int]) -> None:
    assert encode_brush(mask) == data
    np.testing.assert_array_equal(decode_brush(data, mask.shape), mask)


def test_runs_of_more_than_sixteen_bits_are_those_of_label_studio() -> None:
    mask = np.zeros((160, 160), bool)
    mask[80:] = mask[3, 4] = True
    data = encode_brush(mask)
    wanted = "bce09ed078de87fc8a7f3d733eaaf76952d3f1527afec23d5e75deae367df4b5"
    assert hashlib.sha256(bytes(data)).hexdigest() == wanted
    np.testing.assert_array_equal(decode_brush(data, mask.shape), mask)


@pytest.mark.parametrize("seed", range(8))
def test_a_mask_is_itself_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 90, 2)) > rng.random()
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), mask.shape), mask)


def test_values_that_are_not_repeated_and_other_sizes_of_words_are_read() -> None:
    # Two pixels as eight values of 4 bits, one after another: alpha is the fourth of each.
    values = [1, 2, 3, 0, 9, 9, 9, 5]
    sizes = [f"{size - 1:04b}" for size in (3, 4, 8, 16)]
    text = f"{8:032b}{3:05b}{''.join(sizes)}" + f"0{0:02b}{7:03b}" + "".join(f"{value:04b}" for value in values)
    text += "0" * (-len(text) % 8)
    data = [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]
    np.testing.assert_array_equal(decode_brush(data, (1, 2)), [[False, True]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "too few bytes"),
        ([0] * 6, "too few bytes"),
        ([0, 0, 0, 4, 57, 27, 252, 127, 300], "numbers from 0 to 255"),
        (KNOWN[1][1][:-4], "of 8 pixels, found 5"),
        (KNOWN[0][1], "of 8 pixels, found 1"),
        (["a"], "numbers from 0 to 255"),
    ],
)
def test_what_is_no_stream_of_the_image_is_refused(data: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_brush(data, (2, 4))
