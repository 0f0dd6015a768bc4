"""The settings of every stage, in the order of the pipeline.

They live apart from the stage functions so that planning a run, which needs them, does not load torch. The
defaults are the reference's (Ahn et al. 2019 and the authors' code), but for `unseen_tags` of both kinds of relations,
`irnet.mean_images`, `walk.tolerance` and `fields.pad_to`; `flows.labels.presets` has the presets, of which `voc12` is
the reference's but for what `docs/papers/irnet.md` names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.config import (
    Config,
    Fraction,
    LearningRate,
    NonNegative,
    OptimizerName,
    PixelRange,
    Positive,
    PositiveInt,
    Precision,
    Range,
    RateFactor,
    RunConfig,
    Steps,
)

Radius = Annotated[int, Field(ge=2)]
# The last feature level of a smaller crop is one cell, and batch norm needs more.
ClassifierSide = Annotated[int, Field(ge=32)]
Auto = Literal["auto"]
Refiner = Literal["irnet", "affinitynet", "none"]


class ClassifierConfig(Config):
    """Training of the image classifier whose class attention maps seed everything.

    Attributes:
        loss: "soft_margin" is the reference's: the mean of the classes' binary cross-entropies for VOC's 20 classes.
            For another number of classes their sum is divided by 20 too, so that a step does not grow as classes get
            fewer.
            "prior" sums them over the classes that the set has, on top of each class's log-odds in the set, with a
            classification layer that starts from zero: the loss begins at the entropy of the tags, a class in every
            tenth image and one in every other learn alike, and neither order nor number of the classes matters.
        output_stride: Of the backbone, so that attention maps have 1/8 or 1/16 of the image's sides. At 8 its last
            levels are dilated, and take four times as long.
        top_share: Half of an image's logit is the mean over this share of its cells, those of the highest logits of the
            class; the other half is the mean over all. 0 is the mean over all alone, as in the paper.
        resize_long: Range in pixels that an image's long side is resized to, drawn anew each time.
        crop_size: Side of the square training crop in pixels; what the image does not fill is zero.
        optimizer: "sgd" (the reference), or "adamw", which gets further in few steps from random weights.
        learning_rate: Of the backbone; decays to 0 by (1 - step / steps) ** 0.9.
        head_lr_factor: The classification layer learns this many times faster.
        momentum: Of SGD. The reference passes its weight decay here by mistake, and trains with 1e-4; its
            learning rates are too high for 0.9.
        freeze_norm: Keep batch norm at the statistics of the pretrained weights. Without pretrained weights
            it is trained regardless.
        freeze_norm_scale: Keep the scale and shift of a frozen batch norm as well. The reference trains them.
        photometric: Strength of random brightness, contrast and saturation, 0 for none.
        steps: Least and largest number of steps; epochs beyond them are cut, and the set is gone through more often
            where they are too few. None for as many as the epochs have.
        warmup_steps: Steps in which the learning rates grow from 0.
        head_views: A pretrained backbone stays as it is until half of the classes have been seen so many times, a
            quarter of the steps at most, where that is longer than the warm-up: where classes are many, each seen
            rarely, a layer that has learnt nothing yet would spoil the features. 0 trains both from the start.
        clip_norm: Gradients are scaled down to this norm; None for as they are.
        restarts: A loss that has not fallen by a fiftieth after half of the steps, or is not finite, starts anew at a
            quarter of the rates, this many times.
        held_out: Share of the images that the classifier does not learn from, on which its average precision is
            measured. Of fewer than 100 images none is held out: a linear classifier on the features of the first
            weights is asked in folds. 0 measures nothing.
        precision: Of the arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    loss: Literal["soft_margin", "prior"] = "soft_margin"
    output_stride: Literal[8, 16] = 16
    top_share: Fraction = 0.0
    resize_long: PixelRange = (320, 640)
    crop_size: ClassifierSide = 512
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 5
    optimizer: OptimizerName = "sgd"
    learning_rate: LearningRate = 0.1
    head_lr_factor: RateFactor = 10.0
    momentum: Fraction = 1e-4
    weight_decay: NonNegative = 1e-4
    freeze_norm: bool = True
    freeze_norm_scale: bool = False
    photometric: Fraction = 0.0
    steps: Steps | None = None
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    head_views: NonNegative = 0
    clip_norm: Positive | None = None
    restarts: Annotated[int, Field(ge=0, le=5)] = 0
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    precision: Precision = "float32"


