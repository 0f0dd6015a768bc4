"""`deploy --notify`: what a night came to reaches a person by a block of Prefect."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from services_support import Prefect, wait_for

BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook
from prefect.blocks.system import Secret
Webhook(name="team", url=sys.argv[1], json_data={"subject": "{{subject}}", "body": "{{body}}"}).save("team")
Secret(value="x").save("other")
"""


class Inbox:
    """What was sent to a webhook on this machine."""

    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = []
        letters = self.letters

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                letters.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def about(self, word: str) -> list[dict[str, Any]]:
        return [letter for letter in self.letters if word in letter["subject"]]


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    found = Inbox()
    yield found
    found.server.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, inbox: Inbox) -> Iterator[Prefect]:
    """Return a server with two blocks, and everything deployed with notifications by one of them."""
    service = Prefect(tmp_path_factory.mktemp("notifications"))
    try:
        address = f"http://127.0.0.1:{inbox.server.server_port}"
        words = [sys.executable, "-c", BLOCK, address]
        saved = subprocess.run(words, env=service.environment, capture_output=True, text=True, check=False)
        assert saved.returncode == 0, saved.stderr
        said = service.command("flows", "deploy", "--notify", "custom-webhook/team", "--late-hours", "0.004", "--json")
        assert said.returncode == 0, said.stderr
        told = json.loads(said.stdout)["notify"]
        assert told["block"] == "custom-webhook/team"
        assert len(told["automations"]) == 3
        yield service
    finally:
        service.stop()


def end_a_run(server: Prefect, flow: str, deployment: str, kind: str, name: str, message: str) -> None:
    """Make a run of a deployment and bring it to a state, as a worker does."""
    id = server.call(f"/deployments/name/{flow}/{deployment}")["id"]
    run = server.call(f"/deployments/{id}/create_flow_run", {"parameters": {}, "enforce_parameter_schema": False})
    for state in ({"type": "RUNNING", "name": "Running"}, {"type": kind, "name": name, "message": message}):
        server.call(f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})


def test_held_labels_and_failed_runs_are_told_and_published_ones_are_not(server: Prefect, inbox: Inbox) -> None:
    end_a_run(server, "regenerate-labels", "nightly", "COMPLETED", "Held", "Held v8: 12 % fewer dog pixels")
    end_a_run(server, "pseudo-labels", "by-hand", "FAILED", "Failed", "the disk is full")
    wait_for(lambda: inbox.about("held") and inbox.about("failed"), "two notifications")
    (held,), (failed,) = inbox.about("held"), inbox.about("failed")
    assert "(nightly): Held v8: 12 % fewer dog pixels" in held["body"]
    assert "(by-hand): the disk is full" in failed["body"]


def test_a_publication_that_has_no_news_for_long_is_late(server: Prefect, inbox: Inbox) -> None:
    assert not inbox.about("late")
    end_a_run(server, "regenerate-labels", "nightly", "COMPLETED", "Published", "Published v9")
    wait_for(lambda: inbox.about("late"), "a notification of a late night")
    assert "for 0.004 hours" in inbox.about("late")[0]["body"]
    assert "Published v9" in inbox.about("late")[0]["body"]
    assert len(inbox.about("held")) == 1


def test_what_is_no_block_for_notifications_is_refused(server: Prefect) -> None:
    for block, message in (
        ("slack-webhook/nobody", "expected a block as TYPE/NAME, there are: custom-webhook/team, secret/other"),
        ("secret/other", "expected a block that notifies"),
    ):
        said = server.command("flows", "deploy", "--notify", block)
        assert said.returncode == 1
        assert message in said.stderr
    assert len(automations(server)) == 3


def test_notifications_are_replaced_not_doubled_and_end(server: Prefect) -> None:
    again = server.command("flows", "deploy", "--notify", "custom-webhook/team", "--json")
    assert again.returncode == 0, again.stderr
    assert len(automations(server)) == 3
    shown = server.command("flows", "deploy", "--notify", "off")
    assert "notify: nobody; no automations" in shown.stdout
    assert not automations(server)


def automations(server: Prefect) -> list[str]:
    return [each["name"] for each in server.call("/automations/filter", {}) if each["name"].startswith("pseudomask: ")]
