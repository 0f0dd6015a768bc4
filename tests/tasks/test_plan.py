"""The plan: which artifacts a run is made of, and what changes their keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from data.dataset import CamSource, ClassTable, CocoSource, Dataset, DatasetError, Sample, SampleWithMore
from tasks.config import RunConfig
from tasks.engine import plan as plan_module
from tasks.engine import stage as stage_module
from tasks.engine.artifact import ImageSet, Reads, SampleDigest, Shard
from tasks.engine.plan import Networks, Plan, count_shards, digest_samples, weights_digest
from tasks.pipeline import STAGES
from tasks.pipeline.plan import plan_labels
from tasks.pipeline.settings import (
    LabelsConfig,
    PipelineConfig,
    PixelsConfig,
    RegionsConfig,
    RelationsConfig,
    SaliencyPriorConfig,
    WalkConfig,
)

CONFIG = PipelineConfig(shard_size=8)


def _dataset(num_images: int = 32, truth: Callable[[int], bool] = lambda number: True) -> Dataset:
    samples = [
        Sample(f"image{n:03d}", Path(f"image{n:03d}.jpg"), (n % 2,), semantic=Path("truth.png") if truth(n) else None)
        for n in range(num_images)
    ]
    return Dataset(Path("set"), ClassTable(("cat", "dog")), tuple(samples))


def _digests(dataset: Dataset) -> dict[str, SampleDigest]:
    return {s.id: SampleDigest(f"bytes of {s.id}", "truth" if s.semantic else None) for s in dataset.samples}


def _plan(dataset: Dataset | None = None, config: PipelineConfig = CONFIG, **options) -> Plan:
    dataset = dataset or _dataset()
    return plan_labels(dataset, config, options.pop("digests", _digests(dataset)), **options)


def _deal(dataset: Dataset, num_shards: int) -> list[Shard]:
    return ImageSet(dataset.samples, _digests(dataset)).deal(dataset.samples, num_shards, Reads())


def _changed(before: Plan, after: Plan) -> dict[str, int]:
    """Return stage -> number of artifacts of `after` that `before` does not have."""
    known = {artifact.key for artifact in before.artifacts}
    counts = {stage: sum(artifact.key not in known for artifact in after.of(stage)) for stage in after.stages}
    return {stage: count for stage, count in counts.items() if count}


def test_the_pixel_classifier_is_planned_where_its_folds_are_not_0() -> None:
    taught = PixelsConfig(folds=3, taught_thresholds=(0.2, 0.4))
    plan = _plan(config=PipelineConfig(pixels=taught))
    (labels, *_), (classifier,) = plan.of("labels"), plan.of("pixel-classifier")
    assert {"pixel-scores"} <= labels.inputs.keys()
    assert not _plan(config=PipelineConfig()).of("pixel-classifier")
    other = _plan(config=PipelineConfig(pixels=taught.model_copy(update={"steps": 7})))
    assert other.of("pixel-classifier")[0].key != classifier.key
    assert [artifact.key for artifact in other.of("walk")] == [artifact.key for artifact in plan.of("walk")]


def test_every_node_comes_after_its_inputs_and_keys_are_unique() -> None:
    plan = _plan()
    seen: set[tuple[str, str]] = set()
    for artifact in plan.artifacts:
        assert {(stage, key) for stage, keys in artifact.inputs.items() for key in keys} <= seen
        seen.add((artifact.stage.name, artifact.key))
    assert len(seen) == len(plan.artifacts)
    assert plan.stages == [
        stage.name for stage in STAGES if not (stage.chooses or stage.reads_saliency or stage.switch)
    ]


def test_thresholds_are_chosen_where_the_settings_leave_them_open_and_only_there() -> None:
    relations = RelationsConfig(foreground_threshold="auto", background_threshold="auto")
    plan = _plan(config=CONFIG.model_copy(update={"relations": relations}))
    (thresholds,) = plan.of("thresholds")
    assert thresholds.inputs == {"cams": tuple(artifact.key for artifact in plan.of("cams"))}
    assert all(artifact.inputs["thresholds"] == (thresholds.key,) for artifact in plan.of("relations"))
    assert not plan.of("label-thresholds")
    labels = CONFIG.model_copy(update={"labels": LabelsConfig(sure_thresholds="auto")})
    assert [len(_plan(config=labels).of(name)) for name in ("thresholds", "label-thresholds")] == [0, 1]


def test_a_shard_reads_its_own_inputs_and_a_training_reads_all() -> None:
    plan = _plan()
    assert len(plan.of("walk")) == 4
    for walk, cams, fields in zip(plan.of("walk"), plan.of("cams"), plan.of("fields"), strict=True):
        assert walk.inputs == {"cams": (cams.key,), "fields": (fields.key,)}
        assert walk.samples == cams.samples
    (irnet,) = plan.of("irnet")
    assert irnet.inputs["relations"] == tuple(artifact.key for artifact in plan.of("relations"))
    assert irnet.samples == plan.dataset.samples
    assert [artifact.label for artifact in plan.of("walk")] == ["walk 01/04", "walk 02/04", "walk 03/04", "walk 04/04"]


def test_the_same_request_gives_the_same_keys() -> None:
    assert not _changed(_plan(), _plan())


def test_paths_are_not_part_of_a_key() -> None:
    dataset = _dataset()
    moved = replace(
        dataset, root=Path("/elsewhere"), samples=tuple(replace(s, image=Path("/x")) for s in dataset.samples)
    )
    assert not _changed(_plan(dataset), _plan(moved))


def test_a_setting_changes_its_stage_and_what_follows() -> None:
    changed = _changed(_plan(), _plan(config=CONFIG.model_copy(update={"walk": WalkConfig(beta=8)})))
    assert changed == {"walk": 4, "labels": 4, "quality": 4, "scores": 4, "metrics": 1}


def test_the_seed_and_the_weights_change_everything() -> None:
    before = _plan()
    everything = {stage: len(before.of(stage)) for stage in before.stages}
    assert _changed(before, _plan(config=CONFIG.model_copy(update={"seed": 1}))) == everything
    assert _changed(before, _plan(config=CONFIG.model_copy(update={"backbone": "resnet18"}))) == everything
    assert _changed(before, _plan(weights="imagenet")) == everything


def test_an_edited_source_changes_its_stage_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _plan()
    real = stage_module.source_digest
    monkeypatch.setattr(
        stage_module,
        "source_digest",
        lambda name: "edited" if name == "tasks.pipeline.walk:walk_scores" else real(name),
    )
    assert set(_changed(before, _plan())) == {"walk", "labels", "quality", "scores", "metrics"}


def test_ground_truth_changes_the_scores_only() -> None:
    dataset = _dataset()
    digests = _digests(dataset)
    digests["image005"] = replace(digests["image005"], truth="other")
    assert _changed(_plan(dataset), _plan(dataset, digests=digests)) == {"scores": 1, "metrics": 1}


def _with_saliency(dataset: Dataset) -> tuple[Dataset, dict[str, SampleDigest]]:
    digests = {id: replace(each, saliency=f"map of {id}") for id, each in _digests(dataset).items()}
    return replace(dataset, samples=tuple(replace(s, saliency=Path("map.png")) for s in dataset.samples)), digests


def test_saliency_is_a_stage_that_every_reader_of_scores_needs_and_changes_nothing_before_it() -> None:
    before, (dataset, digests) = _plan(), _with_saliency(_dataset())
    after = _plan(dataset, digests=digests)
    readers = [stage for stage in after.stages if "saliency" in after.of(stage)[0].inputs]
    assert readers == ["relations", "walk", "labels", "quality", "scores"]
    assert not {"classifier", "cams"} & _changed(before, after).keys()
    for walk, saliency in zip(after.of("walk"), after.of("saliency"), strict=True):
        assert walk.inputs["saliency"] == (saliency.key,)
        recipe = saliency.recipe
        assert recipe is not None
        assert {id: told["saliency"] for id, told in recipe["samples"].items()} == {
            sample.id: f"map of {sample.id}" for sample in walk.samples
        }


def test_settings_of_saliency_change_no_key_of_a_run_without_it() -> None:
    config = CONFIG.model_copy(update={"saliency": SaliencyPriorConfig(floor=0.5)})
    assert not _changed(_plan(), _plan(config=config))
    dataset, digests = _with_saliency(_dataset())
    changed = _changed(_plan(dataset, digests=digests), _plan(dataset, config, digests=digests))
    assert (changed["saliency"], "cams" in changed) == (4, False)


def test_one_other_map_of_saliency_repeats_its_shard_and_what_follows() -> None:
    networks = Networks("store", {"classifier": "c" * 20, "irnet": "i" * 20})
    dataset, digests = _with_saliency(_dataset())
    other = digests | {"image005": replace(digests["image005"], saliency="other")}
    changed = _changed(*(_plan(dataset, digests=each, networks=networks) for each in (digests, other)))
    assert changed == {"saliency": 1, "walk": 1, "labels": 1, "quality": 1, "scores": 1, "metrics": 1}
    trained = _changed(_plan(dataset, digests=digests), _plan(dataset, digests=other))
    assert (trained["saliency"], trained["relations"], trained["irnet"]) == (1, 1, 1)
    assert not {"classifier", "cams"} & trained.keys()


def _with_regions(dataset: Dataset) -> tuple[Dataset, dict[str, SampleDigest]]:
    digests = {id: replace(each, regions=f"regions of {id}") for id, each in _digests(dataset).items()}
    samples = (SampleWithMore(s.id, s.image, s.labels, s.semantic, regions=Path("a.json")) for s in dataset.samples)
    return replace(dataset, samples=tuple(samples)), digests


def test_regions_refine_the_labels_and_change_nothing_before_them() -> None:
    before, (dataset, digests) = _plan(), _with_regions(_dataset())
    after = _plan(dataset, digests=digests)
    assert [name for name in after.stages if name not in before.stages] == ["labels-before-regions"]
    assert _changed(before, after) == dict.fromkeys(("labels-before-regions", "labels", "quality", "scores"), 4) | {
        "metrics": 1
    }
    for labels, unrefined in zip(after.of("labels"), after.of("labels-before-regions"), strict=True):
        assert labels.inputs["labels-before-regions"] == (unrefined.key,)
        assert unrefined.stage.function == before.of("labels")[0].stage.function
        assert labels.recipe is not None
        assert {told["regions"] for told in labels.recipe["samples"].values()} == {
            f"regions of {sample.id}" for sample in labels.samples
        }
    config = CONFIG.model_copy(update={"regions": RegionsConfig(least_cover=0.7)})
    assert not _changed(before, _plan(config=config))
    changed = _changed(after, _plan(dataset, config, digests=digests))
    assert changed == {"labels": 4, "quality": 4, "scores": 4, "metrics": 1}
    other = digests | {"image005": replace(digests["image005"], regions="other")}
    assert _changed(after, _plan(dataset, digests=other)) == {"labels": 1, "quality": 1, "scores": 1, "metrics": 1}


def test_the_bytes_of_regions_are_digested_be_they_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.jpg", "b.jpg", "a.json", "b/0.png"):
        (tmp_path / name).write_text(name)
    samples = tuple(
        SampleWithMore(name[0], tmp_path / f"{name[0]}.jpg", (0,), regions=tmp_path / name) for name in ("a.json", "b")
    )
    dataset = Dataset(tmp_path, ClassTable(("cat",)), samples)
    before = digest_samples(dataset)
    assert before["a"].regions == hashlib.sha256(b"a.json").hexdigest()
    (tmp_path / "b/1.png").write_text("more")
    after = digest_samples(dataset)
    assert (after["a"], after["b"].regions == before["b"].regions) == (before["a"], False)
    (tmp_path / "a.json").unlink()
    with pytest.raises(DatasetError, match=r"a\.json: cannot be read"):
        digest_samples(dataset)


def test_the_bytes_of_a_map_or_a_network_are_digested(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "a.npy"):
        (tmp_path / name).write_text(name)
    samples = (
        Sample("a", tmp_path / "a.jpg", (0,), saliency=tmp_path / "a.npy"),
        Sample("b", tmp_path / "b.jpg", ()),
    )
    found = digest_samples(Dataset(tmp_path, ClassTable(("cat",)), samples))
    assert found["a"].saliency == hashlib.sha256(b"a.npy").hexdigest()
    assert found["b"].saliency is None
    (tmp_path / "a.npy").unlink()
    with pytest.raises(DatasetError, match=r"a\.npy: cannot be read"):
        digest_samples(Dataset(tmp_path, ClassTable(("cat",)), samples))


def test_labels_and_bytes_of_an_image_count() -> None:
    dataset = _dataset()
    digests = _digests(dataset)
    digests["image005"] = replace(digests["image005"], image="other")
    relabelled = replace(dataset, samples=(replace(dataset.samples[0], labels=(0, 1)), *dataset.samples[1:]))
    for after in (_plan(dataset, digests=digests), _plan(relabelled)):
        assert "classifier" in _changed(_plan(dataset), after)


def test_scores_run_over_what_has_ground_truth_and_are_left_out_without_any() -> None:
    half = _plan(_dataset(truth=lambda number: number < 3))
    scored = [sample.id for artifact in half.of("scores") for sample in artifact.samples]
    assert sorted(scored) == ["image000", "image001", "image002"]
    assert {"scores", "metrics"}.isdisjoint(_plan(_dataset(truth=lambda number: False)).stages)


def test_networks_of_another_run_replace_training_and_what_only_training_needs() -> None:
    first = _plan()
    keys = {stage: first.of(stage)[0].key for stage in ("classifier", "irnet")}
    dataset = _dataset(5)
    plan = _plan(dataset, networks=Networks("store", keys))
    assert "relations" not in plan.stages
    for stage, key in keys.items():
        (artifact,) = plan.of(stage)
        assert (artifact.key, artifact.origin, artifact.inputs, artifact.recipe) == (key, "store", {}, None)
    other = _plan(dataset, networks=Networks("elsewhere", {**keys, "irnet": "another"}))
    assert {"cams"}.isdisjoint(_changed(plan, other))
    assert "fields" in _changed(plan, other)


def test_a_new_image_changes_one_shard_only() -> None:
    before, after = _deal(_dataset(64), 8), _deal(_dataset(65), 8)
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
    assert sum(len(part.samples) for part in after) == 65


def test_empty_shards_are_left_out() -> None:
    dealt = _deal(_dataset(2), 64)
    assert 1 <= len(dealt) <= 2
    assert all(part.samples for part in dealt)


@pytest.mark.parametrize(
    ("images", "size", "expected"), [(0, 32, 1), (1, 32, 1), (257, 32, 8), (100, 32, 4), (10, 1, 8)]
)
def test_the_number_of_shards_is_the_nearest_power_of_two(images: int, size: int, expected: int) -> None:
    assert count_shards(images, size) == expected


def test_digests_follow_the_bytes_of_images_and_ground_truth(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "a.png", "set.json"):
        (tmp_path / name).write_text(name)
    samples = (
        Sample("a", tmp_path / "a.jpg", (), semantic=tmp_path / "a.png"),
        Sample("b", tmp_path / "b.jpg", (), coco=CocoSource(tmp_path / "set.json", 7, (1, 2))),
        Sample("c", tmp_path / "b.jpg", ()),
    )
    dataset = Dataset(tmp_path, ClassTable(("cat",)), samples)
    before = digest_samples(dataset, 2)
    assert before["b"].image == before["c"].image
    assert before["c"].truth is None
    (tmp_path / "a.png").write_text("a.pnG")
    (tmp_path / "set.json").write_text("set.jsoN")
    after = digest_samples(dataset, 2)
    assert before["a"].image == after["a"].image
    assert before["a"].truth != after["a"].truth
    assert before["b"].truth != after["b"].truth


def test_all_unreadable_files_are_listed(tmp_path: Path) -> None:
    samples = tuple(Sample(name, tmp_path / f"{name}.jpg", ()) for name in "ab")
    with pytest.raises(DatasetError) as raised:
        digest_samples(Dataset(tmp_path, ClassTable(("cat",)), samples))
    assert [problem.sample for problem in raised.value.problems] == ["a", "b"]


def test_weights_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    config = CONFIG.model_copy(update={"weights": file})
    with pytest.raises(DatasetError, match=r"weights\.pth: cannot be read"):
        weights_digest(config)
    file.write_bytes(b"1")
    first = weights_digest(config)
    file.write_bytes(b"2")
    assert weights_digest(config) != first
    assert weights_digest(CONFIG) is None


def test_a_key_names_the_training_of_downloaded_weights() -> None:
    def digest(backbone: str, weights: str) -> str | None:
        return weights_digest(RunConfig.model_validate({"backbone": backbone, "weights": weights}))

    assert digest("resnet50", "imagenet") == digest("resnet50", "imagenet-v2") == "imagenet-v2"
    assert digest("resnet50", "imagenet-v1") == digest("resnet18", "imagenet") == "imagenet-v1"
    with pytest.raises(ValidationError, match="weights 'imagenet-v2': torchvision has imagenet-v1 of resnet18 at most"):
        digest("resnet18", "imagenet-v2")


def test_the_input_that_a_trained_network_s_file_expects_is_part_of_the_key(tmp_path: Path) -> None:
    file, recipe = tmp_path / "network.safetensors", tmp_path / "network.json"
    file.write_bytes(b"1")
    config = CONFIG.model_copy(update={"weights": file})
    found = [weights_digest(config)]
    for convention in ("tensorflow", "torchvision"):
        recipe.write_text(json.dumps({"backbone": "mobilenet_v2", "convention": convention}))
        found.append(weights_digest(config))
    assert len(set(found)) == 3
    recipe.write_text("{")
    with pytest.raises(DatasetError, match=r"network\.json: expected what is known"):
        weights_digest(config)


def test_an_image_of_another_name_is_another_image() -> None:
    """Labels are named like their images: the same bytes under another name are other labels."""
    dataset = _dataset(3)
    renamed = replace(dataset, samples=(*dataset.samples[:2], replace(dataset.samples[2], id="other")))
    digests = _digests(dataset)
    before = _plan(dataset, digests=digests)
    after = _plan(renamed, digests=digests | {"other": digests[dataset.samples[2].id]})
    assert set(_changed(before, after)) >= {"cams", "labels"}
    assert _changed(before, after)["cams"] == len(after.of("cams"))


def _with_cams(dataset: Dataset) -> tuple[Dataset, dict[str, SampleDigest]]:
    digests = {id: replace(each, cams=f"maps of {id}") for id, each in _digests(dataset).items()}
    samples = tuple(replace(s, cams=Path("maps.npy")) for s in dataset.samples)
    return replace(dataset, samples=samples, cams=CamSource("irn", ("cat", "dog"))), digests


def test_maps_of_another_method_take_the_place_of_the_classifier_and_of_its_maps() -> None:
    dataset, digests = _with_cams(_dataset())
    plan = _plan(dataset, digests=digests)
    assert "classifier" not in plan.stages
    assert {artifact.stage.function for artifact in plan.of("cams")} == {
        "tasks.pipeline.seeds.external_cams:read_external_cams"
    }
    assert all(not artifact.inputs for artifact in plan.of("cams"))
    (irnet,) = plan.of("irnet")
    assert list(irnet.inputs) == ["relations"]
    recipe = plan.of("cams")[0].recipe
    assert recipe is not None
    assert {told["cams"] for told in recipe["samples"].values()} == {f"maps of {id}" for id in recipe["samples"]}
    assert recipe["settings"] == {"family": "irn", "names": ["cat", "dog"], "missing": "error"}
    # Whose maps they are is known by their bytes, not by where they lie.
    assert not any("maps.npy" in json.dumps(artifact.recipe) for artifact in plan.artifacts)


def test_one_changed_map_repeats_its_own_work_alone_where_networks_are_kept_and_trains_where_not() -> None:
    dataset, digests = _with_cams(_dataset())
    changed = digests | {"image005": replace(digests["image005"], cams="other")}
    networks = Networks("store", {"irnet": "key"})
    plans = [_plan(dataset, digests=each, networks=networks) for each in (digests, changed)]
    assert _changed(*plans) == {"cams": 1, "walk": 1, "labels": 1, "quality": 1, "scores": 1, "metrics": 1}
    trained = _changed(*(_plan(dataset, digests=each) for each in (digests, changed)))
    assert trained["relations"] == trained["cams"] == 1
    assert trained["irnet"] == 1
    assert trained["fields"] == len(plans[0].of("walk"))


def test_another_family_or_table_of_the_same_files_makes_other_maps() -> None:
    dataset, digests = _with_cams(_dataset())
    before = _plan(dataset, digests=digests)
    for source in (CamSource("lpcam", ("cat", "dog")), CamSource("irn", ("dog", "cat"))):
        assert _changed(before, _plan(replace(dataset, cams=source), digests=digests))["cams"] == 4
    elsewhere = replace(dataset, cams=CamSource("irn", ("cat", "dog"), origin="elsewhere"))
    assert not _changed(before, _plan(elsewhere, digests=digests))


def test_the_bytes_of_maps_are_digested(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "a.npy").write_bytes(b"maps")
    sample = Sample("a", tmp_path / "a.jpg", (0,), cams=tmp_path / "a.npy")
    dataset = Dataset(tmp_path, ClassTable(("cat",)), (sample,))
    assert digest_samples(dataset)["a"].cams == hashlib.sha256(b"maps").hexdigest()
    (tmp_path / "a.npy").unlink()
    with pytest.raises(DatasetError, match=r"a\.npy: cannot be read"):
        digest_samples(dataset)


def test_a_backbone_of_timm_is_in_the_keys_by_its_full_name_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "full_name", lambda name: f"{name}.tag")
    ours, timms = (_plan(config=CONFIG.model_copy(update={"backbone": n})) for n in ("resnet50", "timm:resnet50"))
    (before,), (after,) = ours.of("classifier"), timms.of("classifier")
    assert before.recipe is not None
    assert after.recipe is not None
    assert "backbone_source" not in before.recipe
    assert after.recipe["backbone"] == "timm:resnet50.tag"
    assert len(after.recipe["backbone_source"]) == 64
    assert before.key != after.key
    assert weights_digest(RunConfig(backbone="timm:resnet50", weights="imagenet")) == "imagenet"
