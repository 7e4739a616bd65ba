"""Diagnosing new patients, against the encoder's bare forward.

Run: BUNDLE=FOLDER python -m benchmarks diagnosis. The patients are simulated; their values make no
difference to the time.
"""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.serve import CELLS, bare_forward, bundle_folder, files_of, simulated_patients
from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.pipelines.predict.nodes import diagnose_patients
from lymphocytosis.progress import Progress
from lymphocytosis.system.bundle import read_bundle
from lymphocytosis.system.diagnosis import ReadySystem

PATIENTS, CELLS_EACH, TURNS = 50, 16, 3


def measure() -> list[Row]:
    """Measure one patient of 80 cells, and many small ones as the pipeline `predict` does."""
    logging.getLogger("lymphocytosis").setLevel(logging.ERROR)
    bundle = read_bundle(bundle_folder(), None)
    system = ReadySystem(bundle, bundle.compute)
    one = files_of(simulated_patients()[0])
    each = one[:CELLS_EACH]
    names = [f"P{number:02}" for number in range(PATIENTS)]
    many = [replace(file, patient_id=name) for name in names for file in each]
    patients = pd.DataFrame({"patient_id": names, "age_years": 71.0, "lymphocyte_count": 12.5})
    patients["warnings"] = [[] for _ in names]
    forward_of_one, forward_of_each = bare_forward(system, one), bare_forward(system, each)
    with TemporaryDirectory() as folder:

        def predict() -> None:
            progress = Progress(Path(folder))
            diagnose_patients(system, many, patients, system.image, bundle.compute, progress)
            progress.clear()

        seconds = time_in_turn(
            {
                "forward of one": forward_of_one,
                "one": lambda: system.diagnose(one, 71.0, 12.5, system.image),
                "forward of many": lambda: [forward_of_each() for _ in names],
                "many": predict,
            },
            TURNS,
        )
    encoder = bundle.facts["parameters"]["encoder"]["name"]
    what = f"{encoder}, {system.image.size} pixels, three views"
    return [
        Row(
            f"diagnose one patient of {CELLS} cells: decode, embed, classify, explain, flag",
            "the encoder's bare forward",
            "at most 1.15",
            divide(seconds["one"], seconds["forward of one"]),
            what,
        ),
        Row(
            f"predict, {PATIENTS} patients of {CELLS_EACH} cells: the bare forward",
            "all of it",
            "at least 0.95",
            divide(seconds["forward of many"], seconds["many"]),
            what,
        ),
    ]
