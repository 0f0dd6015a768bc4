"""A run through the command line: what it gives, what a second one repeats, and what `status` says of it."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from tests_flows_support import OWN_SERVER, ROOT, pseudomask, run_words

from data.formats.quality import read_quality

STAGES = ["classifier", "cams", "thresholds", "relations", "irnet", "fields"]
STAGES += ["walk", "label-thresholds", "pixel-classifier", "pixel-scores", "labels", "quality", "scores", "metrics"]


def made(folder: Path) -> dict[str, float]:
    """Return when every artifact of a store was published."""
    manifests = (folder / "store").glob("*/*/manifest.json")
    return {f"{m.parent.parent.name}/{m.parent.name}": m.stat().st_mtime_ns for m in manifests}


def made_again(before: dict[str, float], after: dict[str, float]) -> list[str]:
    return sorted(name for name, time in after.items() if before.get(name) != time)


def status(folder: Path, root: Path = ROOT) -> dict[str, dict]:
    answer = pseudomask("status", folder / "run", "--json", root=root)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["stages"]


def states(folder: Path, root: Path = ROOT) -> dict[str, str]:
    return {stage: entry["state"] for stage, entry in status(folder, root).items()}


def test_a_run_gives_labels_metrics_and_one_json_object(first_run: tuple[Path, dict], tiny_data: Path) -> None:
    folder, answer = first_run
    ids = (tiny_data / "ImageSets/Segmentation/train.txt").read_text().split()
    for kind in ("SegmentationClass", "SegmentationObject", "SegmentationSure", "SegmentationConfidence"):
        assert sorted(p.stem for p in (folder / "run/labels" / kind).glob("*.png")) == sorted(ids)
    assert [row.image for row in read_quality(folder / "run/quality.csv")] == sorted(ids)
    assert answer["confidence"]["pixels"] > 0
    assert 0 < answer["semantic"]["labels"]["miou"] < 1
    assert set(answer["semantic"]) == {"cam", "cam_crf", "walk", "labels"}
    assert answer["semantic"]["labels"]["threshold"] == 0.5
    assert answer["displacement"].keys() == {"components", "instances", "spread_px"}
    assert answer["displacement"]["components"] > 0
    assert set(answer["instances"]) >= {"cam_components", "boundary_components", "labels"}
    assert list(answer["seconds"]) == STAGES
    coco = COCO(folder / "run/labels/instances.json")
    assert len(coco.imgs) == len(ids)
    assert json.loads((folder / "run/metrics.json").read_text())["semantic"] == answer["semantic"]


def test_a_second_run_makes_nothing_and_status_says_cached(run_copy: Path, tiny_data: Path) -> None:
    before = made(run_copy)
    assert states(run_copy) == dict.fromkeys(STAGES, "cached")
    assert pseudomask(*run_words(tiny_data, run_copy)).returncode == 0
    assert made_again(before, made(run_copy)) == []


def test_the_same_run_again_needs_no_server(run_copy: Path, tiny_data: Path) -> None:
    server, metrics = run_copy / "store/.prefect", (run_copy / "run/metrics.json").read_bytes()
    shutil.rmtree(server)
    (run_copy / "run/labels/instances.json").unlink()
    answer = pseudomask(*run_words(tiny_data, run_copy), server=OWN_SERVER)
    assert answer.returncode == 0, answer.stderr
    assert "irnet: 12/12 cached" in answer.stderr
    assert not server.exists()
    assert (run_copy / "run/labels/instances.json").is_file()
    assert (run_copy / "run/metrics.json").read_bytes() == metrics


def test_the_status_of_a_store_lists_its_runs(run_copy: Path) -> None:
    (run_copy / "store/labels").rename(run_copy / "labels")
    elsewhere = next((run_copy / "store/.users").glob("*.json"))
    elsewhere.write_text(json.dumps({"folder": str(run_copy / "run")}))
    (run_copy / "store/.users/gone.json").write_text(json.dumps({"folder": str(run_copy / "gone")}))
    answer = pseudomask("status", run_copy / "store", "--json")
    assert answer.returncode == 0, answer.stderr
    run, gone = json.loads(answer.stdout)["runs"]
    assert (run["run"], run["what"], run["images"], run["finished"]) == (str(run_copy / "run"), "labels", 12, True)
    assert run["stages"]["classifier"] == {"cached": 1, "total": 1}
    assert run["stages"]["labels"]["cached"] == 0
    assert "found no run.json" in gone["problem"]


def test_a_deleted_and_a_damaged_artifact_are_named_and_made_again_alone(run_copy: Path, tiny_data: Path) -> None:
    deleted = sorted((run_copy / "store/walk").iterdir())[0]
    shutil.rmtree(deleted)
    damaged = sorted((run_copy / "store/relations").iterdir())[-1]
    picture = sorted(damaged.glob("*.png"))[0]
    content = bytearray(picture.read_bytes())
    content[-20] ^= 1
    picture.write_bytes(content)
    before = made(run_copy)
    stages = status(run_copy)
    assert stages["walk"]["state"] == "missing"
    assert stages["relations"]["state"] == "damaged"
    assert [picture.name in text for text in stages["relations"]["reasons"].values()] == [True]
    answer = pseudomask(*run_words(tiny_data, run_copy))
    assert answer.returncode == 0, answer.stderr
    assert made_again(before, made(run_copy)) == [f"relations/{damaged.name}", f"walk/{deleted.name}"]
    assert states(run_copy) == dict.fromkeys(STAGES, "cached")


def test_a_changed_beta_repeats_the_walk_and_what_follows(run_copy: Path, tiny_data: Path) -> None:
    before = made(run_copy)
    answer = pseudomask(*run_words(tiny_data, run_copy, ["--walk.beta", "3"]))
    assert answer.returncode == 0, answer.stderr
    stages = {name.split("/")[0] for name in made_again(before, made(run_copy))}
    assert stages == set(STAGES[STAGES.index("walk") :])


@pytest.mark.parametrize(
    ("file", "line", "first"),
    [
        ("kernels/displacement/__init__.py", "def instance_maps(", "irnet"),
        ("tasks/pipeline/labels.py", "def instance_masks(", "labels"),
    ],
)
def test_an_edited_function_makes_its_stage_and_what_follows_stale(
    run_copy: Path, tmp_path: Path, file: str, line: str, first: str
) -> None:
    checkout = tmp_path / "checkout"
    for package in ("flows", "tasks", "models", "kernels", "data"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert states(run_copy, checkout) == dict.fromkeys(STAGES, "cached")
    source = (checkout / file).read_text()
    head, _, tail = source.partition(line)
    body = tail.index('"""\n', tail.index('"""') + 3) + 4
    (checkout / file).write_text(f"{head}# A comment changes nothing.\n{line}{tail}")
    assert states(run_copy, checkout) == dict.fromkeys(STAGES, "cached")
    (checkout / file).write_text(head + line + tail[:body] + "    unused = 1\n" + tail[body:])
    stages = status(run_copy, checkout)
    follow = STAGES[STAGES.index(first) :]
    assert [stage for stage in STAGES if stages[stage]["state"] == "stale"] == follow
    assert "source changed" in next(iter(stages[first]["reasons"].values()))


def test_networks_of_a_run_label_other_images_without_training_or_ground_truth(
    run_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_data, other)
    for folder in ("SegmentationClass", "SegmentationObject"):
        shutil.rmtree(other / folder)
    before = made(run_copy)
    words = [
        "run",
        "--data",
        other,
        "--split",
        "val",
        "--networks",
        run_copy / "run",
        "--out",
        run_copy / "new",
        "--json",
    ]
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert "semantic" not in result
    assert len(list((run_copy / "new/labels/SegmentationClass").glob("*.png"))) == 4
    stages = {name.split("/")[0] for name in made_again(before, made(run_copy))}
    assert not stages & {"classifier", "irnet", "pixel-classifier", "scores", "metrics"}
    assert {"pixel-scores", "labels"} <= stages


def test_bad_images_stop_a_run_before_any_work_or_are_set_aside(
    tiny_data: Path, first_run: tuple[Path, dict], tmp_path: Path
) -> None:
    data = tmp_path / "bad"
    shutil.copytree(tiny_data, data)
    ids = (data / "ImageSets/Segmentation/train.txt").read_text().split()
    (data / f"JPEGImages/{ids[0]}.jpg").write_bytes(b"")
    (data / f"JPEGImages/{ids[1]}.jpg").write_text("not an image")
    whole = (data / f"JPEGImages/{ids[2]}.jpg").read_bytes()
    (data / f"JPEGImages/{ids[2]}.jpg").write_bytes(whole[: len(whole) // 2])
    answer = pseudomask(*run_words(data, tmp_path))
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert all(f"{name}.jpg" in answer.stderr for name in ids[:3])
    assert "Traceback" not in answer.stderr
    assert not list((tmp_path / "store").glob("classifier/*"))
    answer = pseudomask(*run_words(data, tmp_path, ["--skip-bad", "--networks", first_run[0] / "run"]))
    assert answer.returncode == 0, answer.stderr
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert sorted(p["sample"] for p in record["problems"]) == sorted(ids[:3])
    assert len(list((tmp_path / "run/labels/SegmentationClass").glob("*.png"))) == len(ids) - 3


def test_a_configured_server_that_does_not_answer_is_named_without_a_traceback(tiny_data: Path, tmp_path: Path) -> None:
    answer = pseudomask(*run_words(tiny_data, tmp_path / "new"), server={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert answer.returncode == 1
    assert answer.stderr.strip().splitlines()[-1].startswith("http://127.0.0.1:9/api: no Prefect server answers.")
    assert "Traceback" not in answer.stderr


def test_an_unwritable_store_is_named_without_a_traceback(tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    answer = pseudomask(*run_words(tiny_data, tmp_path, ["--store", file / "store"]))
    assert answer.returncode == 1
    assert str(file) in answer.stderr
    assert "--store" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_finished_run_is_collected_from_a_store_that_may_only_be_read(run_copy: Path, tiny_data: Path) -> None:
    words = run_words(tiny_data, run_copy, ["--out", run_copy / "new"])
    with locked_away(run_copy / "store") as wrapper:
        answer = pseudomask(*words, wrapper=wrapper, server=OWN_SERVER)
        refused = pseudomask(*words, "--seed", "7", wrapper=wrapper)
    assert answer.returncode == 0, answer.stderr
    for name in ("labels/instances.json", "metrics.json"):
        assert (run_copy / "new" / name).read_bytes() == (run_copy / "run" / name).read_bytes()
    assert refused.returncode == 1
    assert "cannot be written" in refused.stderr
    assert "Traceback" not in refused.stderr


@contextlib.contextmanager
def locked_away(folder: Path) -> Iterator[list[str]]:
    """Yield the words before a command in whose processes nobody may write into a folder, root neither."""
    if os.geteuid():
        modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if path.is_dir()}
        for path in modes:
            path.chmod(0o555)
        yield []
        for path, mode in modes.items():
            path.chmod(mode)
        return
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    wrapper = ["unshare", "--mount", "sh", "-c", mount, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*wrapper, "true"], capture_output=True).returncode:
        pytest.skip("root can write everywhere, and nothing can be mounted here")
    yield wrapper


@pytest.mark.parametrize("words", [["--walk.beta", "-1"], ["--no-such-option"], ["--irnet.crop-size", "100"]])
def test_a_wrong_option_ends_with_exit_code_2(tiny_data: Path, tmp_path: Path, words: list[str]) -> None:
    answer = pseudomask(*run_words(tiny_data, tmp_path, words))
    assert answer.returncode == 2
    assert answer.stdout == ""


def test_doctor_lists_every_problem_and_fails(tiny_data: Path, tmp_path: Path) -> None:
    assert pseudomask("doctor", "--data", tiny_data, "--json").returncode == 0
    data = tmp_path / "bad"
    shutil.copytree(tiny_data, data)
    rows = (data / "labels.csv").read_text().splitlines()
    rows = [*rows[:2], "train_00001,unicorn", *rows[3:], "missing_image,ball"]
    (data / "labels.csv").write_text("\n".join(rows) + "\n")
    answer = pseudomask("doctor", "--data", data, "--json")
    assert answer.returncode == 1
    text = json.dumps(json.loads(answer.stdout)["problems"])
    assert "missing_image" in text
    assert "unicorn" in text
