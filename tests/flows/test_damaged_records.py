"""Records of runs, trainings and versions that are not as they were written end a command with one line on the file.

Every value of a record is replaced by others, taken away, or the file is cut off: what reads it refuses it by name, or
is none the worse for it.
"""

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import make_run, make_training

from data.dataset import ClassTable, DatasetError
from data.formats.quality import read_quality
from data.ownership import own
from data.store import ArtifactError, Store
from data.store.publication import Entry, Publication
from flows import cli
from flows.commands.looking.status import compare_with_store, status_of
from flows.commands.storing.export_labels import export_labels
from flows.labels.request import RunRequest, open_set, replan
from flows.training.prediction import PredictRequest, prepare_prediction
from flows.training.request import TrainRequest, read_training_sets, settings_of
from tasks.engine.image_list import compare_images, read_images
from tasks.engine.run_record import read_run, write_run
from tasks.pipeline.settings import PipelineConfig
from tasks.publishing.assemble import keep_labels
from tasks.reporting.figures import read_history, read_run_metrics, read_training_metrics
from tasks.reporting.page import shown_settings
from tasks.reporting.report import instance_tables, labels_page, semantic_tables, tag_tables
from tasks.reporting.training import score_tables, training_page

OTHERS = ([], {}, "x", None, 1, -1, True, [1], {"a": 1}, 0.5)
TAGS = {
    "tags": {
        "classifier": {"ap": {"disc": 0.9, "bar": None}, "measured_on": "folds", "images": 9},
        "relations": {"images_with_confident_pixels": {"disc": 0.5}},
        "labels": {"tags_without_a_pixel": {"disc": 1}},
    },
    "classes": {"origin": "the tags", "images": {"disc": 3, "bar": 2}, "without_images": []},
    "failures": [],
    "warnings": ["few images"],
}


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = node.items() if isinstance(node, dict) else enumerate(node[:2]) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*at, key))


def damaged(text: str) -> Iterator[str]:
    """Yield a JSON file cut off, of another kind, and with each of its values replaced and taken away."""
    yield from (text[:0], text[:1], text[: len(text) // 2], "[" * 100_000, "NaN", '{"a":' * 5000, "\ud7ff\0")
    document = json.loads(text)
    for place in places(document):
        for other in (*OTHERS, ...) if place else OTHERS:
            changed = [copy.deepcopy(document)]
            node: Any = changed
            for key in (0, *place)[:-1]:
                node = node[key]
            if other is ...:
                del node[(0, *place)[-1]]
            else:
                node[(0, *place)[-1]] = other
            yield json.dumps(changed[0])


def refusals(file: Path, read: Callable[[], object]) -> int:
    """Read a file in each of its damaged forms, and return how many were refused; whatever else is raised fails."""
    good, said = file.read_text(), []
    file.chmod(0o644)
    for text in damaged(good):
        file.write_text(text)
        try:
            read()
        except ArtifactError as error:
            said.append(str(error))
    assert all(file.name in text and "\n" not in text for text in said)
    file.write_text(good)
    read()
    return len(said)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = make_run(tmp_path, num_images=2)
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | TAGS))
    return run


def test_the_metrics_of_a_run_are_refused_or_make_tables(run: Path) -> None:
    def read() -> None:
        metrics = read_run_metrics(run)
        for table in (
            *semantic_tables(metrics.get("semantic", {})).values(),
            *instance_tables(metrics.get("instances", {})).values(),
            *tag_tables(metrics).values(),
        ):
            assert all(score is None or isinstance(score, (int, float)) for row in table.rows.values() for score in row)
        assert all(isinstance(text, str) for text in [*metrics.get("failures", ()), *metrics.get("warnings", ())])
        assert all(f"{value:.1f}" for value in metrics.get("seconds", {}).values())

    assert refusals(run / "metrics.json", read) > 400


@pytest.mark.parametrize("network", ["deeplabv2", "maskrcnn"])
def test_the_metrics_of_a_training_are_refused_or_make_tables(tmp_path: Path, network: Any) -> None:
    training = make_training(tmp_path, network)
    file = training / "metrics.json"
    metrics = json.loads(file.read_text())
    saliency = {"mae": 0.1, "max_f": 0.9, "derived_from": ["disc"]}
    more = {"saliency": saliency, "prediction": "mean"} if network == "deeplabv2" else {}
    metrics["validation"] = metrics["validation"] | more
    file.write_text(json.dumps(metrics | {"training": {"prediction": "mean", "kept": {"epoch": 1}}}))

    def read() -> None:
        for table in score_tables(read_training_metrics(training).get("validation", {})).values():
            assert all(score is None or isinstance(score, (int, float)) for row in table.rows.values() for score in row)

    assert refusals(file, read) > 100


