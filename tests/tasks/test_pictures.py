"""Pictures: colours that can be computed by hand."""

import base64

import cv2
import numpy as np
import pytest

from data.formats.label_maps import VOC_PALETTE
from tasks.reporting.pictures import (
    VOID_COLOR,
    data_uri,
    fit_height,
    overlay_heat,
    overlay_instances,
    overlay_labels,
    paint_boundary,
    paint_displacement,
    paint_labels,
    paint_wheel,
)

RED, CYAN = (255, 0, 0), (0, 255, 255)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)


def field(dy: float, dx: float) -> np.ndarray:
    return np.array([dy, dx]).reshape(2, 1, 1)


def test_a_tall_picture_is_shrunk_in_proportion_and_a_small_one_is_kept(photo: np.ndarray):
    assert fit_height(photo, 15).shape == (15, 20, 3)
    assert fit_height(photo, 30) is photo


def test_displacement_is_white_at_rest_and_saturates_at_the_given_length():
    np.testing.assert_array_equal(paint_displacement(field(0, 0), 5)[0, 0], (255, 255, 255))
    np.testing.assert_array_equal(paint_displacement(field(0, 5), 5)[0, 0], RED)
    np.testing.assert_array_equal(paint_displacement(field(0, 50), 5)[0, 0], RED)
    np.testing.assert_array_equal(paint_displacement(field(0, -5), 5)[0, 0], CYAN)
    half = paint_displacement(field(0, 2.5), 5)[0, 0]
    np.testing.assert_allclose(half, (255, 127.5, 127.5), atol=1)


def test_downwards_and_upwards_differ_in_hue():
    down, up = (paint_displacement(field(dy, 0), 1)[0, 0] for dy in (1, -1))
    # 90 and 270 degrees of hue: as much green, or blue, as can be beside half of red.
    np.testing.assert_allclose(down, (127.5, 255, 0), atol=1)
    np.testing.assert_allclose(up, (127.5, 0, 255), atol=1)


def test_the_wheel_shows_the_direction_from_its_centre():
    wheel = paint_wheel(101)
    np.testing.assert_allclose(wheel[50, 100].astype(int), RED, atol=6)
    np.testing.assert_allclose(wheel[50, 0].astype(int), CYAN, atol=6)
    assert wheel[100, 50].argmax() == 1
    assert wheel[50, 50].min() == 255
    assert wheel[0, 0].min() == 255


def test_a_field_of_zeros_can_be_drawn_at_a_full_length_of_zero():
    assert (paint_displacement(np.zeros((2, 3, 4)), 0) == 255).all()


def test_labels_have_vocs_colours_and_void_a_grey_that_no_class_has():
    painted = paint_labels(np.array([[0, 1, 15, 255]], np.uint8))
    np.testing.assert_array_equal(painted[0, :3], VOC_PALETTE[[0, 1, 15]])
    np.testing.assert_array_equal(painted[0, 3], VOID_COLOR)
    assert not (VOC_PALETTE[:255] == VOID_COLOR).all(axis=1).any()


def test_overlays_leave_the_background_of_the_photograph_alone(photo: np.ndarray):
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 20:40] = 3
    shown = overlay_labels(photo, labels)
    inside = np.zeros((30, 40), bool)
    inside[10:20, 10:20] = True
    np.testing.assert_array_equal(shown[~inside], photo[~inside])
    np.testing.assert_array_equal(shown[10, 10], VOC_PALETTE[3])
    mixed = 0.45 * photo[15, 15] + 0.55 * VOC_PALETTE[3]
    np.testing.assert_allclose(shown[15, 15], mixed, atol=0.51)


def test_of_scenes_every_class_is_laid_over_the_photograph(photo: np.ndarray):
    shown = overlay_labels(photo, np.zeros((60, 80), np.uint8), background=False)
    np.testing.assert_allclose(shown, 0.45 * photo + 0.55 * VOC_PALETTE[0], atol=0.51)


def test_every_instance_has_a_colour_of_its_own_and_void_is_grey():
    black = np.zeros((20, 60, 3), np.uint8)
    ids = np.repeat([[*range(1, 12), 255]], 20, axis=0).repeat(5, axis=1)
    shown = overlay_instances(black, ids)
    # The middle column of each block has no outline.
    colors = shown[10, 2::5]
    assert len(np.unique(colors, axis=0)) == 12
    np.testing.assert_allclose(colors[-1], 0.55 * VOID_COLOR, atol=1)


def test_instances_of_one_class_that_touch_have_an_outline_between_them():
    grey = np.full((10, 20, 3), 100, np.uint8)
    ids = np.repeat([[1] * 10 + [2] * 10], 10, axis=0)
    shown = overlay_instances(grey, ids)
    assert not np.array_equal(shown[5, 9], shown[5, 5])
    assert not np.array_equal(shown[5, 10], shown[5, 15])


def test_a_higher_score_hides_more_of_the_photograph():
    grey = np.full((4, 8, 3), 128, np.uint8)
    scores = np.repeat([[0.0, 1.0]], 2, axis=0).astype(np.float16)
    change = np.abs(overlay_heat(grey, scores).astype(int) - 128).sum(axis=2)
    assert overlay_heat(grey, scores).shape == grey.shape
    assert change[:, 0].max() < change[:, -1].min()
    red, _, blue = overlay_heat(grey, np.ones((2, 2)))[0, 0].astype(int)
    assert red > blue


def test_a_boundary_is_black_where_absent_and_white_where_sure():
    painted = paint_boundary(np.array([[0, 0.5, 1]], np.float16))
    np.testing.assert_array_equal(painted[0], [[0] * 3, [128] * 3, [255] * 3])


@pytest.mark.parametrize(("lossless", "kind", "tolerance"), [(True, "png", 0), (False, "jpeg", 12)])
def test_a_data_uri_decodes_to_its_picture(lossless: bool, kind: str, tolerance: int):
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[..., 0] = 200
    head, _, body = data_uri(picture, lossless=lossless).partition(",")
    assert head == f"data:image/{kind};base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_allclose(decoded[..., ::-1].astype(int), picture, atol=tolerance)
