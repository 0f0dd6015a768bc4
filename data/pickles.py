"""Plain data out of pickled files: text, numbers, NumPy's arrays, torch's tensors. No code of a file is run.

Pickles name functions, and whoever loads them runs these. Here a name is never looked up: the few that arrays and
tensors consist of stand for functions of this module, which rebuild an array from its bytes; any other is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from data.files import refuse_special

MAX_BYTES = 2**31
"""Of the arrays in one file; maps of one photograph for all classes of the largest table lie far below."""


class PickleError(ValueError):
    """A file holds something else than plain data, or is damaged; the message says what."""


def read_arrays(path: Path) -> Any:
    """Read a file of NumPy (`.npy`, `.npz`) or torch (`.pt`, `.pth`): what was saved, with arrays in place of tensors.

    Returns:
        An array; or dictionaries, lists, text and numbers with arrays in them. Of a `.npz`, a dictionary by name.

    Raises:
        PickleError: The file holds something else, asks for code, or is damaged.
        OSError: It cannot be read, or is no regular file.
    """
    if refuse_special(path) > MAX_BYTES:
        raise PickleError(f"it has more than {MAX_BYTES} bytes")
    try:
        match path.suffix.lower():
            case ".npz":
                return _read_npz(path)
            case ".npy":
                return read_npy(path.read_bytes())
            case _:
                return _read_torch(path.read_bytes())
    except (OSError, PickleError):
        raise
    except Exception as error:  # Damaged bytes raise whatever they ask for.
        raise PickleError(f"{error or type(error).__name__}") from error


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
        return _array(stream.read(), dtype, shape, "F" if fortran else "C")
    if shape != ():
        raise PickleError(f"it is a list of {list(shape)} things")
    root = _plain(_Unpickler(stream, encoding="latin1").load())
    return root[0] if isinstance(root, list) and len(root) == 1 else root


def _read_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise PickleError(f"it unpacks to more than {MAX_BYTES} bytes")
        return {member.filename.removesuffix(".npy"): read_npy(archive.read(member)) for member in members}


def _read_torch(content: bytes) -> Any:
    # Only who has such files waits for torch.
    import torch

    try:
        return _plain(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise PickleError(_refused(named[1]) if named else "it is no file of torch, or damaged") from None


def _refused(name: str) -> str:
    return f"it names {name}, which is not looked up"


class _Array:
    """What a pickled array consists of, kept as it is."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, tuple) else (state,)


class _Dtype(_Array):
    def __init__(self, *names: Any) -> None:
        self.name = str(names[0]) if names else ""


class _Unpickler(pickle.Unpickler):
    """Reads plain data, arrays and tensors; names are never looked up."""

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
            case "collections", "OrderedDict":
                return lambda *_: {}
            case "torch.storage", "_load_from_bytes":
                return lambda content: _storage(content)
            case "torch._utils", "_rebuild_tensor_v2":
                return lambda storage, offset, shape, strides, *_: _tensor(storage, offset, shape, strides)
        raise PickleError(_refused(f"{module}.{name}"))

    def persistent_load(self, pid: Any) -> Any:
        raise PickleError("it refers to other data than its own")


def _storage(content: Any) -> np.ndarray:
    import torch

    if not isinstance(content, bytes):
        raise PickleError("it has a tensor without bytes")
    try:
        storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PickleError("it has a tensor that asks for code, or is damaged") from None
    if not isinstance(storage, torch.storage.TypedStorage):
        raise PickleError(f"it has {type(storage).__name__} in the place of a tensor")
    # NumPy has no bfloat16.
    values = torch.tensor([], dtype=storage.dtype).set_(storage)
    return (values.float() if storage.dtype == torch.bfloat16 else values).numpy()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    if not isinstance(storage, np.ndarray):
        raise PickleError("it has a tensor without a storage")
    last = int(offset) + sum((int(size) - 1) * int(stride) for size, stride in zip(shape, strides, strict=True))
    if min((int(offset), *map(int, shape), *map(int, strides)), default=0) < 0 or (
        math.prod(shape) and last >= len(storage)
    ):
        raise PickleError("it has a tensor that reaches beyond its data")
    found = np.lib.stride_tricks.as_strided(
        storage[int(offset) :], shape, [int(stride) * storage.itemsize for stride in strides], writeable=False
    )
    if found.nbytes > MAX_BYTES:
        raise PickleError(f"it has a tensor of {found.nbytes} bytes")
    return np.ascontiguousarray(found)


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
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "numpy"):
        value = value.detach().cpu()
        return (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    raise PickleError(f"it holds {type(value).__name__}")


def _rebuilt(value: _Array) -> Any:
    if len(value.state) != 5:
        raise PickleError("it has a damaged array")
    _, shape, dtype, fortran, raw = value.state
    if isinstance(raw, list):
        # Of an array of objects, in which NumPy puts what is no array.
        return raw
    return _array(_raw(raw), _kind(dtype), shape, "F" if fortran else "C")


def _array(raw: bytes, dtype: np.dtype[Any], shape: Any, order: str = "C") -> np.ndarray:
    sizes = tuple(int(size) for size in shape)
    if min(sizes, default=0) < 0 or math.prod(sizes) * dtype.itemsize != len(raw):
        raise PickleError(f"it has an array of {list(sizes)} numbers of {dtype} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(sizes, order="F" if order == "F" else "C")


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
