"""Label maps on disk: indexed PNGs in the colours of PASCAL VOC, and the ground truth of a sample."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.concurrency import map_in_threads
from data.dataset import VOID, DatasetError, LabelMap, Problem, Sample, value_type
from data.files import replacing
from data.formats import coco
from data.formats.images import LABEL_FORMATS, decodable, image_orientation, image_size, opened, orient
from data.formats.label_codings import read_coded


def voc_colours(values: np.ndarray) -> np.ndarray:
    """Return the colours uint8 [..., 3] of values below 2^24, as VOC's development kit makes them.

    Bits 0, 3, 6 and so on of a value are the bits of red, the highest first, 1, 4, 7 of green, and 2, 5, 8 of blue.
    """
    colours = np.zeros((*values.shape, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = values >> (3 * level + channel) & 1
            colours[..., channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours


MAX_VALUE = 2**16 - 1
BINARY_MASKS = (
    "expected masks with the values of classes, found only 0 and 255, and 255 is void: write 1 (or the class's value) "
    "where the object is"
)
VOC_PALETTE = voc_colours(np.arange(256))
"""uint8 [256, 3], RGB: the colour of each value of a label map; read-only."""
VOC_PALETTE.setflags(write=False)


@dataclass(frozen=True)
class GroundTruth:
    """What is known of one image, in the coordinates of `read_image`.

    Attributes:
        semantic: uint8 or uint16 [H, W] of the class table's values, 255 void; or None.
        instances: int32 [H, W], 0 background, an id for each instance, 255 void; or None.
        palette: Red, green and blue of each value of the semantic map, one after the other, where its PNG has them.
    """

    semantic: np.ndarray | None
    instances: np.ndarray | None
    palette: bytes = b""


def write_label_map(path: Path, labels: np.ndarray, *, grey: bool = False) -> None:
    """Write uint8 [H, W] as an indexed PNG in VOC's colours, or a grey one; the file appears whole or not at all.

    uint16, which tables of more than 254 classes need, becomes a grey PNG of 16 bits. Missing folders are made, so a
    sample id with `/` in it may be part of the path.

    Raises:
        ValueError: `labels` is no such matrix.
    """
    if labels.dtype not in (np.uint8, np.uint16) or labels.ndim != 2:
        raise ValueError(f"expected uint8 or uint16 [H, W], got {labels.dtype} {list(labels.shape)}")
    image = Image.fromarray(np.ascontiguousarray(labels))
    if labels.dtype == np.uint8 and not grey:
        image.putpalette(VOC_PALETTE.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def read_label_map(path: Path, drawn: NDArray[np.bool_] | None = None) -> np.ndarray:
    """Read an indexed or grey PNG as [H, W]: the values, not the colours; uint8, or uint16 if one is over 255.

    Colours that are all of VOC's palette are read as its values, equal ones as grey, and -1 is void.

    Args:
        path: The file.
        drawn: bool [H, W]; colours elsewhere are not looked at, and are 0. By default all are.

    Raises:
        DatasetError: The file is missing, damaged, holds other colours, or values of more than 16 bits.
    """
    return _as_classes(_read_values(path, drawn)[0], path)


def _as_classes(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind == "i" and values.min() == -1:
        values = np.where(values == -1, VOID, values)
    if values.min() < 0 or values.max() > MAX_VALUE:
        found = values.min() if values.min() < 0 else values.max()
        raise DatasetError([Problem(path, f"expected label values 0 to {MAX_VALUE}, found {found}")])
    return values.astype(value_type(int(values.max())))


def read_drawn_map(path: Path) -> tuple[LabelMap, NDArray[np.bool_]]:
    """Read a label map that somebody drew, as `read_label_map`: what is wholly transparent was not drawn, and is void.

    Returns:
        The map [H, W], and bool [H, W]: where it is drawn.

    Raises:
        DatasetError: As of `read_label_map`.
    """
    with opened(path, "a label map", LABEL_FORMATS) as image, decodable(image, path):
        drawn = _opacity(image) > 0
    return np.where(drawn, read_label_map(path, drawn), np.uint8(VOID)), drawn


def _opacity(image: Image.Image) -> NDArray[np.uint8]:
    """Return the alpha [H, W] of an image, of its channel or of its palette or colour that is transparent."""
    if "A" in image.getbands():
        return np.asarray(image.getchannel("A"))
    clear = image.info.get("transparency")
    if clear is None:
        return np.full((image.height, image.width), 255, np.uint8)
    values = np.asarray(image)
    if isinstance(clear, bytes):
        levels = np.full(256, 255, np.uint8)
        levels[: len(clear)] = np.frombuffer(clear, np.uint8)
        return levels[values]
    same = values == np.asarray(clear)
    return np.where(same.all(axis=2) if same.ndim == 3 else same, np.uint8(0), np.uint8(255))


class Indexed(NamedTuple):
    """The values that an indexed label map uses, and its palette: red, green and blue of each value in turn."""

    values: Collection[int]
    palette: bytes

    def colour(self, value: int) -> bytes:
        """Return a value's colour, three bytes; fewer where the palette ends before."""
        return self.palette[3 * value : 3 * value + 3]


