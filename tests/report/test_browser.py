"""The page in Chromium, where Playwright and Chromium are there."""

import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, page, tmp_path):
    """A function that opens the page at a width; nothing may be asked for or go wrong."""
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    odd = []

    def go(width=1400, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab = context.new_page()
        tab.on("request", lambda r: r.url.startswith(("file:", "blob:")) or odd.append(r.url))
        tab.on("pageerror", lambda error: odd.append(str(error)))
        tab.on("console", lambda said: odd.append(said.text))
        tab.goto((tmp_path / "report.html").as_uri())
        return tab

    yield go
    assert odd == []


def names(tab):
    return tab.locator("#patients tbody tr:visible th").all_text_contents()


def test_sort_search_and_filter(opened):
    tab = opened()
    tab.click("#patients th button:text('mean')")
    means = [float(v) for v in tab.locator("#patients tbody td:nth-child(5)").all_text_contents()]
    assert means == sorted(means)
    tab.click("#patients th button:text('mean')")
    means = [float(v) for v in tab.locator("#patients tbody td:nth-child(5)").all_text_contents()]
    assert means == sorted(means, reverse=True)
    tab.fill("#search", "pat0")
    assert sorted(names(tab)) == [f"Pat0{n}" for n in range(10)]
    assert tab.text_content("#count") == "10 of 24 patients"
    tab.fill("#search", "")
    tab.select_option("#group", "test")
    assert sorted(names(tab)) == ["Pat20", "Pat21", "Pat22", "Pat23"]
    assert tab.locator(".patient:visible").count() == 4


def test_a_patient_by_keyboard_with_cells_drawn_only_then(opened):
    tab = opened()
    assert tab.evaluate("document.querySelectorAll('.sheet[src]').length") == 0
    tab.focus("#patients tbody tr:nth-child(3) a")
    tab.keyboard.press("Enter")
    tab.wait_for_function("document.querySelector('#patient-3 .sheet').naturalWidth > 0")
    assert tab.evaluate("document.activeElement.textContent").startswith("Pat02")
    tab.wait_for_function(
        "[...document.querySelectorAll('#patient-3 canvas')].every(c =>"
        " c.getContext('2d').getImageData(48, 48, 1, 1).data[3] == 255)"
    )
    assert tab.evaluate("document.querySelectorAll('.sheet[src]').length") == 1


@pytest.mark.parametrize(("width", "scheme"), [(380, "dark"), (1400, "light")])
def test_axe_finds_no_fault_and_nothing_is_too_wide(opened, width, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    tab = opened(width, scheme)
    tab.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    tab.wait_for_function("document.querySelector('.sheet').naturalWidth > 0")
    found = axe.run(tab).response["violations"]
    assert [(f["id"], f["impact"], f["nodes"][0]["html"]) for f in found] == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
