"""The pair losses and their gradients, against a loop over pairs and against finite differences."""

import math

import pytest
import torch

from kernels.affinity import paths
from models.losses import centering_loss, pair_losses

BACKENDS = ["torch", "numba"]
LOSSES = ("bg_affinity", "fg_affinity", "neg_affinity", "fg_displacement", "bg_displacement", "total")


def random_batch(batch, height, width, seed=0, dtype=torch.float64, classes=(0, 1, 2, 255)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 1, height, width, generator=generator, dtype=dtype)
    displacement = 3 * torch.randn(batch, 2, height, width, generator=generator, dtype=dtype)
    blocks = torch.randint(len(classes), (batch, (height + 1) // 2, (width + 2) // 3), generator=generator)
    labels = blocks.repeat_interleave(2, 1).repeat_interleave(3, 2)[:, :height, :width]
    return logits, displacement, torch.tensor(classes)[labels]


def brute_losses(logits, displacement, labels, radius):
    """Eq. 5 to 8 as sums over pairs, one pair after another."""
    costs = {"bg": [], "fg": [], "neg": []}
    errors = {"bg": [], "fg": []}
    batch, height, width = labels.shape
    for b in range(batch):
        for y in range(height - radius + 1):
            for x in range(radius - 1, width - radius + 1):
                for (dy, dx), path in paths(radius).items():
                    one, other = int(labels[b, y, x]), int(labels[b, y + dy, x + dx])
                    if 255 in (one, other):
                        continue
                    kind = "neg" if one != other else "bg" if one == 0 else "fg"
                    strongest = max(float(logits[b, 0, y + py, x + px]) for py, px in path)
                    affinity = 1 - 1 / (1 + math.exp(-strongest))
                    costs[kind].append(-math.log((1 - affinity if kind == "neg" else affinity) + 1e-5))
                    if kind != "neg":
                        delta = displacement[b, :, y, x] - displacement[b, :, y + dy, x + dx]
                        target = (dy, dx) if kind == "fg" else (0, 0)
                        errors[kind] += [abs(float(delta[0]) - target[0]), abs(float(delta[1]) - target[1])]
    mean = {f"{kind}_affinity": sum(found) / (len(found) + 1e-5) for kind, found in costs.items()}
    mean |= {f"{kind}_displacement": sum(found) / (len(found) + 1e-5) for kind, found in errors.items()}
    positive = (mean["bg_affinity"] + mean["fg_affinity"]) / 2
    mean["total"] = (positive + mean["neg_affinity"]) / 2 + (mean["fg_displacement"] + mean["bg_displacement"]) / 2
    return mean, [len(costs[kind]) for kind in ("bg", "fg", "neg")]


def gradients(batch, radius, backend, field):
    logits, displacement = (tensor.clone().requires_grad_() for tensor in batch[:2])
    losses = pair_losses(logits, displacement, batch[2], radius=radius, backend=backend)
    return torch.autograd.grad(getattr(losses, field), (logits, displacement), materialize_grads=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("shape", "radius"), [((2, 4, 5), 2), ((3, 4, 5), 3), ((2, 9, 11), 4)])
def test_losses_are_means_over_the_pairs_of_the_batch(backend, shape, radius):
    batch = random_batch(*shape)
    expected, counts = brute_losses(*batch, radius)
    losses = pair_losses(*batch, radius=radius, backend=backend)
    assert [losses.num_bg, losses.num_fg, losses.num_neg] == counts
    assert sum(counts) > 0
    for name, value in expected.items():
        assert getattr(losses, name).item() == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("field", LOSSES)
def test_gradients_are_those_of_finite_differences(backend, field):
    logits, displacement, labels = random_batch(2, 5, 7, seed=1)
    found = gradients((logits, displacement, labels), 3, backend, field)
    step = 1e-6
    for tensor, gradient in zip((logits, displacement), found, strict=True):
        for i in range(tensor.numel()):
            values = []
            for sign in (1, -1):
                tensor.view(-1)[i] += sign * step
                values.append(getattr(pair_losses(logits, displacement, labels, radius=3, backend=backend), field))
                tensor.view(-1)[i] -= sign * step
            assert gradient.view(-1)[i].item() == pytest.approx(float(values[0] - values[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("field", LOSSES)
@pytest.mark.parametrize(("shape", "radius"), [((2, 33, 41), 10), ((3, 17, 23), 5)])
def test_numba_agrees_with_torch_in_values_and_gradients(field, shape, radius):
    batch = random_batch(*shape, seed=2, dtype=torch.float32)
    plain, fast = (pair_losses(*batch, radius=radius, backend=backend) for backend in BACKENDS)
    torch.testing.assert_close(getattr(fast, field), getattr(plain, field), rtol=1e-5, atol=0)
    for one, other in zip(*(gradients(batch, radius, backend, field) for backend in BACKENDS), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5 * float(one.abs().max()))


def test_equal_boundaries_hand_the_gradient_to_the_first_pixel_in_both_versions():
    batch = random_batch(1, 12, 14, seed=3)
    logits = torch.round(batch[0])
    assert len(logits.unique()) < 10
    found = [gradients((logits, *batch[1:]), 4, backend, "total")[0] for backend in BACKENDS]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
    one_path = torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    labels = torch.tensor([[[255, 1, 255], [255, 1, 255]]])
    for backend in BACKENDS:
        gradient, _ = gradients((one_path, one_path.expand(1, 2, 2, 3), labels), 2, backend, "fg_affinity")
        assert gradient.flatten().nonzero().tolist() == [[1]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_without_pairs_of_a_kind_has_zero_loss_and_zero_gradient_for_it(backend):
    logits, displacement, labels = random_batch(2, 12, 13)
    empty = {
        0: ("fg_affinity", "neg_affinity", "fg_displacement"),
        3: ("bg_affinity", "neg_affinity", "bg_displacement"),
        255: LOSSES,
    }
    for value, fields in empty.items():
        batch = logits, displacement, torch.full_like(labels, value)
        losses = pair_losses(*batch, radius=4, backend=backend)
        assert losses.total.isfinite()
        for field in fields:
            assert getattr(losses, field) == 0
            assert all((gradient == 0).all() for gradient in gradients(batch, 4, backend, field))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 9, 30), (1, 30, 18), (0, 20, 20)])
def test_a_map_smaller_than_the_window_and_an_empty_batch_have_no_pairs(backend, shape):
    batch = random_batch(*shape)
    losses = pair_losses(*batch, backend=backend)
    assert losses.num_bg == losses.num_fg == losses.num_neg == losses.total == 0
    assert all((gradient == 0).all() for gradient in gradients(batch, 10, backend, "total"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_gets_gradients_of_its_own_type(backend, dtype):
    logits, displacement, labels = random_batch(1, 14, 15)
    half = logits.to(dtype), displacement.to(dtype), labels.to(torch.uint8)
    losses = pair_losses(*half, radius=5, backend=backend)
    single = pair_losses(half[0].float(), half[1].float(), labels, radius=5, backend=backend)
    assert losses.total.dtype == torch.float32
    assert losses == single
    assert [gradient.dtype for gradient in gradients(half, 5, backend, "total")] == [dtype, dtype]


@pytest.mark.parametrize("backend", BACKENDS)
def test_certain_logits_keep_losses_and_gradients_finite(backend):
    logits, displacement, labels = random_batch(1, 12, 12, dtype=torch.float32)
    batch = logits * 1e4, displacement, labels
    assert pair_losses(*batch, radius=4, backend=backend).total.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(batch, 4, backend, "total"))


def test_views_give_the_losses_of_their_copies():
    logits, displacement, labels = random_batch(2, 14, 40)
    views = logits[..., ::2].transpose(2, 3), displacement[..., ::2].transpose(2, 3), labels[..., ::2].transpose(1, 2)
    copies = tuple(view.contiguous() for view in views)
    torch.testing.assert_close(pair_losses(*views, radius=5), pair_losses(*copies, radius=5), rtol=1e-12, atol=0)


def test_results_do_not_depend_on_the_number_of_threads():
    batch = random_batch(3, 24, 26, dtype=torch.float32)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append((pair_losses(*batch), gradients(batch, 10, "numba", "total")))
    finally:
        torch.set_num_threads(threads)
    assert found[0][0] == found[1][0]
    assert all(torch.equal(*pair) for pair in zip(found[0][1], found[1][1], strict=True))


def test_what_does_not_fit_together_is_refused():
    logits, displacement, labels = random_batch(2, 12, 12)
    with pytest.raises(ValueError, match=r"got \(2, 12, 12\), \(2, 12, 12\), \(2, 1, 12, 12\)"):
        pair_losses(logits, displacement[:, :1], labels)
    with pytest.raises(ValueError, match=r"\(2, 12, 11\)"):
        pair_losses(logits, displacement, labels[..., 1:])
    with pytest.raises(ValueError, match="got 'fast'"):
        pair_losses(logits, displacement, labels, backend="fast")


def test_centering_is_the_mean_over_regions_of_their_mean_displacement() -> None:
    displacement = torch.zeros(1, 2, 2, 4)
    displacement[0, 0] = torch.tensor([[1.0, 3.0, 9.0, 0.0], [2.0, 2.0, 9.0, 0.0]])
    displacement[0, 1] = torch.tensor([[4.0, -4.0, 9.0, 6.0], [0.0, 0.0, 9.0, 6.0]])
    regions = torch.tensor([[[1, 1, 0, 7], [1, 1, 0, 7]]])
    # The regions' means are (2, 0) and (0, 6); the cells of no region do not count.
    assert centering_loss(displacement, regions).item() == pytest.approx((2 + 0 + 0 + 6) / 4)


def test_centering_moves_a_region_as_a_whole_and_is_zero_without_one() -> None:
    displacement = torch.randn(2, 2, 5, 6, requires_grad=True)
    regions = torch.zeros(2, 5, 6, dtype=torch.long)
    loss = centering_loss(displacement, regions)
    loss.backward()
    assert loss.item() == 0
    assert displacement.grad is not None
    assert not displacement.grad.any()
    displacement.grad = None
    regions[1, 1:3, 2:5] = 3
    centering_loss(displacement, regions).backward()
    inside = regions[:, None].expand(-1, 2, -1, -1) > 0
    assert (displacement.grad[~inside] == 0).all()
    assert displacement.grad[inside].abs().unique().numel() == 1
