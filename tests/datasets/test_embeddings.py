import os
import weakref

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lymphocytosis.datasets.embeddings import EmbeddingsDataset
from lymphocytosis.encoders.embed import table_of

LARGE, SMALL = 6, 3


def table(n, seed=0, patient="007"):
    rng = np.random.default_rng(seed)

    def vectors(width):
        values = rng.standard_normal((n, width), dtype=np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)

    return pa.table(
        {
            "patient_id": [patient] * n,
            "image_id": [f"{k:06d}.jpg" for k in range(n)],
            "view": [("original", "horizontal", "vertical")[k % 3] for k in range(n)],
            "large": vectors(LARGE),
            "small": vectors(SMALL),
        }
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "embeddings.parquet"


@pytest.fixture
def dataset(path):
    return EmbeddingsDataset(filepath=str(path))


class TestRoundTrip:
    def test_tables_come_back_as_one_to_the_last_bit(self, dataset):
        parts = [table(5, 1), table(2, 2, "P2"), table(4, 3, "P3")]
        dataset.save(iter(parts))
        assert dataset.load().equals(pa.concat_tables(parts))

    def test_pandas_reads_the_file_as_it_is(self, dataset, path):
        parts = [table(5, 1), table(2, 2, "P2")]
        dataset.save(iter(parts))
        frame = pd.read_parquet(path)
        assert list(frame.columns) == ["patient_id", "image_id", "view", "large", "small"]
        assert frame["patient_id"].tolist() == ["007"] * 5 + ["P2"] * 2
        for name, width in (("large", LARGE), ("small", SMALL)):
            stacked = np.stack(frame[name])
            written = np.concatenate([p[name].combine_chunks().flatten() for p in parts])
            assert stacked.dtype == np.float32
            np.testing.assert_array_equal(stacked, written.reshape(-1, width))

    def test_a_row_group_a_table_and_lists_of_fixed_length(self, dataset, path):
        dataset.save(table(n, n) for n in (5, 2, 4))
        file = pq.ParquetFile(path)
        groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
        assert groups == [5, 2, 4]
        assert file.schema_arrow.field("large").type == pa.list_(pa.float32(), LARGE)
        assert file.schema_arrow.field("small").type == pa.list_(pa.float32(), SMALL)

    def test_a_table_is_let_go_once_it_is_written(self, dataset, path):
        made = []
        alive = []

        def tables():
            for n in range(20):
                one = table(2, n, f"P{n}")
                made.append(weakref.ref(one))
                alive.append(sum(ref() is not None for ref in made))
                assert not path.exists()
                yield one

        dataset.save(tables())
        assert dataset.load().num_rows == 40
        # Kept at most: the first, whose schema is the file's, the last written and the new one.
        assert max(alive) <= 3

    @pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
    def test_other_libraries_read_the_table_that_embed_makes(self, dataset, path, library):
        module = pytest.importorskip(library)
        rng = np.random.default_rng(0)
        ids = pd.DataFrame({"patient_id": ["007", "P2"], "image_id": ["a.jpg", "b.jpg"]})
        large, small = (rng.standard_normal((2, 2, n), dtype=np.float32) for n in (LARGE, SMALL))
        dataset.save([table_of(ids, ["original", "vertical"], large, small)])
        if library == "pandas":
            frame = module.read_parquet(path)
        elif library == "polars":
            frame = module.read_parquet(path).to_pandas()
        else:
            frame = module.read_parquet(str(path)).df()
        assert frame["patient_id"].tolist() == ["007", "007", "P2", "P2"]
        assert frame["view"].tolist() == ["original", "vertical"] * 2
        for name, values in (("large", large), ("small", small)):
            read = np.stack(frame[name])
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, values.reshape(4, -1))


class TestOnePatient:
    def test_is_found_without_the_row_groups_of_others(self, dataset, path):
        dataset.save(table(4, k, f"P{k}") for k in range(5))
        groups = [pq.ParquetFile(path).metadata.row_group(k) for k in range(5)]
        for k, group in enumerate(groups):
            told = group.column(0).statistics
            assert (group.column(0).path_in_schema, told.min, told.max) == (
                "patient_id", f"P{k}", f"P{k}",
            )  # fmt: skip
        # Pages of the others are damaged: whoever reads them notices.
        content = bytearray(path.read_bytes())
        for k in (0, 1, 3, 4):
            first = groups[k].column(3).data_page_offset
            content[first : first + 8] = b"\xff" * 8
        path.write_bytes(content)
        with pytest.raises(OSError):
            pq.read_table(path)
        read = pq.read_table(path, filters=[("patient_id", "=", "P2")])
        assert read.equals(table(4, 2, "P2"))


