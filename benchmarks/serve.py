"""The service under load, and its overhead. Run: BUNDLE=FOLDER python -m benchmarks serve.

Only this machine is asked, on a port of its own. The patients are simulated; their values make no
difference to the time.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import numpy as np
import torch
import yaml

from benchmarks.side_by_side import Row, divide
from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.imaging.store import decode_pictures
from lymphocytosis.parameters import SimulationParameters
from lymphocytosis.simulation.cohort import simulate_cohort
from lymphocytosis.system.bundle import read_bundle
from lymphocytosis.system.diagnosis import ReadySystem
from tests.fuzz_http import memory_of, served

CONF = Path(__file__).parents[1] / "conf/base/parameters.yml"
CLIENTS, REQUESTS, CELLS, TURNS = 8, 1_000, 80, 5

Patient = dict[str, bytes]


def measure() -> list[Row]:
    """Measure one patient of 80 cells, and then many small ones from 8 clients."""
    bundle = bundle_folder()
    read = read_bundle(bundle, None)
    system = ReadySystem(read, read.compute)
    large, *small = simulated_patients()
    with TemporaryDirectory() as folder, served(bundle, Path(folder) / "log") as (port, process):
        url = f"http://127.0.0.1:{port}/v1/predict"
        ratios = _overhead(system, url, large)
        memory, wrong = _load(system, url, small, process)
    return [
        Row(
            f"serve: one patient of {CELLS} cells over HTTP, median",
            "the encoder's bare forward",
            "at most 1.2",
            ratios,
            f"{read.facts['parameters']['encoder']['name']}",
        ),
        Row(
            f"serve: answers that are errors or differ from ReadySystem's, of {REQUESTS}",
            f"{CLIENTS} clients at once",
            "0",
            [wrong],
        ),
        Row(
            "serve: memory after the load",
            "after a tenth of it",
            "at most 1.05",
            [memory[-1] / memory[0]],
            f"{memory[0]:.0f} MB, {memory[-1]:.0f} MB",
        ),
    ]


def bundle_folder() -> Path:
    """The bundle that is measured: the variable BUNDLE, or the demo's."""
    return Path(os.environ.get("BUNDLE", "data/demo/06_models/bundle"))


def bare_forward(system: ReadySystem, files: list[PictureFile]) -> Callable[[], None]:
    """The encoder alone, on pictures that are decoded and turned beforehand."""
    stored = decode_pictures(files, system.image)
    pixels = np.stack([picture.pixels for picture in stored if picture.pixels is not None])
    encoder = system._encoder
    size = encoder._batch_size
    shown = [
        encoder._show(torch.from_numpy(pixels[start : start + size]))
        for start in range(0, len(pixels), size)
    ]

    def forward() -> None:
        with torch.inference_mode():
            for batch in shown:
                encoder._embed(batch)[0].sum().item()

    return forward


def simulated_patients() -> list[Patient]:
    """One patient of 80 cells, then eight of 2 to 9."""
    simulation = yaml.safe_load(CONF.read_text())["simulation"]
    simulation |= {"train_reactive": 1, "train_tumoral": 1, "test": 1}
    _, drawn = simulate_cohort(
        SimulationParameters(**simulation | {"min_cells": CELLS, "max_cells": CELLS})
    )
    pictures = [content for _, content in drawn][:CELLS]
    large = {f"{n:03}.jpg": content for n, content in enumerate(pictures)}
    return [large, *(dict(list(large.items())[n : 2 * n]) for n in range(2, 10))]


def _overhead(system: ReadySystem, url: str, patient: Patient) -> list[float]:
    forward = bare_forward(system, files_of(patient))
    seconds: dict[str, list[float]] = {"http": [], "bare": []}
    with httpx2.Client(trust_env=False, timeout=600) as client:
        for turn in range(TURNS + 1):
            start = time.perf_counter()
            assert _post(client, url, patient).status_code == 200
            between = time.perf_counter()
            forward()
            if turn:  # the first warms caches
                seconds["http"].append(between - start)
                seconds["bare"].append(time.perf_counter() - between)
    return divide([statistics.median(seconds["http"])], [statistics.median(seconds["bare"])])


def _load(
    system: ReadySystem, url: str, patients: list[Patient], process: int
) -> tuple[list[float], int]:
    expected = []
    for patient in patients:
        row = system.diagnose(files_of(patient), 71, 12.5, system.image).row
        expected.append(json.loads(json.dumps(row)))
    memory = []
    wrong = 0
    with httpx2.Client(trust_env=False, timeout=600) as client, ThreadPoolExecutor(CLIENTS) as pool:

        def one(number: int) -> bool:
            answer = _post(client, url, patients[number % len(patients)])
            right = answer.status_code == 200
            return right and answer.json()["row"] == expected[number % len(patients)]

        for first in range(0, REQUESTS, REQUESTS // 10):
            wrong += sum(not right for right in pool.map(one, range(first, first + REQUESTS // 10)))
            memory.append(memory_of(process))
    return memory, wrong


def files_of(patient: Patient) -> list[PictureFile]:
    """A patient's pictures as a system takes them."""
    return [
        PictureFile("test", "patient", name, name, lambda content=content: content)
        for name, content in sorted(patient.items())
    ]


def _post(client: httpx2.Client, url: str, patient: Patient) -> httpx2.Response:
    files = [("pictures", item) for item in patient.items()]
    return client.post(url, files=files, data={"age": "71", "count": "12.5"})
