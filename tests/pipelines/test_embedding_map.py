import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from lymphocytosis.encoders.embed import table_of
from lymphocytosis.pipelines.embed import figures


@pytest.fixture
def draw():
    """A function that draws a map of patients with so many cells each; returns the figure."""

    def draw(patients, cells):
        rng = np.random.default_rng(0)
        ids = pd.DataFrame(
            [(f"P{p}", f"{c}.png") for p in range(patients) for c in range(cells)],
            columns=["patient_id", "image_id"],
        )
        # A patient's cells lie together.
        large = (
            rng.normal(size=(len(ids), 2, 6))
            + 9 * np.repeat(np.eye(6)[:patients], cells, 0)[:, None]
        )
        table = table_of(ids, ["vertical", "original"], *[large.astype(np.float32)] * 2)
        pixels = rng.integers(0, 256, (len(ids), 40, 40, 3), dtype=np.uint8)
        known = pd.DataFrame(
            {
                "patient_id": [f"P{p}" for p in range(patients)],
                "label": pd.array([p % 2 if p else pd.NA for p in range(patients)], "Int8"),
            }
        )
        rows = pd.array(range(len(ids)), dtype="Int64")
        return figures.map_cells(pa.concat_tables([table]), ids.assign(row=rows), pixels, known)

    return draw


def points(axis):
    return {c.get_label(): np.asarray(c.get_offsets()) for c in axis.collections}


def test_each_cell_is_a_point_in_every_panel(draw):
    axes = draw(patients=4, cells=6).axes[:6]
    assert [axis.get_title("left") for axis in axes] == [
        f"{how}, by {by}" for how in ("PCA", "t-SNE") for by in ("patient", "label", "stain")
    ]
    for axis in axes:
        assert sum(map(len, points(axis).values())) == 4 * 6
    assert {name: len(at) for name, at in points(axes[1]).items()} == {
        "reactive": 6, "tumoral": 12, "not known": 6,
    }  # fmt: skip
    # What lies together is together in both.
    for axis in (axes[0], axes[3]):
        groups = [at for name, at in points(axis).items() if name != "others"]
        centres = np.array([at.mean(axis=0) for at in groups])
        for number, at in enumerate(groups):
            nearest = np.linalg.norm(at[:, None] - centres, axis=2).argmin(axis=1)
            assert (nearest == number).mean() > 0.8


def test_of_many_cells_some_are_shown_of_each_patient(draw, monkeypatch):
    monkeypatch.setattr(figures, "CELLS", 12)
    figure = draw(patients=4, cells=6)
    (shown,) = points(figure.axes[2]).values()
    assert len(shown) == 12
    assert figure.get_supxlabel().startswith("12 of 24 cells, of 4 patients; view: vertical.")


def test_it_is_the_same_every_time_whatever_the_threads(draw):
    found = []
    for threads in (1, 1, 3):
        with threadpool_limits(threads):
            (at,) = points(draw(patients=5, cells=60).axes[5]).values()
        found.append(at)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("cells", [2, 4])
def test_few_cells_have_no_t_sne(draw, cells):
    assert len(draw(patients=1, cells=cells).axes) == 3 + 1  # and the scale of the stain
