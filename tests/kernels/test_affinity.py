"""Pairs, paths and affinities, against a second derivation in plain Python."""

import math
from itertools import product

import pytest
import torch

from kernels.affinity import boundary_to_affinity, offsets, paths, reference
from kernels.affinity.cpu import path_minima
from kernels.affinity.plan import plan, unions


def brute_path(dy, dx):
    """Pixels of the bounding box near the line, by projection in floating point."""
    length = math.hypot(dy, dx)
    box = {(y, x) for y in range(dy + 1) for x in (range(dx + 1) if dx >= 0 else range(dx, 1))}
    along = {(y, x): (y * dy + x * dx) / length**2 for y, x in box}
    return {(y, x) for y, x in box if math.dist((y, x), (along[y, x] * dy, along[y, x] * dx)) < 1 - 1e-9}


def brute_affinity(boundary, dy, dx, y, x):
    height, width = boundary.shape
    if not (0 <= y + dy < height and 0 <= x + dx < width):
        return 0.0
    return 1 - max(float(boundary[y + py, x + px]) for py, px in brute_path(dy, dx))


@pytest.mark.parametrize(("radius", "count"), [(2, 4), (3, 12), (5, 34), (10, 152)])
def test_every_unordered_pair_within_the_radius_occurs_once(radius, count):
    found = [tuple(offset) for offset in offsets(radius).tolist()]
    both_ways = set(found) | {(-dy, -dx) for dy, dx in found}
    reach = range(-radius, radius + 1)
    disc = {(dy, dx) for dy in reach for dx in reach if 0 < math.hypot(dy, dx) < radius}
    assert both_ways == disc
    assert len(found) == count == len(disc) // 2


@pytest.mark.parametrize("radius", [5, 10])
def test_paths_are_the_pixels_within_one_pixel_of_the_line_and_never_get_shorter(radius):
    lengths = [len(path) for path in paths(radius).values()]
    assert lengths == sorted(lengths)
    for offset, path in paths(radius).items():
        assert set(path) == brute_path(*offset)
        assert (0, 0) in path
        assert offset in path
        assert list(path) == sorted(path)


@pytest.mark.parametrize(("radius", "most_steps"), [(2, 3), (5, 29), (7, 80), (10, 173)])
def test_a_plan_builds_exactly_the_paths_in_few_steps(radius, most_steps):
    steps, sizes, ends = plan(radius)
    shapes = [{(0, 0)}]
    for a, ay, ax, b, by, bx in steps.tolist():
        shapes.append({(y + ay, x + ax) for y, x in shapes[a]} | {(y + by, x + bx) for y, x in shapes[b]})
    boxes = [[1 + max(y for y, _ in shape), 1 + max(x for _, x in shape)] for shape in shapes]
    assert sizes.tolist() == boxes
    for (shape, left), path in zip(ends.tolist(), paths(radius).values(), strict=True):
        assert {(y, x - left) for y, x in shapes[shape]} == set(path)
    assert len(steps) <= most_steps


@pytest.mark.parametrize("radius", [2, 3, 5, 10])
def test_unions_make_the_paths_and_know_how_far_down_they_look(radius):
    steps, widths, below, ends = unions(radius)
    shapes = [{(0, 0)}]

    def unite(a, ay, ax, b, by, bx):
        return {(y + ay, x + ax) for y, x in shapes[a]} | {(y + by, x + bx) for y, x in shapes[b]}

    for step in steps.tolist():
        shapes.append(unite(*step))
    assert widths.tolist() == [1 + max(x for _, x in shape) for shape in shapes]
    assert [unite(*end) for end in ends.tolist()] == [set(path) for path in paths(radius).values()]
    deepest = [0] * len(shapes)
    for depth, rows in [(0, ends), *((below[s + 1], steps[s : s + 1]) for s in reversed(range(len(steps))))]:
        for a, ay, _, b, by, _ in rows.tolist():
            deepest[a] = max(deepest[a], depth + ay)
            deepest[b] = max(deepest[b], depth + by)
    assert below.tolist() == deepest
    assert {shape for row in (*steps, *ends) for shape in (row[0], row[3])} == set(range(len(shapes)))


