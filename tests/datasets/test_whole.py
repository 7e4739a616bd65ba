import struct

import pandas as pd

from lymphocytosis.datasets.whole import ParquetDataset


def test_a_table_with_another_value_than_was_saved_is_refused(tmp_path, refused):
    path = tmp_path / "predictions.parquet"
    dataset = ParquetDataset(filepath=str(path))
    table = pd.DataFrame({"patient_id": ["P1", "P2"], "probability": [0.125, 0.75]})
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table)
    saved, value = path.read_bytes(), struct.pack("<d", 0.75)
    path.write_bytes(saved.replace(value, struct.pack("<d", 0.25), 1))
    assert path.read_bytes() != saved
    with refused(rf"{path} can't be read as Parquet.*run again the pipeline that makes it"):
        dataset.load()
