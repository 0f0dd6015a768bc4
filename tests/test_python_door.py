"""`import pseudomask`: light to import, whatever lies in the current folder, and with the command line's results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import pseudomask as pm
from data.dataset import DatasetError
from data.formats.label_maps import read_label_map
from data.store import ArtifactError
from data.synthetic.dataset import write_synthetic
from flows.labels.request import RunRequest
from tasks.pipeline.settings import PipelineConfig

ROOT = Path(__file__).resolve().parents[1]
HEAVY = "{'torch', 'numba', 'prefect', 'numpy', 'pydantic', 'uvicorn'}"
TINY = {
    "backbone": "resnet18",
    "shard_size": 4,
    "long_side": (64, 80),
    "classifier": {"resize_long": (64, 80), "crop_size": 64, "steps": (1, 1)},
    "cams": {"scales": (1.0,)},
    "irnet": {"crop_size": 64, "radius_px": 3, "steps": (1, 1)},
    "relations": {"threshold_images": 4},
    "walk": {"steps": 16},
    "scores": {"crf_thresholds": (0.2,)},
}
REFINE = """
import numpy as np
import pseudomask as pm
image = np.zeros((16, 20, 3), np.uint8)
image[:, 10:] = 255
cams = np.zeros((1, 4, 5), np.float32)
cams[0, :, 3:] = 1
edges = np.zeros((4, 5))
edges[:, 2] = 1
(found,) = pm.refine([image], [cams], [edges], steps=4, device="cpu")
print(found.semantic.shape, found.semantic[8, 18], found.semantic[8, 1])
"""


def _python(script: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    # Behind the current folder, as an installed package is.
    start = f"import sys; sys.path.append({str(ROOT)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", start + script], cwd=folder, env=environment | more, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Return a folder with files that have the names of the product's packages, and of one that Prefect needs."""
    for name in ("data", "models", "uvicorn"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the current folder was run')\n")
    return tmp_path


def test_the_import_loads_nothing_heavy() -> None:
    done = _python(f"import pseudomask; print(sorted({HEAVY} & sys.modules.keys()))", Path("/"))
    assert done.stdout.strip() == "[]", done.stderr


def test_it_works_from_the_root_folder() -> None:
    done = _python(REFINE, Path("/"))
    assert done.stdout.strip() == "(16, 20) 1 0", done.stderr
    assert "RuntimeWarning" not in done.stderr


def test_files_with_the_names_of_packages_are_not_run_and_a_warning_names_them(crowded: Path) -> None:
    done = _python(REFINE + "assert sys.path[0] == '', 'the path is as it was'\n", crowded)
    assert done.stdout.strip() == "(16, 20) 1 0", done.stderr
    assert f"{crowded}: pseudomask has packages of the names data, models;" in done.stderr


def test_a_module_of_a_package_s_name_that_was_imported_before_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("X = 1\n")
    done = _python("import data\n" + REFINE, tmp_path)
    assert done.returncode == 1
    assert f"the module 'data' of this process is {tmp_path}/data.py" in done.stderr
    assert "rename the file" in done.stderr


def test_a_script_s_own_folder_is_not_looked_through(crowded: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (crowded / "script.py").write_text(f"import sys; sys.path.append({str(ROOT)!r})\n{REFINE}")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(
        [sys.executable, str(crowded / "script.py")], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "(16, 20) 1 0", done.stderr


def test_options_are_checked_in_this_process(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"unknown option 'weigths'; expected one of .*\bweights\b"):
        pm.label(tmp_path, out=tmp_path / "run", weigths="imagenet")
    with pytest.raises(ValidationError, match=r"walk.beta"):
        pm.label(tmp_path, out=tmp_path / "run", walk={"beta": -1})
    with pytest.raises(TypeError, match="'resnet': expected one of deeplabv2"):
        pm.train("resnet", out=tmp_path / "net")
    with pytest.raises(ValueError, match="device 'gpu'"):
        pm.refine([], [], [], device="gpu")  # pyright: ignore[reportArgumentType]
    for wrong in (1.5, "auto", None):
        with pytest.raises(ValueError, match=rf"background_threshold: expected a number in \[0, 1\], got {wrong!r}"):
            pm.refine([], [], [], background_threshold=wrong)  # pyright: ignore[reportArgumentType]


def test_a_set_that_cannot_be_used_is_the_command_s_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError, match=str(tmp_path / "photos")) as caught:
        pm.label(tmp_path / "photos", out=tmp_path / "run")
    assert caught.value.problems
    assert not caught.value.of_images
    assert not (tmp_path / "run").exists()
    Image.new("RGB", (64, 64), (9, 90, 200)).save(tmp_path / "photos/a.png")
    (tmp_path / "photos/labels.csv").write_text("a,cat\nb,cat\n")
    with pytest.raises(DatasetError, match=r"labels\.csv") as caught:
        pm.label(tmp_path / "photos", out=tmp_path / "run")
    assert caught.value.of_images


def test_a_folder_that_is_no_training_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"{tmp_path}: expected the folder of a run"):
        pm.load(tmp_path)


def test_a_run_reads_masks_by_id_or_file_name_and_nothing_outside(tmp_path: Path) -> None:
    from data.formats.label_maps import write_label_map

    run = pm.Run(tmp_path / "run", {})
    mask = np.full((3, 4), 2, np.uint8)
    write_label_map(tmp_path / "run" / "labels" / "SegmentationClass" / "sub" / "a.b.png", mask)
    write_label_map(tmp_path / "run" / "labels" / "outside.png", mask)
    np.testing.assert_array_equal(run.mask("sub/a.b"), mask)
    np.testing.assert_array_equal(run.mask(Path("sub/a.b.jpg")), mask)
    for name in ("sub/a", "../outside", ""):
        with pytest.raises(FileNotFoundError, match="no labels of an image"):
            run.mask(name)
    with pytest.raises(FileNotFoundError):
        run.instances("sub/a.b")


@pytest.mark.slow
def test_labels_and_a_network_trained_on_them_from_a_crowded_folder(crowded: Path) -> None:
    write_synthetic(crowded / "photos", num_images=8, seed=3, size=(64, 80))
    script = f"""
import pseudomask as pm
run = pm.label("photos", out="runs/first", split="train", go_on=True, workers=1, **{TINY!r})
print(len(run.classes), run.mask("train_00000").shape, run.instances("train_00000.jpg").dtype)
print({{"cam", "labels"}} <= set(run.metrics["semantic"]))
training = pm.train("deeplabv2", labels=run, out="runs/net", preset="demo", workers=1,
                    training={{"crop_size": 64, "batch_size": 4, "epochs": 1}}, testing={{"crf_iterations": 0}})
net = training.load("cpu")
print(net.classes[0], net.predict("photos/JPEGImages/train_00001.jpg").shape)
# A second run in one process has a server of its own.
print(pm.label("photos", out="runs/second", split="train", go_on=True, workers=1, **{TINY!r}).folder.name)
"""
    done = _python(script, crowded)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "5 (64, 80) uint8",
        "True",
        "background (64, 80)",
        "second",
    ]
    written = read_label_map(crowded / "runs" / "first" / "labels" / "SegmentationClass" / "train_00000.png")
    assert written.shape == (64, 80)


def test_a_mapping_of_cams_or_saliency_is_settings_and_a_path_a_source_of_maps() -> None:
    options = {"cams": {"scales": (1.0,)}, "saliency": Path("maps"), "seed": 3}
    sorted_out = pm._sorted_out(options, None, RunRequest.model_fields, PipelineConfig.model_fields)
    assert sorted_out == {"saliency": Path("maps"), "settings": {"cams": {"scales": (1.0,)}, "seed": 3}}
