"""Plain data out of NumPy's pickled files: text, numbers, arrays. No code of a file is run.

Pickles name functions, and whoever loads them runs these. Here a name is never looked up: the few that arrays
consist of stand for functions of this module, which rebuild an array from its bytes; any other is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import Any

import numpy as np


class PickleError(ValueError):
    """A file holds something else than plain data, or is damaged; the message says what."""


def read_npy(content: bytes) -> Any:
    """Read the bytes of a `.npy` file: an array, or the plain data that was pickled in it.

    Raises:
        PickleError: It holds something else, or asks for code.
        ValueError, EOFError, ...: Whatever damaged bytes lead to.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if not dtype.hasobject:
        return _array(stream.read(), dtype, shape, fortran=fortran)
    if shape != ():
        raise PickleError(f"it is a list of {list(shape)} things")
    root = _plain(_Unpickler(stream, encoding="latin1").load())
    return root[0] if isinstance(root, list) and len(root) == 1 else root


class _Array:
    """What a pickled array consists of, kept as it is."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, tuple) else (state,)


class _Dtype(_Array):
    def __init__(self, *names: Any) -> None:
        self.name = str(names[0]) if names else ""


class _Unpickler(pickle.Unpickler):
    """Reads plain data and arrays; names are never looked up."""

    def find_class(self, module: str, name: str) -> Any:
        # Functions of their own each time: a pickle may set attributes of what it finds.
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return lambda *_: _Array()
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "scalar"):
                return lambda dtype, raw: _array(_raw(raw), _kind(dtype), ()).item()
            case "numpy", "dtype":
                return lambda *names: _Dtype(*names)
            case "numpy", "ndarray":
                return type("ndarray", (_Array,), {})
            case "_codecs", "encode":
                return lambda text, *_: str(text).encode("latin1")
        raise PickleError(f"it names {module}.{name}, which is not looked up")

    def persistent_load(self, pid: Any) -> Any:
        raise PickleError("it refers to other data than its own")


def _plain(value: Any, depth: int = 0) -> Any:
    """Return data with arrays in the place of their parts."""
    if depth > 16:
        raise PickleError("it is nested too deeply")
    if isinstance(value, _Array):
        return _plain(_rebuilt(value), depth + 1)
    if isinstance(value, dict):
        return {_plain(key, depth + 1): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, depth + 1) for each in value)
    if value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray):
        return value
    raise PickleError(f"it holds {type(value).__name__}")


def _rebuilt(value: _Array) -> Any:
    if len(value.state) != 5:
        raise PickleError("it has a damaged array")
    _, shape, dtype, fortran, raw = value.state
    if isinstance(raw, list):
        # Of an array of objects, in which NumPy puts what is no array.
        return raw
    return _array(_raw(raw), _kind(dtype), shape, fortran=bool(fortran))


def _array(raw: bytes, dtype: np.dtype[Any], shape: Any, *, fortran: bool = False) -> np.ndarray:
    sizes = tuple(int(size) for size in shape)
    if min(sizes, default=0) < 0 or math.prod(sizes) * dtype.itemsize != len(raw):
        raise PickleError(f"it has an array of {list(sizes)} numbers of {dtype} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(sizes, order="F" if fortran else "C")


def _raw(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("latin1")
    if not isinstance(value, bytes):
        raise PickleError("it has an array without bytes")
    return value


def _kind(dtype: Any) -> np.dtype[Any]:
    """Return a number's type, with the order of its bytes."""
    if not isinstance(dtype, _Dtype) or not re.fullmatch(r"[biuf][1248]", dtype.name):
        raise PickleError("it has arrays of other things than numbers")
    order = str(dtype.state[1]) if len(dtype.state) > 1 else "|"
    return np.dtype(dtype.name if order not in "<>" else order + dtype.name)
