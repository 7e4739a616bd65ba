"""Tiny cohorts on disk, made of random pixels, for every test that needs one."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from lymphocytosis.imaging.store import RECORDS, map_pixels
from lymphocytosis.parameters import ImageParameters, PretextParameters
from lymphocytosis.progress import Progress

# Machines that run tests are slow at times; an example that takes long is no fault.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


def pytest_collection_modifyitems(items):
    """Begin with files of few, long tests: no worker waits for them. Skip a GPU's without one."""
    items.sort(key=lambda item: item.path.name not in LONG)
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not torch.cuda.is_available():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="torch sees no GPU here"))


@pytest.fixture(autouse=True)
def _keep_threads():
    """A fold trains on one thread; in a test it may run in the tests' own process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


LONG = {
    "test_distributed.py", "test_new_patient.py", "test_torture.py", "test_whole_run.py",
    "test_nested.py", "test_evaluate.py", "test_choose.py", "test_fuzz.py", "test_extending.py",
}  # fmt: skip
# Of the block `encoder`: what most encoders are pooled by.
POOLED = {"pool": ("mean",), "layers": (1,), "zooms": (1.0,)}
SIZE = 40  # side of the pictures that `picture` makes
COLUMNS = ("", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT")
PATIENT = {"LABEL": "0", "GENDER": "F", "DOB": "5/1/1950", "LYMPH_COUNT": "5.5"}


@pytest.fixture(scope="session")
def picture():
    """A function that returns a picture file's bytes, random by its seed."""

    def make(seed=0, size=(SIZE, SIZE), mode="RGB", file_format="PNG", **options):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, file_format, **options)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def write_cohort(tmp_path_factory, picture):
    """A function that writes a new cohort in the challenge's layout and returns its folder.

    It takes, by patient, what differs from `PATIENT`, and besides `subset` (train or test), `files`
    (content by name; two pictures where not given) and `row` (False: no row in the table).
    """

    def write(patients):
        root = tmp_path_factory.mktemp("made") / "cohort"
        (root / "trainset").mkdir(parents=True)
        rows = []
        for number, (patient_id, given) in enumerate(patients.items()):
            values = PATIENT | {"ID": patient_id} | given
            if values.pop("row", True):
                rows.append([str(number), *(values[column] for column in COLUMNS[1:])])
            drawn = {f"{k:06d}.png": picture(1000 * number + k) for k in range(2)}
            folder = root / f"{values.get('subset', 'train')}set" / patient_id
            for name, content in values.get("files", drawn).items():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        write_table(root / "clinical_annotation.csv", rows)
        return root

    return write


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


class Killed(BaseException):
    """What a kill is in a test: nothing catches it."""


class KilledAfter(Progress):
    """Progress of a run that is killed right after it has kept so many parts."""

    def __init__(self, folder, parts):
        super().__init__(folder)
        self.parts = parts

    def save_values(self, name, values):
        super().save_values(name, values)
        self._count()

    def save_arrow(self, name, table):
        super().save_arrow(name, table)
        self._count()

    def _count(self):
        self.parts -= 1
        if self.parts == 0:
            raise Killed


@pytest.fixture
def after_a_kill(tmp_path):
    """A function that runs work till it is killed after so many parts, then once more to its end.

    The work takes a `Progress`. It returns what the second time gave.
    """

    def run(work, parts):
        with pytest.raises(Killed):
            work(KilledAfter(tmp_path / "unfinished", parts))
        return work(Progress(tmp_path / "unfinished"))

    return run


@pytest.fixture(scope="session")
def store_of(tmp_path_factory):
    """A function that makes an image store of pixels and records."""

    def make(pixels, records, image):
        folder = tmp_path_factory.mktemp("store")
        np.save(folder / "pixels-00000.npy", pixels)
        records.to_parquet(folder / RECORDS, index=False)
        images = map_pixels(folder)
        images.image = image
        return images

    return make


@pytest.fixture(scope="session")
def image_parameters():
    """A function that returns the block `image` for pictures as `picture` makes them."""

    def build(**changes):
        as_is = {"source_size": SIZE, "crop": SIZE, "size": SIZE, "unreadable": "leave_out"}
        return ImageParameters(
            **as_is | {"other_size": "convert", "other_mode": "convert"} | changes
        )

    return build


@pytest.fixture(scope="session")
def pretext_parameters():
    """A function that returns the block `pretext`: the paper's task, small, with changes."""

    def build(**changes):
        small = {
            "name": "autoencoder", "images": "all", "epochs": 2, "batch_size": 4,
            "learning_rate": 0.002, "reduction": "mean", "upright_weight": 1.0, "keep": "last",
            "early_epoch": 1, "patients_per_batch": 0, "fixed_share": 0.0, "batch_norm": "train",
            "jitter": {
                "shift": 0.05, "scale": 0.1, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2,
                "stain": 0.1, "blur": 1.0, "background": 0.0,
            },
            "simclr": {"temperature": 0.1, "hidden_width": 16, "output_width": 8},
            "vicreg": {
                "invariance": 25.0, "variance": 25.0, "covariance": 1.0, "hidden_width": 16,
                "output_width": 16,
            },
            "dino": {
                "teacher_temperature": 0.04, "student_temperature": 0.1, "momentum": 0.9,
                "hidden_width": 16, "bottleneck_width": 8, "output_width": 16,
            },
            "lejepa": {
                "views": 3, "regularisation": 0.05, "slices": 64, "hidden_width": 16,
                "output_width": 8,
            },
            "igpt": {"side": 8, "colours": 16, "layers": 4, "width": 16, "heads": 2},
        }  # fmt: skip
        return PretextParameters(**(small | changes))

    return build