class TestInterruption:
    def test_leaves_nothing_under_the_final_name_and_an_earlier_file_as_it_was(self, dataset, path):
        dataset.save([table(3)])
        earlier = path.read_bytes()

        def tables():
            yield table(5)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            dataset.save(tables())
        assert path.read_bytes() == earlier
        assert list(path.parent.iterdir()) == [path]


class TestRefusals:
    @pytest.mark.parametrize("kept", [0, 3, 100, -1])
    def test_a_cut_file(self, dataset, path, refused, kept):
        dataset.save([table(5)])
        os.truncate(path, kept if kept >= 0 else path.stat().st_size + kept)
        with refused(rf"{path} can't be read as Parquet"):
            dataset.load()

    def test_a_damaged_page(self, dataset, path, refused):
        dataset.save([table(5)])
        content = bytearray(path.read_bytes())
        content[4:40] = b"\xff" * 36
        path.write_bytes(content)
        with refused(rf"{path} can't be read as Parquet"):
            dataset.load()

    @pytest.mark.parametrize("name", ["large", "small"])
    def test_another_value_than_was_saved(self, dataset, path, refused, name):
        one = table(5)
        dataset.save([one])
        saved = path.read_bytes()
        value = one[name].combine_chunks().flatten().to_numpy()[3].tobytes()
        place = saved.index(value)
        path.write_bytes(saved[:place] + bytes([value[0] ^ 1]) + saved[place + 1 :])
        with refused(rf"{path} can't be read as Parquet"):
            dataset.load()

    def test_another_table(self, dataset, path, refused):
        pd.DataFrame({"patient_id": ["P1"], "label": [1]}).to_parquet(path)
        with refused(rf"{path} has the columns patient_id, label; a table of embeddings has"):
            dataset.load()


class TestEditedTables:
    """What another program made of the file is refused by row and column."""

    def edited(self, path, name, values):
        whole = pa.concat_tables([table(3, 1), table(2, 2, "P2")])
        at = whole.column_names.index(name)
        pq.write_table(whole.set_column(at, name, values), path)

    @pytest.mark.parametrize("name", ["patient_id", "image_id", "view"])
    def test_an_empty_key(self, dataset, path, refused, name):
        self.edited(path, name, pa.array(["a", None, "b", "c", "d"]))
        with refused(rf"{path}, row 2, column {name}: is empty"):
            dataset.load()

    def test_another_view(self, dataset, path, refused):
        self.edited(path, "view", pa.array(["original"] * 3 + ["diagonal"] * 2))
        with refused(rf"{path}, row 4, column view: is 'diagonal', expected original, horiz"):
            dataset.load()

    def test_a_duplicate_cell(self, dataset, path, refused):
        pq.write_table(pa.concat_tables([table(3, 1), table(2, 2)]), path)
        with refused(rf"{path}, row 4: 007, 000000.jpg, original is in an earlier row too"):
            dataset.load()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize(("name", "width"), [("large", LARGE), ("small", SMALL)])
    def test_a_number_that_is_none(self, dataset, path, refused, name, width, value):
        values = np.zeros((5, width), dtype=np.float32)
        values[4, 1] = value
        array = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
        pieces = pa.chunked_array([array[:2], array[2:]])
        self.edited(path, name, pieces)
        with refused(rf"{path}, row 5, column {name}: has a value that is not finite"):
            dataset.load()

    def test_a_list_with_a_hole(self, dataset, path, refused):
        values = [[0.0] * SMALL, [0.0] * (SMALL - 1) + [None], *[[0.0] * SMALL] * 3]
        self.edited(path, "small", pa.array(values, pa.list_(pa.float32(), SMALL)))
        with refused(rf"{path}, row 2, column small: has a value that is not finite"):
            dataset.load()

    @pytest.mark.parametrize(
        "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), SMALL), pa.list_(pa.int8(), SMALL)]
    )
    def test_numbers_of_another_kind(self, dataset, path, refused, kind):
        self.edited(path, "small", pa.array([[0] * SMALL] * 5, kind))
        with refused(rf"{path}, column small: has the type .*, expected lists of float32"):
            dataset.load()

    def test_what_is_no_number_is_not_saved(self, dataset, path, refused):
        bad = table(3).set_column(
            3, "large", pa.array([[np.nan] * LARGE] * 3, pa.list_(pa.float32(), LARGE))
        )
        with refused(rf"{path}, row 1, column large: has a value that is not finite"):
            dataset.save(iter([table(2, patient="P2"), bad]))
        assert list(path.parent.iterdir()) == []
