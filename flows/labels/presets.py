"""Presets: complete settings for a purpose, to be changed by options. Each says its command, time and score."""

from __future__ import annotations

from collections.abc import Callable

from flows.labels.successors import SUCCESSORS, successor_preset
from tasks.pipeline.settings import (
    AffinitiesConfig,
    AffinityNetConfig,
    AffinityRelationsConfig,
    AffinityWalkConfig,
    CamConfig,
    ClassifierConfig,
    FieldsConfig,
    IRNetConfig,
    LabelsConfig,
    PipelineConfig,
    PixelsConfig,
    RelationsConfig,
    ScoresConfig,
    WalkConfig,
)


def voc12() -> PipelineConfig:
    """The reference's settings, for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-50 on a GPU.

    Command: `pseudomask run --data VOC2012 --split train_aug --preset voc12 --out runs/voc12`
    The paper has on `train` mIoU 66.5 of the semantic labels and AP50 37.7 of the instance labels (its Tables 2 and 1);
    it was not run here. The images of `train` alone are scored by
    `pseudomask run --networks runs/voc12 --data VOC2012 --split train --preset voc12 --out runs/voc12-train`;
    AP50 by the paper's rule is `instances.chainercv` of `metrics.json`.
    `docs/papers/irnet.md` compares every number, and says where the reference and this preset still differ.

    Exact for VOC's 20 classes. For another number the sum of the classes' losses is divided by 20 too, so that a step
    is as large as on VOC. Epochs, thresholds (0.30, 0.05, 0.25) and radii stay VOC's: on other sets take `quick`, or
    set `--classifier.loss prior` and the thresholds to `auto`. `docs/any_set.md` says what depends on what.
    """
    relations = RelationsConfig(unseen_tags="background")
    fields = FieldsConfig(pad_to=512)
    return PipelineConfig(
        backbone="resnet50",
        weights="imagenet-v1",
        relations=relations,
        fields=fields,
        affinity_relations=AffinityRelationsConfig(unseen_tags="background"),
    )


def quick() -> PipelineConfig:
    """Any tagged set, in minutes on a CPU: small crops and few steps.

    Command: `pseudomask run --data DIR --weights FILE --out runs/first`
    What it gives on sets of many kinds stands in `docs/any_set.md`.

    What depends on the set, and how it follows:

    - Number of classes, and their shares of the images: the classifier's loss is summed over the classes that occur and
      starts at the entropy of the tags (`loss="prior"`); AdamW's step does not grow with the loss.
    - Number of images: trainings have a number of steps (`steps`), not of epochs.
    - Size of the images: everything works at a long side of 320 to 640 pixels (`long_side`).
    - Size of the objects, and how far attention spreads: all background thresholds are chosen on the set ("auto").
      Instances under a hundredth of the image are dropped, as by the reference, but not where all are small
      (`labels.min_area_of_largest`).
    - IRNet's losses are means over pairs of pixels and know no classes; AdamW with `rest_warmup` leaves the
      displacement branch's plateau, a field of zeros, in few steps.
    """
    return PipelineConfig(
        backbone="mobilenet_v2",
        long_side=(320, 640),
        classifier=ClassifierConfig(
            loss="prior",
            top_share=0.2,
            resize_long=(240, 480),
            crop_size=320,
            epochs=10,
            steps=(160, 640),
            optimizer="adamw",
            learning_rate=1e-4,
            head_lr_factor=10,
            weight_decay=0.01,
            warmup_steps=10,
            head_views=2,
            clip_norm=5,
            restarts=2,
            held_out=0.1,
            freeze_norm_scale=True,
            precision="fastest",
        ),
        cams=CamConfig(scales=(1.0, 0.5, 1.5)),
        relations=RelationsConfig(foreground_threshold="auto", background_threshold="auto"),
        irnet=IRNetConfig(
            crop_size=320,
            rescale=(0.5, 1.2),
            batch_size=8,
            epochs=8,
            steps=(240, 480),
            restarts=1,
            precision="fastest",
            optimizer="adamw",
            learning_rate=2e-3,
            displacement_lr_factor=1,
            centering_weight=0.1,
            rest_warmup=0.5,
        ),
        affinity_relations=AffinityRelationsConfig(foreground_power="auto", background_power="auto"),
        affinitynet=AffinityNetConfig(
            crop_size=320,
            steps=(240, 480),
            restarts=1,
            precision="fastest",
            optimizer="adamw",
            learning_rate=1e-3,
            backbone_lr_factor=0,
            weight_decay=1e-4,
        ),
        affinities=AffinitiesConfig(precision="fastest"),
        affinity_walk=AffinityWalkConfig(background_power="auto"),
        pixels=PixelsConfig(folds=3, rounds=2, scales=(1.0, 1.5, 0.75)),
        labels=LabelsConfig(
            background_threshold="auto", crf_iterations=5, sure_thresholds="auto", min_area_of_largest=0.25
        ),
        scores=ScoresConfig(crf_thresholds=(0.2, 0.3, 0.45, 0.6, 0.75)),
        shard_size=16,
    )


