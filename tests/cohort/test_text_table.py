import contextlib
import csv
import io
import tempfile
import tracemalloc
import unicodedata
import zipfile
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphocytosis.cohort import text_table
from lymphocytosis.cohort import workbook as limits
from lymphocytosis.cohort.text_table import find_table, read_text_table
from lymphocytosis.errors import UserError

cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def read(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_text_table(path)


@st.composite
def tables(draw):
    """Rows of one width, none of them blank."""
    width = draw(st.integers(1, 4))
    row = st.lists(cells, min_size=width, max_size=width)
    rows = draw(st.lists(row.filter(lambda row: any(map(str.strip, row))), min_size=1, max_size=5))
    # A mark that belongs to the first name can't be told from a spreadsheet's.
    rows[0][0] = rows[0][0].lstrip("\ufeff") or "x"
    return rows


class TestCells:
    @settings(max_examples=50)
    @given(tables(), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
    def test_whatever_text_a_cell_holds_is_read_as_it_stands(self, rows, line_end, with_mark):
        file = io.StringIO()
        csv.writer(file, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
        table = read(("\ufeff" if with_mark else "") + file.getvalue())
        assert list(table.columns) == [unicodedata.normalize("NFC", n.strip()) for n in rows[0]]
        assert table.to_numpy().tolist() == rows[1:]

    @pytest.mark.parametrize("text", ["007", "1.0", "NA", "nan", "null", "True", "1e3", " a ", ""])
    def test_no_text_becomes_a_number_or_a_missing_value(self, text):
        assert read(f"ID,X\na,{text}\n")["X"].tolist() == [text]

    def test_a_duplicate_column_stays_duplicate(self):
        table = read("ID,X,X\na,1,2\n")
        assert list(table.columns) == ["ID", "X", "X"]

    def test_a_table_without_rows_has_its_columns(self):
        table = read("ID,X\n")
        assert (list(table.columns), len(table)) == (["ID", "X"], 0)


class TestLines:
    def test_the_index_is_the_line_in_the_file(self):
        table = read('ID,X\n\na,1\n,\n , \nb,"1\n2"\nc,3\n')
        assert table["ID"].to_dict() == {3: "a", 7: "b", 8: "c"}


ROWS = [["ID", "Größe, ganz", "X"], ["Ä 1", "6.4", ""], ["007", "1933-05-01", "5,5 ; x"]]


def written(separator, encoding="utf-8", start=""):
    file = io.StringIO(start)
    file.seek(0, io.SEEK_END)
    csv.writer(file, delimiter=separator).writerows(ROWS)
    return file.getvalue().encode(encoding)


class TestForms:
    """Whatever program wrote it, a table is the same."""

    @pytest.mark.parametrize(
        ("content", "form"),
        [
            (written(","), "comma-separated text in UTF-8"),
            (written(";"), "semicolon-separated text in UTF-8"),
            (written("\t"), "tab-separated text in UTF-8"),
            (written(";", "latin-1"), "semicolon-separated text in Latin-1"),
            (written(",", "cp1252"), "comma-separated text in Latin-1"),
            (written("\t", "utf-8-sig"), "tab-separated text in UTF-8"),
            (written(";", start="sep=;\r\n"), "semicolon-separated text in UTF-8"),
            (written("\t", "latin-1", start="sep=\t\n"), "tab-separated text in Latin-1"),
        ],
    )
    def test_separators_and_encodings(self, content, form):
        table = read(content)
        assert [list(table.columns), *table.to_numpy().tolist()] == ROWS
        assert table.attrs == {"file": "table.csv", "form": form}
        assert table.index.tolist() == [n + content.startswith(b"sep") for n in (2, 3)]

    def test_column_names_are_stripped_and_composed(self):
        assert list(read(" ID\t, Gro\u0308ße ,\u00a0X\na,1,2\n").columns) == ["ID", "Größe", "X"]

    @pytest.mark.parametrize("other", [";", "\t"])
    def test_a_header_may_hold_other_separators_where_the_rows_decide(self, other):
        table = read(f"ID{other}Count, 10^9/l\na{other}6\nb{other}7\n")
        assert table.to_numpy().tolist() == [["a", "6"], ["b", "7"]]

    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".xlsx"])
    def test_a_table_is_found_with_another_suffix(self, tmp_path, suffix):
        assert find_table(tmp_path / "splits.csv") is None
        (tmp_path / f"splits{suffix}").touch()
        assert find_table(tmp_path / "splits.csv") == tmp_path / f"splits{suffix}"

    def test_two_tables_of_one_name_are_refused(self, tmp_path):
        for suffix in (".csv", ".xlsx"):
            (tmp_path / f"splits{suffix}").touch()
        with pytest.raises(UserError, match=r"has splits.csv and splits.xlsx: keep the one"):
            find_table(tmp_path / "splits.csv")


def workbook(rows, *more_sheets):
    book = openpyxl.Workbook()
    book.active.title = "Patienten"
    for row in rows:
        book.active.append(row)
    for title in more_sheets:
        book.create_sheet(title)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


class TestWorkbooks:
    def test_cells_are_the_text_that_a_csv_would_hold(self):
        rows = [
            [None, " ID ", "DOB", "COUNT"],
            [0, "007", date(1933, 5, 1), 6.4],
            [],
            [1, 8, datetime(1933, 5, 1, 12, 30), 7],
            [None, "=1+1", "1/5/1933"],
        ]
        table = read(workbook(rows, "Legende"))
        assert list(table.columns) == ["", "ID", "DOB", "COUNT"]
        assert table.T.to_dict("list") == {
            2: ["0", "007", "1933-05-01", "6.4"],
            4: ["1", "8", "1933-05-01 12:30:00", "7"],
            5: ["", "", "1/5/1933", ""],  # a formula that no spreadsheet has worked out
        }
        assert table.attrs["form"] == "Excel workbook, sheet 'Patienten', the first of 2"

    def test_a_last_column_without_a_name_is_one_as_in_a_csv(self):
        table = read(workbook([["ID"], ["a", "note"], ["b"]]))
        assert table.equals(read(b"ID,\na,note\nb,\n"))
        assert list(table.columns) == ["ID", ""]

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (workbook([]), "it is empty"),
            (workbook([["ID"]])[:2000], "no Excel workbook"),
            (workbook([["x"] * 1001]), "more than 1200000 rows or 1000 columns"),
        ],
    )
    def test_what_is_no_table(self, content, told):
        with pytest.raises(UserError, match=rf"table.csv can't be read as a table: .*{told}"):
            read(content)

    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("xl/worksheets/sheet1.xml", b" " * (2**20 + 1)),
            ("xl/styles.xml", b"<xf/>" * 2**15),
            ("xl/worksheets/sheet1.xml", b"<!DOCTYPE x"),
            ("xl/workbook.xml", b""),
            # A row whose number is beyond all sheets: the rows before it would be made, too.
            (
                "xl/worksheets/sheet1.xml",
                b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
                b'<sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="99999999999">'
                b'<c r="A99999999999"><v>1</v></c></row></sheetData></worksheet>',
            ),
        ],
    )  # fmt: skip
    def test_a_bomb_or_a_damaged_part_is_refused(self, monkeypatch, name, part):
        for limit in ("MOST_UNPACKED", "MOST_OTHER_PARTS"):
            monkeypatch.setattr(limits, limit, getattr(limits, limit) // 64)
        file = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(workbook([["ID"]]))) as sound,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for entry in sound.namelist():
                bomb.writestr(entry, part if entry == name else sound.read(entry))
        with pytest.raises(UserError, match=r"table.csv can't be read as a table: it "):
            read(file.getvalue())


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"", "it is empty"),
            (b"\n \n,,\n", "it is empty"),
            (b"ID,X\na,1,\n", "line 2 has 3 cells, the first has 2"),
            (b"ID,X\na,1\nb\n", "line 3 has 1 cells, the first has 2"),
            (b'ID,X\na,"1\n', "unexpected end of data"),
            (b'ID,X\na,"1"2\n', "expected after"),
            # Neither whole UTF-8 nor, having a letter of UTF-8, Latin-1.
            ("ID,X\nJosé,1\n".encode() + "é,1\n".encode("latin-1"), "can't decode byte 0xe9"),
            (b"ID,X\n\xe9,\x01\n", "can't decode byte 0xe9"),
            (b"ID,X\n\xe9,\x81\n", "can't decode byte 0xe9"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "of the old kind; save it as .xlsx"),
            (b"PK\x03\x04ID,X\na,1\n", "no Excel workbook"),
            (b"ID,A;X\n1,2;3\n", "can be split at its commas as well as semicolons"),
            (b"ID,A;X\n1,2;3\n1;2,\n3,4\n1;\n", "line 5 has 1 cells, the first has 2"),
            (b"sep=;\nID,X\n1;2\n", "line 3 has 2 cells, the first has 1"),
            ("ID,X\na,1\n".encode("utf-16"), "can't decode byte"),
            (b"ID,X\na," + b"1" * 200_000, "field larger than field limit"),
        ],
    )  # fmt: skip
    def test_a_file_that_is_no_such_table(self, content, told):
        with pytest.raises(UserError, match=r"table.csv can't be read as a table: ") as caught:
            read(content)
        assert told in str(caught.value)


