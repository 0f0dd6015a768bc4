"""Plain data out of pickled files of NumPy and torch: text, numbers, arrays, tensors. No code of a file is run.

Pickles name functions, and whoever loads them runs these. Here a name is never looked up: the few that arrays and
tensors consist of stand for functions of this module, which rebuild an array from its bytes; any other is refused.
torch's own `_load_from_bytes`, which loads whatever it is given, is among the names that are replaced. torch is not
loaded: sizes that a file claims are compared with the bytes that are there before anything is made of them.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

MAX_DEPTH = 16
MAX_MEMBERS = 10_000
# The first two things in what torch saves outside of zip archives.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class PickleError(ValueError):
    """A file holds something else than plain data, or is damaged; the message says what."""


class CutOffError(PickleError):
    """A file has fewer bytes, or more, than it says."""


class TorchArray(np.ndarray):
    """An array that was a tensor."""


def read_npy(content: bytes) -> Any:
    """Read the bytes of a `.npy` file: an array, or the plain data that was pickled in it.

    Tensors become `TorchArray`s.

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
    root = _plain(_load(stream, _Unpickler), {})
    return root[0] if isinstance(root, list) and len(root) == 1 else root


def read_zip(content: bytes, limit: int) -> Any:
    """Read the bytes of a zip archive: NumPy's `.npz`, as name -> array, or what torch saved.

    Args:
        content: Of the file.
        limit: Bytes that its members may have together once they are unpacked.

    Raises:
        PickleError: It holds something else, asks for code, or unpacks to more.
        ValueError, EOFError, ...: Whatever damaged bytes lead to.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member.filename: member for member in archive.infolist()}
        size = sum(member.file_size for member in members.values())
        if len(members) > MAX_MEMBERS or size > limit:
            found = f"{size} bytes" if len(members) <= MAX_MEMBERS else f"{len(members)} files"
            raise PickleError(f"it unpacks to {found}, more than the {limit} bytes that maps of its image take")

        def read(name: str) -> bytes:
            # No more than the directory says, whatever the compressed bytes hold.
            return archive.read(members[name])

        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if pickles:
            return _read_torch(pickles[0].removesuffix("data.pkl"), members, read)
        return {name.removesuffix(".npy"): read_npy(read(name)) for name in members}


def _read_torch(folder: str, members: dict[str, Any], read: Callable[[str], bytes]) -> Any:
    """Read what `torch.save` wrote: a pickle, and the bytes of each tensor in a file of its own."""
    if f"{folder}byteorder" in members and read(f"{folder}byteorder") != b"little":
        raise PickleError("its numbers have their bytes in the other order")

    class Unpickler(_Unpickler):
        def persistent_load(self, pid: Any) -> _Storage:
            kind, key, count = _storage_id(pid)
            return _Storage(kind, key, count, read(f"{folder}data/{key}"))

    return _plain(_load(io.BytesIO(read(f"{folder}data.pkl")), Unpickler), {})


class _Array:
    """What a pickled array consists of, kept as it is."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, tuple) else (state,)


class _Dtype(_Array):
    def __init__(self, *names: Any) -> None:
        self.name = str(names[0]) if names else ""


@dataclass(frozen=True)
class _Kind:
    """A type of torch's storages, by its name."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """The numbers of one or more tensors."""

    kind: str
    key: str
    count: int
    raw: bytes = b""

    def numbers(self) -> np.ndarray:
        numbers = _array(self.raw, np.dtype(_STORAGES[self.kind]), (self.count,))
        # The upper half of a number of single precision.
        return (numbers.astype("<u4") << 16).view("<f4") if self.kind == "BFloat16Storage" else numbers


@dataclass(frozen=True)
class _Tensor:
    values: np.ndarray


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
            case "torch._utils", "_rebuild_tensor_v2":
                return lambda *parts: _tensor(*parts)
            case "torch._utils", "_rebuild_parameter":
                return lambda *parts: _parameter(*parts)
            case "torch.storage", "_load_from_bytes":
                return lambda raw: _storage_of(_raw(raw))
            case "torch", _ if name in _STORAGES:
                return _Kind(name)
        raise PickleError(f"it names {module}.{name}, which is not looked up")

    def persistent_load(self, pid: Any) -> Any:
        raise PickleError("it refers to other data than its own")


class _StorageUnpickler(_Unpickler):
    """Reads the parts of a storage that torch saved outside of a zip archive."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _Kind(name)
        raise PickleError(f"it names {module}.{name} inside a tensor, which is not looked up")

    def persistent_load(self, pid: Any) -> _Storage:
        return _Storage(*_storage_id(pid))


