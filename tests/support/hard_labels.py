"""Labels that are hard to exchange: touching instances, void, holes, many classes, odd names, folders, nothing."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from data.dataset import VOID, ClassTable, Dataset, Sample
from data.exchange.spec import Labels
from data.files import file_digest
from data.formats.coco import Detection, ImageInfo, encode_mask
from data.formats.label_folder import index_files
from data.formats.label_maps import write_label_map
from data.store.publication import Entry, Publication
from tasks.engine.artifact import ImageSet, SampleDigest
from tasks.engine.image_list import ImageList, write_images
from tasks.engine.run_record import VERSION, RunRecord

SIZE = (23, 31)
NAMES = ("a dog", "Straße", "猫", *(f"class {number}" for number in range(25)), 'quo"ted|<&>')
LAST = len(NAMES)


def hard_labels(folder: Path, names: tuple[str, ...] = NAMES) -> Labels:
    """Write label maps, `instances.json` and photographs of four images below a folder."""
    classes = ClassTable(names)
    found = {
        "empty": (np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)),
        "in a folder/größe 1.5": _touching(),
        "in a folder/z": _noise(len(names)),
        "mixed": _mixed(),
    }
    samples, infos, detections = [], [], []
    for id, (semantic, objects) in found.items():
        photograph = folder / "set" / f"{id}.png"
        photograph.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(photograph)
        write_label_map(folder / "labels/SegmentationClass" / f"{id}.png", semantic)
        write_label_map(folder / "labels/SegmentationObject" / f"{id}.png", objects)
        tags = np.setdiff1d(semantic, (0, VOID)) - 1
        samples.append(Sample(id, photograph, tuple(tags.tolist())))
        infos.append(ImageInfo(id, f"{id}.png", *SIZE))
        for number in np.setdiff1d(objects, (0, VOID)):
            value = int(np.bincount(semantic[objects == number]).argmax())
            detections.append(
                Detection(image=id, **{"class": value - 1}, score=0.5, segmentation=encode_mask(objects == number))
            )
    dataset = Dataset(folder / "set", classes, tuple(samples))
    for name, content in index_files(infos, detections, dataset.classes).items():
        (folder / "labels" / name).write_text(content, encoding="utf-8")
    return Labels(folder / "labels", dataset.samples, classes, folder / "out")


def _touching() -> tuple[np.ndarray, np.ndarray]:
    """Return two instances of a class side by side, one in two parts with a hole, and void between."""
    semantic, objects = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    semantic[2:10, 2:14], objects[2:10, 2:8], objects[2:10, 8:14] = 1, 1, 2
    semantic[4:6, 3:6] = objects[4:6, 3:6] = 0
    semantic[20:, 28:], objects[20:, 28:] = 1, 2
    semantic[10:12] = objects[10:12] = VOID
    return semantic, objects


def _noise(num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return blocks of every class, each an instance, and the last class without any."""
    blocks = np.arange(num_classes + 1)
    semantic = np.zeros(SIZE, np.uint8)
    objects = np.zeros(SIZE, np.uint8)
    for value in blocks[1:]:
        row, column = divmod(int(value) - 1, 10)
        box = slice(1 + 5 * row, 5 + 5 * row), slice(3 * column, 3 * column + 3)
        semantic[box] = value
        objects[box] = 0 if value == num_classes else value
    return semantic, objects


def _mixed() -> tuple[np.ndarray, np.ndarray]:
    """Return an instance with pixels of two classes and void inside, and pixels of a class without an instance."""
    semantic, objects = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    semantic[3:12, 3:12], objects[3:12, 3:12] = 2, 1
    semantic[5:7, 5:7] = 3
    semantic[8:10, 8:10] = VOID
    semantic[15:18, 15:30] = 2
    return semantic, objects


def partition(objects: np.ndarray) -> set[bytes]:
    """Return the masks of the objects, whatever their numbers are."""
    return {np.packbits(objects == number).tobytes() for number in np.setdiff1d(objects, (0, VOID))}


def publish_labels(folder: Path, labels: Labels) -> Publication:
    """Publish labels as the next version, in `published` below a folder."""
    publication, root = Publication(folder / "published"), folder / "set"
    digests = {sample.id: SampleDigest(file_digest(sample.image), None) for sample in labels.samples}
    run = publication.root / "runs" / f"v{publication.next:05d}"
    run.mkdir(parents=True)
    RunRecord(
        version=VERSION,
        preset="quick",
        request={},
        settings={},
        root=root,
        classes=labels.classes,
        images=write_images(run, ImageSet(labels.samples, digests), root),
        validation=ImageList(),
        store=folder / "store",
        stages={},
    ).write(run)
    entries = [
        Entry(sample.id, digests[sample.id].image, (), "key", background=0.5, classes=1, instances=1)
        for sample in labels.samples
    ]
    with publication.lock(), publication.draft() as draft:
        shutil.copytree(labels.folder, draft, dirs_exist_ok=True)
        publication.publish(draft, {"run": f"runs/{run.name}"}, entries)
    return publication
