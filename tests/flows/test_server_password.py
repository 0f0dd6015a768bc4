"""A Prefect server that wants a password says so in one sentence, whatever command asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests_flows_support import ROOT, run_words

from tasks.engine.processes import python_environment


class _Refusing(BaseHTTPRequestHandler):
    """What a server with a password answers who has none: its health, and 401."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path.endswith("/health") else 401)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"true" if self.path.endswith("/health") else b'{"exception_message": "Unauthorized"}')

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


@pytest.mark.parametrize("command", ["deploy", "worker", "run"])
def test_a_password_that_is_missing_is_named_without_a_traceback(
    tiny_data: Path, tmp_path: Path, address: str, command: str
) -> None:
    words = run_words(tiny_data, tmp_path) if command == "run" else [command]
    environment = (
        os.environ | python_environment() | {"PREFECT_API_URL": address, "PREFECT_HOME": str(tmp_path / "home")}
    )
    environment.pop("PREFECT_API_AUTH_STRING", None)
    line = [sys.executable, "-m", "flows", *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert f"{address}: the Prefect server wants its password: export PREFECT_API_AUTH_STRING" in done.stderr
    assert "Traceback" not in done.stderr
