"""The page of a review in a browser: what it shows, asks and keeps of what a person does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_review_in_browser as browser
from support.published_labels import make_publication

from data.store.corrections import BACKGROUND, FIRST_CLASS, FOLDER, Correction, Corrections
from flows.review.server import ReviewServer
from tasks.review.session import Session
from tasks.review.subject import open_subject

pytestmark = pytest.mark.services
page = browser.page
ENTER, ESCAPE, TAB, RIGHT = "\ue007", "\ue00c", "\ue004", "\ue014"
SIZE = (66, 82)
RECORD_FETCHES = """
const quick = window.fetch;
window.sent = [];
window.fetch = (path, options) => {
  if (options?.method === "POST") window.sent.push(JSON.parse(options.body));
  return quick(path, options);
};
"""
REFUSE_QUEUE = """
const quick = window.fetch;
window.fetch = async (path, options) => path.startsWith("queue")
  ? new Response(JSON.stringify({error: "c00001.json: expected a correction"}),
                 {status: 422, headers: {"content-type": "application/json"}})
  : quick(path, options);
"""
PIXEL = """
const canvas = document.getElementById("view");
const {scale, left, top} = canvas.dataset;
const x = Math.round((arguments[0] + 0.5) * scale + Number(left));
const y = Math.round((arguments[1] + 0.5) * scale + Number(top));
return [...canvas.getContext("2d").getImageData(x - 1, y - 1, 3, 3).data];
"""
Serve = Callable[..., str]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return make_publication(tmp_path)


@pytest.fixture
def serve(labels: Path) -> Iterator[Serve]:
    """Serve the labels to an author, and return the page's address."""
    started: list[tuple[Any, threading.Thread]] = []

    def start(author: str = "Ada") -> str:
        server = ReviewServer(Session(open_subject(labels), author), 0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        started.append((server, thread))
        return server.address

    yield start
    for server, thread in started:
        server._server.should_exit = True
        thread.join(20)


def add(labels: Path, image: str, author: str = "Bea", **content: Any) -> None:
    """Correct an image as somebody else does."""
    digest = open_subject(labels).images[image].digest
    Corrections(labels / FOLDER).add(image, digest, author=author, **content)


def records(labels: Path, image: str) -> list[Any]:
    return Corrections(labels / FOLDER).records(image)


def last_of(labels: Path, image: str) -> Correction:
    return list(Corrections(labels / FOLDER).of(image, open_subject(labels).images[image].digest))[-1]


def row(value: int, at: int = 2) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint16)
    mask[at] = value
    return mask


def rectangles(labels: Path, image: str, *names: str) -> None:
    """Have an image show nothing but rectangles of 400 pixels, side by side, from (10, 20) on; each is an object."""
    semantic, instances = np.full(SIZE, BACKGROUND, np.uint16), np.zeros(SIZE, np.uint16)
    classes = list(dict.fromkeys(names))
    for number, name in enumerate(names):
        place = np.s_[20:40, 10 + 30 * number : 30 + 30 * number]
        semantic[place], instances[place] = FIRST_CLASS + classes.index(name), 2 + number
    add(labels, image, "Ada", classes=classes, semantic=semantic, instances=instances)


def status(page: browser.Page) -> str:
    return page.driver.find_element("id", "status").text


def wait_for(page: browser.Page, text: str) -> None:
    page.wait(lambda: text in status(page))


def choose(page: browser.Page, image: str) -> None:
    """Click on an image of the queue, and wait until it is there."""
    for button in page.driver.find_elements("css selector", "#queue li button"):
        if image in button.text:
            button.click()
    page.wait(lambda: page.said("image") == image)


def settle(page: browser.Page) -> None:
    """Wait until all that was done before is saved: what a tool says comes at once, the next image comes last."""
    page.go("j")