@pytest.mark.parametrize("shape", [(5, 6), (1, 7), (7, 1), (1, 1), (9, 4)])
def test_affinity_is_one_minus_the_strongest_boundary_between(shape):
    boundary = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    affinity = boundary_to_affinity(boundary, 4)
    for k, (dy, dx) in enumerate(paths(4)):
        for y in range(shape[0]):
            for x in range(shape[1]):
                assert affinity[k, y, x].item() == brute_affinity(boundary, dy, dx, y, x)


@pytest.mark.parametrize("radius", [2, 5, 10])
@pytest.mark.parametrize("shape", [(17, 23), (6, 31)])
def test_planned_and_plain_versions_are_equal_with_their_gradients(radius, shape):
    boundary = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = torch.rand(len(paths(radius)), *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gradients = []
    outputs = []
    # With a gradient asked for, "auto" is the planned version in torch.
    for compute in (boundary_to_affinity, reference.boundary_to_affinity):
        leaf = boundary.clone().requires_grad_()
        outputs.append(compute(leaf, radius))
        (outputs[-1] * weight).sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*outputs)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


# Maps of one pixel, one row, one column; several tiles of rows with a rest; wider than the table of a tile.
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 2), (101, 67), (23, 1500)])
@pytest.mark.parametrize("radius", [2, 5, 10])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numba_equals_the_plain_version_to_the_last_bit(shape, radius, dtype, monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(math.nan))
    boundary = torch.rand(shape, generator=torch.Generator().manual_seed(4)).to(dtype)
    expected = reference.boundary_to_affinity(boundary.to(torch.promote_types(dtype, torch.float32)), radius)
    for given in (boundary, boundary.T.contiguous().T):
        found = boundary_to_affinity(given, radius, backend="numba")
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_a_gradient_is_refused_by_name_and_found_by_auto():
    boundary = torch.rand(6, 7, requires_grad=True)
    assert boundary_to_affinity(boundary, 3).requires_grad
    with pytest.raises(ValueError, match="backend 'numba' gives no gradient"):
        boundary_to_affinity(boundary, 3, backend="numba")
    with torch.no_grad():
        assert torch.equal(boundary_to_affinity(boundary, 3, backend="numba"), boundary_to_affinity(boundary, 3))
    with pytest.raises(ValueError, match="backend must be 'auto', 'numba', 'torch' or 'triton', got 'fast'"):
        boundary_to_affinity(boundary, 3, backend="fast")


def test_minima_in_numba_equal_the_paths_for_integers_wherever_they_go():
    # More rows than a tile has; a margin around the place of the output shows what should not be written.
    field = torch.randperm(40 * 15, generator=torch.Generator().manual_seed(3)).view(40, 15).int() + 1
    ends = list(paths(6).items())
    out = torch.full((42, len(ends), 20), -1, dtype=torch.int32)
    path_minima(field.numpy(), out.view(-1).numpy(), len(ends) * 20, 20, len(ends) * 20, *unions(6))
    for k, ((dy, dx), path) in enumerate(ends):
        for y, x in product(range(40), range(15)):
            inside = y + dy < 40 and 0 <= x + dx < 15
            assert out[1 + y, k, x] == (min(field[y + py, x + px] for py, px in path) if inside else 0)
    out[1:41, :, :15] = -1
    assert (out == -1).all()


def test_a_view_of_a_map_gives_the_affinities_of_its_copy():
    view = torch.rand(20, 30)[::2, 1:].t()
    assert not view.is_contiguous()
    assert torch.equal(boundary_to_affinity(view, 5), boundary_to_affinity(view.contiguous(), 5))


def test_half_precision_is_computed_in_single():
    boundary = torch.rand(8, 9).half()
    affinity = boundary_to_affinity(boundary, 3)
    assert affinity.dtype == torch.float32
    assert torch.equal(affinity, boundary_to_affinity(boundary.float(), 3))


def test_a_wrong_shape_and_a_radius_without_neighbours_are_refused():
    with pytest.raises(ValueError, match=r"\[H, W\], got \(1, 4, 4\)"):
        boundary_to_affinity(torch.rand(1, 4, 4), 5)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        offsets(1)