def _load(stream: IO[bytes], unpickler: type[_Unpickler]) -> Any:
    """Unpickle from a stream, whose end is then behind the pickle, once its claims are known to hold."""
    start, size = stream.tell(), stream.seek(0, io.SEEK_END)
    stream.seek(start)
    for operation, argument, _ in pickletools.genops(stream):
        # Places of a memo are allocated up to the highest, and the bytes of an array before they are read.
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > size:
            raise PickleError(f"it asks for a memo of {argument} places in {size} bytes")
        if operation.name == "BYTEARRAY8":
            raise PickleError("it holds bytearray")
    stream.seek(start)
    return unpickler(stream, encoding="latin1").load()


def _plain(value: Any, known: dict[int, tuple[Any, Any]], depth: int = 0) -> Any:
    """Return data with arrays in the place of their parts.

    Args:
        value: What was unpickled.
        known: Number of an object -> the object and what it became: what is there once is gone through once.
        depth: Of the objects around it.
    """
    if depth > MAX_DEPTH:
        raise PickleError("it is nested too deeply")
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if id(value) not in known:
        known[id(value)] = value, _made(value, known, depth + 1)
    return known[id(value)][1]


def _made(value: Any, known: dict[int, tuple[Any, Any]], depth: int) -> Any:
    if isinstance(value, _Array):
        return _plain(_rebuilt(value), known, depth)
    if isinstance(value, _Tensor):
        return value.values.view(TorchArray)
    if isinstance(value, dict):
        return {_plain(key, known, depth): _plain(each, known, depth) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, known, depth) for each in value)
    if isinstance(value, np.ndarray):
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
        raise CutOffError(f"it has an array of {list(sizes)} numbers of {dtype} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(sizes, order="F" if fortran else "C")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Return a tensor from its storage; all of its places must lie within, and each be one number's."""
    sizes, steps = (tuple(int(number) for number in numbers) for numbers in (shape, strides))
    if not isinstance(storage, _Storage) or len(sizes) != len(steps) or min((*sizes, *steps), default=0) < 0:
        raise PickleError("it has a damaged tensor")
    numbers, first = storage.numbers(), int(offset)
    last = first + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if math.prod(sizes) > len(numbers) or not 0 <= first <= len(numbers) or (0 not in sizes and last >= len(numbers)):
        raise PickleError(f"it has a tensor of {list(sizes)} numbers in a storage of {len(numbers)}")
    if 0 in sizes:
        return _Tensor(np.zeros(sizes, numbers.dtype))
    strided = np.lib.stride_tricks.as_strided(numbers[first:], sizes, [step * numbers.itemsize for step in steps])
    return _Tensor(np.ascontiguousarray(strided).reshape(sizes))


def _parameter(tensor: Any, *_: Any) -> _Tensor:
    """Return the tensor of a parameter; whether it is trained, and its hooks, are no matter here."""
    if not isinstance(tensor, _Tensor):
        raise PickleError("it has a damaged parameter")
    return tensor


def _storage_of(raw: bytes) -> _Storage:
    """Read a storage as torch pickles it: five pickles, how many numbers there are, and the numbers."""
    stream = io.BytesIO(raw)
    magic, protocol, system, storage, keys = (_load(stream, _StorageUnpickler) for _ in range(5))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not isinstance(storage, _Storage) or keys != [storage.key]:
        raise PickleError("it has a damaged tensor")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleError("its numbers have their bytes in the other order")
    (count,) = struct.unpack("<q", stream.read(8))
    if count != storage.count:
        raise PickleError(f"it has a tensor of {storage.count} numbers, and says that there are {count}")
    return _Storage(storage.kind, storage.key, count, stream.read())


def _storage_id(pid: Any) -> tuple[str, str, int]:
    """Return the type, the key and the length of a storage that a pickle refers to."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _Kind)):
        raise PickleError("it refers to other data than its own")
    if not (isinstance(pid[2], str) and isinstance(pid[4], int)) or pid[5:] not in ((), (None,)):
        raise PickleError("it has a damaged tensor")
    return pid[1].name, pid[2], pid[4]


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
