"""Takes docs/report.png of a report on simulated patients: python docs/report_picture.py [page].

Needs Chromium and `playwright`. Without a page, the demo's newest report is taken.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PROJECT = Path(__file__).parents[1]
REPORTS = PROJECT / "data/demo/08_reporting/report.html"


def main() -> None:
    """Show the page's beginning, the curves, and one patient side by side."""
    page = Path(sys.argv[1]) if sys.argv[1:] else max(REPORTS.glob("*/report.html"))
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox"],
        )
        tab = browser.new_page(viewport={"width": 1000, "height": 900})
        tab.goto(page.resolve().as_uri())
        row = tab.locator("#patients tbody tr[data-group=test]").first
        key = row.get_attribute("data-key")
        row.locator("a").click()
        tab.wait_for_function(f"document.querySelector('#patient-{key} .sheet').naturalWidth > 0")
        tab.wait_for_timeout(300)
        parts = ["#summary", ".plots", f"#patient-{key}"]
        summary, plots, patient = (
            Image.open(io.BytesIO(tab.locator(part).screenshot())) for part in parts
        )
        browser.close()
    width, height = summary.width + patient.width + 20, summary.height + plots.height + 20
    whole = Image.new("RGB", (width, max(height, patient.height)), "white")
    whole.paste(summary, (0, 0))
    whole.paste(plots, (20, summary.height + 20))
    whole.paste(patient, (summary.width + 20, 0))
    small = whole.resize((1400, round(whole.height * 1400 / width)), Image.Resampling.LANCZOS)
    small.quantize(200).save(PROJECT / "docs/report.png", optimize=True)


if __name__ == "__main__":
    main()
