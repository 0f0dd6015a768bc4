"""The HTML report of a run."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fabricated_run import make_run, make_training
from safetensors.numpy import save_file

from data.dataset import ClassTable, Sample
from data.formats.label_maps import VOC_PALETTE, write_label_map
from data.store import ArtifactError, Store
from tasks.engine.run_record import StageRecord, read_run
from tasks.pipeline.regions import TAKEN
from tasks.pipeline.settings import PipelineConfig
from tasks.reporting.page import Row, changed_settings, choose_samples, class_colors, names_of_classes
from tasks.reporting.report import COLUMNS, build_report, instance_tables, semantic_tables


class Page(HTMLParser):
    """The parts of a page that the tests ask about."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.empty_cells = 0
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.empty_cells += values.get("class") == "empty"
        if tag == "img":
            self.images.append(values)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() != "<style>":
            self.text += f" {data}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("report"))


def test_the_page_needs_nothing_beside_it(run: Path):
    page = Page(build_report(run))
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert not page.tags & {"script", "link", "iframe"}
    assert "url(" not in build_report(run)


def test_every_image_has_a_picture_of_every_kind(run: Path):
    page = Page(build_report(run))
    titles = [str(image["alt"]) for image in page.images]
    samples = [sample.id for sample in read_run(run).dataset.samples]
    kinds = [column for key, column in COLUMNS.items() if key not in ("saliency", "regions", "affinity")]
    expected = {f"{column.title} of {sample}" for column in kinds for sample in samples}
    # The last image has no labels, so no CAMs.
    assert set(titles) - {"Colour wheel"} == expected - {f"CAMs of {samples[-1]}"}
    assert page.empty_cells == 1
    assert all(image["loading"] == "lazy" for image in page.images if image["alt"] != "Colour wheel")


def test_a_run_with_saliency_shows_it(tmp_path: Path):
    run = make_run(tmp_path)
    record = read_run(run)
    labelled = [sample.id for sample in record.dataset.samples if sample.labels]
    with Store(tmp_path / "store").create("saliency", "s") as draft:
        save_file({id: np.ones((1, 17, 21), np.float16) for id in labelled}, draft.folder / "saliency.safetensors")
    stages = {**record.stages, "saliency": StageRecord(keys={0: "s"})}
    record.model_copy(update={"stages": stages}).write(run)
    titles = [str(image["alt"]) for image in Page(build_report(run)).images]
    assert [title for title in titles if title.startswith("Saliency")] == [f"Saliency of {id}" for id in labelled]


def test_a_run_with_regions_shows_those_that_took_a_class(tmp_path: Path):
    run = make_run(tmp_path)
    record = read_run(run)
    stage, store = record.stages["labels"], Store(tmp_path / "store")
    sample = record.dataset.samples[0]
    key = stage.key_of(sample.id)
    assert key is not None
    before = store.fetch("labels", key)
    with store.create("labels", "r") as draft:
        shutil.copytree(before, draft.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        write_label_map(draft.folder / TAKEN / f"{sample.id}.png", np.eye(66, 83, dtype=np.uint8), grey=True)
    stages = {**record.stages, "labels": stage.model_copy(update={"keys": dict.fromkeys(stage.keys, "r")})}
    record.model_copy(update={"stages": stages}).write(run)
    titles = [str(image["alt"]) for image in Page(build_report(run)).images]
    assert [title for title in titles if title.startswith("Regions")] == [f"Regions of {sample.id}"]


def test_the_page_has_scores_times_and_changed_settings(run: Path):
    text = Page(build_report(run)).text
    for figure in ("CAM (best at 0.2)", "41.2", "65.5", "37.7", "12.3", "29.9", "61.2", "12.5"):
        assert figure in text
    assert "backbone resnet18 resnet50" in text
    assert "seed 7 0" in text
    assert "–" in text  # A class without a score.


def test_without_ground_truth_the_page_says_so_and_has_no_scores(tmp_path: Path):
    page = Page(build_report(make_run(tmp_path, with_truth=False)))
    assert "no ground truth" in page.text
    assert "mIoU" not in page.text
    assert not any("Truth" in str(image["alt"]) for image in page.images)
    assert any("Instance labels" in str(image["alt"]) for image in page.images)


def test_a_collapsed_field_is_a_warning_with_its_numbers(tmp_path: Path):
    text = Page(build_report(make_run(tmp_path, collapsed=True))).text
    for figure in ("collapsed", "0.01 feature pixels", "4.08", "4.09", "0.001"):
        assert figure in text


def test_a_healthy_field_is_no_warning(run: Path):
    assert "collapsed" not in Page(build_report(run)).text


def test_images_set_aside_are_listed_and_their_names_escaped(tmp_path: Path):
    page = Page(build_report(make_run(tmp_path, skipped=True)))
    assert "<bad>.jpg: expected an image, found an empty file" in page.text
    assert "bad" not in page.tags


def test_it_shows_as_many_images_as_asked_for(run: Path):
    assert len([i for i in Page(build_report(run, 2)).images if str(i["alt"]).startswith("Photograph")]) == 2


def test_a_stage_that_the_run_does_not_have_has_no_column(tmp_path: Path):
    """A run with the networks of another mines no relations."""
    run = make_run(tmp_path)
    record = read_run(run)
    kept = {name: stage for name, stage in record.stages.items() if name != "relations"}
    record.model_copy(update={"stages": kept}).write(run)
    assert "Relations" not in Page(build_report(run)).text


def test_what_the_store_lost_is_named(tmp_path: Path):
    run = make_run(tmp_path)
    shutil.rmtree(tmp_path / "store/fields/f")
    with pytest.raises(ArtifactError, match=r"fields/f: missing"):
        build_report(run)


def test_a_damaged_map_is_named(tmp_path: Path):
    run = make_run(tmp_path)
    (tmp_path / "store/fields/f/boundary.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ArtifactError, match=r"boundary.safetensors: cannot be read"):
        build_report(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"found no run.json"):
        build_report(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"preset": 3}))
    with pytest.raises(ArtifactError, match=r"not the record of a run"):
        build_report(tmp_path)


