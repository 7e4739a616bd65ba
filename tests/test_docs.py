"""The pages: their links lead somewhere, and they name every parameter, entry and room."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from lymphocytosis.parameters import Parameters

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


def test_every_page_that_code_names_is_there():
    folders = [PROJECT / name for name in ("src", "conf", "notebooks", "benchmarks")]
    files = [
        file
        for folder in folders
        for file in folder.rglob("*.*")
        if file.is_file() and file.suffix != ".pyc"
    ]
    named = {name for file in files for name in re.findall(r"docs/\w+\.md", file.read_text())}
    assert len(named) > 5
    assert [name for name in sorted(named) if not (PROJECT / name).exists()] == []


def test_every_catalog_entry_is_described():
    catalog = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())
    described = (PROJECT / "docs/data.md").read_text()
    entries = [entry for entry in catalog if not entry.startswith("_")]
    drawn = ("curves", "calibration", "net_benefit", "differences", "learning_curves")
    figures = [f"evaluation_{figure}" for figure in drawn]
    missing = [entry for entry in [*entries, *figures] if f"`{entry}`" not in described]
    assert missing == ["evaluation_{figure}"]


def test_every_room_of_the_code_is_on_the_map():
    rooms = [path.parent.name for path in (PROJECT / "src/lymphocytosis").glob("*/__init__.py")]
    mapped = (PROJECT / "CONTRIBUTING.md").read_text()
    assert [room for room in rooms if f"`src/lymphocytosis/{room}/`" not in mapped] == []


def load(module):
    """A Python file of docs/."""
    spec = importlib.util.spec_from_file_location(module, PROJECT / f"docs/{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def leaves(values, prefix=""):
    """The dotted keys of nested parameters, and their values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.fixture(scope="module")
def rows():
    """By parameter, the rest of its row on the page: default, allowed, meaning."""
    row = re.compile(r"^\| `(.+?)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
    return {name: rest for name, *rest in row.findall(load("hooks").parameter_tables())}


class TestParameters:
    def test_each_has_a_row(self, rows):
        base = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text())
        assert sorted(dict(leaves(base))) == sorted(rows)
        assert len(rows) > 100

    def test_each_row_has_the_default(self, rows):
        base = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text())
        base |= yaml.safe_load((PROJECT / "conf/base/globals.yml").read_text())
        for name, value in leaves(base):
            shown = re.match(r"`(.*?)`", rows[name][0]).group(1)
            assert str(yaml.safe_load(shown)).replace("'", "") == str(value).replace("'", "")

    def test_limits_and_choices_are_those_of_the_models(self, rows):
        assert rows["mil.dropout"][1] == "number, at least 0, below 1"
        assert rows["evaluation.folds"][1] == "integer, at least 2, at most 100"
        assert rows["compute.accelerator"][1] == "`auto`, `cpu`, `cuda`"
        assert rows["mil.hidden_widths"][1] == "a list of: integer, at least 1, at most 16,384"
        assert rows["bundle"][1] == "text or `null`"
        assert rows["image.crop"][0] == "`224`; best recipe: `96`"
        assert set(Parameters.model_fields) >= {name.partition(".")[0] for name in rows}


def test_the_figure_of_the_results_shows_the_tables_of_the_results():
    drawn = load("results_figure").draw((PROJECT / "docs/results.md").read_text())
    assert (PROJECT / "docs/results.svg").read_text() == drawn, "python docs/results_figure.py"


def test_every_page_begins_with_what_it_tells():
    for page in [*(PROJECT / "docs").glob("*.md"), PROJECT / "benchmarks/README.md"]:
        title, _, told, _, *points = page.read_text().splitlines()[:10]
        assert title.startswith("# "), page
        assert told and not told.startswith("#"), page
        assert any(point.startswith("- ") for point in points), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_block_is_taken_for_a_part_of_a_list(page):
    """Four blanks after a list continue its last point, and begin a block everywhere else."""
    swallowed = re.findall(
        r"^(?:[-*]|\d+\.) .*\n(?:  .*\n)*\n {4}.*$", page.read_text(), re.MULTILINE
    )
    assert swallowed == []


def test_every_page_is_in_the_menu():
    menu = (PROJECT / "mkdocs.yml").read_text()
    missing = [p.name for p in (PROJECT / "docs").glob("*.md") if f" {p.name}\n" not in menu]
    assert missing == []


def test_the_citation_names_the_release_and_the_paper():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    release = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {citation[key] for key in ("title", "version", "license")} == {
        release[key] for key in ("name", "version", "license")
    }
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Souaidi", "Benady"]
    assert paper["year"] == 2021