def test_figures_of_older_versions_and_of_versions_to_come_are_read(run: Path) -> None:
    older = {"seconds": {}, "semantic": {"labels": {"miou": None, "accuracy": 1, "iou": {}}}}
    for metrics in ({}, older, {"semantic": {"other": 5}, "more": [1]}):
        (run / "metrics.json").write_text(json.dumps(metrics))
        assert read_run_metrics(run) == metrics


def test_the_figures_of_epochs_are_refused_or_numbers(tmp_path: Path) -> None:
    training = make_training(tmp_path, "deeplabv2")

    def read() -> None:
        assert all(f"{figure:.3f}" for epoch in read_history(training) for figure in epoch.values())

    assert refusals(training / "network/history.json", read) > 30


def planned(tmp_path: Path) -> tuple[Path, RunRequest]:
    """Return a run that was planned and not made, and its request."""
    make_run(tmp_path, num_images=2)
    request = RunRequest(data=tmp_path / "set", out=tmp_path / "planned", store=str(tmp_path / "store"))
    request.out.mkdir()
    plan = replan(request, open_set(request)[0])
    asked = request.model_dump(mode="json", exclude={"settings"})
    write_run(request.out, plan, request.store_address, preset="quick", request=asked)
    return request.out, request


def test_the_record_of_a_run_is_refused_or_can_be_looked_at(tmp_path: Path) -> None:
    run, request = planned(tmp_path)
    plan, store = replan(request, open_set(request)[0]), Store(tmp_path / "store")

    def look() -> None:
        record = read_run(run)
        assert isinstance(shown_settings(record)["backbone"], str)
        record.settings_as(PipelineConfig)
        record.request_as(RunRequest, PipelineConfig())
        assert len([record.network(stage) for stage in record.stages]) == len(record.stages)
        compare_with_store(plan, record, store)
        assert record.asked("data", needed=True)

    # Of its settings, which are many and all alike, some.
    content = json.loads((run / "run.json").read_text())
    content["settings"] = {name: content["settings"][name] for name in ("backbone", "weights", "seed", "walk", "irnet")}
    content["stages"] = {name: content["stages"][name] for name in ("classifier", "cams")}
    (run / "run.json").write_text(json.dumps(content))
    assert refusals(run / "run.json", look) > 300


def test_the_list_of_images_is_refused_or_read(tmp_path: Path) -> None:
    run, request = planned(tmp_path)
    plan = replan(request, open_set(request)[0])
    record = read_run(run)
    file = run / str(record.images.file)
    head, first, *rest = file.read_text().splitlines()
    said = []
    for number, line in enumerate((head, first)):
        for text in damaged(line):
            lines = [head, first, *rest]
            lines[number] = text
            file.write_text("\n".join(lines), encoding="utf-8")
            try:
                compare_images(read_images(run, record.images, record.root), plan.images)
                assert all(sample.labels <= (99,) for sample in read_run(run).dataset.samples)
            except ArtifactError as error:
                said.append(str(error))
    assert all(file.name in text and "\n" not in text for text in said)
    assert len(said) > 50


def publish(tmp_path: Path) -> tuple[Publication, Path]:
    """Return a publication of one version, and the file of its instances."""
    publication = Publication(tmp_path / "published")
    rle = {"size": [2, 2], "counts": "04"}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 2, "width": 2}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": rle, "id": 1}],
    }
    with publication.lock(), publication.draft() as draft:
        for kind in ("SegmentationClass", "SegmentationObject"):
            (draft / kind).mkdir()
            (draft / kind / "a.png").write_text("map")
        (draft / "instances.json").write_text(json.dumps(content))
        publication.publish(draft, {"reasons": []}, [Entry("a", "ab" * 32, ("cat",), "key", 0.5, 1, 1)])
    return publication, publication.folder(1) / "instances.json"


def test_the_instances_of_a_version_are_refused_or_taken_over(tmp_path: Path) -> None:
    publication, file = publish(tmp_path)

    def keep() -> None:
        shutil.rmtree(tmp_path / "draft", ignore_errors=True)
        part = keep_labels(publication, 1, (), tmp_path / "draft")
        assert part.classes == ClassTable(tuple(part.classes.names), part.classes.category_ids)
        assert [info.id for info in part.infos] == ["a"]

    assert refusals(file, keep) > 100


