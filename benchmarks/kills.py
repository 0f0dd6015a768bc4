"""Runs and regenerations killed at random moments: python -m benchmarks.kills [--kills 200] [--seed 0].

A tiny run and a tiny regeneration are started again and again, and killed (SIGKILL): every second time with all their
processes, else the command alone, as a system does that is out of memory. After at most `MOST_IN_A_ROW` kills they may
end. Then their labels must have the bytes of one that nobody disturbed, and nothing may be left of the killed ones:
no draft in the store, no process. Counts are kept after every round, and the same command goes on from them: 200 kills
take hours of a busy machine. Another version of the product begins anew with another file, or without that one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import tyro

from benchmarks.machine import describe_machine, results_file, write_results
from data.synthetic.dataset import write_synthetic

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
MOST_IN_A_ROW = 6
IMAGES, FIRST_IMAGES = 12, 8
PATIENCE_S = 20.0
"""In which the processes of a killed command must have ended."""
TINY = (
    *("--backbone", "resnet18", "--shard-size", "4", "--long-side", "64", "80", "--walk.steps", "16"),
    *("--classifier.resize-long", "64", "80", "--classifier.crop-size", "64", "--classifier.steps", "1", "1"),
    *("--cams.scales", "1", "--irnet.crop-size", "64", "--irnet.radius-px", "3", "--irnet.steps", "1", "1"),
    *("--relations.threshold-images", "4", "--labels.threshold-images", "4", "--scores.crf-thresholds", "0.2"),
)
GATE = ("--gate.background", "0", "1", "--gate.classes", "0", "9", "--gate.instances", "0", "99")


@dataclass
class Outcome:
    """What happened to all rounds so far.

    Attributes:
        kills: Of these, `alone` hit the command alone.
        rounds: Commands that ended in the end.
        failed: Last lines of commands that did not.
        differences: Label files of other bytes than the undisturbed.
        leftovers: Drafts in stores and processes of killed commands.
    """

    kills: int = 0
    alone: int = 0
    rounds: int = 0
    failed: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """A folder in which a run and a publication of one set are made."""

    folder: Path
    data: Path

    def words(self, kind: str) -> list[str]:
        """Return the command line of a "run", or of a "regenerate" of the images that are on the list."""
        if kind == "run":
            return ["run", "--data", str(self.data), "--split", "train", "--out", str(self.folder / "run"), *TINY]
        own = ["--data", str(self.data), "--split", str(self.list), "--out", str(self.folder / "published")]
        return ["regenerate", *own, *TINY, *GATE, "--gate.agreement", "0"]

    @property
    def list(self) -> Path:
        return self.folder / "images.txt"

    def put_on_list(self, count: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.list.write_text("".join(f"train_{number:05}\n" for number in range(count)))

    def labels(self, kind: str) -> dict[str, bytes]:
        """Return path -> bytes of all label maps."""
        root = (self.folder / ("run/labels" if kind == "run" else "published/latest")).resolve()
        return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*.png"))}

    def drafts(self) -> list[str]:
        """Return what is left of unfinished artifacts and versions."""
        below = [self.folder / "store" / ".tmp", self.folder / "store" / ".scratch"]
        found = [path for root in below if root.is_dir() for path in root.glob("*/*")]
        found += [path for path in (self.folder / "published").glob(".*") if path.is_dir()]
        return [path.relative_to(self.folder).as_posix() for path in found]


def main(kills: int = 200, seed: int = 0, json_file: Path | None = None) -> int:
    """Kill until the count is reached, and print what came of it.

    Args:
        kills: At least so many.
        seed: Of the moments.
        json_file: Results; benchmarks/results/kills-<machine>.json if not said.
    """
    machine = describe_machine()
    file = json_file or results_file(machine, "kills")
    known = {each.name for each in fields(Outcome)}
    before = json.loads(file.read_text()) if file.is_file() else {}
    outcome = Outcome(**{name: value for name, value in before.items() if name in known})
    rng = random.Random(f"{seed} {outcome.kills}")
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        root = Path(name)
        write_synthetic(root / "set", num_images=IMAGES, seed=3, size=(64, 80))
        calm = Place(root / "calm", root / "set")
        wanted, seconds = {}, {}
        for step in _steps():
            _prepare(calm, step)
            begun = time.perf_counter()
            code, said = _end(_start(calm.words(step.kind)))
            if code:
                raise SystemExit(f"the undisturbed {step.kind} failed: {said}")
            seconds[step], wanted[step] = time.perf_counter() - begun, calm.labels(step.kind)
        while outcome.kills < kills:
            place = Place(root / "place", root / "set")
            for step in _steps():
                _prepare(place, step)
                _disturb(place, step, seconds[step], rng, outcome)
                found = place.labels(step.kind)
                names = sorted(wanted[step].keys() | found.keys())
                outcome.differences += [f"{step}: {n}" for n in names if wanted[step].get(n) != found.get(n)]
                outcome.leftovers += place.drafts()
            shutil.rmtree(place.folder)
            write_results({"machine": machine, **asdict(outcome)}, file)
            logger.info("%d kills, %d rounds", outcome.kills, outcome.rounds)
    print(json.dumps(asdict(outcome), indent=1))
    return int(bool(outcome.failed or outcome.differences or outcome.leftovers))


@dataclass(frozen=True)
class _Step:
    kind: str
    images: int


def _steps() -> tuple[_Step, ...]:
    return _Step("run", 0), _Step("regenerate", FIRST_IMAGES), _Step("regenerate", IMAGES)


def _prepare(place: Place, step: _Step) -> None:
    if step.kind == "run":
        place.folder.mkdir(parents=True, exist_ok=True)
    else:
        place.put_on_list(step.images)


def _disturb(place: Place, step: _Step, seconds: float, rng: random.Random, outcome: Outcome) -> None:
    """Start a command until it ends, and kill it at random moments."""
    for turn in range(MOST_IN_A_ROW + 1):
        command = _start(place.words(step.kind))
        if turn < MOST_IN_A_ROW:
            try:
                command.wait(timeout=rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                alone = rng.random() < 0.5
                (os.kill if alone else os.killpg)(command.pid, signal.SIGKILL)
                command.communicate()
                outcome.kills += 1
                outcome.alone += alone
                outcome.leftovers += processes_left(place.folder)
                continue
        code, said = _end(command)
        outcome.rounds += 1
        if code:
            outcome.failed.append(f"{step}: exit code {code}: {said}")
        return


def _start(words: list[str]) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(command: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = command.communicate()
    return command.returncode, " ".join(said.split()[-40:])


def processes_left(folder: Path) -> list[str]:
    """Return the processes that still work for a folder when they have had time to end."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := _alive(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid, _ in found:
        os.kill(pid, signal.SIGKILL)
    return [line for _, line in found]


def _alive(folder: Path) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if int(entry.name) != os.getpid() and str(folder).encode() in environment + words:
            found.append((int(entry.name), words.decode(errors="replace")))
    return found


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(tyro.cli(main, description=__doc__))
