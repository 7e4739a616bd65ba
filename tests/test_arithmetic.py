import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = (ROOT / "docs/arithmetic.md").read_text(encoding="utf-8").split("\n## ")[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=[part.splitlines()[0] for part in SECTIONS])
def test_the_page_shows_the_code_as_it_is(section):
    files = re.findall(r"`(mil/\w+\.py)`", section)
    source = "\n".join((ROOT / "src/lymphocytosis" / f).read_text(encoding="utf-8") for f in files)
    code = re.findall(r"^\|.*\| `(.+)` \|$", section, flags=re.MULTILINE)
    assert len(code) >= 3
    assert [line for line in code if line not in source] == []