class CamConfig(Config):
    """Inference of class attention maps.

    Attributes:
        scales: The image is seen at each of these sizes; the maps are added.
        mirror: Add the flipped-back maps of the mirrored image.
        precision: Of the network's arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 0.5, 1.5, 2.0)
    mirror: bool = True
    precision: Precision = "float32"


class SaliencyPriorConfig(Config):
    """Saliency as a prior: what the scores of CAMs and of the walk are multiplied by, where a run has a source of it.

    score * (floor + (1 - floor) * saliency), for each class that is salient.

    Attributes:
        floor: Share of a score that stays where saliency is 0.
        non_salient: Names of classes that saliency says nothing of, such as sky: their scores stay as they are.
    """

    floor: Fraction = 0.1
    non_salient: tuple[str, ...] = ()


class RelationsConfig(Config):
    """Mining of confident pixels from CAMs by dense CRF (Sec. 4.2).

    Attributes:
        foreground_threshold: Background score against which confident foreground is taken. "auto" is chosen for the
            set, from its images and CAMs.
        background_threshold: Background score against which confident background is taken; "auto" as above.
        threshold_images: Images that "auto" looks at.
        unseen_tags: What background is in an image with a tag that no sure pixel shows: "void", since the class lies
            somewhere in it, or "background", as in the reference.
        crf_iterations: Mean-field iterations.
        crf_confidence: Probability given to a pixel's initial label.
    """

    foreground_threshold: Fraction | Auto = 0.30
    background_threshold: Fraction | Auto = 0.05
    threshold_images: PositiveInt = 48
    unseen_tags: Literal["void", "background"] = "void"
    crf_iterations: PositiveInt = 10
    crf_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.7

    @model_validator(mode="after")
    def _thresholds_leave_a_gap(self) -> RelationsConfig:
        low, high = self.background_threshold, self.foreground_threshold
        if low != "auto" and high != "auto" and low > high:
            raise ValueError("background_threshold must not exceed foreground_threshold")
        return self


class IRNetConfig(Config):
    """Training of IRNet's two branches on the mined relations (Sec. 4.3 to 4.5).

    Attributes:
        backbone_from: The frozen backbone: "pretrained" (as the reference) or the trained "classifier".
            Without pretrained weights the classifier's is taken regardless.
        crop_size: Side of the square training crop in pixels. At stride 4 it must hold a pair of `radius_px`.
        rescale: Range of the random rescaling before the crop.
        radius_px: Pairs are closer than this, in pixels of the stride-4 grid (gamma in Eq. 2).
        optimizer: "sgd" (the reference) or "adamw", which leaves the displacement branch's plateau at small
            step counts, where SGD does not.
        learning_rate: Of the boundary branch.
        displacement_lr_factor: The displacement branch learns this many times faster.
        backbone_lr_factor: The backbone learns at this share of the rate; 0 keeps it frozen, as the paper does with
            ImageNet weights. One that was trained from random weights on few images has too little to offer frozen.
        centering_weight: Weight of the centering loss, the second condition of a displacement field: the
            displacements of a region have the mean zero. 0 leaves it out, as the paper does.
        rest_warmup: Share of the steps in which the weights of Eq. 6 and of the centering loss grow from 0. Both are
            met by a field of zeros, and with few steps from small weights it stays there. 0 has them from the start.
        momentum: Of SGD; see `ClassifierConfig.momentum`.
        mean_images: The mean displacement is taken over this many images, spread over the set.
        steps, restarts, precision: As of `ClassifierConfig`.
    """

    backbone_from: Literal["pretrained", "classifier"] = "pretrained"
    crop_size: Annotated[int, Field(ge=32, multiple_of=16)] = 512
    rescale: Range = (0.5, 1.5)
    batch_size: PositiveInt = 32
    epochs: PositiveInt = 3
    radius_px: Radius = 10
    optimizer: OptimizerName = "sgd"
    learning_rate: LearningRate = 0.1
    displacement_lr_factor: RateFactor = 10.0
    backbone_lr_factor: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    centering_weight: NonNegative = 0.0
    rest_warmup: Fraction = 0.0
    momentum: Fraction = 1e-4
    weight_decay: NonNegative = 1e-4
    mean_images: PositiveInt = 64
    steps: Steps | None = None
    restarts: Annotated[int, Field(ge=0, le=5)] = 0
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _crops_hold_pairs(self) -> IRNetConfig:
        least = 8 * (self.radius_px - 1)
        if self.crop_size <= least:
            raise ValueError(
                f"crop_size {self.crop_size}: expected more than {least} pixels, which is 8 * (radius_px - 1) with "
                f"radius_px {self.radius_px}; in smaller crops no two pixels are a pair, and IRNet learns nothing"
            )
        return self


class AffinityRelationsConfig(Config):
    """Mining of confident pixels for AffinityNet, from CAMs with a background score (1 - max) ** power and dense CRF.

    The numbers are those of Ahn and Kwak 2018, Sec. 3.2 and 4.

    Attributes:
        foreground_power: Confident foreground is what wins against the background of this power. "auto" takes the power
            whose background equals a score at `relations.foreground_threshold` as it was chosen for the set.
        background_power: Confident background is what this one wins. "auto" as above, at the background threshold.
        unseen_tags: As of `RelationsConfig`.
        crf_iterations: Mean-field iterations.
    """

    foreground_power: Positive | Auto = 4.0
    background_power: Positive | Auto = 24.0
    unseen_tags: Literal["void", "background"] = "void"
    crf_iterations: PositiveInt = 10

    @model_validator(mode="after")
    def _powers_leave_a_gap(self) -> AffinityRelationsConfig:
        low, high = self.foreground_power, self.background_power
        if low != "auto" and high != "auto" and low > high:
            raise ValueError("foreground_power must not exceed background_power: the higher, the weaker the background")
        return self


class AffinityNetConfig(Config):
    """Training of AffinityNet on the mined relations (Ahn and Kwak 2018, Sec. 3.2.2).

    The defaults are those of the authors' code.

    Attributes:
        backbone_from: As of `IRNetConfig`.
        crop_size: Side of the square training crop in pixels. At stride 8 it must hold a pair of `radius_px`.
        photometric: Strength of random brightness, contrast and saturation.
        radius_px: Pairs are closer than this, in pixels of the stride-8 grid (gamma in Eq. 4).
        optimizer: "sgd" (the authors' code), "adam" (the paper) or "adamw".
        learning_rate: Of the new layers.
        backbone_lr_factor: The backbone learns at this share of the rate; 0 keeps it frozen.
        momentum: Of SGD. The authors' code passes its weight decay here by mistake.
        steps, restarts, precision: As of `ClassifierConfig`.
    """

    backbone_from: Literal["pretrained", "classifier"] = "pretrained"
    crop_size: Annotated[int, Field(ge=32, multiple_of=16)] = 448
    photometric: Fraction = 0.3
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 8
    radius_px: Radius = 5
    optimizer: OptimizerName = "sgd"
    learning_rate: LearningRate = 1.0
    backbone_lr_factor: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    momentum: Fraction = 5e-4
    weight_decay: NonNegative = 5e-4
    steps: Steps | None = None
    restarts: Annotated[int, Field(ge=0, le=5)] = 0
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _crops_hold_pairs(self) -> AffinityNetConfig:
        if self.crop_size <= (least := 8 * (self.radius_px - 1)):
            raise ValueError(
                f"crop_size {self.crop_size}: expected more than {least} pixels, which is 8 * (radius_px - 1) with "
                f"radius_px {self.radius_px}"
            )
        return self


class AffinitiesConfig(Config):
    """Inference of AffinityNet's affinities.

    Attributes:
        radius_px: Pairs, and so steps of the walk, are closer than this, in pixels of the stride-8 grid.
        precision: Of the network's arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    radius_px: Radius = 5
    precision: Precision = "float32"


class AffinityWalkConfig(Config):
    """Propagation of CAMs and their background by AffinityNet's affinities (Ahn and Kwak 2018, Sec. 3.2.2).

    What is written is each class's walked score over its sum with the background's, stretched so that the image's
    highest is 1 and 0.5 stays where the paper decides for the class.

    Attributes:
        background_power: The background that walks is (1 - max) ** power. "auto" takes the power whose background
            equals a score at the background threshold that was chosen for the set's CAMs.
        beta: Hadamard power of the affinities (Eq. 11).
        steps: Steps of the walk, t in Eq. 12.
        tolerance: As of `WalkConfig`.
    """

    background_power: Positive | Auto = 16.0
    beta: Positive = 8.0
    steps: Annotated[int, Field(ge=0)] = 256
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-5


class FieldsConfig(Config):
    """Inference of boundary and displacement.

    Attributes:
        mirror: Average the boundary's logits with the mirrored image's.
        pad_to: Sides in pixels that smaller images are zero-padded to; the padding enters the group norms. The
            reference pads to the size of the training crops, and cuts off what is larger; here that stays. None pads
            to the next multiple of 16.
        precision: Of the network's arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    mirror: bool = True
    pad_to: Annotated[int, Field(ge=16, multiple_of=16)] | None = None
    precision: Precision = "float32"


class WalkConfig(Config):
    """Propagation of scores by random walk, for classes and for instances (Sec. 5).

    Attributes:
        radius_px: Steps are closer than this, in feature pixels.
        beta: Hadamard power of the affinities (Eq. 12).
        steps: Steps of the walk, t in Eq. 13.
        tolerance: Error of the walk that fewer products than steps may cause, as a share of the scores; 0 for none.
        centroid_threshold_px: Displacements shorter than this belong to a centroid (Eq. 14).
        refine_iterations: Refinements of the displacement field (Eq. 10).
    """

    radius_px: Radius = 5
    beta: Positive = 10.0
    steps: Annotated[int, Field(ge=0)] = 256
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-5
    centroid_threshold_px: Positive = 2.5
    refine_iterations: Annotated[int, Field(ge=0)] = 300


class PixelsConfig(Config):
    """A second round over the set: a linear classifier of pixels that the walk's sure pixels teach.

    See `tasks.pipeline.pixels`. `docs/any_set.md` says what it gives.

    Attributes:
        folds: The images are dealt into so many folds, each labelled by the classifier that learnt from the others. 0
            leaves the round out: the labels are those of the walked scores, as in the paper.
        rounds: So many classifiers are trained, one after another: the first by what the walk is sure of, each other by
            the labels that come of the one before, at a `walk_power` of 1 and a `pixel_threshold` of 0.5.
        scales: An image is seen at each of these sizes where its pixels are classified; probabilities are averaged.
            What teaches is seen at its own size.
        max_images: Images that teach, at even distances in the set.
        least_images: If fewer other images teach one of its classes, an image is judged by what all classes taught of
            objects and background; if fewer teach that, it keeps the walk's labels.
        cells: Cells of the stride-8 grid that an image teaches, about; of one class at most half of them.
        hint_weight: So many times as many cells of an image teach, of those that a person said something of (`--hints`,
            corrections).
        taught_thresholds: Two background thresholds of the walked scores. Pixels whose label is not the same under both
            teach nothing. "auto" takes `labels.sure_thresholds` as they were chosen for the set. Where numbers leave
            nothing to choose, later rounds take the middle of these two for the threshold of the walked scores.
        crf_iterations: Of the dense CRF that brings what is taught to the image's edges.
        steps: Of the training.
        batch_size: Cells of a step.
        learning_rate: Of AdamW; decays linearly to 0.
        weight_decay: Of AdamW.
        precision: Of the backbone's arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    folds: Annotated[int, Field(ge=0, le=20)] = 0
    rounds: Annotated[int, Field(ge=1, le=10)] = 1
    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)
    max_images: PositiveInt = 512
    least_images: Annotated[int, Field(ge=0)] = 5
    cells: Annotated[int, Field(ge=2)] = 400
    hint_weight: PositiveInt = 3
    taught_thresholds: Range | Auto = "auto"
    crf_iterations: Annotated[int, Field(ge=0)] = 5
    steps: PositiveInt = 400
    batch_size: PositiveInt = 1024
    learning_rate: LearningRate = 1e-3
    weight_decay: NonNegative = 1e-3
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _one_fold_has_no_others(self) -> PixelsConfig:
        if self.folds == 1:
            raise ValueError("pixels.folds 1: expected 0, or 2 or more: a fold is labelled by what others taught")
        return self


