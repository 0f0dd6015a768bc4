"""What a run leaves on record: each image once, and enough to say what changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fabricated_run import make_run

from data.dataset import ClassTable, CocoSource, Dataset, Sample, SampleWithMore
from data.store import ArtifactError, Store
from flows.commands.looking.status import compare_with_store
from tasks.engine.artifact import ImageSet, SampleDigest
from tasks.engine.image_list import RELABELLED, Change, compare_images, read_images, write_images
from tasks.engine.plan import Plan, make_plan
from tasks.engine.run_record import RunRecord, read_run, write_run
from tasks.networks import NETWORKS
from tasks.networks.deeplabv2 import DeepLabV2Settings
from tasks.pipeline.plan import pipeline_settings, plan_labels
from tasks.pipeline.settings import PipelineConfig

CONFIG = PipelineConfig(shard_size=8)
SOURCE = CocoSource(Path("set/annotations.json"), 7, (1, 3))


def _dataset(num_images: int = 32) -> Dataset:
    root = Path("set")
    samples = tuple(
        Sample(f"image{n:03d}", root / f"{n}.jpg", (n % 2,), semantic=root / f"{n}.png" if n % 4 == 0 else None)
        for n in range(num_images)
    )
    return Dataset(root, ClassTable(("cat", "dog")), samples)


@pytest.mark.parametrize("name", ["../../docs", "/docs", "a/b", "", ".hidden"])
def test_a_record_whose_stage_or_key_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path, num_images=2)
    content = json.loads((run / "run.json").read_text())
    for stages in ({"irnet": {"keys": {"0": name}}}, {name: {"keys": {"0": "k"}}}):
        (run / "run.json").write_text(json.dumps(content | {"stages": stages}))
        with pytest.raises(ArtifactError, match=r"run\.json: not the record of a run \(stages.*letters and digits"):
            read_run(run)
    (run / "run.json").write_text(json.dumps(content | {"images": {"file": "../../../etc/passwd", "count": 1}}))
    with pytest.raises(ArtifactError, match=r"images\.file: .*the name of a list beside the record"):
        read_run(run)


def _digests(dataset: Dataset) -> dict[str, SampleDigest]:
    return {s.id: SampleDigest(f"bytes of {s.id}", "truth" if s.semantic else None) for s in dataset.samples}


def _write(run: Path, plan: Plan) -> RunRecord:
    run.mkdir(exist_ok=True)
    write_run(run, plan, run.parent / "store", preset="quick", request={"data": "set"})
    return read_run(run)


def _reasons(tmp_path: Path, before: Plan, after: Plan) -> dict[str, list[str]]:
    """Return stage -> the distinct reasons why its artifacts are not there."""
    stages = compare_with_store(after, _write(tmp_path / "run", before), Store(tmp_path / "store"))
    return {name: list(dict.fromkeys(entry["reasons"].values())) for name, entry in stages.items()}


def test_what_is_read_is_what_was_planned(tmp_path: Path) -> None:
    dataset = _dataset()
    plan = plan_labels(dataset, CONFIG, _digests(dataset))
    record = _write(tmp_path / "run", plan)
    assert record.dataset == dataset
    assert set(record.artifacts) == {(artifact.stage.name, artifact.key) for artifact in plan.artifacts}
    assert record.network("irnet") == plan.of("irnet")[0].key
    assert record.network("deeplabv2") is None
    for artifact in plan.artifacts:
        for sample in artifact.samples:
            assert record.stages[artifact.stage.name].key_of(sample.id) == artifact.key


def test_every_image_is_there_once_and_recipes_are_not(tmp_path: Path) -> None:
    dataset = _dataset()
    _write(tmp_path / "run", plan_labels(dataset, CONFIG, _digests(dataset)))
    text = "".join(file.read_text() for file in (tmp_path / "run").iterdir())
    assert text.count("bytes of image005") == 1
    assert text.count('"image005"') == 1


def test_files_outside_the_set_and_coco_sources_come_back(tmp_path: Path) -> None:
    outside = Sample("a", tmp_path / "elsewhere/a.jpg", (0,), instances=tmp_path / "a.png", coco=SOURCE)
    samples = (outside, Sample("b", Path("set/deep/b.jpg"), (), coco=replace(SOURCE, image_id=8)))
    digests = {"a": SampleDigest("1", "t"), "b": SampleDigest("2", "u")}
    listed = write_images(tmp_path, ImageSet(samples, digests), Path("set"))
    found = list(read_images(tmp_path, listed, Path("set")))
    assert [sample for sample, _ in found] == list(samples)
    assert dict(zip("ab", (digest for _, digest in found), strict=True)) == digests
    assert listed.count == 2


def test_maps_and_networks_of_saliency_come_back_and_their_changes_are_told(tmp_path: Path) -> None:
    with_map = Sample("a", Path("set/a.jpg"), (0,), saliency=Path("set/maps/a.png"))
    with_network = Sample("b", Path("set/b.jpg"), (0,), saliency=tmp_path / "net.onnx")
    samples = (with_map, with_network, Sample("c", Path("set/c.jpg"), ()))
    digests = {"a": SampleDigest("1", "t", "m"), "b": SampleDigest("2", saliency="n"), "c": SampleDigest("3")}
    listed = write_images(tmp_path, ImageSet(samples, digests), Path("set"))
    found = list(read_images(tmp_path, listed, Path("set")))
    assert found == [(sample, digests[sample.id]) for sample in samples]
    now = digests | {"a": SampleDigest("1", "u", "other")}
    assert compare_images(found, ImageSet(samples, now)) == [
        Change("a", "with other ground truth", True),
        Change("a", "with other saliency", True),
    ]


def test_regions_come_back_and_their_changes_are_told_of_the_stage_that_reads_them(tmp_path: Path) -> None:
    file = SampleWithMore("a", Path("set/a.jpg"), (0,), regions=Path("set/regions/a.json"))
    folder = SampleWithMore("b", Path("set/b.jpg"), (0,), regions=tmp_path / "b")
    samples = (file, folder, Sample("c", Path("set/c.jpg"), ()))
    digests = {"a": SampleDigest("1", regions="r"), "b": SampleDigest("2", regions="s"), "c": SampleDigest("3")}
    listed = write_images(tmp_path, ImageSet(samples, digests), Path("set"))
    assert list(read_images(tmp_path, listed, Path("set"))) == [(sample, digests[sample.id]) for sample in samples]
    plain = _dataset()
    samples = (SampleWithMore(s.id, s.image, s.labels, s.semantic, regions=Path("x")) for s in plain.samples)
    dataset, digests = replace(plain, samples=tuple(samples)), _digests(plain)
    digests = {id: replace(digest, regions="r") for id, digest in digests.items()}
    other = digests | {"image005": replace(digests["image005"], regions="other")}
    found = _reasons(tmp_path, plan_labels(dataset, CONFIG, digests), plan_labels(dataset, CONFIG, other))
    untouched = "its folder is gone from the store"
    assert set(found["labels"]) == {"1 image with other regions: image005", untouched}
    assert set(found["labels-before-regions"]) == set(found["walk"]) == {untouched}


def test_hints_and_what_is_open_of_tags_come_back_and_their_changes_are_told(tmp_path: Path) -> None:
    root = Path("set")
    hinted = SampleWithMore("a", root / "a.jpg", (0,), hints=root / "hints/a.json")
    doubted = SampleWithMore("b", root / "b.jpg", (0, 2), unknown=(1,), certainty=(0.5, 1.0))
    samples = (hinted, doubted, Sample("c", root / "c.jpg", ()))
    digests = {"a": SampleDigest("1", hints="h"), "b": SampleDigest("2"), "c": SampleDigest("3")}
    listed = write_images(tmp_path, ImageSet(samples, digests), root)
    found = list(read_images(tmp_path, listed, root))
    assert found == [(sample, digests[sample.id]) for sample in samples]
    now = (hinted, replace(doubted, unknown=()), replace(samples[2], labels=(1,)))
    changed = digests | {"a": SampleDigest("1", hints="other")}
    assert compare_images(found, ImageSet(now, changed)) == [
        Change("a", "with other hints", False),
        Change("b", RELABELLED, False),
        Change("c", RELABELLED, False),
    ]


def test_status_tells_other_saliency_only_of_the_stage_that_reads_it(tmp_path: Path) -> None:
    dataset = _dataset()
    samples = tuple(replace(sample, saliency=Path("map.png")) for sample in dataset.samples)
    dataset = replace(dataset, samples=samples)
    digests = {id: replace(digest, saliency="map") for id, digest in _digests(dataset).items()}
    before = plan_labels(dataset, CONFIG, digests)
    after = plan_labels(dataset, CONFIG, digests | {"image005": replace(digests["image005"], saliency="other")})
    found = _reasons(tmp_path, before, after)
    untouched = "its folder is gone from the store"
    assert set(found["saliency"]) == {"1 image with other saliency: image005", untouched}
    assert set(found["relations"]) == {"saliency would be made again", untouched}
    assert set(found["cams"]) == {untouched}


def test_the_list_of_a_record_that_was_replaced_goes(tmp_path: Path) -> None:
    for dataset in (_dataset(8), _dataset(9)):
        record = _write(tmp_path / "run", plan_labels(dataset, CONFIG, _digests(dataset)))
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [record.images.file, "run.json"]
    assert len(record.dataset.samples) == record.images.count == 9


def test_another_versions_record_and_a_damaged_list_are_named(tmp_path: Path) -> None:
    dataset = _dataset(8)
    record = _write(tmp_path, plan_labels(dataset, CONFIG, _digests(dataset)))
    (tmp_path / str(record.images.file)).write_text('{"coco":[]}\n{"id":')
    with pytest.raises(ArtifactError, match=r"images-.*jsonl: cannot be read"):
        _ = record.dataset
    (tmp_path / "run.json").write_text(json.dumps({"preset": "quick", "artifacts": [], "dataset": {}}))
    with pytest.raises(ArtifactError, match="another version of pseudomask wrote it"):
        read_run(tmp_path)


def test_what_became_of_each_image_is_told() -> None:
    dataset = _dataset(6)
    a, b, c, d, e, f = dataset.samples
    digests = _digests(dataset)
    before = [(sample, digests[sample.id]) for sample in (a, b, c, d, e)]
    now = (replace(a, labels=(0, 1)), b, c, e, f)
    digests |= {b.id: SampleDigest("other"), e.id: SampleDigest(digests[e.id].image, "other")}
    assert compare_images(before, ImageSet(now, digests)) == [
        Change(a.id, "relabelled", True),
        Change(b.id, "changed", False),
        Change(d.id, "gone", False),
        Change(e.id, "with other ground truth", True),
        Change(f.id, "new", False),
    ]


def test_status_says_which_images_changed_and_which_stages_follow(tmp_path: Path) -> None:
    dataset = _dataset()
    digests = _digests(dataset)
    before = plan_labels(dataset, CONFIG, digests)
    after = plan_labels(dataset, CONFIG, digests | {"image005": SampleDigest("other")})
    found = _reasons(tmp_path, before, after)
    assert found["classifier"] == ["1 image changed: image005"]
    follows = "classifier would be made again"
    assert sorted(found["cams"]) == [f"1 image changed: image005; {follows}", follows]
    assert found["scores"] == ["cams and walk and labels would be made again"]


def test_status_tells_ground_truth_from_images_and_new_shards(tmp_path: Path) -> None:
    dataset = _dataset()
    digests = _digests(dataset)
    before = plan_labels(dataset, CONFIG, digests)
    truth = digests | {"image004": replace(digests["image004"], truth="other")}
    found = _reasons(tmp_path, before, plan_labels(dataset, CONFIG, truth))
    assert set(found["labels"]) == {"its folder is gone from the store"}
    assert "1 image with other ground truth: image004" in found["scores"]
    larger = plan_labels(dataset, PipelineConfig(shard_size=4), digests)
    assert any("8 shards instead of 4" in text for text in _reasons(tmp_path, before, larger)["cams"])


def test_a_recipe_names_every_sample_and_the_inputs() -> None:
    dataset = _dataset()
    plan = plan_labels(dataset, CONFIG, _digests(dataset))
    artifact, scores = plan.of("walk")[0], plan.of("scores")[0]
    assert artifact.recipe is not None
    assert scores.recipe is not None
    assert artifact.recipe["samples"] == {
        s.id: {"image": f"bytes of {s.id}", "labels": list(s.labels)} for s in artifact.samples
    }
    assert artifact.recipe["inputs"] == {name: list(keys) for name, keys in artifact.inputs.items()}
    assert all(described["truth"] == "truth" for described in scores.recipe["samples"].values())


def test_what_a_training_is_watched_on_counts() -> None:
    dataset = _dataset()
    watched = _dataset(3)
    keys = set()
    for digests in ({}, _digests(watched), _digests(watched) | {"image000": SampleDigest("x", "other")}):
        images = ImageSet(watched.samples if digests else (), digests)
        stages = NETWORKS["deeplabv2"].pipeline
        plan = make_plan(dataset, DeepLabV2Settings(), _digests(dataset), stages, ("deeplabv2",), validation=images)
        (artifact,) = plan.artifacts
        keys.add(artifact.key)
        assert artifact.validation == images.samples
        assert list((artifact.recipe or {}).get("validation", {})) == [s.id for s in images.samples]
    assert len(keys) == 3


LISTS_ELSEWHERE = ["../../../etc/passwd", "/etc/passwd", "images-x.jsonl", "a/images-0123456789abcdef.jsonl"]


@pytest.mark.parametrize("file", LISTS_ELSEWHERE)
def test_a_record_names_only_lists_beside_it(tmp_path: Path, file: str) -> None:
    run = make_run(tmp_path)
    record = json.loads((run / "run.json").read_text())
    record["images"]["file"] = file
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match=r"run.json: .*images.file.*expected the name of a list"):
        read_run(run)


@pytest.mark.parametrize("name", ["../../docs", "/x", "a/b", "", ".."])
@pytest.mark.parametrize("stage", [False, True])
def test_a_record_names_only_plain_keys_and_stages(tmp_path: Path, name: str, stage: bool) -> None:
    run = make_run(tmp_path)
    record = json.loads((run / "run.json").read_text())
    record["stages"] = {name: {"keys": {"0": "k"}}} if stage else {"irnet": {"keys": {"0": name}}}
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match=r"run.json: .*expected letters and digits"):
        read_run(run)


def test_a_file_that_only_looks_like_a_list_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "images-mine.jsonl").write_text("mine")
    read_run(run).write(run)
    assert (run / "images-mine.jsonl").read_text() == "mine"


def test_the_record_of_an_earlier_version_is_read_and_status_says_which_settings_came_and_went(tmp_path: Path) -> None:
    dataset = _dataset(8)
    plan = plan_labels(dataset, CONFIG, _digests(dataset))
    record = _write(tmp_path / "run", plan)
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    recorded = content["stages"]["irnet"]["common"]["settings"]
    del recorded["restarts"], content["settings"]["irnet"]["restarts"]
    recorded["min_spread"] = content["settings"]["irnet"]["min_spread"] = 0.2
    content["settings"]["gone"] = {"with": "all in it"}
    content["stages"]["irnet"]["keys"] = {"0": "another"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    earlier = read_run(tmp_path / "run")
    assert pipeline_settings(earlier) == pipeline_settings(record) == CONFIG
    (reason,) = compare_with_store(plan, earlier, Store(tmp_path / "store"))["irnet"]["reasons"].values()
    assert reason == "irnet.restarts is new: 0; irnet.min_spread is gone"


def test_what_does_not_fit_beside_what_is_gone_is_named(tmp_path: Path) -> None:
    dataset = _dataset(8)
    _write(tmp_path / "run", plan_labels(dataset, CONFIG, _digests(dataset)))
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    content["settings"]["irnet"] |= {"min_spread": 0.2, "restarts": "many"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"run\.json: not the record of a run \(settings\.irnet\.restarts: "):
        pipeline_settings(read_run(tmp_path / "run"))
