"""The data sets that can be downloaded: addresses, what is publicly known of the archives, terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.formats.voc import add_sbd
from data.public_sets.transfer import RemoteFile


@dataclass(frozen=True)
class DownloadableSet:
    """A data set for download.

    Attributes:
        title: Its name, and what it has.
        files: Its archives.
        data: The folder to pass as `--data`, below the folder of all downloads.
        terms: Under which terms it may be used, in short; the set's own page decides.
        page: Address of that page.
        labels: What to pass as `--labels` beside, below the folder of all downloads; "" where nothing is needed.
        needs: Other sets that are downloaded first.
        finish: Called with the folder of all downloads once all is unpacked.
    """

    title: str
    files: tuple[RemoteFile, ...]
    data: str
    terms: str
    page: str
    labels: str = ""
    needs: tuple[str, ...] = ()
    finish: Callable[[Path], object] | None = None


VOC_FOLDER = "VOCdevkit/VOC2012"
COCO = "http://images.cocodataset.org"
BROSTOW = "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData"


def _merge_sbd(out: Path) -> None:
    add_sbd(out / VOC_FOLDER, out / "SBD" / "benchmark_RELEASE" / "dataset")


SETS = {
    "voc12": DownloadableSet(
        title="PASCAL VOC 2012: 20 classes, 2,913 images with masks",
        files=(
            RemoteFile(
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                size=1_999_639_040,
                sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
        data=VOC_FOLDER,
        terms="Photographs are from flickr, whose terms of use apply. No registration.",
        page="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    ),
    "sbd": DownloadableSet(
        title="VOC 2012 with the masks of the Semantic Boundaries Dataset: the list train_aug of 10,582 images",
        files=(
            RemoteFile(
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                sha256="6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
                folder="SBD",
            ),
        ),
        data=VOC_FOLDER,
        terms="Photographs are from flickr, whose terms of use apply. No registration.",
        page="http://home.bharathh.info/pubs/codes/SBD/download.html",
        needs=("voc12",),
        finish=_merge_sbd,
    ),
    "coco14": DownloadableSet(
        title="COCO 2014: 80 classes, 82,783 images to train on and 40,504 to validate",
        files=(
            RemoteFile(
                f"{COCO}/annotations/annotations_trainval2014.zip",
                size=252_872_794,
                sha256="031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                folder="coco2014",
            ),
            RemoteFile(
                f"{COCO}/zips/train2014.zip",
                size=13_510_573_713,
                sha256="ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
                folder="coco2014",
            ),
            RemoteFile(
                f"{COCO}/zips/val2014.zip",
                size=6_645_013_297,
                sha256="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
                folder="coco2014",
            ),
        ),
        data="coco2014",
        labels="coco2014/annotations/instances_train2014.json",
        terms="Annotations: CC BY 4.0. Photographs are from flickr, whose terms of use apply. No registration.",
        page="https://cocodataset.org/#termsofuse",
    ),
    "camvid": DownloadableSet(
        title="CamVid: 701 frames of road scenes, 32 classes of which 11 are used",
        files=(
            RemoteFile(f"{BROSTOW}/files/701_StillsRaw_full.zip", folder="camvid"),
            # Its files lie in no folder.
            RemoteFile(f"{BROSTOW}/data/LabeledApproved_full.zip", folder="camvid/LabeledApproved_full"),
        ),
        data="camvid",
        terms="For research; its authors ask to be cited (Brostow et al.). No registration.",
        page="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    ),
    "duts": DownloadableSet(
        title="DUTS: 10,553 images with masks of salient objects to train on, 5,019 to test",
        files=(
            RemoteFile("http://saliencydetection.net/duts/download/DUTS-TR.zip", folder="duts"),
            RemoteFile("http://saliencydetection.net/duts/download/DUTS-TE.zip", folder="duts"),
        ),
        data="duts",
        terms="For research; photographs are from ImageNet and SUN, whose terms apply. No registration.",
        page="http://saliencydetection.net/duts/",
    ),
}
"""Name on the command line -> data set."""