def test_it_does_without_torch(run: Path):
    code = (
        "import sys; from pathlib import Path; from tasks.reporting.report import build_report;"
        f"build_report(Path({str(run)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_trainings_page_has_its_scores_epochs_settings_and_predictions(tmp_path: Path):
    page = Page(build_report(make_training(tmp_path, "deeplabv2")))
    for figure in ("on 4 validation images", "65.5", "52.5", "45.6", "2.345", "0.111", "61.2"):
        assert figure in page.text
    assert "backbone resnet18 resnet50" in page.text
    titles = [str(image["alt"]).split(" of ")[0] for image in page.images]
    # The network knows classes only, so the truth of instances is nothing to compare it with.
    assert Counter(titles) == dict.fromkeys(("Photograph", "Predicted: semantic", "Truth: semantic"), 4)
    assert page.empty_cells == 0


def test_a_detectors_page_shows_its_instances(tmp_path: Path):
    page = Page(build_report(make_training(tmp_path, "maskrcnn"), 2))
    for figure in ("37.7", "12.3", "18.7"):
        assert figure in page.text
    for title in ("Predicted: instances", "Truth: instances"):
        assert sum(title in str(image["alt"]) for image in page.images) == 2


def test_a_training_without_validation_says_so(tmp_path: Path):
    page = Page(build_report(make_training(tmp_path, "deeplabv2", with_validation=False)))
    assert "No validation images were given" in page.text
    assert "2.345" in page.text
    assert not page.images


def test_a_training_that_is_not_finished_is_named(tmp_path: Path):
    run = make_training(tmp_path, "maskrcnn")
    (run / "network/history.json").write_text("[")
    with pytest.raises(ArtifactError, match=r"history.json: cannot be read"):
        build_report(run)
    (run / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match=r"metrics.json: cannot be read"):
        build_report(run)


def samples_of(*labels: tuple[int, ...]) -> list[Sample]:
    return [Sample(f"s{number}", Path("x"), own) for number, own in enumerate(labels)]


def test_the_choice_gives_every_class_its_turn():
    samples = samples_of(*[(0,)] * 20, (1,), (2,))
    chosen = choose_samples(samples, {}, 3)
    assert {sample.labels for sample in chosen} == {(0,), (1,), (2,)}


def test_the_choice_prefers_several_instances_of_the_class():
    samples = samples_of(*[(0, 1)] * 10)
    counts = {"s7": {0: 2, 1: 1}, "s4": {0: 1, 1: 3}}
    assert {sample.id for sample in choose_samples(samples, counts, 2)} == {"s4", "s7"}


def test_the_choice_does_not_depend_on_the_order_and_repeats_nothing():
    samples = samples_of(*[(0, 1), (1,), (0,), ()] * 3)
    chosen = choose_samples(samples, {}, 100)
    assert sorted(sample.id for sample in chosen) == sorted(sample.id for sample in samples)
    assert [s.labels for s in chosen][-3:] == [()] * 3
    unlabelled = samples_of(*[()] * 20)
    # Not the first few of the list.
    assert [s.id for s in choose_samples(unlabelled, {}, 4)] == [s.id for s in choose_samples(unlabelled[::-1], {}, 4)]
    labelled = [sample for sample in chosen if sample.labels]
    assert [s for s in choose_samples(samples[::-1], {}, 100) if s.labels] == labelled


def test_a_scene_is_called_by_what_is_in_it_and_its_colours_are_those_of_its_label_map(tmp_path: Path):
    classes = ClassTable(("sky", "road", "car"), has_background=False)
    write_label_map(tmp_path / "a.png", np.array([[0, 2, 255]], np.uint8))
    write_label_map(tmp_path / "b.png", np.array([[255]], np.uint8))
    samples = [Sample(name, Path("x"), (), tmp_path / f"{name}.png") for name in ("a", "b")]
    names = [names_of_classes(sample, classes) for sample in samples]
    assert names == [("sky", "car"), ("void",)]
    colors = class_colors([Row("a", names[0], {})], classes)
    assert list(colors) == ["sky", "car"]
    assert colors["car"] == "rgb({} {} {})".format(*VOC_PALETTE[2])
    labelled = ClassTable(("cat", "dog"))
    assert names_of_classes(Sample("c", Path("x"), (1,)), labelled) == ("dog",)
    assert class_colors([Row("c", ("dog",), {})], labelled)["dog"] == "rgb({} {} {})".format(*VOC_PALETTE[2])


def test_changed_settings_are_those_that_differ_from_the_reference():
    assert changed_settings(PipelineConfig().model_dump(mode="json"), PipelineConfig()) == {}
    config = PipelineConfig.model_validate({"seed": 3, "walk": {"beta": 8}})
    assert changed_settings(config.model_dump(mode="json"), PipelineConfig()) == {
        "seed": (3, 0),
        "walk.beta": (8.0, 10.0),
    }


def test_tables_are_empty_without_scores():
    assert semantic_tables({}) == {}
    assert instance_tables({}) == {}
