"""What the command line refuses before anything is read: options given twice, and options without effect."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from flows.cli import main


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    code = main([str(word) for word in words])
    return code, " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "segnet-decoders", "--rows", "segnet-basic", "--rows", "fcn-basic"), "--rows: given more than"),
        (("compare", "segnet-decoders", "--seeds=0", "--seeds=1"), "--seeds: given more than once"),
        (("run", "--data", "set", "--train", "deeplabv2", "--train", "maskrcnn"), "--train: given more than once"),
        (("train", "segnet", "--testing.scales", "1", "--testing.scales", "0.5"), "--testing.scales: given more than"),
    ],
)
def test_an_option_of_several_values_that_is_given_twice_is_refused(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = refusal(capsys, *words, "--out", tmp_path / "x")
    assert code == 2
    assert said in text
    assert not (tmp_path / "x").exists()


def test_of_an_option_of_one_value_the_last_counts_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--seed", "1", "--classifier.steps", "1", "2", "--seed=-3", "--classifier.steps", "3", "4")
    code, text = refusal(capsys, "run", "--data", tmp_path, "--out", tmp_path / "x", *words)
    assert code == 2
    assert "--seed, --classifier.steps: given more than once; the last one counts" in text
    assert "-3" in text.partition("counts")[2]


def test_settings_of_a_comparison_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    words = ("compare", "segnet-decoders", "--data", tmp_path / "set", "--out", tmp_path / "x")
    code, text = refusal(capsys, *words, "--set", "image_size=64,96", "--set", "epochs=0", "batch_size=-1")
    assert code != 0
    assert all(name in text for name in ("image_size", "epochs", "batch_size")), text
    code, text = refusal(capsys, *words, "--set", "epochs=1", "--set", "epochs=2")
    assert (code, text) == (1, "--set: expected each setting once, got epochs twice")


@pytest.mark.parametrize(
    "words",
    [
        ("--seeds", "1", "2"),
        ("--preset", "camvid"),
        ("--val", "nothing"),
        ("--workers", "9"),
        ("--time-limit", "1"),
        ("--train", "x"),
    ],
)
def test_resources_are_measured_of_no_training(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = refusal(capsys, "compare", "segnet-resources", *words)
    assert (code, text) == (1, f"segnet-resources has no use for {words[0]}")


def test_validation_images_of_no_network_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--data", tmp_path, "--val", "val", "--out", tmp_path / "x")
    code, text = refusal(capsys, "run", *place)
    assert (code, "val val: without effect, since no network is trained" in text) == (2, True)
    # With one the set is looked at, and is none.
    code, text = refusal(capsys, "run", *place, "--train", "deeplabv2")
    assert (code, "without effect" in text) == (1, False)


def test_a_table_has_no_use_for_a_measurements_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("compare", "segnet-decoders", "--data", tmp_path, "--out", tmp_path / "x", "--classes", "0")
    assert refusal(capsys, *words) == (1, "segnet-decoders has no use for --classes")


def test_dropout_is_of_the_networks_that_have_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--data", tmp_path, "--val", "val", "--out", tmp_path / "x")
    code, text = refusal(capsys, "train", "segnet-basic", *place, "--training.dropout", "0.3")
    assert code == 2
    assert "segnet-basic has no dropout" in text
    words = ("compare", "segnet-decoders", "--data", tmp_path, "--out", tmp_path / "x", "--set", "dropout=0.3")
    code, text = refusal(capsys, *words)
    assert "no network of segnet-decoders has a training setting dropout" in text


@pytest.mark.parametrize("factor", ["50", "7", None])
def test_what_learned_weights_need_is_refused_beside_given_ones_whatever_its_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: str | None
) -> None:
    (tmp_path / "set").mkdir()
    words = ["train", "saliency-deeplabv3plus", "--data", tmp_path / "set", "--val", "val", "--out", tmp_path / "x"]
    words += ["--training.task-weights", "0.5", "0.5"]
    code, text = refusal(capsys, *words, *(["--training.sigma-lr-factor", factor] if factor else []))
    assert (code == 2, "sigma_lr_factor is of weights that are learned" in text) == (factor is not None,) * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train saliency-deeplabv3plus --training.task-weights 0.5", "expected {None}|{FLOAT FLOAT}, got 0.5"),
        ("train deeplabv2 --training.image-size 64", "expected {None}|{INT INT}, got 64"),
        ("run --labels.background-threshold abc", "expected FLOAT|{auto}, got abc"),
        ("run --classifier.steps 5", "expected {None}|{INT INT}, got 5"),
        ("run --long-side 320", "expected {None}|{INT INT}, got 320"),
    ],
)
def test_an_option_of_several_types_says_what_it_expects(
    tmp_path: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words.split(), "--data", str(tmp_path), "--out", str(tmp_path / "x")])
    text = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert end.value.code == 2
    assert f"Error parsing {words.split()[-2]}: {said}" in text
    assert "typing" not in text


def test_a_list_of_values_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "deeplabv2", "--data", tmp_path, "--out", tmp_path / "x", "--testing.scales", "0")
    assert refusal(capsys, *words) == (2, "scales.0: Input should be greater than 0, got 0.0")


def test_images_that_a_network_cannot_see_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--data", tmp_path, "--val", "val", "--out", tmp_path / "x")
    code, text = refusal(
        capsys, "train", "segnet", *place, "--training.image-size", "32", "48", "--testing.scales", "0.5"
    )
    assert (code, "at least 32 pixels a side, got 16: 32 x 48 at scale 0.5" in text) == (2, True)
    code, text = refusal(capsys, "train", "deconvnet", *place, "--training.image-size", "32", "32")
    assert (code, "expects images larger than 32 x 32, got 32 x 32" in text) == (2, True)


def test_what_is_advised_is_an_option_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / "gt").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "gt" / f"{name}.png"), np.zeros((4, 4), np.uint8))
    (tmp_path / "pred").mkdir()
    cv2.imwrite(str(tmp_path / "pred/c.png"), np.zeros((4, 4), np.uint8))
    code, text = refusal(capsys, "evaluate", "semantic", "--pred", tmp_path / "pred", "--gt", tmp_path / "gt")
    assert code == 1
    assert text.endswith("2 problems.")
    for folder in ("images", "SegmentationClass"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "set/images" / f"{name}.jpg").write_bytes(b"no image")
    (tmp_path / "set/labels.csv").write_text("image,labels\nimages/a,cat\nimages/b,dog\nx,cat\ny,cat\n")
    code, text = refusal(capsys, "run", "--data", tmp_path / "set", "--out", tmp_path / "x")
    assert text.endswith("--skip-bad sets bad images aside.")
    # Nothing is left without images none of which can be decoded.
    (tmp_path / "set/labels.csv").write_text("image,labels\nimages/a,cat\nimages/b,dog\n")
    code, text = refusal(capsys, "run", "--data", tmp_path / "set", "--out", tmp_path / "x", "--store", tmp_path / "s")
    assert (code, text.endswith("2 problems.")) == (1, True)
    # What is wrong with the whole set stays when images are set aside.
    (tmp_path / "set/labels.csv").write_text("image,labels\nimages/a,\nx,cat\ny,cat\n")
    for more in ((), ("--skip-bad",)):
        code, text = refusal(capsys, "run", "--data", tmp_path / "set", "--out", tmp_path / "x", *more)
        assert (code, "none of the 2 images has any" in text, text.endswith("3 problems.")) == (1, True, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "segnet-basic", "--training.batch-size", "0"), "batch_size: Input should be greater than or equal"),
        (("train", "saliency-deeplabv3plus", "--training.task-weights", "0", "0"), "task_weights: expected a weight"),
        (
            ("train", "deeplabv2", "--training.image-size", "64", "96", "--training.crop-size", "96", "96"),
            "options: crop_size 96 x 96 is larger than images of image_size 64 x 96: change both",
        ),
        (("run", "--walk.beta", "-3"), "beta: Input should be greater than 0, got -3.0"),
    ],
)
def test_settings_that_are_none_are_refused_in_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, "--data", str(tmp_path), "--out", str(tmp_path / "x")])
    shown = capsys.readouterr().err
    assert code == 2
    assert shown.startswith(said)
    assert shown.count("\n") == 1


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "pseudomask"
    assert version[0].isdigit()
