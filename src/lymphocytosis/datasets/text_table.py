"""A user's CSV, read as text, so that a refusal can quote what stands there, and in which line."""

import csv
from pathlib import Path

import pandas as pd

from lymphocytosis.errors import UserError

# A row has some fifty bytes: this is a million patients.
MOST_BYTES = 64 * 1024 * 1024


def read_text_table(path: Path) -> pd.DataFrame:
    """Read every cell of a CSV as text.

    Args:
        path: the CSV.

    Returns:
        The rows, the index being each row's line in the file. A line of empty cells is no row. A
        column that stands twice stands twice here too.

    Raises:
        UserError: the file is too large, or no CSV in UTF-8, or a line has more or fewer cells
            than the first.
    """
    # Not by pandas: it moves every column by one where rows end in a comma that the first line
    # lacks, renames a column that stands twice, and doesn't tell a row's line.
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES} bytes: no table of patients.")
        (_, columns), *rows = _lines(path)
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(
            f"{path} can't be read as a comma-separated table in UTF-8: {error}"
        ) from error
    return pd.DataFrame(
        [cells for _, cells in rows],
        index=[line for line, _ in rows],
        columns=columns,
        dtype="str",
    )


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells; at least the first line, and all of its width."""
    # utf-8-sig also takes the mark that spreadsheets put before the first name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    if not lines:
        raise ValueError("it is empty")
    width = len(lines[0][1])
    for line, cells in lines:
        if len(cells) != width:
            raise ValueError(f"line {line} has {len(cells)} cells, the first has {width}")
    return lines