def swapped_colours(maps: Sequence[Indexed], num_values: int) -> dict[int, str]:
    """Return the places of the maps in which a value has a colour that is another value's in most maps, and why.

    Tools that save an indexed PNG anew may put its colours in another order, or leave out those that are not used:
    then the values no longer count the classes. Palettes without a colour in common are nothing to us.

    Args:
        maps: Of one set; those without a palette are passed over.
        num_values: Of the class table; colours of higher values are not looked at.
    """
    owners, alike = _owners(maps, num_values), Counter(each.palette for each in maps)
    usual = {colour: min(counts, key=lambda value: (-counts[value], value)) for colour, counts in owners.items()}
    found = {}
    for number, each in enumerate(maps):
        used = sorted(set(each.values) - {VOID})
        colours = _colours(each.palette, num_values)
        # One that goes beyond what is used, as palettes of tools do, and has colours that no other has, is another
        # palette: its values may well be those of the classes.
        has_own = any(owners[colour].total() <= alike[each.palette] for colour in colours)
        if has_own and len(colours) > max(used, default=0) + 1:
            continue
        for value in used:
            colour = each.colour(value)
            place = usual.get(colour, value)
            # A palette that has the colour at its place as well, such as black for all, was not put in another order.
            if place != value and each.colour(place) != colour:
                found[number] = (
                    f"expected the palette of the other masks, in which the colour {', '.join(map(str, colour))} is "
                    f"the value {place}; here it is {value}: the colours were put in another order, and values no "
                    "longer count the classes; write the values as a grey PNG"
                )
                break
    return found


def _owners(maps: Iterable[Indexed], num_values: int) -> dict[bytes, Counter[int]]:
    """Return colour -> how many palettes have it at which value."""
    owners: dict[bytes, Counter[int]] = defaultdict(Counter)
    for palette, count in Counter(each.palette for each in maps if each.palette).items():
        for value, colour in enumerate(_colours(palette, num_values)):
            owners[colour][value] += count
    return owners