def test_a_pipe_in_the_place_of_a_record_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_images=2)
    publication, index = publish(tmp_path)
    store, version = Store(tmp_path / "store"), publication.folder(1)
    store.register(run)
    (note,) = (tmp_path / "store/.users").iterdir()
    record = read_run(run)
    mine, settings = tmp_path / "mine", tmp_path / "best.json"
    mine.mkdir()
    for file, read in (
        (settings, lambda: RunRequest(data=tmp_path / "set", out=mine, settings_file=settings)),
        (note, store.notes),
        (tmp_path / "store/cams/c/manifest.json", lambda: store.read_manifest("cams", "c")),
        (run / str(record.images.file), lambda: list(read_images(run, record.images, record.root))),
        (run / "quality.csv", lambda: read_quality(run / "quality.csv")),
        (run / "run.json", lambda: read_run(run)),
        (index, lambda: keep_labels(publication, 1, (), tmp_path / "draft")),
        (version / "images.jsonl", lambda: list(publication.entries(1))),
        (mine / "run.json", lambda: own(mine, "run").__enter__()),
        (mine / "export.json", lambda: export_labels(run, mine)),
    ):
        content = file.read_bytes() if file.is_file() else None
        file.unlink(missing_ok=True)
        os.mkfifo(file)
        with pytest.raises((ArtifactError, DatasetError, ValueError)) as caught:
            read()
        assert str(file.parent) in str(caught.value)
        file.unlink()
        if content is not None:
            file.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("metrics.json", "[]", "metrics.json: cannot be read as the metrics of a run"),
        ("metrics.json", '{"semantic": {"labels": {"miou": "x"}}}', "semantic.labels.miou: Input should be"),
        ("metrics.json", '{"seconds"', "Invalid JSON"),
        ("run.json", "[]", "run.json: not the record of a run"),
        ("run.json", '{"version": 2}', "run.json: not the record of a run"),
    ],
)
def test_report_ends_with_one_line_and_exit_code_1(
    run: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, expected: str
) -> None:
    (run / file).write_text(text)
    assert cli.main(["report", str(run)]) == 1
    said = capsys.readouterr()
    assert expected in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_status_names_the_record_and_the_setting_that_this_version_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = planned(tmp_path)
    assert status_of(run)["stages"]
    # Nothing is made yet; a script may ask for that by the exit code.
    assert [cli.main(["status", str(run), *words]) for words in ([], ["--exit-code"])] == [0, 3]
    capsys.readouterr()
    content = json.loads((run / "run.json").read_text())
    content["settings"]["walk"]["steps"] = "many"
    (run / "run.json").write_text(json.dumps(content))
    assert cli.main(["status", str(run)]) == 1
    assert "run.json: not the record of a run (settings.walk.steps: Input should be a valid integer" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_record_of_a_training_is_refused_or_reported(tmp_path: Path) -> None:
    training = make_training(tmp_path, "deeplabv2")
    content = json.loads((training / "run.json").read_text())
    del content["settings"]["training"]
    (training / "run.json").write_text(json.dumps(content))

    missing: list[DatasetError] = []

    def look() -> None:
        record = read_run(training)
        if "network" not in record.settings:
            with pytest.raises(ArtifactError, match="expected the folder of a training"):
                settings_of(record)
            return
        settings_of(record)
        # A record may name a folder that has no photographs: the report names the first.
        try:
            training_page(training, record, 1)
        except DatasetError as error:
            missing.append(error)

    assert refusals(training / "run.json", look) > 100
    assert all(problem.file for error in missing for problem in error.problems)


def test_a_report_of_images_whose_classes_are_gone_names_the_record(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    content["classes"] |= {"names": [], "category_ids": []}
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"run\.json: .*classes: expected one of each label, found 0 for 'train_"):
        labels_page(run, read_run(run), 1)


def test_a_prediction_that_is_scored_needs_readable_metrics_of_its_training_before_it_begins(tmp_path: Path) -> None:
    training = make_training(tmp_path, "deeplabv2")
    content = json.loads((training / "run.json").read_text())
    (training / "run.json").write_text(json.dumps(content | {"stages": {"deeplabv2": {"keys": {"0": "k"}}}}))
    request = PredictRequest(network=training, data=tmp_path / "set", out=tmp_path / "out", evaluate=True)
    (training / "metrics.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"training/metrics\.json: cannot be read as the metrics of a training"):
        prepare_prediction(request)
    (training / "run.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="found no network in it"):
        prepare_prediction(request)


@pytest.mark.parametrize("data", [None, 5, ["set"]])
def test_a_training_on_a_run_needs_to_know_the_set_of_the_run(run: Path, data: object) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"request": {"data": data}}))
    settings: Any = {"network": "deeplabv2"}
    request = TrainRequest(labels=run, out=run.parent / "net", settings=settings)
    with pytest.raises(ArtifactError, match=r"run\.json: .*request\.data: expected a path"):
        read_training_sets(request)
