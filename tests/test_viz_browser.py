"""The static site of `kedro viz build` in Chromium, where Playwright and Chromium are there."""

import http.server
import json
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
from kedro_viz.integrations.deployment.local_deployer import LocalDeployer
from kedro_viz.server import load_and_populate_data

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
PROJECT = Path(__file__).parents[1]
FONT = "https://fonts.googleapis.com/css2?family=Inter:wght@400;600&display=swap"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a server of the site, built as the command does, without data."""
    folder = tmp_path_factory.mktemp("viz")
    shutil.copy(PROJECT / ".telemetry", folder)  # without it, the site would report to its makers
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        load_and_populate_data(PROJECT, env="demo", package_name="lymphocytosis")
        LocalDeployer().deploy(False)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder / "build")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(site):
    """A page without network; it may ask for a web font, and does without."""
    asked = set()

    def offline(route):
        if route.request.url.startswith(site):
            route.continue_()
        else:
            asked.add(route.request.url)
            route.abort()

    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        look = json.dumps(json.dumps({"showFeatureHints": False}))
        page.add_init_script(f"localStorage.setItem('KedroViz', {look})")
        page.route("**/*", offline)
        yield page
        browser.close()
    assert asked <= {FONT}


def shown(page):
    page.locator(".pipeline-node").first.wait_for()
    return set(page.locator(".pipeline-node__text").all_text_contents())


def test_the_demo_begins_with_simulate_and_its_pipelines_are_folded(site, page):
    page.goto(f"{site}/?pid=demo&types=nodes")
    method = {"ingest", "ssl_pretrain", "embed", "classify", "ensemble", "report"}
    assert shown(page) == {"simulate", *method}


def test_a_pipeline_opens_and_the_sa_rule_shows_its_diagram(site, page):
    page.goto(f"{site}/?pid=ensemble&expandAllPipelines=true")
    assert {"apply_sa_rule", "apply_avg_rule", "large_sa"} <= shown(page)
    page.locator(".pipeline-node", has_text="apply_sa_rule").first.click()
    diagram = page.locator(".pipeline-mermaid-renderer__content svg")
    diagram.wait_for()
    assert "max above 1 - min?" in " ".join(diagram.text_content().split())
