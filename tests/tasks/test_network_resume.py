"""A training of a network that was killed in mid-epoch ends with the weights of one that was not, bit for bit."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from data.dataset import Dataset
from tasks.config import Config
from tasks.job import Job
from tasks.network_settings import DetectorConfig, SegmenterConfig

CONFIGS: dict[str, Config] = {
    "deeplabv2": SegmenterConfig(crop_size=64, batch_size=2, epochs=3, ema_decay=0.9, photometric=0.2, keep="best"),
    "maskrcnn": DetectorConfig(
        batch_size=2,
        epochs=3,
        learning_rate=1e-3,
        crop_size=64,
        rescale=(0.8, 1.2),
        min_size=64,
        max_size=80,
        channels=16,
        num_proposals=40,
        num_sampled=16,
    ),
}
# Saves after every step, and kills itself without warning when the step `sys.argv[2]` is done.
CHILD = """
import importlib, math, os, pickle, signal, sys
from dataclasses import replace
from pathlib import Path
from tasks.training import checkpoint

checkpoint.SECONDS_BETWEEN, checkpoint.SHARE = 0, math.inf
network, job = pickle.loads(Path(sys.argv[1]).read_bytes())

def progress(done, total, note=""):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

importlib.import_module(f"tasks.stages.{network}").train(replace(job, progress=progress))
"""


def train(network: str, dataset: Dataset, folder: Path, kill_at: int = 0) -> int:
    """Train in a process of its own, and return its exit code."""
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    samples = tuple(sample for sample in dataset.samples if sample.semantic)
    job = Job(
        samples,
        dataset.classes,
        CONFIGS[network],
        out,
        folder / "scratch",
        backbone="resnet18",
        validation=samples[:2],
    )
    (folder / "job").write_bytes(pickle.dumps((network, job)))
    words = [sys.executable, "-c", CHILD, str(folder / "job"), str(kill_at)]
    return subprocess.run(words, cwd=Path(__file__).parents[2], check=False, timeout=600).returncode


@pytest.mark.parametrize("network", ["deeplabv2", pytest.param("maskrcnn", marks=pytest.mark.slow)])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    tiny_set: Dataset, tmp_path: Path, network: str
) -> None:
    assert train(network, tiny_set, tmp_path / "undisturbed") == 0
    # Three steps an epoch: in the first, and in the second one of its middle.
    for step in (1, 5):
        assert train(network, tiny_set, tmp_path / "killed", kill_at=step) == -signal.SIGKILL
        assert not (tmp_path / "killed/out/network.safetensors").exists()
    assert train(network, tiny_set, tmp_path / "killed") == 0
    files = [tmp_path / name / "out/network.safetensors" for name in ("undisturbed", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(load_file(files[0])) > 50
    histories = [file.with_name("history.json").read_text() for file in files]
    assert histories[0] == histories[1]