def _colours(palette: bytes, num_values: int) -> list[bytes]:
    """Return the colours of a palette's values below a number, three bytes each."""
    return [palette[start : start + 3] for start in range(0, 3 * min(num_values, len(palette) // 3), 3)]


def palette_problems(files: Mapping[str, Path], num_values: int = VOID, usual: bytes = b"") -> list[Problem]:
    """Return a problem for each label map whose palette was put in another order than those of most.

    No pixel is decoded of a palette whose colours have the same places in all. Files that cannot be read are passed
    over: who reads them says so.

    Args:
        files: Sample id -> label map.
        num_values: See `swapped_colours`.
        usual: The palette that they should have, where that is known.
    """
    ids = list(files)
    palettes = dict(zip(ids, map_in_threads(_palette_of, list(files.values())), strict=True))
    if len({usual, *palettes.values()} - {b""}) < 2:
        return []
    indexed = [id for id, palette in palettes.items() if palette]
    # The usual one counts more than all others.
    given = [Indexed((), usual)] * (len(indexed) + 1)
    owners = _owners([*(Indexed((), palettes[id]) for id in indexed), *given], num_values)
    moved = {
        palette: any(len(owners[colour]) > 1 for colour in _colours(palette, num_values))
        for palette in {palettes[id] for id in indexed}
    }
    doubtful = [id for id in indexed if moved[palettes[id]]]
    values = dict(zip(doubtful, map_in_threads(lambda id: _values_used(files[id]), doubtful), strict=True))
    found = swapped_colours([*(Indexed(values.get(id, ()), palettes[id]) for id in indexed), *given], num_values)
    return [Problem(files[indexed[number]], message, indexed[number]) for number, message in found.items()]


def _palette_of(path: Path) -> bytes:
    """Return the palette of an indexed file; nothing of others, and of those that cannot be read."""
    try:
        with opened(path, "a label map", LABEL_FORMATS) as image:
            return bytes(image.palette.palette) if image.mode == "P" and image.palette else b""
    except DatasetError:
        return b""


def _values_used(path: Path) -> set[int]:
    try:
        return set(np.unique(_read_values(path)[0]).tolist())
    except DatasetError:
        return set()


def instance_map(masks: np.ndarray) -> np.ndarray:
    """Return the map [H, W] of objects' masks bool [N, H, W]: ids from 1, 255 left out; the first covers the others.

    uint8, or uint16 for more than 254 objects.
    """
    ids = np.arange(1, len(masks) + 1)
    ids += ids >= VOID
    objects = np.zeros(masks.shape[1:], value_type(int(ids.max(initial=0))))
    for id, mask in zip(ids[::-1], masks[::-1], strict=True):
        objects[mask] = id
    return objects


def unknown_values(labels: np.ndarray, num_values: int) -> list[int]:
    """Return what a label map holds beside the values under `num_values` and void, ascending."""
    values = np.flatnonzero(np.bincount(labels.ravel()))
    return [int(value) for value in values if value >= num_values and value != VOID]


def read_ground_truth(sample: Sample) -> GroundTruth:
    """Read a sample's ground truth, from its PNGs or its COCO file; both None where there is none.

    Some tools draw COCO masks on the photograph as it is stored, others as it is seen. Where EXIF orientation
    swaps the sides, the size in the COCO file tells which, and masks that lie on their side are turned upright.

    Raises:
        DatasetError: A file is missing or damaged, or a COCO entry is not of the image's size.
    """
    if sample.coco is None:
        semantic, palette = None, b""
        if sample.semantic is not None and sample.coding:
            semantic = read_coded(sample.semantic, sample.coding)
        elif sample.semantic is not None:
            values, palette = _read_values(sample.semantic)
            semantic = _as_classes(values, sample.semantic)
        instances = None if sample.instances is None else _read_instances(sample.instances)
        return GroundTruth(semantic, instances, palette)
    # Before anything of that size is made.
    _check_size(sample, coco.entry_size(sample.coco))
    semantic, instances = (upright(sample, labels) for labels in coco.read_maps(sample.coco))
    return GroundTruth(semantic, instances)


def upright(sample: Sample, masks: np.ndarray) -> np.ndarray:
    """Turn masks [H, W, ...] of a sample's COCO entry to lie on the image as `read_image` returns it.

    Raises:
        DatasetError: They are of another size than the image, however it is turned.
    """
    size = _check_size(sample, masks.shape[:2])
    if masks.shape[:2] == size[::-1] != size:
        masks = orient(masks, image_orientation(sample.image))
    if masks.shape[:2] != size:
        raise _other_size(sample, masks.shape, size)
    return np.ascontiguousarray(masks)


def _check_size(sample: Sample, entry: tuple[int, ...]) -> tuple[int, int]:
    """Return (H, W) of the image; raise where its COCO entry (H, W) is not that, whichever way it lies."""
    size = image_size(sample.image)
    if entry not in (size, size[::-1]):
        raise _other_size(sample, entry, size)
    return size


def _other_size(sample: Sample, entry: tuple[int, ...], size: tuple[int, int]) -> DatasetError:
    assert sample.coco is not None
    message = f"its entry in {sample.coco.file.name} is {_size(entry)}, the image is {_size(size)}"
    return DatasetError([Problem(sample.image, message, sample.id)])


def separate_objects(semantic: np.ndarray, instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the objects of an instance map as masks bool [N, H, W], ascending by id, and classes int64 [N] from 0.

    An object's class is the one that most of its pixels have. Void pixels belong to no object.

    Raises:
        ValueError: The maps are of two sizes, or an object has no class.
    """
    if semantic.shape != instances.shape:
        raise ValueError(f"expected maps of one size, got {semantic.shape} and {instances.shape}")
    ids = np.setdiff1d(instances, (0, VOID))
    masks = instances == ids[:, None, None]
    length = max(VOID, int(semantic.max(initial=0))) + 1
    votes = np.array([np.bincount(semantic[mask], minlength=length) for mask in masks]).reshape(len(ids), length)
    votes[:, [0, VOID]] = 0
    if classless := ids[~votes.any(axis=1)].tolist():
        raise ValueError(f"expected a class under every object, got none under the ids {classless}")
    return masks, votes.argmax(axis=1) - 1


def _read_instances(path: Path) -> np.ndarray:
    values, _ = _read_values(path)
    if values.min() < 0:
        raise DatasetError([Problem(path, f"expected instance ids from 0, found {values.min()}")])
    return values.astype(np.int32)


def _read_values(path: Path, drawn: NDArray[np.bool_] | None = None) -> tuple[np.ndarray, bytes]:
    """Return the values of a map, and the palette of an indexed one."""
    with opened(path, "a label map", LABEL_FORMATS) as image, decodable(image, path):
        if image.mode in ("1", "L", "P", "I", "I;16", "I;16B"):
            palette = image.palette.palette if image.mode == "P" and image.palette else b""
            return np.asarray(image), bytes(palette)
        if image.mode not in ("RGB", "RGBA", "LA"):
            raise DatasetError([Problem(path, f"expected an indexed or grey label map, found {image.mode} pixels")])
        if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
            message = "expected an indexed or grey label map, or colours of 8 bits, found colours of 16 bits"
            raise DatasetError([Problem(path, f"{message}; write the values as a grey PNG")])
        pixels = np.asarray(image)
        if drawn is not None:
            # A transparent pixel may have any colour.
            pixels = np.where(drawn[..., None], pixels, np.uint8(0))
        if image.mode == "LA":
            return np.ascontiguousarray(pixels[..., 0]), b""
        return _values_of_colours(pixels[..., :3], path), b""


def _values_of_colours(colours: np.ndarray, path: Path) -> np.ndarray:
    """Return the values of RGB pixels [H, W, 3]: of grey ones their level, else their places in VOC's palette."""
    if (colours[..., :1] == colours).all():
        return np.ascontiguousarray(colours[..., 0])
    codes, palette = (rgb.astype(np.int32) @ (65536, 256, 1) for rgb in (colours, VOC_PALETTE))
    order = np.argsort(palette)
    places = np.minimum(np.searchsorted(palette[order], codes), 255)
    unknown = palette[order][places] != codes
    if unknown.any():
        red, green, blue = colours[unknown][0].tolist()
        message = (
            f"expected an indexed or grey label map, or the colours of VOC, found the colour {red}, {green}, {blue}"
        )
        raise DatasetError([Problem(path, f"{message}; write the values of the classes as a grey PNG")])
    return order[places].astype(np.uint8)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
