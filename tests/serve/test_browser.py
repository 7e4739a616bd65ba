"""The page in Chromium, where Playwright and Chromium are there."""

import shutil
import threading

import pytest

from .conftest import StandIn

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class Busy(StandIn):
    """Works when told to."""

    def __init__(self):
        self.go = threading.Event()
        self.go.set()

    def diagnose(self, pictures, age, count, image):
        assert self.go.wait(timeout=20)
        return super().diagnose(pictures, age, count, image)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, serving):
    """A function that serves a system and opens the page; nothing else may be asked for."""
    asked = []

    def go(system=None, **how):
        port = serving(system or StandIn(), **how)
        page = browser.new_context(viewport={"width": 375, "height": 700}).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        return page

    yield go
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:"))] == []


@pytest.fixture
def folder(tmp_path, picture):
    """A patient's folder, with a TIFF, which browsers don't show."""
    (tmp_path / "P7").mkdir()
    for seed in range(4):
        (tmp_path / f"P7/{seed}.png").write_bytes(picture(seed))
    (tmp_path / "P7/4.tif").write_bytes(picture(4, file_format="TIFF"))
    return tmp_path / "P7"


def _focus(page):
    return page.evaluate("document.activeElement.id")


def test_a_patient_by_keyboard_from_folder_to_advice(open_page, folder):
    page = open_page()
    page.set_input_files("#folder", folder)
    assert "5 files in P7" in page.text_content("#chosen")
    page.focus("#age")
    page.keyboard.type("71")
    page.keyboard.press("Tab")
    page.keyboard.type("12,5")
    page.keyboard.press("Enter")
    page.wait_for_selector("#advice:visible")
    assert page.text_content("#advice") == "Look again"
    assert _focus(page) == "advice"
    assert "5 cells · 71 years · 12.5" in page.text_content("#of")
    assert page.locator("#numbers dd").count() == 2
    assert "darker than" in page.text_content("#flags")
    page.wait_for_function(
        "[...document.querySelectorAll('.cells img')].every(i => i.naturalWidth)"
    )
    assert page.locator(".cells img[alt='Cell 4.tif']").count() > 0
    assert page.locator("#cells tr").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#again")
    assert page.text_content("#chosen") == "Nothing chosen yet."
    assert page.input_value("#age") == ""


def test_a_folder_is_dropped(open_page, folder):
    page = open_page()
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for _ in range(2):  # the second time onto the first one's advice
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": 100, "y": 300, "data": data}
            devtools.send("Input.dispatchDragEvent", event)
        page.wait_for_selector("text=Chosen: 5 files in P7")
        page.click("#start")
        page.wait_for_selector("#advice:visible")


def test_a_refusal_is_told_and_the_form_stays(open_page, folder):
    page = open_page()
    page.click("#start")
    assert "Choose a patient's pictures first" in page.text_content("#problem-text")
    page.set_input_files("#files", [folder / "0.png", folder / "1.png"])
    page.fill("#count", "12500")
    page.click("#start")
    page.wait_for_selector("#problem:visible >> text=15,000 per microlitre are 15")
    assert _focus(page) == "problem"
    page.fill("#count", "")
    page.click("#start")
    page.wait_for_selector("#advice:visible")
    assert page.locator("#numbers dd").count() == 1


def test_progress_cancel_and_a_busy_service(open_page, folder):
    system = Busy()
    system.go.clear()
    page = open_page(system, requests=1)
    other = page.context.new_page()
    other.goto(page.url)
    for each in (page, other):
        each.bring_to_front()
        each.set_input_files("#files", sorted(folder.iterdir()))
    page.click("#start")
    page.wait_for_selector("text=The model looks at them")
    other.click("#start")
    other.wait_for_selector("text=The service is busy")
    page.click("#cancel")
    assert page.is_visible("#form")
    assert _focus(page) == "start"
    system.go.set()
    other.wait_for_selector("#advice:visible")


def test_the_page_asks_for_the_token(open_page, folder, token_doors):
    page = open_page(doors=token_doors)
    page.wait_for_selector("#token:visible")
    page.set_input_files("#folder", folder)
    page.click("#start")
    page.wait_for_selector("text=The access token is missing or wrong")
    page.fill("#token", token_doors.token)
    page.click("#start")
    page.wait_for_selector("#advice:visible")
    assert "not a medical device" in page.text_content("#device")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(open_page, folder, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    system = Busy()
    page = open_page(system)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")

    def check():
        found = axe.run(page).response["violations"]
        assert [(fault["id"], fault["impact"]) for fault in found] == []

    check()
    page.click("#start")
    check()
    page.set_input_files("#folder", folder)
    system.go.clear()
    page.click("#start")
    page.wait_for_selector("text=The model looks at them")
    check()
    system.go.set()
    page.wait_for_selector("#advice:visible")
    page.click("text=All pictures")
    check()
    page.goto(f"{page.url}docs")
    check()
