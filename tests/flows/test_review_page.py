"""The page of a review: who is let in, what is refused, and what is saved."""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.published_labels import make_publication

from data.formats.label_maps import read_label_map
from flows.cli import main
from flows.review.app import MOST_BYTES, PAGE, make_app
from flows.review.gate import HEADERS
from tasks.review.session import Session
from tasks.review.subject import open_subject

TOKEN, PORT, WORST = "a-token", 8000, "train_00001"
HOST = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_publication(tmp_path_factory.mktemp("published"))


@pytest.fixture
def client(published: Path) -> TestClient:
    session = Session(open_subject(published), "Ada")
    return TestClient(make_app(session, TOKEN, PORT), base_url=f"{HOST}/{TOKEN}/")


def test_the_page_is_shown_with_a_policy_that_lets_nothing_else_in(client: TestClient) -> None:
    for name, kind in (("", "text/html"), ("main.js", "javascript"), ("style.css", "text/css")):
        answer = client.get(name)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert all(answer.headers[header] == value for header, value in HEADERS.items())
    text = (PAGE / "index.html").read_text()
    assert "http" not in text.replace("https://", "http")
    assert " style=" not in text
    assert "onclick" not in text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/queue", {}),
        ("/", {}),
        ("/another-token/queue", {}),
        (f"/{TOKEN}x/queue", {}),
        (f"/{TOKEN}/queue", {"origin": "http://evil.example"}),
        (f"/{TOKEN}/queue", {"origin": "null"}),
        (f"/{TOKEN}/queue", {"origin": f"http://127.0.0.1:{PORT + 1}"}),
        (f"/{TOKEN}/queue", {"sec-fetch-site": "cross-site"}),
        (f"/{TOKEN}/queue", {"sec-fetch-site": "same-site"}),
        (f"/{TOKEN}/queue", {"host": f"evil.example:{PORT}"}),
        (f"/{TOKEN}/queue", {"host": "127.0.0.1:1"}),
        (f"/{TOKEN}/queue", {"host": "127.0.0.1"}),
    ],
)
def test_strangers_are_refused(client: TestClient, path: str, headers: dict[str, str]) -> None:
    answer = client.get(f"{HOST}{path}", headers=headers)
    assert answer.status_code == 403
    assert WORST not in answer.text
    written = client.post(
        f"{HOST}{path.replace('queue', 'correct')}", headers=headers, json={"image": WORST, "after": 0}
    )
    assert written.status_code == 403


def test_the_own_page_is_let_in(client: TestClient) -> None:
    answer = client.get("queue", headers={"origin": HOST, "sec-fetch-site": "same-origin"})
    assert answer.json()["images"][0]["image"] == WORST


def test_at_the_port_of_http_browsers_say_none(published: Path) -> None:
    session = Session(open_subject(published), "Ada")
    at_80 = TestClient(make_app(session, TOKEN, 80), base_url=f"http://127.0.0.1/{TOKEN}/")
    for host in ("127.0.0.1", "localhost", "127.0.0.1:80"):
        assert at_80.get("queue", headers={"host": host, "origin": f"http://{host}"}).status_code == 200
    assert at_80.get("queue", headers={"host": "127.0.0.1:81"}).status_code == 403
    assert at_80.get("queue", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "..%2f..%2fcli.py", "%2fetc%2fpasswd", "....//app.py"])
def test_no_file_outside_of_the_page_is_sent(client: TestClient, path: str) -> None:
    assert client.get(f"{HOST}/{TOKEN}/{path}").status_code in (403, 404)


@pytest.mark.parametrize("id", ["../../set/labels.csv", "/etc/passwd", "", "train_00001.jpg", "..%2f..%2fset"])
@pytest.mark.parametrize("what", ["state", "photo", "boundary", "before", "cam"])
def test_no_image_outside_of_the_set_is_sent(client: TestClient, what: str, id: str) -> None:
    assert client.get(what, params={"image": id}).status_code == 404


@pytest.mark.parametrize("path", ["correct", "restore", "scribble"])
def test_an_upload_of_a_gigabyte_is_refused_by_its_length(client: TestClient, path: str) -> None:
    kind = {"content-type": "application/json"}
    declared = client.post(path, content=b"{}", headers={**kind, "content-length": str(1 << 30)})
    assert declared.status_code == 413
    assert client.post(path, content=bytes(MOST_BYTES + 1), headers=kind).status_code == 413


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("correct", {"image": WORST}),
        ("correct", {"image": WORST, "after": 0, "semantic": [0, 1]}),
        ("correct", {"image": WORST, "after": 0, "semantic": [0, 10**9, 1]}),
        ("correct", {"image": WORST, "after": 0, "semantic": [0, 1, 9]}),
        ("correct", {"image": WORST, "after": 0, "semantic": [0, 2**70, 1]}),
        ("correct", {"image": WORST, "after": 0, "semantic": [1, 2**63 - 1, 2]}),
        ("correct", {"image": WORST, "after": 0, "semantic": [0.5, 1, 1]}),
        ("correct", {"image": WORST, "after": 0, "verdict": "perfect"}),
        ("correct", {"image": WORST, "after": 0, "tags": ["a;b"]}),
        ("correct", {"image": WORST, "after": 0, "author": "somebody"}),
        ("correct", {"image": WORST, "after": -1}),
        ("restore", {"image": WORST, "after": 0, "step": -1}),
        ("scribble", {"image": WORST, "after": 0, "step": 0, "semantic": [0, 1, 3]}),
    ],
)
def test_what_is_no_step_is_refused_and_not_saved(client: TestClient, path: str, message: dict) -> None:
    answer = client.post(path, json=message)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert client.get("state", params={"image": WORST}).json()["records"] == 0


def test_only_json_is_read(client: TestClient) -> None:
    body = json.dumps({"image": WORST, "after": 0})
    assert client.post("correct", content=body, headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("correct", content=b"{", headers={"content-type": "application/json"}).status_code == 422


def test_two_browsers_do_not_overwrite_each_other_unasked(client: TestClient, published: Path) -> None:
    image = "train_00002"
    size = read_label_map(published / "latest/SegmentationClass" / f"{image}.png").shape
    step = {"image": image, "after": 0, "semantic": [0, size[1], 2]}
    assert client.post("correct", json=step).status_code == 200
    refused = client.post("correct", json={**step, "semantic": [0, size[1], 1]})
    assert refused.status_code == 409
    assert refused.json()["state"]["last"]["author"] == "Ada"
    assert refused.json()["state"]["records"] == 1
    again = client.post("correct", json={**step, "semantic": [0, size[1], 1], "after": 1})
    assert again.json()["records"] == 2


def test_a_script_as_a_class_is_a_name_and_no_markup(client: TestClient) -> None:
    name = "<script>alert(1)</script>"
    answer = client.post("correct", json={"image": "train_00003", "after": 0, "tags": [name]})
    assert answer.json()["tags"] == [name]
    assert answer.headers["content-type"] == "application/json"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    # The page writes text alone.
    scripts = "".join(file.read_text() for file in PAGE.glob("*.js"))
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if word in scripts
    ]


def test_a_folder_that_is_neither_run_nor_publication_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", str(tmp_path)]) == 1
    assert "expected the folder of a run" in capsys.readouterr().err


def test_an_interrupt_ends_the_review_and_is_no_failure(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def interrupt() -> None:
        # It answers, so it is at work.
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/")
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert main(["review", str(published), "--author", "Ada", "--port", str(port)]) == 0
    assert "Stopped" not in capsys.readouterr().err