def demo() -> PipelineConfig:
    """For the synthetic set, from random weights: a ResNet-18 that learns batch norm and all, in minutes.

    Command: `pseudomask demo`, 5 to 8 minutes on two cores.
    The walk is shorter than on photographs, whose grids have nine times as many cells.
    """
    return PipelineConfig(
        backbone="resnet18",
        classifier=ClassifierConfig(
            resize_long=(96, 144),
            crop_size=96,
            epochs=20,
            optimizer="adamw",
            learning_rate=1.5e-3,
            head_lr_factor=1,
            weight_decay=0.01,
        ),
        cams=CamConfig(scales=(1.0,)),
        irnet=IRNetConfig(
            backbone_from="classifier",
            backbone_lr_factor=0.25,
            crop_size=112,
            rescale=(0.7, 1.1),
            batch_size=8,
            epochs=6,
            radius_px=5,
            optimizer="adamw",
            learning_rate=2e-3,
            displacement_lr_factor=1,
            centering_weight=0.1,
        ),
        affinitynet=AffinityNetConfig(
            backbone_from="classifier",
            crop_size=112,
            photometric=0,
            epochs=6,
            optimizer="adamw",
            learning_rate=2e-3,
        ),
        # Its CAMs are broad, and a step goes twice as far as one of IRNet's walk.
        affinity_walk=AffinityWalkConfig(steps=8, background_power=1),
        walk=WalkConfig(steps=24, centroid_threshold_px=1.5),
        labels=LabelsConfig(background_threshold=0.25, crf_iterations=5, sure_thresholds=(0.05, 0.5)),
        scores=ScoresConfig(crf_thresholds=(0.15, 0.2, 0.25)),
        shard_size=32,
    )


def coco14() -> PipelineConfig:
    """COCO 2014, 80 classes, `train`, with ImageNet ResNet-50 on a GPU: the settings of IRNet's successors there.

    Command: `pseudomask run --data datasets/coco2014 --labels datasets/coco2014/annotations/instances_train2014.json
    --preset coco14 --out runs/coco14`
    It was not run here. ReCAM's `run_sample_coco.py` has the numbers, which are those of VOC: 0.30, 0.05 and 0.25,
    crops of 512, batches of 16 and 32, 5 and 3 epochs. Its loss is the mean over 80 classes, where `soft_margin` is the
    sum over 20. A quarter of the rate and four times the decay make the same steps.
    With `--cams`, a family's own thresholds on COCO count where `data.cam_families` has them. Networks on the labels
    have their preset voc12.
    """
    base = voc12()
    classifier = base.classifier.model_copy(update={"learning_rate": 0.025, "weight_decay": 4e-4})
    return base.model_copy(update={"classifier": classifier})


def voc12_stride8() -> PipelineConfig:
    """As `voc12`, with attention maps at 1/8 of the image in place of 1/16: a backbone of higher resolution.

    Command: `pseudomask run --data VOC2012 --split train_aug --preset voc12-stride8 --out runs/voc12-stride8`
    It was not run here. AffinityNet's ResNet-38 has attention maps of that stride; all other numbers are those of
    `voc12`. The backbone's last two stages keep 1/8 and are dilated, so that the ImageNet weights fit: of ResNet-50
    that is 3.1 times the multiplications at 512 x 512. IRNet sees features of five levels and stays as it is.
    With `--backbone timm:NAME` it takes any network of timm that can have that stride.
    """
    base = voc12()
    return base.model_copy(update={"classifier": base.classifier.model_copy(update={"output_stride": 8})})


OF_VOC12 = ("voc12", "voc12-stride8", "coco14")
"""Presets with the reference's thresholds."""
PRESETS: dict[str, Callable[[], PipelineConfig]] = {
    "quick": quick,
    "voc12": voc12,
    "voc12-stride8": voc12_stride8,
    "coco14": coco14,
    "demo": demo,
    **{name: successor_preset(name, voc12) for name in SUCCESSORS},
}


def network_preset(name: str) -> str:
    """Return which preset networks have that are trained on the labels of a run with this one."""
    return "voc12" if name in OF_VOC12 or name in SUCCESSORS else name
