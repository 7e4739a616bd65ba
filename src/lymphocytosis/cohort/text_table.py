"""A user's table, read as text, so that a refusal can quote a cell and name its line.

All tables that users bring are read here, as spreadsheets and hospitals' programs write them.
"""

import csv
import io
import re
from pathlib import Path

import pandas as pd

from lymphocytosis.cohort.names import normal
from lymphocytosis.cohort.workbook import read_workbook
from lymphocytosis.errors import UserError

# A row has about fifty bytes: this is a million patients.
MOST_BYTES = 64 * 1024 * 1024
# Few bytes can hold many cells, and each takes a hundred bytes of memory; a row, a kilobyte more,
# if its cells are wrong and are reported.
MOST_ROWS = 1_200_000
MOST_COLUMNS = 1_000
MOST_SEPARATORS = 10_000_000

SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xls")
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
# Excel's own first line, which names the separator.
_MARK = re.compile(r"sep=([,;\t])[\r\n]")
_UTF8_LETTER = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
# In no text; the last five are no letters of Windows' Latin-1 either.
_NO_LETTER = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x81\x8d\x8f\x90\x9d]")

Lines = list[tuple[int, list[str]]]  # line number and cells; the first is the header


def find_table(path: Path) -> Path | None:
    """Find a table under its name, or with another suffix that a table may have.

    Args:
        path: the table as a .csv.

    Returns:
        The file, or None where there is none.

    Raises:
        UserError: there are several.
    """
    found = [file for end in SUFFIXES if (file := path.with_suffix(end)).is_file()]
    if len(found) > 1:
        raise UserError(
            f"{path.parent} has {' and '.join(file.name for file in found)}: keep the one that is "
            "meant."
        )
    return found[0] if found else None


def read_text_table(path: Path) -> pd.DataFrame:
    """Read every cell of a table as text.

    Separator and encoding are taken from the whole file; if it allows two, it is refused.

    Args:
        path: text with commas, semicolons or tabs between the cells, in UTF-8 or Latin-1, or an
            Excel workbook (.xlsx), whatever its suffix is.

    Returns:
        The rows, the index being each row's line in the file. A line of empty cells is no row. A
        duplicate column stays duplicate; names of columns are in their normal form.
        `attrs` holds the file's name ("file") and how it was read ("form").

    Raises:
        UserError: the file has too many bytes, cells, columns or rows, or is no such table, or a
            line has more or fewer cells than the first.
    """
    # Not by pandas: it moves every column by one where rows end in a comma that the first line
    # lacks, renames duplicate columns, and doesn't say in which line a row is.
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _too_large(path, MOST_BYTES, "bytes")
        content = path.read_bytes()
        if content.startswith(b"PK\x03\x04"):
            lines, form = read_workbook(content, MOST_ROWS, MOST_COLUMNS)
            _check_widths(lines)
        else:
            lines, form = _read_text(content, path)
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(
            f"{path} can't be read as a table: {error} "
            "(docs/clinical_table.md shows the forms that are read)"
        ) from error
    (_, columns), *rows = lines
    table = pd.DataFrame(
        [cells for _, cells in rows],
        index=[line for line, _ in rows],
        columns=[normal(column) for column in columns],
        dtype="str",
    )
    table.attrs = {"file": path.name, "form": form}
    return table


def _too_large(path: Path, most: int, what: str) -> UserError:
    return UserError(f"{path} has more than {most} {what}: no table of patients.")


def _read_text(content: bytes, path: Path) -> tuple[Lines, str]:
    text, encoding = _decoded(content)
    # Before any cell is made: a single line may hold them all.
    for separator, name in SEPARATORS.items():
        if text.count(separator) > MOST_SEPARATORS:
            raise _too_large(path, MOST_SEPARATORS, f"{name}s")
    if mark := _MARK.match(text):
        lines, separator = _lines(text, mark[1], path)[1:], mark[1]
        _check_widths(lines)
    else:
        lines, separator = _split(text, path)
    return lines, f"{SEPARATORS[separator]}-separated text in {encoding}"


def _decoded(content: bytes) -> tuple[str, str]:
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError("it is an Excel file of the old kind; save it as .xlsx")
    try:
        # utf-8-sig also takes the mark that spreadsheets put before the first name.
        return content.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        # Any bytes are valid Latin-1: leave out those of a damaged file, or of one in UTF-16.
        if _UTF8_LETTER.search(content) or _NO_LETTER.search(content):
            raise ValueError(
                f"it is in neither UTF-8 nor Latin-1 ({error}); save it as CSV in UTF-8"
            ) from error
        # Windows' form of it, which has a few more letters.
        return content.decode("cp1252"), "Latin-1"


def _split(text: str, path: Path) -> tuple[Lines, str]:
    """Split at the separator in the first line; if there are several, at the one that fits."""
    possible = [separator for separator in SEPARATORS if _width(text, separator) > 1] or [","]
    fitting: list[tuple[Lines, str]] = []
    fault: Exception = ValueError()
    for separator in possible:
        try:
            lines = _lines(text, separator, path)
            _check_widths(lines)
            fitting.append((lines, separator))
        except (ValueError, csv.Error) as error:
            fault = fault if str(fault) else error
    if len(fitting) > 1:
        names = " as well as ".join(f"{SEPARATORS[separator]}s" for _, separator in fitting)
        raise ValueError(
            f"it can be split at its {names}; put sep=, or sep=; into a line before the first"
        )
    if not fitting:
        raise fault
    return fitting[0]


def _width(text: str, separator: str) -> int:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return next((len(cells) for cells in reader if any(map(str.strip, cells))), 0)
    except csv.Error:
        return 0


def _lines(text: str, separator: str, path: Path) -> Lines:
    lines: Lines = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    for cells in reader:
        if len(cells) > MOST_COLUMNS:
            raise _too_large(path, MOST_COLUMNS, "columns")
        if any(map(str.strip, cells)):
            lines.append((reader.line_num, cells))
        if len(lines) > MOST_ROWS + 1:
            raise _too_large(path, MOST_ROWS, "rows")
    return lines


def _check_widths(lines: Lines) -> None:
    if not lines:
        raise ValueError("it is empty")
    width = len(lines[0][1])
    for line, cells in lines:
        if len(cells) != width:
            raise ValueError(f"line {line} has {len(cells)} cells, the first has {width}")
