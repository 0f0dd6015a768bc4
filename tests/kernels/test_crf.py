"""The dense CRF: what it must move, what it must leave, what it refuses."""

import numpy as np
import pytest
import torch

from kernels.crf import label_marginals, refine_labels


def two_tone(height=40, width=60, edge=30):
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, edge:] = (200, 120, 60)
    return image


def labels_up_to(column, height=40, width=60):
    labels = np.zeros((height, width), np.uint8)
    labels[:, column:] = 1
    return labels


def test_a_border_a_few_pixels_off_moves_to_the_edge_of_the_image():
    refined = refine_labels(two_tone(edge=30), labels_up_to(34), 2)
    assert np.array_equal(refined, labels_up_to(30))


def test_no_iterations_and_a_map_of_one_value_change_nothing():
    image = two_tone()
    labels = labels_up_to(34)
    assert np.array_equal(refine_labels(image, labels, 2, iterations=0), labels)
    for value, num_labels in ((0, 1), (2, 5)):
        constant = np.full((40, 60), value, np.int64)
        refined = refine_labels(image, constant, num_labels)
        assert np.array_equal(refined, constant)
        assert refined is not constant
    assert (label_marginals(image, constant, 5, 10, 0.7).argmax(0) == 2).all()


def test_marginals_are_distributions_that_follow_the_confidence():
    image, labels = two_tone(), labels_up_to(34)
    for confidence in (0.6, 0.9):
        start = label_marginals(image, labels, 3, 0, confidence)
        np.testing.assert_allclose(start.sum(0), 1, atol=1e-5)
        np.testing.assert_allclose(start.max(0), confidence, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_tensors_and_arrays_give_the_same_map_in_their_own_kind(dtype):
    image, labels = two_tone(), labels_up_to(33).astype(dtype)
    array = refine_labels(image, labels, 2)
    tensor = refine_labels(torch.from_numpy(image), torch.from_numpy(labels), 2)
    assert array.dtype == dtype
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.from_numpy(labels).dtype
    assert np.array_equal(array, tensor.numpy())


def test_strided_and_read_only_images_are_accepted():
    image, labels = two_tone()[:, ::-1], labels_up_to(33)[:, ::-1]
    image.flags.writeable = False
    labels.flags.writeable = False
    assert np.array_equal(refine_labels(image, labels, 2), refine_labels(image.copy(), labels.copy(), 2))


def test_what_cannot_be_refined_is_refused():
    image, labels = two_tone(), labels_up_to(30)
    with pytest.raises(ValueError, match="got 'gpu'"):
        refine_labels(image, labels, 2, backend="gpu")
    with pytest.raises(ValueError, match=r"in \[0, 1\), got uint8 in \[0, 1\]"):
        refine_labels(image, labels, 1)
    with pytest.raises(ValueError, match="must be integers"):
        refine_labels(image, labels.astype(np.float32), 2)
    with pytest.raises(ValueError, match="must be uint8"):
        refine_labels(image.astype(np.float32), labels, 2)
    with pytest.raises(ValueError, match=r"\(40, 60, 3\) and \(40, 59\)"):
        refine_labels(image, labels[:, 1:], 2)
    for wrong in ({"confidence": 1.0}, {"confidence": 0.0}, {"iterations": -1}):
        with pytest.raises(ValueError, match="need iterations >= 0 and 0 < confidence < 1"):
            refine_labels(image, labels, 2, **wrong)
