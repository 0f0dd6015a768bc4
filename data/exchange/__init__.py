"""Exchange formats: labels of a run for other programs. `FORMATS` is the one list of them."""

from __future__ import annotations

from data.exchange.coco import COCO
from data.exchange.spec import ExchangeFormat, Labels
from data.exchange.voc import VOC
from data.exchange.yolo import YOLO

FORMATS = {each.name: each for each in (VOC, COCO, YOLO)}
"""Name -> format. A new format is a file beside this one and a name here: `docs/how-to/add_a_format.md`."""

__all__ = ["FORMATS", "ExchangeFormat", "Labels"]
