"""Tables of the classes that maps of other methods are numbered by."""

from __future__ import annotations

from collections.abc import Sequence

from data.formats.voc import VOC_CLASSES
from data.names import clean_name

# The 80 categories of COCO, and before a name how many ids are left out there.
_COCO = """
person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant +1 stop_sign parking_meter bench
bird cat dog horse sheep cow elephant bear zebra giraffe +1 backpack umbrella +2 handbag tie suitcase frisbee skis
snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle +1 wine_glass cup fork
knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed +1
dining_table +2 toilet +1 tv laptop mouse remote keyboard cell_phone microwave oven toaster sink refrigerator +1 book
clock vase scissors teddy_bear hair_drier toothbrush
"""


def _coco_ids() -> tuple[str, ...]:
    names: list[str] = []
    for word in _COCO.split():
        names += [""] * int(word) if word.startswith("+") else [word.replace("_", " ")]
    return tuple(names)


COCO91 = _coco_ids()
"""The name of category id `i + 1` in place i; "" for ids that COCO leaves out."""
COCO80 = tuple(name for name in COCO91 if name)
TABLES = {"voc20": VOC_CLASSES, "coco80": COCO80, "coco91": COCO91}
# What COCO calls classes of VOC.
_SAME = {"airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor"}


def numbers_of(names: Sequence[str], known: Sequence[str]) -> dict[int, int]:
    """Return number in one table -> number in another, of the classes that both have.

    Case, spaces and underscores do not count, and COCO's names of VOC's classes are those.
    """
    places = {_bare(name): place for place, name in enumerate(known)}
    found = {number: places.get(_bare(name)) for number, name in enumerate(names) if name}
    return {number: place for number, place in found.items() if place is not None}


def _bare(name: str) -> str:
    bare = clean_name(name).casefold().replace(" ", "").replace("_", "")
    return _SAME.get(bare, bare)
