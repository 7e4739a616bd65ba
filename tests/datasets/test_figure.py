import base64
import subprocess
import sys

import numpy as np
import pytest
from kedro.io import DatasetError, Version
from matplotlib.figure import Figure
from PIL import Image

from lymphocytosis.datasets.figure import FigureDataset

VERSION = "2026-01-01T00.00.00.000Z"


@pytest.fixture
def dataset(tmp_path):
    return FigureDataset(filepath=str(tmp_path / "plot.png"), version=Version(None, VERSION))


def red():
    return Figure(figsize=(2, 1), facecolor="red")


class TestSave:
    def test_a_figure_becomes_a_png_of_its_size(self, dataset, tmp_path):
        dataset.save(red())
        with Image.open(tmp_path / "plot.png" / VERSION / "plot.png") as picture:
            assert picture.format == "PNG"
            assert picture.size == (300, 150)
            assert (np.asarray(picture.convert("RGB")) == (255, 0, 0)).all()

    def test_one_that_cant_be_drawn_leaves_no_file(self, dataset, tmp_path):
        broken = red()
        broken.text(0.5, 0.5, r"$\nonsense$")
        with pytest.raises(DatasetError):
            dataset.save(broken)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class TestLoad:
    def test_it_is_refused(self, dataset):
        dataset.save(red())
        with pytest.raises(DatasetError, match="no node can load it"):
            dataset.load()


class TestPreview:
    def test_kedro_viz_gets_the_file_in_base64(self, dataset, tmp_path):
        dataset.save(red())
        content = (tmp_path / "plot.png" / VERSION / "plot.png").read_bytes()
        assert base64.b64decode(dataset.preview()) == content


def test_making_it_imports_no_matplotlib():
    code = (
        "import sys; from lymphocytosis.datasets.figure import FigureDataset as F; "
        "F(filepath='plot.png'); print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