ROW = b"ab," * 999 + b"ab\n"


class TestLimits:
    """A few megabytes can hold millions of cells, which would take gigabytes of memory."""

    @pytest.fixture
    def a_hundredth(self, monkeypatch):
        """Limits of a hundredth of what they are, so that what is beyond them is small too."""
        for limit in ("MOST_ROWS", "MOST_SEPARATORS"):
            monkeypatch.setattr(text_table, limit, getattr(text_table, limit) // 100)

    def test_as_many_columns_as_are_allowed(self):
        assert read("a," * 999 + "a\n" + "1," * 999 + "1\n").shape == (1, 1000)

    @pytest.mark.parametrize(
        "content", ["a," * 1000 + "a\n", "a," * 40_000 + "\n", 'a,b\n"1\n2"' + ",x" * 5000]
    )
    def test_too_many_columns(self, content):
        with pytest.raises(UserError, match=r"table.csv has more than 1000 columns: no table of"):
            read(content)

    @pytest.mark.usefixtures("a_hundredth")
    def test_too_many_rows(self):
        with pytest.raises(UserError, match=r"table.csv has more than 12000 rows: no table of"):
            read("a\n" * 40_000)

    @pytest.mark.usefixtures("a_hundredth")
    def test_too_many_cells(self):
        with pytest.raises(UserError, match=r"table.csv has more than 100000 commas: no table"):
            read("a,b\n" + "," * 100_001)

    @pytest.mark.usefixtures("a_hundredth")
    @pytest.mark.parametrize(
        "content", [b"a," * 40_000, b"a\n" * 40_000, *(ROW * n for n in (100, 300))]
    )
    def test_memory_has_a_bound(self, content):
        tracemalloc.start()
        with contextlib.suppress(UserError):
            read(content)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 8 * 1024 * 1024  # it was a hundredth of ten gigabytes
