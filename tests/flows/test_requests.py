"""Requests as deployments make them: partial settings lie over a preset, and what does not fit is named."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from data.dataset import ClassTable, CocoSource, Dataset, Sample
from data.formats.label_maps import read_ground_truth, write_label_map
from data.validation import check_images
from flows.cli import main
from flows.commandline.page import groups_of, page_of
from flows.commands import COMMANDS
from flows.engine.request import Request, handed_over, take_over
from flows.labels.presets import PRESETS
from flows.labels.request import RunRequest, _as_trained
from flows.publishing.request import RegenerateRequest
from flows.training.network_requests import TRAIN_REQUESTS
from flows.training.request import TrainRequest, open_training_sets, read_training_sets
from tasks.networks import NETWORKS
from tasks.networks.cooperative import CooperativeConfig, CooperativeSettings

PAPERS = ("cityscapes", "voc12")
FOLDERS = {"data": "photos", "out": "runs/first"}


@pytest.mark.parametrize("kind", [RunRequest, RegenerateRequest])
@pytest.mark.parametrize("preset", ["quick", "voc12", "demo"])
def test_settings_that_are_not_named_are_the_presets(kind: type[RunRequest], preset: str) -> None:
    request = kind.model_validate({**FOLDERS, "preset": preset, "settings": {"walk": {"beta": 7}, "seed": 3}})
    expected = PRESETS[preset]()
    walk = expected.walk.model_copy(update={"beta": 7.0})
    assert request.settings == expected.model_copy(update={"walk": walk, "seed": 3})
    assert kind.model_validate({**FOLDERS, "preset": preset}).settings == expected
    assert kind.model_validate(request.model_dump(mode="json")) == request


def test_whole_settings_stay_as_they_are() -> None:
    settings = PRESETS["voc12"]()
    assert RunRequest(data=Path("photos"), out=Path("run"), preset="quick", settings=settings).settings == settings


@pytest.mark.parametrize(
    ("kind", "values", "network"),
    [
        (TrainRequest, {"settings": {"network": "maskrcnn", "seed": 5}}, "maskrcnn"),
        (TRAIN_REQUESTS["deeplabv2"], {"settings": {"seed": 5}}, "deeplabv2"),
        (TRAIN_REQUESTS["maskrcnn"], {"settings": {"seed": 5}}, "maskrcnn"),
    ],
)
def test_a_networks_settings_lie_over_its_own_preset(
    kind: type[TrainRequest], values: dict[str, Any], network: str
) -> None:
    request = kind.model_validate({**FOLDERS, "preset": "demo", **values})
    assert request.settings == NETWORKS[network].presets["demo"]().model_copy(update={"seed": 5})


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (RunRequest, {"preset": "quickly"}, "preset 'quickly': expected one of quick, voc12, "),
        (RunRequest, {"settings": {"walk": {"steps": "many"}}}, r"settings\.walk\.steps"),
        (RunRequest, {"settings": {"walks": {}}}, r"settings\.walks"),
        (RegenerateRequest, {"time_limit": 0}, "time_limit"),
        (TRAIN_REQUESTS["maskrcnn"], {"settings": {"network": "deeplabv2"}}, "network"),
    ],
)
def test_what_does_not_fit_is_named(kind: type[Request], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate({**FOLDERS, **values})


def test_ground_truth_of_coco_is_read_by_the_networks_class_table() -> None:
    file = Path("instances.json")
    found = Sample("a", Path("a.jpg"), labels=(0, 1), coco=CocoSource(file, 5, (7, 3)))
    theirs = Dataset(Path(), ClassTable(("sheep", "cat"), (7, 3)), (found,))
    table = ClassTable(("cat", "dog", "sheep"))
    seen = Dataset(Path(), table, (Sample("b", Path("b.jpg"), labels=(0, 1, 2)),))
    ours = _as_trained(theirs, SimpleNamespace(classes=table, dataset=seen, folder="run"))  # pyright: ignore[reportArgumentType]
    assert ours.classes == table
    assert ours.samples[0].labels == (0, 2)
    assert ours.samples[0].coco == CocoSource(file, 5, (3, -2, 7))


def test_a_runs_labels_are_label_maps_whatever_its_set_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([[0, 1, 1], [0, 255, 1]], np.uint8)
    write_label_map(tmp_path / "run/labels/SegmentationClass/a.png", labels)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 3, 3), np.uint8))
    sample = Sample("a", tmp_path / "a.png", (0,), tmp_path / "mask.png", coding="saliency")
    record = SimpleNamespace(
        folder="run",
        dataset=Dataset(tmp_path, ClassTable(("salient",)), (sample,)),
        request={"data": str(tmp_path), "classes": None},
        asked=lambda name, needed=False: tmp_path if name == "data" else None,
    )
    monkeypatch.setattr("flows.training.request.read_labelled_run", lambda _: record)
    request = TrainRequest(
        labels=tmp_path / "run", out=tmp_path / "net", settings=NETWORKS["deeplabv2"].presets["quick"](), preset="quick"
    )
    training, _ = open_training_sets(request)
    assert not check_images(training, 1)
    assert np.array_equal(read_ground_truth(training.samples[0]).semantic, labels)  # pyright: ignore


def test_presets_of_papers_start_from_the_weights_of_their_time() -> None:
    presets = [made for spec in NETWORKS.values() for name, made in spec.presets.items() if name in PAPERS]
    assert {preset().weights for preset in presets} == {"imagenet-v1"}


@pytest.mark.parametrize("preset", ["cityscapes", "voc12"])
def test_cooperative_networks_are_the_papers_and_the_best_is_kept(preset: str) -> None:
    danet, deeplab = (NETWORKS[f"cooperative-{kind}"].presets[preset]() for kind in ("danet", "deeplabv3plus"))
    for settings in (danet, deeplab):
        type(settings).model_validate(settings.model_dump())
        assert settings.training.keep == "best"
    assert danet.training.network_options["stream_losses"]  # pyright: ignore
    assert deeplab.training.network_options["dsc"]  # pyright: ignore
    assert deeplab.training.network_options["separable_decoder"]  # pyright: ignore
    # Of Sima et al., who say nothing of it, the last is.
    assert NETWORKS["saliency-deeplabv3plus"].presets[preset]().training.keep == "last"


def test_parts_of_the_other_network_are_refused() -> None:
    for network, part in (("danet", "separable_decoder"), ("danet", "dsc"), ("deeplabv3plus", "stream_losses")):
        with pytest.raises(ValidationError, match=part):
            CooperativeSettings(network=f"cooperative-{network}", training=CooperativeConfig(**{part: True}))  # pyright: ignore


def test_what_weights_are_learned_by_is_refused_beside_given_weights_whatever_its_value(tmp_path: Path) -> None:
    given = {"data": tmp_path, "out": tmp_path / "net", "val": "val", "preset": "quick"}
    training = {"task_weights": (0.5, 0.5)}
    settings = {"network": "saliency-deeplabv3plus", "training": training}
    request = TrainRequest(**given, settings=settings)  # pyright: ignore
    # In a file that a request was written to every setting is named.
    assert TrainRequest.model_validate(request.model_dump(mode="json")) == request
    of_preset = NETWORKS["saliency-deeplabv3plus"].presets["quick"]().training.sigma_lr_factor  # pyright: ignore
    for factor in (7, of_preset):
        settings = {"network": "saliency-deeplabv3plus", "training": training | {"sigma_lr_factor": factor}}
        with pytest.raises(ValidationError, match="sigma_lr_factor is of weights that are learned"):
            TrainRequest(**given, settings=settings)  # pyright: ignore
    # Where today's preset has another number than a file of before, that file stays valid.
    written = request.model_dump(mode="json")
    written["settings"]["training"]["sigma_lr_factor"] = of_preset + 1
    assert TrainRequest.model_validate(written).settings.training.sigma_lr_factor == of_preset + 1  # pyright: ignore
    settings = {"network": "saliency-deeplabv3plus", "training": {"task_weights": (1, 0)}}
    with pytest.raises(ValidationError, match="is learned where saliency has a weight"):
        TrainRequest(**given, saliency=tmp_path, settings=settings)  # pyright: ignore


@pytest.mark.parametrize("network", ["saliency-deeplabv3plus", "cooperative-danet", "segnet-basic", "maskrcnn"])
def test_help_is_in_words_of_the_product(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", network, "--help"])
    shown = capsys.readouterr().out
    assert "--training.batch-size" in shown
    assert "pyright" not in shown
    assert "tasks." not in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_setting_names_no_object_of_python(name: str) -> None:
    command = COMMANDS[name]
    for word, variant in (command.variants or {"": command}).items():
        page = page_of(variant, variant.preset, word=word, groups=list(groups_of(variant, variant.preset)))
        assert not re.findall(r"\b(?:tasks|models|kernels|data|flows)\.[a-z]+[.\w]*|pyright", page)


def test_saliency_is_learned_from_several_sets(tmp_path: Path) -> None:
    for folder in ("cv/train", "cv/trainannot", "a/images", "a/ground_truth_mask", "b/images", "b/ground_truth_mask"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / folder / "0001.png")
    settings = NETWORKS["saliency-deeplabv3plus"].presets["cityscapes"]()
    given = {"data": tmp_path / "cv", "split": "train", "out": tmp_path / "net", "settings": settings}
    sets = (tmp_path / "a", tmp_path / "b")
    for saliency, ids in ((sets, ["saliency/0001", "saliency-2/0001"]), (str(sets[0]), ["saliency/0001"]), (None, [])):
        training, _ = open_training_sets(TrainRequest(**given, saliency=saliency))  # pyright: ignore
        assert [sample.id for sample in training.samples] == ["0001", *ids]
    TrainRequest(**given, saliency=sets, saliency_split=("all", "all"))  # pyright: ignore
    with pytest.raises(ValidationError, match="expected one of each set, or none"):
        TrainRequest(**given, saliency=sets, saliency_split="all")  # pyright: ignore


def test_images_that_are_left_out_of_a_training_are_told(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            for folder in (split, f"{split}annot"):
                (tmp_path / folder).mkdir(exist_ok=True)
                Image.new("L", (8, 8)).save(tmp_path / folder / f"{split}-{name}.png")
    (tmp_path / "trainannot" / "train-b.png").unlink()
    (tmp_path / "valannot" / "val-b.png").unlink()
    for kind in ("Image", "Mask"):
        (tmp_path / f"duts/DUTS-TR/DUTS-TR-{kind}").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / f"duts/DUTS-TR/DUTS-TR-{kind}/train-a.png")
    Image.new("L", (8, 8)).save(tmp_path / "duts/DUTS-TR/DUTS-TR-Image/i.png")
    request = TrainRequest(
        data=tmp_path, split="train", val="val", saliency=tmp_path / "duts", skip_bad=True, out=tmp_path / "net",
        settings=NETWORKS["saliency-deeplabv3plus"].presets["quick"](),
    )  # fmt: skip
    training, validation, left_out = read_training_sets(request)
    assert {problem.file.name for problem in left_out} == {"train-b.png", "val-b.png", "i.png"}
    assert [sample.id for sample in training.samples] == ["train-a", "saliency/train-a"]
    assert [sample.id for sample in validation.samples] == ["val-a"]


def test_what_a_command_has_read_is_taken_once_and_only_for_its_request() -> None:
    request = RunRequest(data=Path("photos"), out=Path("run"), settings=PRESETS["demo"](), preset="demo")
    other = request.model_copy(update={"out": Path("other")})
    reads: list[str] = []

    def find() -> str:
        reads.append("read")
        return "found by the flow"

    with handed_over(request, "found by the command"):
        assert take_over(other, find) == "found by the flow"
        assert take_over(request, find) == "found by the command"
        # A second flow of the same request sees what is there then.
        assert take_over(request, find) == "found by the flow"
    with handed_over(request, "found by the command"):
        pass
    assert take_over(request, find) == "found by the flow"
    assert len(reads) == 3