class LabelsConfig(Config):
    """Labels from walked scores, or from the pixel classifier's probabilities where there is one.

    Attributes:
        background_threshold: Walked scores (relative to the image's highest) below this are background. "auto" is
            chosen for the set, from its images and scores.
        pixel_threshold: A pixel is background where each class's probability, against background's alone, is below
            this.
        sure_pixel_thresholds: As `sure_thresholds`, of these probabilities.
        walk_power: The odds that the pixel classifier gives a class are multiplied by this power of the walked score
            over its background threshold (of images judged as objects, the CAM over its own): 1 takes it for evidence
            of its own, 0 asks the classifier alone.
        crf_iterations: Of a dense CRF that moves the borders of the semantic labels, and of the instances with them,
            to the image's edges; 0 leaves it out, as the paper does.
        min_area: Instances smaller than this share of the image are dropped.
        min_area_of_largest: But those stay that have this share of the image's largest instance, so that images of
            small objects keep theirs. None: they go too.
        sure_thresholds: Two background thresholds, one below and one above the labels' own. Pixels whose label is not
            the same under both are void in a second label map, from which networks are trained. None: there is no
            second map, and networks are trained on the labels, as in the paper. "auto" as above. Where a pixel
            classifier decides there is always one, by `sure_pixel_thresholds`.
        threshold_images: Images that "auto" looks at.
    """

    background_threshold: Fraction | Auto = 0.25
    pixel_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    sure_pixel_thresholds: Range = (0.3, 0.7)
    walk_power: NonNegative = 1.0
    crf_iterations: Annotated[int, Field(ge=0)] = 0
    min_area: Fraction = 0.01
    min_area_of_largest: Fraction | None = None
    sure_thresholds: Range | Auto | None = None
    threshold_images: PositiveInt = 48

    @model_validator(mode="after")
    def _sure_thresholds_enclose_the_labels_own(self) -> LabelsConfig:
        low, high = self.sure_pixel_thresholds
        if not low < self.pixel_threshold < high <= 1:
            raise ValueError(
                f"labels.sure_pixel_thresholds {self.sure_pixel_thresholds}: expected one below and one above "
                f"labels.pixel_threshold, which is {self.pixel_threshold}, and none above 1; change them with it"
            )
        if self.sure_thresholds == "auto" and self.background_threshold in (0, 1):
            raise ValueError("sure_thresholds 'auto': expected a background_threshold between 0 and 1, or 'auto'")
        if self.sure_thresholds not in (None, "auto"):
            if self.background_threshold == "auto":
                raise ValueError("sure_thresholds: expected 'auto' or None where background_threshold is 'auto'")
            low, high = self.sure_thresholds
            if not low < self.background_threshold < high <= 1:
                raise ValueError(
                    f"sure_thresholds {self.sure_thresholds}: expected one below and one above background_threshold, "
                    f"which is {self.background_threshold}, and none above 1"
                )
        return self


