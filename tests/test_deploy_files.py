"""Dockerfile, compose file and units of systemd: their commands, ports, volumes and variables are there and agree."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prefect.settings.legacy import _get_valid_setting_names
from prefect.settings.models.root import Settings

from data.store.credentials import BLOCK_VARIABLE
from data.store.remote import CACHE_VARIABLE
from flows.commandline.parser import parse
from flows.commands import COMMANDS
from flows.deployment.pools import IMAGE_FOLDER
from flows.deployment.shared import POOL_VARIABLE, SHARED_VARIABLE
from flows.engine.request import STORE_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
INSTRUCTIONS = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "ENV", "CMD"}
OURS = {BLOCK_VARIABLE, CACHE_VARIABLE, STORE_VARIABLE, POOL_VARIABLE, SHARED_VARIABLE}
OF_OTHERS = ("POSTGRES_", "MINIO_ROOT_", "AWS_")
PORT = "4200"


@cache
def compose() -> dict[str, Any]:
    """Return the services, with the defaults of what people may set."""
    text = (DEPLOY / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


@cache
def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [
        (word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word
    ]


@cache
def help_of_prefect(*words: str) -> str:
    command = [sys.executable, "-m", "prefect", *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout


def check_command(words: list[str]) -> None:
    """See that a command of ours or of Prefect's is there, with its options."""
    program, name, *rest = words
    if Path(program).name == "pseudomask":
        command = COMMANDS[name]
        parse(command, rest, prog="pseudomask", choice=(command.word, ""))
        return
    assert Path(program).name == "prefect"
    told = help_of_prefect(name, rest[0])
    options = [word for word in rest if word.startswith("--")]
    assert [option for option in options if not re.search(rf"{option}\b", told)] == []


def variables_of(service: dict[str, Any]) -> dict[str, str]:
    return service.get("environment", {})


def made_secrets(folder: Path) -> dict[str, dict[str, str]]:
    """Return file -> variable -> value of the secrets that the script makes."""
    subprocess.run([DEPLOY / "make_secrets.sh", folder], check=True, capture_output=True)
    return {
        file.name: dict(line.split("=", 1) for line in file.read_text().splitlines()) for file in folder.glob("*.env")
    }


def check_names(names: set[str]) -> None:
    known = _get_valid_setting_names(Settings)
    assert {name for name in names if not name.startswith(OF_OTHERS)} <= known | OURS


def test_the_image_is_small_and_its_user_is_not_root() -> None:
    words = [word for word, _ in instructions()]
    assert set(words) <= INSTRUCTIONS
    assert [rest.split()[0] for word, rest in instructions() if word == "FROM"] == ["python:3.11-slim"] * 2
    last = instructions()[len(words) - 1 - words[::-1].index("FROM") :]
    assert ("USER", "pseudomask") in last
    after = last[last.index(("USER", "pseudomask")) :]
    assert "USER" not in [word for word, _ in after[1:]]
    assert not any("apt-get" in rest for _, rest in after)
    # Triton compiles its launchers with gcc when a kernel is first called; what only builds stays behind.
    assert any("gcc" in rest for _, rest in last)
    assert not any("g++" in rest for _, rest in last)
    assert {rest for word, rest in instructions() if word == "WORKDIR"} == {IMAGE_FOLDER}
    copied = next(rest for word, rest in last if word == "COPY")
    assert copied.split()[-2:] == [IMAGE_FOLDER] * 2


def test_the_image_has_the_versions_of_the_tests_and_torch_for_the_cpu_by_default() -> None:
    [index] = [rest for word, rest in instructions() if word == "ARG"]
    assert index == "TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    install = next(rest for word, rest in instructions() if word == "RUN" and "pip install" in rest)
    assert '--extra-index-url "$TORCH_INDEX"' in install
    assert "--constraint constraints.txt" in install
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = re.search(r'--editable "\.\[(\w+)\]"', install)
    assert extra
    assert extra[1] in project["optional-dependencies"]


def test_the_image_starts_a_command_that_is_there() -> None:
    [words] = [yaml.safe_load(rest) for word, rest in instructions() if word == "CMD"]
    check_command(words)
    [path] = re.findall(r"\bPATH=(\S+):\$PATH", " ".join(rest for word, rest in instructions() if word == "ENV"))
    assert path == f"{IMAGE_FOLDER}/.venv/bin"


