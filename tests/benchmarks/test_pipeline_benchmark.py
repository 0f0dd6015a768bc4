"""The benchmark of all stages in one process, on a machine without Prefect."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
sys.modules["prefect"] = None
from pathlib import Path
from benchmarks.pipeline import main, PRESETS
small = PRESETS["demo"]()
parts = {
    "classifier": {"resize_long": (64, 80), "crop_size": 64, "steps": (1, 1)},
    "irnet": {"crop_size": 64, "radius_px": 3, "steps": (1, 1)},
    "walk": {"steps": 4},
}
small = small.model_copy(update={k: getattr(small, k).model_copy(update=v) for k, v in parts.items()})
small = small.model_copy(update={"backbone": "resnet18", "long_side": (64, 80)})
PRESETS["small"] = lambda: small
sys.exit(main(Path(sys.argv[1]), images=4, preset="small", threads=1, json_file=Path(sys.argv[2])))
"""


def test_every_stage_runs_and_is_measured_without_prefect(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "work"), str(file)]
    answer = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not answer.returncode, answer.stderr
    (found,) = json.loads(file.read_text())["runs"].values()
    assert {"classifier", "cams", "relations", "irnet", "fields", "walk", "labels"} <= found["stages"].keys()
    assert all(figures["seconds"] > 0 for figures in found["stages"].values())
    assert found["stages"]["labels"]["images"] == 4
    assert found["peak_bytes"] > 1e6
