"""The first sheet of an Excel workbook (.xlsx), as rows of text."""

import io
import warnings
import zipfile
from datetime import datetime

from lymphocytosis.errors import brief

# A workbook is a ZIP file: a small one may unpack to any size. Of its parts, openpyxl reads sheets
# as a stream; of the others, it makes many objects.
MOST_UNPACKED = 64 * 1024 * 1024
MOST_OTHER_PARTS = 2 * 1024 * 1024
_STREAMED = ("xl/worksheets/", "xl/sharedStrings.xml", "xl/media/")


def read_workbook(
    content: bytes, most_rows: int, most_columns: int
) -> tuple[list[tuple[int, list[str]]], str]:
    """Read the first sheet, every cell as text.

    A number is written with a decimal point; a date as YYYY-MM-DD; a formula is its last value.

    Args:
        content: of the file.
        most_rows: the sheet may have.
        most_columns: a row may have.

    Returns:
        Number and cells of each row that is not empty; and the sheet in words.

    Raises:
        ValueError: it is damaged or no workbook, or unpacks to more than a table of patients needs.
    """
    # Not by pandas: it has no limit for rows, and chooses the columns' types itself.
    import openpyxl

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            sizes = {part.filename: part.file_size for part in parts.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"it is no Excel workbook: {brief(error)}") from error
    others = sum(size for name, size in sizes.items() if not name.startswith(_STREAMED))
    if sum(sizes.values()) > MOST_UNPACKED or others > MOST_OTHER_PARTS:
        raise ValueError("it unpacks to far more than a table of patients needs")
    rows = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles
            book = openpyxl.load_workbook(
                io.BytesIO(content), read_only=True, data_only=True, keep_links=False
            )
            sheet = book.worksheets[0]
            sheet.reset_dimensions()
            for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
                if number > most_rows or len(cells) > most_columns:
                    raise ValueError(
                        f"its sheet has more than {most_rows} rows or {most_columns} columns"
                    )
                texts = [_text(cell) for cell in cells]
                if any(map(str.strip, texts)):
                    rows.append((number, texts))
    except Exception as error:
        # openpyxl has no error of its own for a file that it can't read.
        raise ValueError(f"it is no sound Excel workbook: {brief(error)}") from error
    which = f", the first of {len(book.sheetnames)}" if len(book.sheetnames) > 1 else ""
    if not rows:
        raise ValueError("it is empty")
    # Cells that are empty at the end of a row may be missing in the file, the header's too.
    width = max(n for _, texts in rows for n, text in enumerate(texts, start=1) if text.strip())
    rows = [(number, (texts + [""] * width)[:width]) for number, texts in rows]
    return rows, f"Excel workbook, sheet {sheet.title!r}{which}"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime) and cell == datetime(cell.year, cell.month, cell.day):
        return cell.date().isoformat()
    return str(cell)