def test_the_image_has_all_that_runs_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    assert [name for name in taken if not (ROOT / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    modules = {f"{name}.py" for name in project["tool"]["setuptools"]["py-modules"]}
    needed = {"pyproject.toml", "constraints.txt", "prefect.yaml", "prefect.toml", project["project"]["readme"]}
    assert taken == packages | modules | needed | {"docs/deploy", *project["project"]["license-files"]}
    assert "**/__pycache__" in lines


def test_services_wait_for_each_other_by_their_health() -> None:
    services = compose()["services"]
    for name, service in services.items():
        for other, when in service.get("depends_on", {}).items():
            assert when == {"condition": "service_healthy"}, name
            assert "healthcheck" in services[other], other
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"bucket"}
    for name in ("minio", "bucket"):
        assert services[name]["profiles"] == ["s3"]


def test_commands_of_services_are_there() -> None:
    services = compose()["services"]
    check_command(services["server"]["command"])
    shell, option, line = services["worker"]["command"]
    assert (shell, option) == ("sh", "-c")
    for part in line.split("&&"):
        check_command(shlex.split(part.replace("exec ", "")))
    for service in services.values():
        for words in (service.get("command", []), service.get("healthcheck", {}).get("test", [])[1:]):
            if "python" in words:
                compile(words[-1], "compose.yaml", "exec")
    assert services["server"]["build"] == "."


def test_ports_of_services_agree() -> None:
    services = compose()["services"]
    server, worker = services["server"], services["worker"]
    command = server["command"]
    assert command[command.index("--port") + 1] == PORT
    # Of this machine alone.
    assert server["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert f"127.0.0.1:{PORT}/api/health" in server["healthcheck"]["test"][-1]
    address = urlsplit(variables_of(worker)["PREFECT_API_URL"])
    assert (address.hostname, str(address.port), address.path) == ("server", PORT, "/api")
    assert Settings().worker.webserver.port == int(re.findall(r":(\d+)/health", str(worker["healthcheck"]))[0])
    assert services[variables_of(server)["PREFECT_SERVER_DATABASE_HOST"]]["image"].startswith("postgres:")


def test_volumes_of_services_are_declared_and_lie_where_they_are_used() -> None:
    content, used = compose(), {}
    for name, service in content["services"].items():
        for volume in service.get("volumes", []):
            source, path = volume.split(":")
            used.setdefault(source, []).append((name, path))
    assert used.keys() == content["volumes"].keys()
    worker = content["services"]["worker"]
    assert ("worker", "/data") in used["data"]
    assert variables_of(worker)[STORE_VARIABLE].startswith("/data/")
    assert "/data" in next(rest for word, rest in instructions() if word == "RUN" and "useradd" in rest)


def test_secrets_are_in_files_of_their_own_that_fit_together(tmp_path: Path) -> None:
    files = made_secrets(tmp_path / "secrets")
    services = compose()["services"]
    named = {Path(service["env_file"]).name for service in services.values()}
    assert named == files.keys()
    for file in (tmp_path / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    server, worker = files["server.env"], files["worker.env"]
    assert server["PREFECT_SERVER_DATABASE_PASSWORD"] == files["postgres.env"]["POSTGRES_PASSWORD"]
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == worker["PREFECT_API_AUTH_STRING"]
    # Only the server's own pages may ask it in a browser.
    assert urlsplit(server["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"]).hostname == "127.0.0.1"
    assert worker["AWS_SECRET_ACCESS_KEY"] == files["minio.env"]["MINIO_ROOT_PASSWORD"]
    assert worker["AWS_ACCESS_KEY_ID"] == files["minio.env"]["MINIO_ROOT_USER"]
    assert urlsplit(worker["AWS_ENDPOINT_URL"]).hostname in services
    # Who runs labels does not know the database's password.
    assert server["PREFECT_SERVER_DATABASE_PASSWORD"] not in worker.values()
    check_names({name for values in files.values() for name in values})
    check_names({name for service in services.values() for name in variables_of(service)})
    given = {name for service in services.values() for name in variables_of(service)}
    assert not any(word in name for name in given for word in ("PASSWORD", "SECRET", "AUTH", "KEY"))
    again = subprocess.run(
        [DEPLOY / "make_secrets.sh", tmp_path / "secrets"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert made_secrets(tmp_path / "others") != files


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_that_is_there(unit: Path) -> None:
    content = configparser.ConfigParser(interpolation=None, strict=False)
    content.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    content.read_string(unit.read_text())
    service = content["Service"]
    check_command(shlex.split(service["ExecStart"]))
    assert service["ExecStart"].startswith(f"{service['WorkingDirectory']}/.venv/bin/")
    assert service["User"] not in ("", "root")
    check_names({word.split("=")[0] for word in service["Environment"].split()})
    # The units' secrets are those that the script makes.
    assert Path(service["EnvironmentFile"]).name in {"server.env", "worker.env"}
    assert unit.read_text().startswith(f"# /etc/systemd/system/{unit.name}\n")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_a_unit(unit: Path, tmp_path: Path) -> None:
    text = re.sub(r"/srv/pseudomask/.venv/bin/\w+", "/bin/true", unit.read_text())
    text = text.replace("/srv/pseudomask", str(tmp_path))
    (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Failed to" in done.stderr and "bus" in done.stderr:
        pytest.skip("systemd-analyze cannot work here")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pages_name_files_that_are_there() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    named = set(re.findall(r"docs/deploy/[\w./-]*\w", text))
    there = {file.relative_to(ROOT).as_posix() for file in DEPLOY.rglob("*") if file.is_file()}
    assert {name for name in named if not (ROOT / name).exists()} == set()
    # Each file is of use to whoever reads the pages.
    assert {name for name in there if not any(name == each or name.startswith(f"{each}/") for each in named)} == set()