class RegionsConfig(Config):
    """How regions of a segmenter change the labels, where a run has any; see `tasks.pipeline.regions.rule`.

    Attributes:
        least_cover: A region takes the class that covers more than this share of it.
        least_held: A region that holds this share of an object of a class takes that class although it covers less.
        least_cover_held: But no less than this share of the region.
        least_follow: An object that lies in regions of its class by more than this share follows them: what it has
            elsewhere becomes background. 1 leaves it.
        largest: Regions over this share of the image are not looked at.
    """

    least_cover: Annotated[float, Field(ge=0.5, lt=1)] = 0.5
    least_held: Annotated[float, Field(gt=0.5, le=1)] = 0.85
    least_cover_held: Fraction = 0.2
    least_follow: Fraction = 0.25
    largest: Annotated[float, Field(gt=0, le=1)] = 0.9


class QualityConfig(Config):
    """What `quality.csv` says of each image's labels.

    Attributes:
        unsure: Confidence under which a pixel is counted as unsure.
    """

    unsure: Annotated[float, Field(gt=0, lt=1)] = 0.75


class ScoresConfig(Config):
    """Evaluation against ground truth, with the baselines beside the labels.

    Attributes:
        cam_thresholds: Background thresholds at which the CAMs are evaluated; the best is reported.
        crf_thresholds: The same for CAMs refined by dense CRF.
        component_thresholds: The same for instances from CAMs by connected components.
    """

    cam_thresholds: Annotated[tuple[Fraction, ...], Field(min_length=1)] = tuple(
        round(0.05 * k, 2) for k in range(1, 20)
    )
    crf_thresholds: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.2, 0.25, 0.3, 0.35)
    component_thresholds: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.15, 0.25, 0.35, 0.45, 0.55)


