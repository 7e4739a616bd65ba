"""The pages: their links lead somewhere, and they name every entry and every room."""

import re
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
PAGES = [
    *PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"),
    PROJECT / "benchmarks/README.md", PROJECT / "data/README.md",
]  # fmt: skip


def anchors(page):
    """What GitHub makes of headings: lower case, blanks to hyphens, no other signs."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_within_the_project_leads_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
    assert broken == []


def test_every_catalog_entry_is_described():
    catalog = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())
    described = (PROJECT / "docs/data.md").read_text()
    entries = [entry for entry in catalog if not entry.startswith("_")]
    figures = [f"evaluation_{figure}" for figure in ("curves", "calibration", "differences")]
    missing = [entry for entry in [*entries, *figures] if f"`{entry}`" not in described]
    assert missing == ["evaluation_{figure}"]


def test_every_room_of_the_code_is_on_the_map():
    rooms = [path.parent.name for path in (PROJECT / "src/lymphocytosis").glob("*/__init__.py")]
    mapped = (PROJECT / "CONTRIBUTING.md").read_text()
    assert [room for room in rooms if f"`src/lymphocytosis/{room}/`" not in mapped] == []
