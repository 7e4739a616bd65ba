"""Decoding a cohort, measured against Pillow. Run: python -m benchmarks decoding."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL
import simplejpeg
from PIL import Image

from benchmarks.side_by_side import Row, divide
from lymphocytosis.datasets.picture_folder import PictureFolderDataset
from lymphocytosis.imaging.decode import Pixels, decode_picture
from lymphocytosis.imaging.store import decode_pictures
from lymphocytosis.parameters import ImageParameters, SimulationParameters
from lymphocytosis.simulation.cohort import simulate_cohort

TURNS = 9
IMAGE = ImageParameters(
    source_size=224,
    crop=224,
    size=224,
    unreadable="refuse",
    other_size="refuse",
    other_mode="refuse",
)
COHORT = SimulationParameters(
    seed=0,
    train_reactive=6,
    train_tumoral=14,
    test=6,
    min_cells=16,
    max_cells=48,
    picture_size=224,
    cell_signal=1.0,
    clinical_signal=1.0,
    test_labels="hidden",
)


def measure() -> list[Row]:
    """Decode a simulated cohort in both ways, which must agree to the bit."""
    with TemporaryDirectory() as folder:
        dataset = PictureFolderDataset(filepath=folder)
        dataset.save(simulate_cohort(COHORT)[1])
        files = dataset.load()
        paths = [Path(folder) / file.path for file in files]
        contents = [path.read_bytes() for path in paths]
        assert all(
            np.array_equal(stored.pixels, _by_pillow(path))
            for stored, path in zip(decode_pictures(files, IMAGE), paths, strict=True)
        )
        # Each decoded picture is let go at once, as it is when the store is written.
        sides = {
            "pillow": lambda: [_by_pillow(BytesIO(content)).shape for content in contents],
            "simplejpeg": lambda: [simplejpeg.decode_jpeg(content).shape for content in contents],
            "ours": lambda: [
                decode_picture(content, "cell.jpg", IMAGE).status for content in contents
            ],
            "pillow, files": lambda: _on_all_cores(_read_by_pillow, paths),
            "ours, files": lambda: [item.record for item in decode_pictures(files, IMAGE)],
        }
        seconds, busy = _seconds_of_processor(sides)
    pillow = f"Pillow {PIL.__version__}"
    return [
        Row(
            "JPEG to RGB array, the decoder alone, one core",
            pillow,
            "",
            divide(seconds["pillow"], seconds["simplejpeg"]),
            "the limit of the next two; processor time; equal to the bit; it differs from run to "
            "run by where memory lies",
        ),
        Row(
            "the same with all checks of a file",
            pillow,
            "at least 1.6",
            divide(seconds["pillow"], seconds["ours"]),
            "the limit is the row above",
        ),
        Row(
            "decode a cohort: read, check, SHA-256, pixels; all cores",
            f"{pillow} on all cores: read, SHA-256, pixels",
            "at least 1.6",
            divide(seconds["pillow, files"], seconds["ours, files"]),
            "processor time of all threads",
        ),
        Row(
            "share of the cores in use while a cohort is decoded",
            f"{os.cpu_count()} cores",
            "1",
            busy["ours, files"],
            "less where other programs run on the machine",
        ),
    ]


def _by_pillow(file: Path | BytesIO) -> Pixels:
    return np.asarray(Image.open(file).convert("RGB"))


def _read_by_pillow(path: Path) -> str:
    content = path.read_bytes()
    _by_pillow(BytesIO(content))
    return sha256(content).hexdigest()


def _on_all_cores(function: Callable[[Path], str], paths: list[Path]) -> None:
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(function, paths):
            pass


def _seconds_of_processor(
    sides: dict[str, Callable[[], object]],
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Time sides in turn by what they use of the cores, and say how busy they kept them all."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS + 1):
        for name, function in sides.items():
            wall, used = time.perf_counter(), time.process_time()
            function()
            wall, used = time.perf_counter() - wall, time.process_time() - used
            if turn:  # the first one warms up
                seconds[name].append(used)
                busy[name].append(used / wall / (os.cpu_count() or 1))
    return seconds, busy
