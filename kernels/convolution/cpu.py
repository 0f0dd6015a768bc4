"""The CPU version: 3 x 3 kernels by Winograd's F(4 x 4, 3 x 3), 1 x 1 kernels as one product, and one last pass."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numba import float32, njit
from torch import Tensor
from torch.nn import functional as F

TILE = 4
SPAN = TILE + 2
# The three matrices of F(4, 3), by its points 0, 1, -1, 2, -2 and infinity.
TO_SPECTRUM = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
WEIGHT_TO_SPECTRUM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
FROM_SPECTRUM = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
)
# The spectra of a block of tiles, in and out, stay in the cache; with fewer tiles the products suffer.
BLOCK_BYTES = 16 << 20
MIN_TILES = 96


def spectrum_of(weight: Float[Tensor, "o c 3 3"]) -> Float[Tensor, "36 c o"]:
    """Return G w G^T of every pair of channels, computed in double precision."""
    matrix = torch.from_numpy(WEIGHT_TO_SPECTRUM).to(weight.device)
    found = torch.einsum("ik,ockl,jl->ijco", matrix, weight.double(), matrix)
    return found.flatten(0, 1).to(weight.dtype).contiguous()


def convolve(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c k k"],
    bias: Float[Tensor, " o"],
    spectrum: Float[Tensor, "36 c o"] | None,
    residual: Float[Tensor, "b o h w"] | None,
    low: float,
    high: float,
) -> Float[Tensor, "b o h w"]:
    """See `kernels.convolution.convolve`; single precision. The result's channels are last in memory."""
    batch, channels, height, width = x.shape
    pixels = _channels_last(x)
    if weight.shape[2] == 1:
        y = torch.mm(pixels.view(-1, channels), weight.flatten(1).t()).view(batch, height, width, -1)
        y = y.permute(0, 3, 1, 2)
        finish(y, bias, residual, low, high)
        return y
    spectrum = spectrum_of(weight) if spectrum is None else spectrum
    features = spectrum.shape[2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    # Padded, an image is rows x columns overlapping tiles.
    padded = F.pad(pixels, (0, 0, 1, columns * TILE + 1 - width, 1, rows * TILE + 1 - height))
    y = torch.empty(batch, height, width, features)
    added = y.new_empty(0, 0, 0, 0) if residual is None else _channels_last(residual)
    tiles = batch * rows * columns
    limit = max(MIN_TILES, BLOCK_BYTES // (4 * SPAN**2 * (channels + features)))
    block = -(-tiles // -(-tiles // limit))
    lines = padded.flatten(2).numpy()
    for first in range(0, tiles, block):
        spectra = torch.empty(SPAN**2, min(block, tiles - first), channels)
        _transform(lines, first, rows, columns, TO_SPECTRUM, spectra.numpy())
        product = torch.bmm(spectra, spectrum).numpy()
        limits = float32(low), float32(high)
        _transform_back(product, first, rows, columns, FROM_SPECTRUM, bias.numpy(), added.numpy(), *limits, y.numpy())
    return y.permute(0, 3, 1, 2)


def finish(
    y: Float[Tensor, "b o h w"],
    bias: Float[Tensor, " o"],
    residual: Float[Tensor, "b o h w"] | None,
    low: float,
    high: float,
) -> None:
    """Add bias and residual to `y`, whose channels are last in memory, and clip it, in place and in one pass."""
    features = y.shape[1]
    pixels = y.permute(0, 2, 3, 1).view(-1, features).numpy()
    if residual is None:
        _finish(pixels, bias.numpy(), float32(low), float32(high))
    else:
        added = _channels_last(residual).view(-1, features).numpy()
        _finish_with(pixels, bias.numpy(), added, float32(low), float32(high))


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


# Vectors are passed one by one: of a slice of several numba does not know that its last axis is contiguous.
@njit(nogil=True, cache=True)
def _combine(matrix, row, a, b, c, d, e, f, out):
    """Write the combination of six vectors by a row of the matrix to `out`."""
    m, n, o = matrix[row, 0], matrix[row, 1], matrix[row, 2]
    p, q, r = matrix[row, 3], matrix[row, 4], matrix[row, 5]
    for k in range(out.shape[0]):
        out[k] = (m * a[k] + n * b[k] + o * c[k]) + (p * d[k] + q * e[k] + r * f[k])


@njit(nogil=True, cache=True)
def _transform(lines, first, rows, columns, matrix, out):
    """Write B^T d B of the tiles from `first` on to out [36, tiles, C]; lines is [B, 4 rows + 2, (4 columns + 2) C]."""
    channels = out.shape[2]
    half = np.empty((6, 6 * channels), np.float32)
    for tile in range(out.shape[1]):
        image, place = divmod(first + tile, rows * columns)
        top, left = 4 * (place // columns), 4 * (place % columns) * channels
        right = left + 6 * channels
        a, b = lines[image, top][left:right], lines[image, top + 1][left:right]
        c, d = lines[image, top + 2][left:right], lines[image, top + 3][left:right]
        e, f = lines[image, top + 4][left:right], lines[image, top + 5][left:right]
        for i in range(6):
            _combine(matrix, i, a, b, c, d, e, f, half[i])
        for i in range(6):
            line = half[i].reshape(6, channels)
            for j in range(6):
                _combine(matrix, j, line[0], line[1], line[2], line[3], line[4], line[5], out[6 * i + j, tile])


@njit(nogil=True, cache=True)
def _transform_back(product, first, rows, columns, matrix, bias, added, low, high, y):
    """Write A^T m A of the tiles from `first` on, m of product [36, tiles, O], finished, to their places in y."""
    _, height, width, features = y.shape
    half = np.empty((4, 6, features), np.float32)
    for tile in range(product.shape[1]):
        image, place = divmod(first + tile, rows * columns)
        top, left = 4 * (place // columns), 4 * (place % columns)
        for j in range(6):
            a, b, c = product[j, tile], product[j + 6, tile], product[j + 12, tile]
            d, e, f = product[j + 18, tile], product[j + 24, tile], product[j + 30, tile]
            for i in range(4):
                _combine(matrix, i, a, b, c, d, e, f, half[i, j])
        for i in range(min(4, height - top)):
            line = half[i]
            for j in range(min(4, width - left)):
                out = y[image, top + i, left + j]
                _combine(matrix, j, line[0], line[1], line[2], line[3], line[4], line[5], out)
                if added.shape[0]:
                    more = added[image, top + i, left + j]
                    for k in range(features):
                        out[k] = min(max(out[k] + bias[k] + more[k], low), high)
                else:
                    for k in range(features):
                        out[k] = min(max(out[k] + bias[k], low), high)


@njit(nogil=True, cache=True)
def _finish(y, bias, low, high):
    for pixel in range(y.shape[0]):
        for k in range(y.shape[1]):
            y[pixel, k] = min(max(y[pixel, k] + bias[k], low), high)


@njit(nogil=True, cache=True)
def _finish_with(y, bias, added, low, high):
    for pixel in range(y.shape[0]):
        for k in range(y.shape[1]):
            y[pixel, k] = min(max(y[pixel, k] + bias[k] + added[pixel, k], low), high)
