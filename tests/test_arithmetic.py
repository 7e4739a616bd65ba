"""Pages that show formulas beside code show the code as it is."""

import re
from pathlib import Path

import pandas as pd
import pytest

from lymphocytosis.decision.rules import decide_by_average, decide_by_sa

ROOT = Path(__file__).parents[1]
FAST = (ROOT / "docs/arithmetic.md").read_text(encoding="utf-8").split("\n## ")[1:]
SECTIONS = {section.partition("\n")[0]: section for section in FAST}


def source_of(files):
    return "\n".join((ROOT / "src/lymphocytosis" / f).read_text(encoding="utf-8") for f in files)


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_of_fast_code_shows_it_as_it_is(title):
    source = source_of(re.findall(r"`(mil/\w+\.py)`", SECTIONS[title]))
    code = re.findall(r"^\|.*\| `(.+)` \|$", SECTIONS[title], flags=re.MULTILINE)
    assert len(code) >= 3
    assert [line for line in code if line not in source] == []


def test_the_page_of_the_method_shows_the_code_as_it_is():
    page = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\| `(.+)` \| `(\w+/\w+\.py)` \|$", page, flags=re.MULTILINE)
    assert len(rows) == 14
    assert [row for row in rows if row[0] not in source_of(row[1:])] == []


@pytest.mark.parametrize(
    ("page", "file"),
    [("encoder", "encoders/autoencoder.py"), ("evaluation", "decision/curves.py")],
)
def test_blocks_of_code_are_the_code_as_it_is(page, file):
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    source = source_of([file])
    assert [line for line in code.splitlines() if line not in source] == []


def test_the_page_of_the_rules_decides_as_the_code_does():
    page = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    shown = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, shown)  # noqa: S102
    rows = re.findall(r"^\| .+" + r"\| ([\d.]+) " * 7 + r"\|$", page, flags=re.MULTILINE)
    assert len(rows) == 9
    for row in rows:
        mean, std, most, least = map(float, row[:4])
        statistics = pd.DataFrame(
            {"patient_id": ["A"], "mean": mean, "std": std, "max": most, "min": least}
        )
        by_code = [
            decide_by_average(statistics),
            decide_by_sa(statistics, "corrected"),
            decide_by_sa(statistics, "as_printed"),
        ]
        by_page = [
            shown["avg"](mean),
            shown["sa"](mean, std, most, least),
            shown["sa"](mean, std, most, least, corrected=False),
        ]
        assert [int(given["decision"].iloc[0]) for given in by_code] == by_page
        assert [int(value) for value in row[4:]] == by_page