def pixels(page: browser.Page, x: float, y: float) -> np.ndarray:
    """Return the colours [9, 3] that the canvas shows around a pixel of the photograph."""
    shown = page.driver.execute_async_script(
        "const done = arguments[arguments.length - 1];requestAnimationFrame(() => requestAnimationFrame(() => done()));"
    )
    assert shown is None
    return np.array(page.driver.execute_script(PIXEL, x, y)).reshape(9, 4)[:, :3]


def test_an_undo_that_comes_second_is_not_done_and_the_step_of_the_other_is_the_next_to_undo(
    page: browser.Page, labels: Path, serve: Serve
) -> None:
    page.open(serve())
    image = page.said("image")
    page.press("0", "b")
    page.drag((10, 12), (30, 12))
    add(labels, image, semantic=row(BACKGROUND))
    page.press("z")
    wait_for(page, "Bea corrected this image")
    assert "The undo was not done" in status(page)
    assert not page.driver.find_element("id", "conflict").is_displayed()
    assert (page.said("records"), len(records(labels, image))) == ("2", 2)
    # As after a reload: the step of the other is undone alone, and comes back.
    page.step("z")
    page.step("y")
    assert [record.back_to for record in records(labels, image)] == [None, None, 1, 2]
    page.press("y")
    wait_for(page, "nothing to redo")
    page.step("z")
    add(labels, image, semantic=row(BACKGROUND, 4))
    page.press("y")
    wait_for(page, "The redo was not done")
    page.press("y")
    wait_for(page, "nothing to redo")
    assert len(records(labels, image)) == 6


def test_a_step_over_that_of_another_is_undone_alone(page: browser.Page, labels: Path, serve: Serve) -> None:
    page.open(serve())
    image, dialog = page.said("image"), page.driver.find_element("id", "conflict")
    page.press("0", "b")
    add(labels, image, semantic=row(BACKGROUND))
    add(labels, image, semantic=row(BACKGROUND, 4))
    page.gesture((10, 12), (30, 12))
    page.wait(dialog.is_displayed)
    assert "Bea corrected this image" in dialog.text
    dialog.find_element("css selector", "[value=mine]").click()
    page.wait(lambda: page.said("records") == "3")
    page.step("z")
    assert records(labels, image)[-1].back_to == 2


def test_a_step_that_was_not_saved_is_said_to_be_so(page: browser.Page, labels: Path, serve: Serve) -> None:
    page.open(serve())
    image, dialog = page.said("image"), page.driver.find_element("id", "conflict")
    page.press("0", "b")
    page.drag((10, 12), (30, 12))
    assert status(page).startswith("Saved in")
    add(labels, image, semantic=row(BACKGROUND))
    page.gesture((10, 30), (30, 30))
    page.wait(dialog.is_displayed)
    page.press(ESCAPE)
    wait_for(page, "Not saved")
    assert len(records(labels, image)) == 2


def test_tags_are_saved_when_one_leaves_their_box(page: browser.Page, labels: Path, serve: Serve) -> None:
    page.open(serve())
    first, *others = open_subject(labels).images
    box = page.driver.find_element("id", "tags")
    page.press("t")
    box.send_keys(", barrel")
    choose(page, others[0])
    assert "barrel" in records(labels, first)[-1].tags
    page.press("t")
    box.send_keys(", lamp", TAB)
    page.wait(lambda: records(labels, others[0]))
    before = box.get_attribute("value")
    page.press("t")
    box.send_keys(", mistake", ESCAPE)
    assert box.get_attribute("value") == before
    page.driver.find_element("css selector", "nav [data-key=k]").click()
    page.wait(lambda: page.said("image") == first)
    assert "barrel" in box.get_attribute("value")
    assert [len(records(labels, id)) for id in (first, others[0])] == [1, 1]


