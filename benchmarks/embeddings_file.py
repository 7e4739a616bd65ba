"""The file of embeddings, measured against others. Run: python -m benchmarks embeddings_file."""

import importlib
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
from safetensors.numpy import load_file, save_file

from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.datasets.embeddings import EmbeddingsDataset
from lymphocytosis.encoders.embed import table_of
from lymphocytosis.pipelines.embed.nodes import ROWS_PER_GROUP

TURNS = 5
# A third of the challenge's 152 patients and 16,711 cells; EfficientNet-B7's two embeddings.
PATIENTS, CELLS, LARGE, SMALL = 50, 5500, 2560, 1024
VIEWS = ["original", "horizontal", "vertical"]


def measure() -> list[Row]:
    """Write the same numbers in each form, read all, and read one patient."""
    rng = np.random.default_rng(0)
    owner = np.sort(rng.integers(0, PATIENTS, CELLS))
    ids = pd.DataFrame(
        {
            "patient_id": [f"P{number:03d}" for number in owner],
            "image_id": [f"{number:06d}.jpg" for number in range(CELLS)],
        }
    )
    large, small = (
        rng.standard_normal((CELLS, len(VIEWS), width), dtype=np.float32)
        for width in (LARGE, SMALL)
    )
    step = -(-ROWS_PER_GROUP // len(VIEWS))
    shards = np.split(np.arange(CELLS), range(step, CELLS, step))
    tables = [table_of(ids.iloc[rows], VIEWS, large[rows], small[rows]) for rows in shards]
    matrices = {"large": large.reshape(-1, LARGE), "small": small.reshape(-1, SMALL)}
    frame = pa.concat_tables(tables).select(["patient_id", "image_id", "view"]).to_pandas()
    frame = frame.assign(**{name: list(matrix) for name, matrix in matrices.items()})
    rows_of = {name: part.index.to_numpy() for name, part in frame.groupby("patient_id")}
    one = str(ids["patient_id"].iloc[CELLS // 2])

    with TemporaryDirectory() as folder:
        root = Path(folder)
        ours, theirs, of_arrays = (root / name for name in ("ours.parquet", "st", "pandas.parquet"))
        dataset = EmbeddingsDataset(filepath=str(ours))

        def write_h5() -> None:
            # As TRIDENT's save_h5 does: a file a slide, a row a chunk.
            for name, rows in rows_of.items():
                with h5py.File(root / f"{name}.h5", "w") as file:
                    for key, matrix in matrices.items():
                        values = matrix[rows]
                        chunk = (1, values.shape[1])
                        file.create_dataset(
                            key, data=values, maxshape=(None, values.shape[1]), chunks=chunk
                        )

        def read_h5(name: str) -> list[np.ndarray]:
            with h5py.File(root / f"{name}.h5", "r") as file:
                return [file[key][:] for key in matrices]

        def read_one() -> pa.Table:
            return pq.read_table(ours, memory_map=True, filters=[("patient_id", "=", one)])

        def pandas_one() -> pd.DataFrame:
            read = pd.read_parquet(of_arrays)
            return read[read["patient_id"] == one]

        writing = time_in_turn(
            {
                "ours": lambda: dataset.save(tables),
                "safetensors": lambda: save_file(matrices, theirs),
                "h5": write_h5,
            },
            TURNS,
        )
        frame.to_parquet(of_arrays)
        note = _read_by_all(ours, matrices)
        expected = [matrix[rows_of[one]] for matrix in matrices.values()]
        for read in (read_one(), pandas_one()):
            for name, values in zip(matrices, expected, strict=True):
                assert np.array_equal(np.stack(read[name].to_numpy()), values)
        reading = time_in_turn(
            {
                "ours": dataset.load,
                "safetensors": lambda: load_file(theirs),
                "h5": lambda: [read_h5(name) for name in rows_of],
                "one, ours": read_one,
                "one, h5": lambda: read_h5(one),
                "one, pandas": pandas_one,
            },
            TURNS,
        )
    st, h5 = f"safetensors {safetensors.__version__}", f"TRIDENT's layout, h5py {h5py.__version__}"
    size = f"{sum(matrix.nbytes for matrix in matrices.values()) / 1e6:.0f} MB"
    return [
        Row(
            "embeddings: write",
            st,
            "at most 4",
            divide(writing["ours"], writing["safetensors"]),
            f"{size}; safetensors keeps the matrices alone, without the ids",
        ),
        Row("embeddings: write", h5, "", divide(writing["ours"], writing["h5"])),
        Row(
            "embeddings: read all",
            st,
            "at most 3",
            divide(reading["ours"], reading["safetensors"]),
            note,
        ),
        Row("embeddings: read all", h5, "", divide(reading["ours"], reading["h5"])),
        Row(
            "embeddings: one patient, times faster",
            "reading all and choosing",
            "at least 5",
            divide(reading["ours"], reading["one, ours"]),
            f"1 patient of {PATIENTS}; the gain grows with their number",
        ),
        Row(
            "embeddings: one patient, times faster",
            f"pandas {pd.__version__}, Parquet with columns of arrays",
            "at least 6",
            divide(reading["one, pandas"], reading["one, ours"]),
        ),
        Row(
            "embeddings: one patient, times faster",
            h5,
            "",
            divide(reading["one, h5"], reading["one, ours"]),
            "a file a patient has nothing to search",
        ),
    ]


def _read_by_all(path: Path, matrices: dict[str, np.ndarray]) -> str:
    """Read the file with each library, compare, and name them."""
    reads = {
        "pandas": lambda module: module.read_parquet(path),
        "polars": lambda module: module.read_parquet(path).to_pandas(),
        "duckdb": lambda module: module.read_parquet(str(path)).df(),
    }
    told = []
    for name, read in reads.items():
        module = importlib.import_module(name)
        frame = read(module)
        assert frame["patient_id"].map(type).eq(str).all()
        for column, matrix in matrices.items():
            assert np.array_equal(np.stack(frame[column]), matrix)
        told.append(f"{name} {module.__version__}")
    return f"read the same by {', '.join(told)}"
