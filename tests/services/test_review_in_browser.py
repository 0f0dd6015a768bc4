"""People correct labels in a browser: nothing is lost by a kill, and the next version has what they drew."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.published_labels import add_network, make_publication

from data.formats.label_maps import read_label_map
from data.store.corrections import FOLDER, Corrections
from flows.cli import main
from flows.engine.exit_codes import WORK_TO_DO
from tasks.review.proposal import propose
from tasks.review.subject import open_subject

pytestmark = pytest.mark.services
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'pseudomask[dev]'")
ENTER, CONTROL, RIGHT = "\ue007", "\ue009", "\ue014"
SLOW = """
const quick = window.fetch;
window.fetch = async (path, options) => {
  if (options?.method === "POST") await new Promise((done) => setTimeout(done, 700));
  return quick(path, options);
};
"""
"""Has every step take a while to be saved."""
ROOT = Path(__file__).resolve().parents[2]
BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,800")


class Served:
    """A review at work."""

    def __init__(self, labels: Path, *more: str) -> None:
        words = [sys.executable, "-m", "flows", "review", str(labels), "--author", "Ada", "--json", *more]
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["address"]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Page:
    """The page in a browser: places are pixels (x, y) of the photograph."""

    def __init__(self, driver) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get(address)
        self.wait(lambda: self.driver.execute_script("return document.body.dataset.image"))

    def wait(self, condition) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())

    def said(self, name: str) -> str:
        return self.driver.execute_script("return document.body.dataset[arguments[0]]", name)

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def step(self, *keys: str) -> None:
        """Press keys that save a step, and wait until it is saved."""
        before = int(self.said("records"))
        self.press(*keys)
        self.wait(lambda: int(self.said("records")) == before + 1)

    def drag(self, *places: tuple[int, int]) -> None:
        """Draw a stroke, and wait until it is saved."""
        before = int(self.said("records"))
        self.gesture(*places)
        self.wait(lambda: int(self.said("records")) == before + 1)

    def gesture(self, *places: tuple[int, int]) -> None:
        canvas = self.driver.find_element("id", "view")
        at = canvas.rect
        transform = self.driver.execute_script("return {...document.getElementById('view').dataset}")
        scale, left, top = (float(transform[name]) for name in ("scale", "left", "top"))
        chain = webdriver.ActionChains(self.driver, duration=20)
        mouse = chain.w3c_actions.pointer_action
        for number, (x, y) in enumerate(places):
            mouse.move_to_location(round(at["x"] + left + (x + 0.5) * scale), round(at["y"] + top + (y + 0.5) * scale))
            if number == 0:
                mouse.pointer_down()
        mouse.pointer_up()
        chain.perform()

    def go(self, key: str) -> None:
        """Press a key that leads to another image, and wait until it is there."""
        before = self.said("image")
        self.press(key)
        self.wait(lambda: self.said("image") != before)


@pytest.fixture
def page() -> Iterator[Page]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in OPTIONS:
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Page(driver)
    driver.quit()


def value_of(labels: Path, name: str) -> int:
    return 1 + (labels / "latest/classes.txt").read_text().split().index(name)


def shown(labels: Path, image: str) -> np.ndarray:
    return read_label_map(labels / "latest/SegmentationClass" / f"{image}.png")


def say(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> dict:
    """Run a command and return its answer."""
    capsys.readouterr()
    found_code = main([*map(str, words), "--json"])
    found = capsys.readouterr()
    assert found_code == code, found.err
    return json.loads(found.out)


def regenerate(capsys: pytest.CaptureFixture[str], labels: Path, *more: str, code: int = 0) -> dict:
    data, store = labels.parent / "set", labels.parent / "store"
    gate = ["--gate.background", "0", "1", "--gate.classes", "0", "9", "--gate.agreement", "0"]
    # Three corrected images of five would train the networks anew.
    gate += ["--retrain", "never"]
    return say(capsys, "regenerate", "--data", data, "--out", labels, "--store", store, *gate, *more, code=code)


def test_what_is_drawn_in_the_browser_survives_a_kill_and_stands_in_the_next_version(
    tmp_path: Path, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = make_publication(tmp_path)
    review = Served(labels)
    try:
        page.open(review.address)
        # The worst first: a brush, and a tag that it has no more.
        brushed = page.said("image")
        assert brushed == "train_00001"
        page.press("0", "b")
        page.drag((10, 12), (30, 12))
        page.go("j")
        polygoned = page.said("image")
        page.press("1", "p")
        for corner in ((40, 30), (70, 30), (70, 55)):
            page.gesture(corner)
        page.step(ENTER)
        drawn = Corrections(labels / FOLDER).records(polygoned)[-1].classes[0]
        review.kill()
        page.gesture((5, 5))
        page.press(ENTER, "a")
        page.wait(lambda: "does not answer" in page.driver.find_element("id", "status").text)

        review = Served(labels)
        page.open(review.address)
        # The first image without a step comes first.
        assert page.said("image") not in (brushed, polygoned)
        page.go("k")
        page.go("k")
        assert (page.said("image"), page.said("records")) == (brushed, "1")
        page.press("t")
        page.driver.find_element("id", "tags").send_keys(CONTROL, "a")
        page.step("crate", ENTER)
        page.go("j")
        page.go("j")
        scribbled = page.said("image")
        page.press("1", "s")
        page.drag((38, 30), (44, 36))
        page.press("0")
        page.drag((4, 4), (4, 60))
        # Undo and redo are steps too, and go back and forth over both strokes.
        before = Corrections(labels / FOLDER).records(scribbled)
        page.step("z")
        page.step("y")
        page.step("a")
        # Other tags bring an image to the networks again; they are taken back, which is a step as well.
        said = regenerate(capsys, labels, "--dry-run", code=WORK_TO_DO)
        assert (said["changes"]["relabelled"], said["images"]) == (1, 1)
        while page.said("image") != brushed:
            page.go("k")
        page.step("z")
    finally:
        review.kill()

    corrections = Corrections(labels / FOLDER)
    assert corrections.images == sorted({brushed, polygoned, scribbled})
    assert [record.author for record in corrections.records(brushed)] == ["Ada"] * 3
    assert [record.tags for record in corrections.records(brushed)] == [None, ("crate",), None]
    assert corrections.records(brushed)[-1].back_to == 1
    assert len(before) == 2
    assert corrections.records(scribbled)[-1].verdict == "accepted"
    old = {id: shown(labels, id) for id in corrections.images}
    answer = regenerate(capsys, labels)
    assert (answer["version"], answer["corrected"], answer["not_applied"]) == (2, 3, [])
    assert not shown(labels, brushed)[12, 12:28].any()
    assert (shown(labels, polygoned)[35:40, 62:66] == value_of(labels, drawn)).all()
    assert shown(labels, scribbled)[33, 41] > 0
    traced = say(capsys, "lineage", polygoned, "--published", labels)
    assert [(each["author"], each["pixels"]) for each in traced["corrections"]] == [("Ada", True)]

    # Nothing new makes no version; a version back and forth has what it had.
    assert regenerate(capsys, labels)["version"] is None
    new = {id: shown(labels, id) for id in old}
    for number, maps in ((1, old), (2, new)):
        assert say(capsys, "rollback", labels, "--to", str(number))["latest"] == number
        for id in old:
            np.testing.assert_array_equal(shown(labels, id), maps[id])


def test_each_step_is_saved_on_the_image_that_it_was_made_on(tmp_path: Path, page: Page) -> None:
    labels = make_publication(tmp_path)
    review, corrections = Served(labels), Corrections(labels / FOLDER)
    try:
        page.open(review.address)
        page.driver.execute_script(SLOW)
        first = page.said("image")
        page.press("0", "b")
        # The second stroke is drawn while the first is being saved.
        page.gesture((10, 12), (30, 12))
        page.gesture((10, 30), (30, 30))
        page.go("j")
        second = page.said("image")
        assert len(corrections.records(first)) == 2
        page.gesture((10, 12), (30, 12))
        page.gesture((10, 30), (30, 30))
        # The tags have the focus while the next image comes.
        page.press("a", "t")
        page.wait(lambda: page.said("image") not in (first, second))
        third = page.said("image")
        assert [record.verdict for record in corrections.records(second)] == [None, None, "accepted"]
        tags = page.driver.execute_script("return document.getElementById('tags').value")
        assert tags == "; ".join(open_subject(labels).images[third].tags)
        assert tags != "; ".join(open_subject(labels).images[second].tags)
        # A stroke after the key that leads away belongs to neither image.
        page.gesture((10, 12), (30, 12))
        page.press("j")
        page.gesture((10, 30), (30, 30))
        page.wait(lambda: "Not saved" in page.driver.find_element("id", "status").text)
        fourth = page.said("image")
        assert (len(corrections.records(third)), corrections.records(fourth)) == (1, [])
    finally:
        review.kill()


def test_who_was_second_is_asked_keys_draw_and_a_script_stays_a_name(tmp_path: Path, page: Page) -> None:
    labels = make_publication(tmp_path)
    name, review = "<img src=x onerror=document.title=1><script>document.title=2</script>", Served(labels)
    corrections, driver = Corrections(labels / FOLDER), page.driver
    try:
        page.open(review.address)
        first, image = driver.current_window_handle, page.said("image")
        driver.switch_to.new_window("window")
        page.open(review.address)
        page.press("t")
        driver.find_element("id", "tags").send_keys(CONTROL, "a")
        page.step(name, ENTER)
        assert name in [
            button.get_attribute("title") for button in driver.find_elements("css selector", "#classes button")
        ]
        assert driver.title == "Review - pseudomask"
        driver.switch_to.window(first)
        page.press("1", "b", " ", *[RIGHT] * 4, " ")
        dialog = driver.find_element("id", "conflict")
        page.wait(dialog.is_displayed)
        assert "You, in another window, corrected this image" in dialog.text
        assert len(corrections.records(image)) == 1
        dialog.find_element("css selector", "[value=mine]").click()
        page.wait(lambda: page.said("records") == "2")
        assert driver.title == "Review - pseudomask"
    finally:
        review.kill()
    assert [record.tags for record in corrections.records(image)] == [(name,), None]
    assert corrections.records(image)[1].semantic


def test_a_budget_shows_its_images_alone_and_counts_them(page: Page, tmp_path: Path) -> None:
    labels = make_publication(tmp_path)
    add_network(tmp_path)
    chosen = [*propose(open_subject(labels), 2).images]
    served = Served(labels, "--budget", "2")
    try:
        page.open(served.address)
        assert page.said("image") == chosen[0]
        progress = page.driver.find_element("id", "progress")
        assert progress.text.startswith("0 of 2 corrected")
        page.go("a")
        assert page.said("image") == chosen[1]
        page.wait(lambda: progress.text.startswith("1 of 2 corrected"))
        assert len(page.driver.find_elements("css selector", "#queue li")) == 2
    finally:
        served.kill()
    assert Corrections(labels / FOLDER).images == [chosen[0]]