def test_refused_tags_are_marked_and_go_when_the_image_is_left(page: browser.Page, labels: Path, serve: Serve) -> None:
    page.open(serve())
    image, box = page.said("image"), page.driver.find_element("id", "tags")
    tags = box.get_attribute("value")
    page.press("t")
    box.send_keys(", background", ENTER)
    wait_for(page, "Tags not saved")
    assert box.get_attribute("aria-invalid") == "true"
    assert box.get_attribute("value") == f"{tags}, background"
    # Another step saves other things.
    page.press("0", "b")
    page.drag((10, 12), (30, 12))
    assert (box.get_attribute("aria-invalid"), box.get_attribute("value")) == ("true", f"{tags}, background")
    page.go("j")
    assert f"the tags that you typed on {image}" in status(page)
    assert "background" not in box.get_attribute("value")
    page.go("k")
    assert (box.get_attribute("aria-invalid"), box.get_attribute("value")) == (None, tags)
    assert [record.tags for record in records(labels, image)] == [None]


def test_commas_separate_tags_except_in_the_name_of_a_known_class(
    page: browser.Page, labels: Path, serve: Serve
) -> None:
    image = next(iter(open_subject(labels).images))
    add(labels, image, "Ada", tags=("table, round",))
    page.open(serve())
    choose(page, image)
    box = page.driver.find_element("id", "tags")
    assert box.get_attribute("value") == "table, round"
    page.press("t")
    page.step(", crate,barrel; table", ENTER)
    assert records(labels, image)[-1].tags == ("barrel", "crate", "table", "table, round")


