"""Draw a cohort in the challenge's layout: patients, their clinical table, their bags of pictures.

The signal is known and can be turned. Each trait has a distribution in each class (tables below).
A signal of 1 uses the class' own distribution; a signal of 0 uses the mean of both for every
patient, so that nothing depends on the class; values between blend the two. Random numbers never
depend on the class: patients who draw the same numbers differ by these tables alone.

Cells (`CELL_TRAITS`): a cell's trait is mean + between * patient's draw + within * cell's draw,
mirrored at its limits. Reactive patients show a mix: small cells beside large, irregular ones with
deep-blue cytoplasm and open chromatin, so `within` is large. Tumoral patients show one monotonous
population of rather small cells with clumped chromatin, so `within` is small; which population it
is differs by patient, so `between` is larger. How mixed a bag is varies by patient too, by a factor
on `within` that all its traits share (`MIXTURE_SPREAD`). `activation` is the correlation of a
cell's draw with the cell's activation, which its traits share: an activated cell is large and blue
at once.

Clinical values (`AGE`, `LOG_COUNT`): tumoral patients are older and have higher counts; even at a
signal of 1 the classes overlap.

Neither stain, bag size, ID, row order nor date format carries the class.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from lymphocytosis.display import followed
from lymphocytosis.parameters import SimulationParameters
from lymphocytosis.simulation.cells import CellTraits, StainTraits, draw_cell


class Spread(NamedTuple):
    """A trait's distribution in one class.

    Attributes:
        mean: over patients and cells.
        between: standard deviation of the patients' means.
        within: standard deviation of a patient's cells around their mean.
    """

    mean: float
    between: float
    within: float = 0.0


@dataclass(frozen=True)
class Trait:
    """A trait's distribution in both classes, and what holds for both.

    Attributes:
        reactive: its distribution in reactive patients.
        tumoral: its distribution in tumoral patients.
        limits: the lowest and the highest value; draws beyond are mirrored.
        activation: correlation with the cell's activation, -1 to 1.
    """

    reactive: Spread
    tumoral: Spread
    limits: tuple[float, float]
    activation: float = 0.0


# Units: see CellTraits. Of each class: mean, between, within; then limits and activation.
CELL_TRAITS = {
    name: Trait(Spread(*reactive), Spread(*tumoral), limits, activation)
    for name, reactive, tumoral, limits, activation in (
        ("nucleus_radius", (0.142, 0.005, 0.018), (0.137, 0.010, 0.004), (0.110, 0.175), 0.8),
        ("nucleus_share", (0.62, 0.03, 0.11), (0.76, 0.06, 0.03), (0.45, 0.90), -0.7),
        ("irregularity", (0.060, 0.008, 0.030), (0.038, 0.010, 0.008), (0.015, 0.130), 0.6),
        ("notch", (0.14, 0.03, 0.12), (0.08, 0.05, 0.04), (0.0, 0.45), 0.3),
        ("basophilia", (1.05, 0.10, 0.40), (0.75, 0.15, 0.10), (0.40, 2.00), 0.7),
        ("clumping", (0.45, 0.05, 0.20), (0.68, 0.12, 0.06), (0.0, 1.0), -0.6),
    )
}

MIXTURE_SPREAD = 0.35  # over patients, of the logarithm of the factor on `within`

# Years, and the logarithm of 10^9 lymphocytes per litre.
AGE = Trait(Spread(54.0, 20.0), Spread(76.0, 12.0), (18.0, 101.0))
LOG_COUNT = Trait(
    Spread(1.65, 0.30), Spread(2.85, 1.15), (float(np.log(2.28)), float(np.log(295.0)))
)

DRAWN_ON = date(2021, 3, 1)  # the day at which patients have the drawn age
DASHED_SHARE = 0.14  # of the birth dates stand as DD-MM-YYYY, the others as M/D/YYYY
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Patient:
    """One planned patient: everything but the pictures.

    Attributes:
        number: 26 for the patient P26.
        subset: "train" or "test".
        label: the true class, 0 reactive, 1 tumoral, also where the table hides it.
        sex: "F" or "M"; one patient of the cohort has it in lower case.
        birth_date: date of birth.
        dashed: whether the table has the birth date as DD-MM-YYYY.
        lymphocyte_count: in 10^9 per litre.
        cell_count: number of pictures.
    """

    number: int
    subset: str
    label: int
    sex: str
    birth_date: date
    dashed: bool
    lymphocyte_count: float
    cell_count: int


@dataclass(frozen=True)
class _Slide:
    """What a patient's pictures share: the stain, and what is drawn once for the cells.

    Attributes:
        stain: the look of the slide.
        draws: the patient's draw of each cell trait.
        mixture: factor on the spread of the cells' draws.
    """

    stain: StainTraits
    draws: tuple[float, ...]
    mixture: float


def simulate_cohort(
    simulation: SimulationParameters,
) -> tuple[pd.DataFrame, Iterator[tuple[str, bytes]]]:
    """Draw a cohort in the challenge's layout, quirks included.

    A picture depends on the seed, its patient and its number alone, so the same parameters give the
    same bytes on every run on one machine.

    Args:
        simulation: the cohort's size and the strength of its signal.

    Returns:
        The clinical table, all strings as in the challenge's CSV, its unnamed index column
        included; and an iterator that draws the pictures as they are asked for: relative path
        ("trainset/P26/000000.jpg") and JPEG bytes, patients in the table's order.
    """
    patients = plan_patients(simulation)
    return _tabulate(patients, simulation.test_labels == "hidden"), _draw(patients, simulation)


def plan_patients(simulation: SimulationParameters) -> list[Patient]:
    """Draw all patients, in the table's order, without a picture.

    Args:
        simulation: the cohort's size and the strength of its signal.

    Returns:
        The patients, training and test patients of both classes mixed.
    """
    rng = np.random.default_rng(simulation.seed)
    places = _draw_places(rng, simulation)
    numbers = rng.permutation(len(places)).tolist()
    patients = [
        _draw_patient(rng, number, subset, label, simulation)
        for number, (subset, label) in zip(numbers, places, strict=True)
    ]
    return _add_quirks(rng, patients)


def _draw_places(
    rng: np.random.Generator, simulation: SimulationParameters
) -> list[tuple[str, int]]:
    """Subset and label of each patient, in random order."""
    reactive, tumoral = simulation.train_reactive, simulation.train_tumoral
    test_labels = rng.uniform(size=simulation.test) < tumoral / (reactive + tumoral)
    places = [("train", 0)] * reactive + [("train", 1)] * tumoral
    places += [("test", int(label)) for label in test_labels]
    return [places[at] for at in rng.permutation(len(places))]


def _draw_patient(
    rng: np.random.Generator,
    number: int,
    subset: str,
    label: int,
    simulation: SimulationParameters,
) -> Patient:
    signal = simulation.clinical_signal
    age = _value(AGE, label, signal, rng.standard_normal())
    log_count = _value(LOG_COUNT, label, signal, rng.standard_normal())
    # Skewed: most bags are in the lower third of the range.
    fill = rng.beta(1.3, 3.0)
    return Patient(
        number=number,
        subset=subset,
        label=label,
        sex=str(rng.choice(["F", "M"])),
        birth_date=DRAWN_ON - timedelta(days=int(365.25 * age)),
        dashed=False,
        lymphocyte_count=round(float(np.exp(log_count)), 2),
        cell_count=round(
            simulation.min_cells + fill * (simulation.max_cells - simulation.min_cells)
        ),
    )


def _add_quirks(rng: np.random.Generator, patients: list[Patient]) -> list[Patient]:
    """Quirks of the real table, at patients drawn at random."""
    patients = list(patients)
    first, second = rng.permutation(len(patients))[:2]
    patients[second] = replace(
        patients[second], sex=patients[first].sex, birth_date=patients[first].birth_date
    )
    lower = rng.integers(len(patients))
    patients[lower] = replace(patients[lower], sex=patients[lower].sex.lower())
    dashed = rng.permutation(len(patients))[: max(1, round(DASHED_SHARE * len(patients)))]
    for at in dashed:
        patients[at] = replace(patients[at], dashed=True)
    return patients


def _tabulate(patients: list[Patient], hide_test: bool) -> pd.DataFrame:
    rows = [
        (
            str(row),
            f"P{patient.number}",
            "-1" if hide_test and patient.subset == "test" else str(patient.label),
            patient.sex,
            _write_date(patient.birth_date, patient.dashed),
            str(patient.lymphocyte_count),
        )
        for row, patient in enumerate(patients)
    ]
    return pd.DataFrame(rows, columns=["", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"])


def _write_date(day: date, dashed: bool) -> str:
    return f"{day:%d-%m-%Y}" if dashed else f"{day.month}/{day.day}/{day.year}"


def _draw(patients: list[Patient], simulation: SimulationParameters) -> Iterator[tuple[str, bytes]]:
    # One thread: a picture is many small array operations, and a second thread would mostly wait
    # for the interpreter's lock (measured: two threads are no faster than one).
    for patient in followed(patients, "drawing", len(patients), "patients"):
        slide = _draw_slide(patient.number, simulation.seed)
        for picture in range(patient.cell_count):
            path = f"{patient.subset}set/P{patient.number}/{picture:06d}.jpg"
            yield path, _draw_picture(patient, picture, slide, simulation)


def _draw_slide(number: int, seed: int) -> _Slide:
    rng = _generator(seed, number)
    stain = StainTraits(
        background=(rng.uniform(249, 255), rng.uniform(224, 232), rng.uniform(198, 212)),
        intensity=rng.uniform(0.88, 1.15),
        hue=rng.uniform(-0.06, 0.06),
        red_cells=int(rng.integers(30, 110)),
        pallor=rng.uniform(0.15, 0.95),
        blur=rng.uniform(0.005, 0.010),
    )
    draws = tuple(rng.standard_normal(len(CELL_TRAITS)).tolist())
    return _Slide(stain, draws, mixture=float(np.exp(MIXTURE_SPREAD * rng.standard_normal())))


def _draw_picture(
    patient: Patient, picture: int, slide: _Slide, simulation: SimulationParameters
) -> bytes:
    rng = _generator(simulation.seed, patient.number, picture)
    cell = _draw_traits(rng, patient.label, simulation.cell_signal, slide)
    pixels = draw_cell(rng, cell, slide.stain, simulation.picture_size)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _draw_traits(rng: np.random.Generator, label: int, signal: float, slide: _Slide) -> CellTraits:
    activation = rng.standard_normal()
    values = {}
    for (name, trait), patient_draw in zip(CELL_TRAITS.items(), slide.draws, strict=True):
        own = (1 - trait.activation**2) ** 0.5 * rng.standard_normal()
        cell_draw = slide.mixture * (trait.activation * activation + own)
        values[name] = _value(trait, label, signal, patient_draw, cell_draw)
    return CellTraits(**values)


def _value(
    trait: Trait, label: int, signal: float, patient_draw: float, cell_draw: float = 0.0
) -> float:
    """The trait's value for standard normal draws of the patient and of the cell."""
    spread = _blend(trait, label, signal)
    value = spread.mean + spread.between * patient_draw + spread.within * cell_draw
    lowest, highest = trait.limits
    # Mirrored, so that values don't pile up at a limit (one birth date for all the oldest).
    value = lowest + abs(value - lowest)
    value = highest - abs(highest - value)
    return max(value, lowest)


def _blend(trait: Trait, label: int, signal: float) -> Spread:
    weight = (1 + signal) / 2 if label else (1 - signal) / 2  # of the tumoral distribution
    both = zip(trait.tumoral, trait.reactive, strict=True)
    return Spread(*(weight * tumoral + (1 - weight) * reactive for tumoral, reactive in both))


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
