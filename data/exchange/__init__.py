"""Exchange formats: labels of a run or a published version for other programs, and back. `FORMATS` is the one list."""

from __future__ import annotations

from data.exchange.maps.coco_panoptic import COCO_PANOPTIC
from data.exchange.maps.cvat_mask import CVAT_MASK
from data.exchange.maps.png import PNG
from data.exchange.maps.voc import VOC
from data.exchange.maps.yolo_semantic import YOLO_SEMANTIC
from data.exchange.sets.fiftyone import FIFTYONE
from data.exchange.sets.huggingface import HUGGINGFACE
from data.exchange.shapes.anylabeling import ANYLABELING
from data.exchange.shapes.coco import COCO
from data.exchange.shapes.cvat_coco import CVAT_COCO
from data.exchange.shapes.label_studio import LABEL_STUDIO
from data.exchange.shapes.labelme import LABELME
from data.exchange.shapes.yolo import YOLO
from data.exchange.spec import ExchangeFormat, Labels

MAPS = (VOC, PNG, CVAT_MASK, COCO_PANOPTIC, YOLO_SEMANTIC)
SHAPES = (COCO, CVAT_COCO, LABEL_STUDIO, LABELME, ANYLABELING, YOLO)
SETS = (HUGGINGFACE, FIFTYONE)
FORMATS = {each.name: each for each in (*MAPS, *SHAPES, *SETS)}
"""Name -> format. A new format is a file in a room beside this one and a name here: `docs/how-to/add_a_format.md`."""

__all__ = ["FORMATS", "ExchangeFormat", "Labels"]