def test_undo_takes_back_the_last_scribble_alone(page: browser.Page, labels: Path, serve: Serve) -> None:
    def counted() -> set[int]:
        spans = page.driver.execute_script("return window.sent.at(-1).semantic")
        return {spans[i] // SIZE[1] // 10 for i in range(0, len(spans), 3)}

    def scribble(y: int) -> None:
        page.drag((60, y), (75, y))

    page.open(serve())
    page.driver.execute_script(RECORD_FETCHES)
    page.press("1", "s", ",", ",", ",", ",", ",", ",")
    scribble(5)
    scribble(25)
    assert counted() == {0, 2}
    page.step("z")
    scribble(45)
    assert counted() == {0, 4}
    page.step("z")
    page.step("y")
    scribble(55)
    assert counted() == {0, 4, 5}
    # Moving the photograph forgets nothing.
    page.driver.execute_script(
        "const view = document.getElementById('view');"
        "for (const type of ['pointerdown', 'pointermove', 'pointerup'])"
        " view.dispatchEvent(new PointerEvent(type, {pointerId: 1, button: 2}));"
    )
    scribble(35)
    assert counted() == {0, 3, 4, 5}
    page.press(ESCAPE)
    scribble(15)
    assert counted() == {1}
    # Back before it, what was begun by then counts no more.
    page.step("z")
    scribble(25)
    assert counted() == {2}


def test_the_scribbles_that_count_are_shown_in_the_colour_of_their_class(
    page: browser.Page, labels: Path, serve: Serve
) -> None:
    page.open(serve())
    page.press("u", "s", "q")
    color = [0xCD] * 3

    def is_shown() -> bool:
        return bool((abs(pixels(page, 60, 10) - color) <= 2).all(1).any())

    assert not is_shown()
    page.drag((50, 10), (70, 10))
    assert is_shown()
    page.step("z")
    assert not is_shown()
    page.step("y")
    assert is_shown()
    page.press("b")
    assert not is_shown()


def test_crumbs_of_a_line_are_no_objects(page: browser.Page, labels: Path, serve: Serve) -> None:
    image = next(iter(open_subject(labels).images))
    rectangles(labels, image, "ball")
    page.open(serve())
    choose(page, image)
    page.press("x")
    # It cuts a corner of six pixels off.
    page.gesture((8, 26), (16, 18))
    wait_for(page, "The line must cut an object in two.")
    assert len(records(labels, image)) == 1
    # Two halves, and the corner stays with one of them.
    page.drag((8, 26), (16, 18), (20, 15), (20, 45))
    mask = last_of(labels, image).instances
    assert mask is not None
    assert np.unique(mask).tolist() == [0, 2]
    rows, columns = np.nonzero(mask)
    assert rows.min() == 20
    assert columns.min() > 20 or columns.max() < 20


def test_a_merge_says_which_class_the_result_has(page: browser.Page, labels: Path, serve: Serve) -> None:
    image, names = next(iter(open_subject(labels).images)), open_subject(labels).names
    one, other = names[1:3]
    rectangles(labels, image, one, other)
    page.open(serve())
    choose(page, image)
    page.press("m")
    wait_for(page, "of the first one's class")
    page.gesture((50, 30))
    wait_for(page, "Now the object")
    page.gesture((20, 30))
    wait_for(page, f"Both are one object of the class {other} now.")
    assert records(labels, image)[-1].classes == (other,)


def test_the_first_image_without_a_step_is_opened(page: browser.Page, labels: Path, serve: Serve) -> None:
    images = list(open_subject(labels).images)
    add(labels, images[0], semantic=row(BACKGROUND))
    add(labels, images[1], verdict="accepted")
    address = serve()
    page.open(address)
    assert page.said("image") == images[2]
    for image in images[2:]:
        add(labels, image, verdict="rejected")
    page.open(address)
    assert page.said("image") == images[0]


@pytest.mark.parametrize("tool", ["b", "e"])
def test_the_size_of_the_brush_is_shown_at_the_pointer(
    page: browser.Page, labels: Path, serve: Serve, tool: str
) -> None:
    def is_ring(x: float, y: float) -> bool:
        return bool((pixels(page, x, y) >= 180).all(1).any())

    page.open(serve())
    page.press(tool, "q")
    # The labels' colours are not white, nor is the photograph there.
    assert not is_ring(60, 20)
    page.gesture((48, 20))
    settle(page)
    page.go("k")
    assert is_ring(60, 20)
    page.press(",")
    assert not is_ring(60, 20)
    assert is_ring(58, 20)
    # The keyboard's pointer begins in the middle.
    page.press(RIGHT)
    x = (
        SIZE[1] / 2
        - 0.5
        + 5 / float(page.driver.execute_script("return document.getElementById('view').dataset.scale"))
    )
    assert not is_ring(58, 20)
    assert is_ring(x + 10, SIZE[0] / 2 - 0.5)
    page.press("p")
    assert not is_ring(x + 10, SIZE[0] / 2 - 0.5)


def test_on_a_small_screen_the_keys_open_at_their_top(page: browser.Page, labels: Path, serve: Serve) -> None:
    narrow = {"width": 375, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    page.open(serve())
    page.press("?")
    found = page.driver.execute_script(
        "const {scrollTop, scrollHeight, clientHeight} = document.getElementById('help');"
        "return [scrollTop, scrollHeight - clientHeight]"
    )
    assert found[0] == 0
    assert found[1] > 100
    page.press(ENTER)
    assert not page.driver.find_element("id", "help").is_displayed()


def test_the_error_of_a_queue_stays_on_the_page(page: browser.Page, labels: Path, serve: Serve) -> None:
    page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": REFUSE_QUEUE})
    page.driver.get(serve())
    wait_for(page, "expected a correction")
    page.press("j", "b", "z", "a")
    page.driver.execute_async_script("setTimeout(arguments[0], 0)")
    assert status(page) == "c00001.json: expected a correction"


def test_a_typed_word_and_a_held_key_judge_one_image_at_most(page: browser.Page, labels: Path, serve: Serve) -> None:
    page.open(serve())
    images = list(open_subject(labels).images)
    for keys in ([("a", True)], [("r", False), ("a", False), ("r", False), ("a", True)]):
        page.driver.execute_script(
            "for (const [key, repeat] of arguments[0]) document.getElementById('view')"
            ".dispatchEvent(new KeyboardEvent('keydown', {key, repeat, bubbles: true}));"
            # What follows is later than the shortest time between two verdicts.
            "const end = performance.now() + 350; while (performance.now() < end);",
            keys,
        )
    page.wait(lambda: page.said("image") == images[1])
    settle(page)
    assert [[record.verdict for record in records(labels, id)] for id in images[:3]] == [["rejected"], [], []]
    assert page.said("image") == images[2]
