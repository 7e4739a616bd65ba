"""A user's CSV, read as text, so that a refusal can quote what stands there, and in which line."""

import csv
import io
from pathlib import Path

import pandas as pd

from lymphocytosis.errors import UserError

# A row has some fifty bytes: this is a million patients.
MOST_BYTES = 64 * 1024 * 1024
# Few bytes can hold many cells, and each takes a hundred bytes of memory; a row, a kilobyte more,
# if its cells are wrong and are told.
MOST_ROWS = 1_200_000
MOST_COLUMNS = 1_000
MOST_COMMAS = 10_000_000


def read_text_table(path: Path) -> pd.DataFrame:
    """Read every cell of a CSV as text.

    Args:
        path: the CSV.

    Returns:
        The rows, the index being each row's line in the file. A line of empty cells is no row. A
        column that stands twice stands twice here too.

    Raises:
        UserError: the file has too many bytes, cells, columns or rows, or is no CSV in UTF-8, or a
            line has more or fewer cells than the first.
    """
    # Not by pandas: it moves every column by one where rows end in a comma that the first line
    # lacks, renames a column that stands twice, and doesn't tell a row's line.
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _too_large(path, MOST_BYTES, "bytes")
        # Before any cell is made: a single line may hold them all.
        content = path.read_bytes()
        if content.count(b",") > MOST_COMMAS:
            raise _too_large(path, MOST_COMMAS, "commas")
        (_, columns), *rows = _lines(content, path)
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


def _too_large(path: Path, most: int, what: str) -> UserError:
    return UserError(f"{path} has more than {most} {what}: no table of patients.")


def _lines(content: bytes, path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells; at least the first line, and all of its width."""
    lines: list[tuple[int, list[str]]] = []
    # utf-8-sig also takes the mark that spreadsheets put before the first name.
    with io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        for cells in reader:
            if len(cells) > MOST_COLUMNS:
                raise _too_large(path, MOST_COLUMNS, "columns")
            if any(map(str.strip, cells)):
                lines.append((reader.line_num, cells))
            if len(lines) > MOST_ROWS + 1:
                raise _too_large(path, MOST_ROWS, "rows")
    if not lines:
        raise ValueError("it is empty")
    width = len(lines[0][1])
    for line, cells in lines:
        if len(cells) != width:
            raise ValueError(f"line {line} has {len(cells)} cells, the first has {width}")
    return lines
