"""Take the pictures of kedro viz in docs/, of the finished demo: `make pictures`."""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

DOCS = Path(__file__).parent
PORT = 41410  # kedro viz takes none above 49151
# What kedro viz remembers in a browser: light, without menus and hints.
LOOK = {
    "theme": "light", "showFeatureHints": False,
    "visible": {"sidebar": False, "miniMap": False, "graph": True},
}  # fmt: skip
# Paths as they are in any clone.
WITHOUT_MACHINE = """project => document.querySelectorAll(".pipeline-metadata__value").forEach(
    element => { element.textContent = element.textContent.replace(project, "") })"""
# By the picture's name: what is shown, what is clicked, whether from left to right, and the size.
PICTURES = {
    "pipeline": ("pid=demo&types=nodes", None, "horizontal", (1100, 230)),
    "pipeline_open": ("pid=ssl_pretrain&expandAllPipelines=true", None, "vertical", (1000, 800)),
    "pipeline_preview": ("pid=ssl_pretrain", "reconstructions", "vertical", (1300, 800)),
}


def main() -> None:
    """Start kedro viz, take the pictures, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", default="data/demo", help="of a finished run of the demo")
    parser.add_argument("--into", type=Path, default=DOCS, help="the pictures' folder")
    given = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit(
            "No picture was taken: playwright is not installed. Install it with "
            "`pip install 'lymphocytosis[pictures]'`, and Chromium, by your system or with "
            "`playwright install chromium`."
        )
    if not Path(given.workspace, "08_reporting/reconstructions.png").is_dir():
        sys.exit(f"No picture was taken: {given.workspace} has no finished demo. Run `make demo`.")
    kedro = str(Path(sys.executable).with_name("kedro"))
    options = [f"--port={PORT}", "--no-browser", "--env=demo"]
    viz = subprocess.Popen(  # noqa: S603 (its arguments are ours)
        [kedro, "viz", "run", *options, f"--params=workspace={given.workspace}"],
        cwd=DOCS.parent, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(viz)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                args=["--no-sandbox"],
            )
            for name, (query, clicked, orientation, (width, height)) in PICTURES.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height}, device_scale_factor=2
                )
                look = json.dumps(json.dumps(LOOK | {"orientation": orientation}))
                context.add_init_script(f"localStorage.setItem('KedroViz', {look})")
                page = context.new_page()
                # No web font, all that it asks of the network; no note on newer versions.
                page.route(
                    lambda url: "127.0.0.1" not in url or url.endswith("/api/version"),
                    lambda route: route.abort(),
                )
                page.goto(f"http://127.0.0.1:{PORT}/?{query}")
                page.locator(".pipeline-node").first.wait_for()
                if clicked:
                    page.locator(".pipeline-node", has_text=clicked).click()
                    page.locator(".pipeline-metadata img").wait_for()
                page.wait_for_timeout(2000)  # what moves comes to rest
                page.evaluate(WITHOUT_MACHINE, f"{DOCS.parent}/".lstrip("/"))
                page.screenshot(path=given.into / f"{name}.png")
                print(given.into / f"{name}.png")
                context.close()
    finally:
        os.killpg(viz.pid, signal.SIGTERM)


def _wait_for(viz: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
            return
        except ConnectionRefusedError:
            if viz.poll() not in (None, 0):
                break
            time.sleep(1)
    sys.exit("No picture was taken: kedro viz did not start.")


if __name__ == "__main__":
    main()
