import csv
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphocytosis.datasets.text_table import read_text_table
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
        assert list(table.columns) == rows[0]
        assert table.to_numpy().tolist() == rows[1:]

    @pytest.mark.parametrize("text", ["007", "1.0", "NA", "nan", "null", "True", "1e3", " a ", ""])
    def test_nothing_is_taken_for_a_number_or_as_missing(self, text):
        assert read(f"ID,X\na,{text}\n")["X"].tolist() == [text]

    def test_a_column_that_stands_twice_stays_twice(self):
        table = read("ID,X,X\na,1,2\n")
        assert list(table.columns) == ["ID", "X", "X"]

    def test_a_table_without_rows_has_its_columns(self):
        table = read("ID,X\n")
        assert (list(table.columns), len(table)) == (["ID", "X"], 0)


class TestLines:
    def test_the_index_is_the_line_in_the_file(self):
        table = read('ID,X\n\na,1\n,\n , \nb,"1\n2"\nc,3\n')
        assert table["ID"].to_dict() == {3: "a", 7: "b", 8: "c"}


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
            ("ID,X\nJosé,1\n".encode("latin-1"), "can't decode byte 0xe9"),
            ("ID,X\na,1\n".encode("utf-16"), "can't decode byte"),
            (b"ID,X\na," + b"1" * 200_000, "field larger than field limit"),
        ],
    )  # fmt: skip
    def test_a_file_that_is_no_such_table(self, content, told):
        with pytest.raises(UserError, match=r"table.csv can't be read as a comma-separ") as caught:
            read(content)
        assert told in str(caught.value)


class TestLimits:
    """A few megabytes can hold millions of cells, which would take gigabytes of memory."""

    def test_as_many_columns_as_are_allowed(self):
        assert read("a," * 999 + "a\n" + "1," * 999 + "1\n").shape == (1, 1000)

    @pytest.mark.parametrize(
        "content", ["a," * 1000 + "a\n", "a," * 4_000_000 + "\n", 'a,b\n"1\n2"' + ",x" * 5000]
    )
    def test_too_many_columns(self, content):
        with pytest.raises(UserError, match=r"table.csv has more than 1000 columns: no table of"):
            read(content)

    def test_too_many_rows(self):
        with pytest.raises(UserError, match=r"table.csv has more than 1200000 rows: no table of"):
            read("a\n" * 4_000_000)

    def test_too_many_cells(self):
        with pytest.raises(UserError, match=r"table.csv has more than 10000000 commas: no table"):
            read("a,b\n" + "," * 10_000_001)

    @pytest.mark.parametrize(
        "content", [b"a," * 4_000_000, b"a\n" * 4_000_000, (b"ab," * 999 + b"ab\n") * 10_000]
    )
    def test_memory_has_a_bound(self, tmp_path, content):
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        script = (
            "import sys; from pathlib import Path;"
            "from lymphocytosis.datasets.text_table import read_text_table, UserError\n"
            "try: read_text_table(Path(sys.argv[1]))\n"
            "except UserError: pass\n"
            # Not by getrusage, which counts the process that forked this one.
            "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=True)
        assert int(done.stdout) < 1500 * 1024  # in kilobytes; it was ten gigabytes
