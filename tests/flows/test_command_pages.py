"""The command line follows from the requests: every page of help fits two screens, and words find their command."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from flows.cli import main
from flows.commandline.options import fields_of, num_words, options_of
from flows.commandline.page import MOST_LINES, WIDTH, form, page_of, page_of_all
from flows.commandline.parser import WrongWords, parse, variant_of
from flows.commands import COMMANDS, ROOMS
from flows.commands.command import Command
from flows.labels.request import RunRequest
from flows.training.prediction import PredictRequest
from tasks.config import Fraction, PixelRange, Positive
from tasks.networks import NETWORKS
from tasks.pipeline.settings import Auto

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = [(command, "") for command in COMMANDS.values() if not command.variants] + [
    (variant, word) for command in COMMANDS.values() for word, variant in command.variants.items()
]
TRAIN = COMMANDS["train"]


def page(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("command", "word"), VARIANTS, ids=[f"{c.name} {word}".strip() for c, word in VARIANTS])
def test_the_help_of_a_command_fits_two_screens_and_has_every_option(command: Command, word: str) -> None:
    for preset in command.presets or [""]:
        lines = page_of(command, preset, word=word).splitlines()
        text = "\n".join(lines)
        assert len(lines) <= MOST_LINES
        assert max(map(len, lines)) <= WIDTH
        for option in options_of(command, preset):
            name = option.option.upper() if option.written.positional else f"--{option.option}"
            assert sum(name in line.split("|")[0].split() for line in lines) or name in text, name
        assert "{None}" not in text
        assert "None|" not in text


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_field_of_a_request_is_an_option_or_is_hidden_on_purpose(command: Command) -> None:
    for each in command.variants.values() or [command]:
        shown = {field.name for field in fields_of(each, each.preset)}
        hidden = {name for name, written in each.written.items() if written.hidden}
        assert shown == {*each.request.model_fields, *each.options.model_fields} - hidden
        assert hidden <= {"preset", "table", "workers"}


def test_every_command_is_in_the_list_of_the_program_and_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown, listed = capsys.readouterr().out, (ROOT / "docs" / "commands.md").read_text()
    assert shown == page_of_all(ROOMS) + "\n"
    for name, command in COMMANDS.items():
        assert f"  {name} " in shown
        assert f"`pseudomask {name}" in listed or f"`{name}" in listed
        assert command.help[-1] == "."
        assert len(command.help) < WIDTH - 14


def test_train_shows_the_network_and_its_settings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    of_deeplab, of_segnet = page(capsys, "train", "deeplabv2"), page(capsys, "train", "segnet")
    assert "train NETWORK" in of_deeplab
    assert "NETWORK" in of_segnet
    assert "--training.dropout" in of_segnet
    assert "--training.dropout" not in of_deeplab
    assert "--training.crop-size" in of_deeplab
    assert "--network" not in of_deeplab + of_segnet
    every = page(capsys, "train")
    assert "--training" not in every
    assert all(name in every for name in NETWORKS)


def test_a_group_of_settings_is_described_at_length(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--preset", "voc12", "--help", "walk"])
    shown = capsys.readouterr().out
    assert "Hadamard power of the affinities (Eq. 12). [10]" in shown
    assert "--data" not in shown


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["deeplabv2", "--out", "x"], "deeplabv2"),
        (["--out", "segnet", "deeplabv2", "--labels", "R"], "deeplabv2"),
        (["--skip-bad", "segnet"], "segnet"),
        (["--no-skip-bad", "segnet"], "segnet"),
        (["--training.image-size", "64", "96", "segnet"], "segnet"),
        (["--training.image_size=None", "segnet"], "segnet"),
        (["--training.image-size", "None", "deeplabv2"], "deeplabv2"),
        (["--training.no-freeze-norm", "segnet"], "segnet"),
        (["--weights", "imagenet", "-v", "segnet"], "segnet"),
        (["--testing.scales", "1", "-0.5", "--seed", "3", "segnet"], "segnet"),
        (["--saliency", "a", "b", "--out", "x"], None),
        (["--nothing", "3", "segnet"], "segnet"),
        ([], None),
    ],
)
def test_the_first_word_is_no_value_of_an_option(words: list[str], found: str | None) -> None:
    if found is None:
        with pytest.raises(WrongWords, match="found none"):
            variant_of(TRAIN, words)
    else:
        assert variant_of(TRAIN, words)[1] == found


def test_the_network_may_stand_behind_an_option_whose_value_is_anothers_name() -> None:
    words = ["--out", "segnet", "deeplabv2", "--labels", "R", "--training.epochs", "3"]
    chosen, word = variant_of(TRAIN, words)
    request, _ = parse(chosen, words, prog="train", choice=("network", word))
    given = request.model_dump()
    assert given["settings"]["network"] == word == "deeplabv2"
    assert (given["out"], given["labels"]) == (Path("segnet"), Path.cwd() / "R")
    assert given["settings"]["training"]["epochs"] == 3


def test_the_network_is_no_option_beside_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "segnet", "--network", "deconvnet", "--out", str(tmp_path / "x"), "--labels", str(tmp_path)])
    assert stopped.value.code == 2
    assert "Unrecognized options: --network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--out", "x"], "train NETWORK: expected one of deeplabv2, "),
        (["train", "nothing", "--out", "x"], "found 'nothing'"),
        (["compare"], "compare TABLE: expected one of segnet-decoders, "),
        (["nothing"], "nothing: expected a command, one of demo, run, "),
        ([], "pseudomask: expected a command"),
    ],
)
def test_words_that_are_no_command_end_with_exit_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_each_table_of_a_comparison_has_options_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    measured, trained = page(capsys, "compare", "segnet-resources"), page(capsys, "compare", "segnet-decoders")
    for option in ("--threads", "--classes", "--size"):
        assert option in measured
        assert option not in trained
    for option in ("--seeds", "--val", "--set", "--cluster"):
        assert option in trained
        assert option not in measured


def test_a_request_that_is_typed_has_whole_paths_and_one_that_is_read_keeps_its_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "val").write_text("a\n")
    given = {"network": "net", "data": "photos", "out": "x", "split": "val"}
    request, _ = parse(COMMANDS["predict"], ["net", "--data", "photos", "--out", "x", "--split", "val"], prog="predict")
    assert request == PredictRequest.model_validate({**given, "split": str(tmp_path / "val")})
    assert (request.model_dump()["data"], request.model_dump()["out"]) == (tmp_path / "photos", Path("x"))
    # A name in a record is that of a list of the set, whatever lies in the folder of today.
    assert PredictRequest.model_validate(given).split == "val"


@pytest.mark.filterwarnings("error")
def test_a_run_without_options_is_the_preset() -> None:
    run = COMMANDS["run"]
    for preset in ("quick", "voc12", "coco14", "demo"):
        request, options = parse(run, ["--data", "d", "--out", "o", "--preset", preset], prog="run")
        assert request == RunRequest(data=Path("d"), out=Path("o"), preset=preset, settings=run.presets[preset]())  # pyright: ignore
        assert not options.model_dump()["as_json"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "INT"),
        (Fraction, "0..1"),
        (Positive | None, "FLOAT>0|None"),
        (PixelRange, "INT>=1 INT>=1"),
        (Fraction | Auto, "0..1|auto"),
        (tuple[Path, ...], "PATH ..."),
        (bool, ""),
    ],
)
def test_a_range_is_shown(kind: Any, text: str) -> None:
    assert form(kind) == text


@pytest.mark.parametrize(
    ("kind", "words", "count"),
    [
        (int, ["1", "2"], 1),
        (bool, ["x"], 0),
        (tuple[int, int], ["1", "2", "3"], 2),
        (tuple[float, ...], ["1", "-2", ".5", "--x"], 3),
        (PixelRange | None, ["None", "2"], 1),
        (PixelRange | None, ["1", "2"], 2),
        (PixelRange | Auto, ["auto", "2"], 1),
    ],
)
def test_values_of_an_option_are_counted(kind: Any, words: list[str], count: int) -> None:
    assert num_words(kind, words) == count


def test_options_of_commands_are_told_apart_from_settings() -> None:
    names = {option.option: option.setting for option in options_of(COMMANDS["run"], "quick")}
    assert not names["data"]
    assert not names["settings"]
    assert names["walk.beta"]
    assert names["seed"]
    assert issubclass(COMMANDS["run"].request, BaseModel)
    assert get_args(fields_of(COMMANDS["run"], "quick")[0].kind)[0] is Path