class PipelineConfig(RunConfig):
    """Everything that decides what the labels of a data set will be.

    Attributes:
        long_side: Range in pixels that an image's long side is brought into before networks, CRF and walk see it; the
            labels have the image's own size. None leaves images as they are, as in the paper.
        refiner: What makes labels of the CAMs: "irnet"; "affinitynet", which spreads classes alone, so that instances
            are the connected components of the labels; or "none", the CAMs as they are and the CRF of the labels
            (`labels.crf_iterations`), without a second round.
    """

    long_side: PixelRange | None = None
    refiner: Refiner = "irnet"
    saliency: SaliencyPriorConfig = SaliencyPriorConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    cams: CamConfig = CamConfig()
    relations: RelationsConfig = RelationsConfig()
    irnet: IRNetConfig = IRNetConfig()
    fields: FieldsConfig = FieldsConfig()
    affinity_relations: AffinityRelationsConfig = AffinityRelationsConfig()
    affinitynet: AffinityNetConfig = AffinityNetConfig()
    affinities: AffinitiesConfig = AffinitiesConfig()
    affinity_walk: AffinityWalkConfig = AffinityWalkConfig()
    walk: WalkConfig = WalkConfig()
    pixels: PixelsConfig = PixelsConfig()
    labels: LabelsConfig = LabelsConfig()
    regions: RegionsConfig = RegionsConfig()
    quality: QualityConfig = QualityConfig()
    scores: ScoresConfig = ScoresConfig()

    @model_validator(mode="after")
    def _pixels_have_thresholds(self) -> PipelineConfig:
        if self.pixels.folds and self.pixels.taught_thresholds == "auto" != self.labels.sure_thresholds:
            raise ValueError(
                "pixels.taught_thresholds 'auto': expected two numbers where labels.sure_thresholds is not 'auto'"
            )
        return self

    @model_validator(mode="after")
    def _powers_have_thresholds(self) -> PipelineConfig:
        if self.refiner == "affinitynet" and "auto" not in dict(self.relations).values():
            mined, walked = self.affinity_relations, self.affinity_walk
            if "auto" in (mined.foreground_power, mined.background_power, walked.background_power):
                raise ValueError(
                    "affinity_relations and affinity_walk: powers are 'auto' where thresholds of the relations are: "
                    "expected numbers where relations.foreground_threshold and background_threshold are numbers"
                )
        return self
