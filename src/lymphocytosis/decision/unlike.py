"""Is a patient unlike those a system was trained on? Then its prediction is a guess.

Each patient has traits t_j: how many cells, the medians of their pictures' measures, how far their
embeddings lie from the training patients', age, count, and others (`TRAITS`). A trait's unlikeness
is its distance from the training patients' median m_j, in units of the distance of their greatest
twentieth, whose mean is h_j, or of their least one, whose mean is l_j:

    u_j = (t_j - m_j) / (h_j - m_j) above the median, (m_j - t_j) / (m_j - l_j) below it

A mean of a tail is further away where the tail is heavy, so traits are compared alike. Age and
count have two modes, the young with infections and the old with cancers, so their medians say
little: with the 95 % and the 5 % quantile instead of m_j, they have ln(1 + u_j), and 0 between
these. Traits form five groups: the number and form of the pictures, age and count, the pictures'
measures one by one, the measures together, and the cells' embeddings. A group's unlikeness is
U_g = max_j u_j over its traits, and s_g its 95 % quantile over training patients: a group of many
traits gets no larger share of the flags. A patient is flagged where max_g U_g / s_g > q. With r_i
that maximum of training patient i, measured against the others, q is the ceil(0.95 (n + 1))-th
smallest of r_1 ... r_n: so about 5 % of patients of the same source are flagged, by whichever
trait.

Distances and shares of odd cells of patient i come from spaces fitted without it: each tenth of the
training patients is measured in a space fitted on the other nine tenths.

Sources: Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World (conformal
p-values); Harrell and Davis 1982, A new distribution-free quantile estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import beta
from threadpoolctl import threadpool_limits

from lymphocytosis.decision.spaces import Floats, Place, Space, Vectors, fit_space
from lymphocytosis.errors import UserError, listed

# Share of patients of the same source that are flagged, and of their cells that are odd.
FLAGGED = 0.05
ODD = 0.01
# With fewer training patients there are no quantiles to speak of, and nobody is flagged.
FEWEST = 5
# From this many on the limit can keep FLAGGED; with fewer, 1 / (n + 1) are flagged.
ENOUGH = round(1 / FLAGGED) - 1
_FOLDS = 10
_COMPONENTS = 32
# A share of odd cells is taken with so many more cells, ODD of them odd: one odd cell of two says
# little.
_MORE_CELLS = 10


@dataclass(frozen=True)
class Trait:
    """One number of a patient that may be unlike the training patients'.

    Attributes:
        name: short, for a Flag.
        quantity: what is measured, and its unit.
        low: what a patient below the training patients is; None where low is nothing unusual.
        high: the same above.
        least: distances from the median to the tails count as at least this.
        shown: from the trait's scale to the quantity's.
    """

    name: str
    quantity: str
    low: str | None
    high: str | None
    least: float
    shown: Callable[[float], float] = float


_NUCLEI, _AROUND = "density of the nuclei", "density around the nuclei"
_MEASURED = (
    Trait("brightness", "background, of 255", "darker background", "brighter background", 1),
    Trait("background_red", "its red less green", "less red background", "redder background", 1),
    Trait("background_blue", "its blue less green", "less blue background", "bluer background", 1),
    Trait("nucleus_stain", _NUCLEI, "paler nuclei", "darker nuclei", 0.01),
    Trait("nucleus_red", f"{_NUCLEI}, red less green", "redder nuclei", "less red nuclei", 0.01),
    Trait("nucleus_blue", f"{_NUCLEI}, blue less green", "bluer nuclei", "less blue nuclei", 0.01),
    Trait("around_stain", _AROUND, "paler surroundings", "darker surroundings", 0.01),
    Trait(
        "around_red", f"{_AROUND}, red less green",
        "redder surroundings", "less red surroundings", 0.01,
    ),
    Trait(
        "around_blue", f"{_AROUND}, blue less green",
        "bluer surroundings", "less blue surroundings", 0.01,
    ),
    Trait("saturation", "saturation, of 255", "paler colours", "stronger colours", 1),
    Trait("nucleus_share", "dark share of a picture", "smaller nuclei", "larger nuclei", 0.01),
    Trait("contrast", "deviation of green", "less contrast", "more contrast", 0.05, np.exp2),
    *(
        Trait(
            f"detail_{lag}", f"detail at {lag} pixels, of the contrast",
            "less sharp pictures", "sharper pictures", 0.05, np.exp2,
        )
        for lag in (1, 2, 4, 8)
    ),
    *(
        Trait(
            f"colour_detail_{lag}", f"detail of colour at {lag} pixels, of the contrast",
            "less detail of colour", "more detail of colour", 0.05, np.exp2,
        )
        for lag in (2, 8)
    ),
)  # fmt: skip
TRAITS = (
    Trait("cells", "number of cells", "fewer cells", None, 0.1, np.exp),
    Trait("converted", "their share", None, "more pictures of another size or mode", 0.05),
    Trait("age", "age in years", "lower age", "higher age", 1),
    Trait("count", "10^9 lymphocytes per litre", "lower count", "higher count", 0.05, np.exp),
    *_MEASURED,
    Trait("odd_pictures", "share of odd pictures", None, "more odd pictures", 0.05),
    Trait("look", "distance of their mean", None, "stranger pictures", 0.05, np.exp),
    Trait("embedding", "distance of their mean", None, "stranger cells", 0.05, np.exp),
    Trait(
        "embedding_rest", "distance of their mean in other directions",
        None, "cells that are strange in another way", 0.05, np.exp,
    ),
    Trait("odd_cells", "share of odd cells", None, "more odd cells", 0.05),
)  # fmt: skip
MEASURED = tuple(trait.name for trait in _MEASURED)
"""Names of the pictures' measures, in the order of their columns."""


_LOW, _HIGH = (
    np.array([words is not None for words in side])
    for side in zip(*((t.low, t.high) for t in TRAITS), strict=True)
)
_GROUPS = ("cells", "age", "brightness", "look", "embedding")
_LEAST = np.array([trait.least for trait in TRAITS])
# The groups' first traits, and each trait's group.
_FIRST = [[trait.name for trait in TRAITS].index(n) for n in _GROUPS]
_GROUP = np.digitize(range(len(TRAITS)), _FIRST) - 1
# Traits that count from the quantiles.
_BEYOND = np.isin([trait.name for trait in TRAITS], ["age", "count"])
# Of the measures: distances of all of them together need one unit.
_UNITS = np.array([trait.least for trait in _MEASURED])
_SPACES = ("look", "embedding")
_KINDS: dict[str, type[np.generic]] = {"patients": np.int64, "judged": np.bool_}
_POSITIVE = ("patients", "limits", "odd_from", ".scale")


@dataclass(frozen=True)
class Flag:
    """One way in which a patient is unlike the training patients.

    Attributes:
        name: of the trait.
        text: what is unlike, and by how much.
        score: the trait's unlikeness divided by the limit, above 1.
    """

    name: str
    text: str
    score: float


@dataclass(frozen=True)
class Reference:
    """What training patients look like: means, covariances and quantiles, and no patient.

    Attributes:
        patients: how many it was fitted on.
        limits: (t,) unlikeness above which a trait is flagged: q s_g, the same within a group.
        odd_from: (2,) distances above which a picture's measures and its embedding are odd.
        judged: (t,) bool; the traits that enough training patients have.
        levels: (5, t) of each trait over training patients: mean of the least twentieth; quantiles
            at 5, 50 and 95 %; mean of the greatest twentieth.
        look: of the pictures' measures.
        embedding: of the embeddings.
    """

    patients: int
    limits: Floats
    odd_from: Floats
    judged: npt.NDArray[np.bool_]
    levels: Floats
    look: Space
    embedding: Space

    def cautions(self) -> list[str]:
        """Say what the reference can't judge, or only badly.

        Returns:
            A text each; none where there were enough training patients.
        """
        if self.patients < FEWEST:
            return [
                f"With {self.patients} training patient(s) nobody can be told to be unlike them; "
                f"at least {FEWEST} are needed."
            ]
        said = []
        if self.patients < ENOUGH:
            said.append(
                f"There were only {self.patients} training patients: about "
                f"{1 / (self.patients + 1):.0%} of patients like them are flagged as unlike them, "
                f"not {FLAGGED:.0%}."
            )
        left = [t.quantity for t, judged in zip(TRAITS, self.judged, strict=True) if not judged]
        if left:
            said.append(
                f"Not compared with training patients, too few of whom have it: {', '.join(left)}."
            )
        return said

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give the reference as plain numbers.

        Returns:
            Arrays by name, for `from_arrays`.
        """
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        spaces = {name: own.pop(name) for name in _SPACES}
        parts = {f"{n}.{f.name}": getattr(s, f.name) for n, s in spaces.items() for f in fields(s)}
        return {name: np.asarray(value) for name, value in (own | parts).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Reference:
        """Take a reference from plain numbers.

        Args:
            arrays: as `arrays` gave them; they may come from a file.

        Returns:
            The reference.

        Raises:
            UserError: an array is missing, not known, of another shape or type, or has values that
                no reference has.
        """
        _check(arrays)
        look, embedding = (
            Space(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(Space)})
            for name in _SPACES
        )
        return cls(
            int(arrays["patients"]),
            arrays["limits"],
            arrays["odd_from"],
            arrays["judged"],
            arrays["levels"],
            look,
            embedding,
        )


def fit_reference(
    patients: pd.DataFrame, cells: pd.DataFrame, measures: Vectors, instances: Vectors
) -> Reference:
    """Learn what training patients look like.

    Args:
        patients: patient_id, person, age_years, lymphocyte_count (10^9 per litre); a row a training
            patient. Age and count may be missing.
        cells: patient_id, status; a row a picture that was not left out, of these patients or of
            others, who are ignored.
        measures: (n, m) float, of these pictures, as `imaging.measures.measure_pictures` does.
        instances: (n, D) float, their large embeddings in the original view.

    Returns:
        The reference.
    """
    # Sorted, so that the order of patients changes no bit.
    patients = patients.sort_values("patient_id", ignore_index=True)
    rows = cells.groupby("patient_id").indices
    bags = [rows[patient_id] for patient_id in patients["patient_id"]]
    converted = [(cells["status"].iloc[bag] == "converted").mean() for bag in bags]
    clinical = patients[["age_years", "lymphocyte_count"]].to_numpy(dtype=float, na_value=np.nan)
    person = pd.factorize(patients["person"])[0]
    # One thread: the same bits on any number of cores, and no time lost on small products.
    with threadpool_limits(limits=1, user_api="blas"):
        looks = [measures[bag] / _UNITS for bag in bags]
        vectors = [instances[bag].astype(np.float64) for bag in bags]
        places = [
            _held_out_places(looks, person, len(MEASURED)),
            _held_out_places(vectors, person, _COMPONENTS),
        ]
        odd_from = np.array(
            [np.quantile(np.concatenate([p.cells for p in of]), 1 - ODD) for of in places]
        )
        traits = np.array(
            [
                _traits(
                    measures[bags[i]],
                    places[0][i],
                    places[1][i],
                    odd_from,
                    converted[i],
                    *clinical[i],
                )
                for i in range(len(bags))
            ]
        )
        judged = np.isfinite(traits).sum(axis=0) >= FEWEST
        others = [person != person[i] for i in range(len(bags))]
        unlikeness = [
            _unlikeness(traits[i], _levels(traits[others[i]], judged), judged)
            for i in range(len(bags))
        ]
        by_group = np.maximum.reduceat(unlikeness, _FIRST, axis=1)
        ratios = [(by_group[i] / _scales(by_group[others[i]])).max() for i in range(len(bags))]
        rank = min(int(np.ceil(round((1 - FLAGGED) * (len(bags) + 1), 9))), len(bags))
        return Reference(
            patients=len(bags),
            limits=max(1.0, np.sort(ratios)[rank - 1]) * _scales(by_group)[_GROUP],
            odd_from=odd_from,
            judged=judged,
            levels=_levels(traits, judged),
            look=fit_space(looks, len(MEASURED)),
            embedding=fit_space(vectors, _COMPONENTS),
        )


def find_unlike(
    reference: Reference,
    measures: Vectors,
    instances: Vectors,
    converted_share: float,
    age: float | None,
    count: float | None,
) -> list[Flag]:
    """Find in what a patient is unlike the training patients.

    Args:
        reference: the training patients.
        measures: (n, m) float, of the patient's pictures, in any order.
        instances: (n, D) float, their large embeddings in the original view.
        converted_share: share of these pictures that had another size or mode.
        age: in years; None where it is not known.
        count: lymphocytes, 10^9 per litre; None where it is not known.

    Returns:
        A flag for each trait beyond the limit, the most unlike first; none for a patient like the
        training patients.
    """
    traits = _traits(
        measures,
        reference.look.place(measures / _UNITS),
        reference.embedding.place(instances),
        reference.odd_from,
        converted_share,
        np.nan if age is None else age,
        np.nan if count is None else count,
    )
    unlikeness = _unlikeness(traits, reference.levels, reference.judged)
    scores = unlikeness / reference.limits
    return [
        Flag(TRAITS[j].name, _text(j, traits, unlikeness, reference), float(scores[j]))
        for j in np.argsort(-scores, kind="stable")
        if scores[j] > 1
    ]


def find_odd_cells(reference: Reference, instances: Vectors) -> npt.NDArray[np.bool_]:
    """Find cells that lie further off than 99 % of the training patients' cells.

    Args:
        reference: the training patients.
        instances: (n, D) float, a patient's large embeddings in the original view.

    Returns:
        (n,) bool.
    """
    return reference.embedding.place(instances).cells > reference.odd_from[1]


def _held_out_places(
    bags: Sequence[Floats], person: npt.NDArray[np.int64], most: int
) -> list[Place]:
    """Where each patient lies in a space that was fitted without it and its namesakes."""
    persons = person.max() + 1
    # Shuffled: the order of patients may have a meaning.
    fold = (np.random.default_rng(0).permutation(persons) % _FOLDS)[person]
    places: dict[int, Place] = {}
    for number in np.unique(fold).tolist():
        others = [bag for bag, of_bag in zip(bags, fold, strict=True) if of_bag != number]
        space = fit_space(others or bags, most)
        places |= {i: space.place(bags[i]) for i in np.flatnonzero(fold == number).tolist()}
    return [places[i] for i in range(len(bags))]


def _traits(
    measures: Vectors,
    look: Place,
    place: Place,
    odd_from: Floats,
    converted_share: float,
    age: float,
    count: float,
) -> Floats:
    """A patient's traits, (t,) in the order of `TRAITS`; NaN where one is not known."""
    n = len(measures)
    odd_pictures, odd_cells = (
        ((found.cells > edge).sum() + ODD * _MORE_CELLS) / (n + _MORE_CELLS)
        for found, edge in zip((look, place), odd_from, strict=True)
    )
    return np.array([
        np.log(n), converted_share, age, np.log(count),
        *np.median(measures, axis=0),
        odd_pictures, _log(look.mean),
        _log(place.mean), _log(place.rest), odd_cells,
    ])  # fmt: skip


def _log(distance: float) -> float:
    return float(np.log(max(distance, 0.01)))


def _levels(traits: Floats, judged: npt.NDArray[np.bool_]) -> Floats:
    """`Reference.levels` of patients' traits (n, t); 0 where not judged."""
    levels = np.zeros((5, len(judged)))
    for j in np.flatnonzero(judged):
        known = np.sort(traits[np.isfinite(traits[:, j]), j])
        levels[:, j] = _weights(len(known)) @ known
    return np.sort(levels, axis=0)  # equal values may differ by rounding


@lru_cache
def _weights(n: int) -> Floats:
    """Weights (5, n) of sorted values that give their levels, none of which is one patient's value.

    Quantiles are Harrell and Davis'. Of few patients, a tail is more than a twentieth.
    """
    steps, p = np.arange(n + 1) / n, np.array([[0.05], [0.5], [0.95]])
    quantiles = np.diff(beta.cdf(steps, (n + 1) * p, (n + 1) * (1 - p)))
    most = max(n / 20, min(5, n / 4))
    tail = np.clip(most - np.arange(n), 0, 1) / most
    return np.vstack([tail, quantiles, tail[::-1]])


def _scales(by_group: Floats) -> Floats:
    """95 % quantile of patients' unlikeness (n, g) in each group, (g,)."""
    if not len(by_group):
        return np.full(len(_GROUPS), 0.5)
    # It is 0 where no training patient has anything unusual.
    return np.maximum(0.5, _weights(len(by_group))[3] @ np.sort(by_group, axis=0))


def _unlikeness(traits: Floats, levels: Floats, judged: npt.NDArray[np.bool_]) -> Floats:
    least, low, median, high, greatest = levels
    low, high = (np.where(_BEYOND, quantile, median) for quantile in (low, high))
    with np.errstate(invalid="ignore"):
        above = np.where(_HIGH, (traits - high) / np.maximum(greatest - high, _LEAST), 0)
        below = np.where(_LOW, (low - traits) / np.maximum(low - least, _LEAST), 0)
    found = np.maximum(np.maximum(above, below), 0)
    found = np.where(_BEYOND, np.log1p(found), found)
    return np.where(judged & np.isfinite(traits), found, 0.0)


def _text(j: int, traits: Floats, unlikeness: Floats, reference: Reference) -> str:
    """What is unlike in a trait, and by how much."""
    trait, median = TRAITS[j], reference.levels[2, j]
    text = (
        f"{trait.low if traits[j] < median else trait.high} than in training patients; "
        f"{_compared(j, traits, reference)} "
        f"(unlikeness {unlikeness[j]:.1f}, limit {reference.limits[j]:.1f})"
    )
    if trait.name == "look":
        first = _FIRST[_GROUPS.index("brightness")]
        most = first + int(unlikeness[first : first + len(MEASURED)].argmax())
        text += f"; most of all, {_compared(most, traits, reference)}"
    return text


def _compared(j: int, traits: Floats, reference: Reference) -> str:
    trait = TRAITS[j]
    found, low, high = (
        _said(trait.shown(value)) for value in (traits[j], *reference.levels[[1, 3], j])
    )
    if trait.low is None:
        usual = f"at most {high} in 95 %"
    elif trait.high is None:
        usual = f"at least {low} in 95 %"
    else:
        usual = f"{low} to {high} in 90 %"
    return f"{trait.quantity}: {found}, {usual} of them"


def _said(value: float) -> str:
    """Three digits that matter, without an exponent."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


def _check(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse what `Reference.arrays` can't have given."""
    expected: dict[str, tuple[int, ...]] = {
        "patients": (),
        "limits": (len(TRAITS),),
        "odd_from": (2,),
        "judged": (len(TRAITS),),
        "levels": (5, len(TRAITS)),
    }
    for space in _SPACES:
        width = len(MEASURED) if space == "look" else np.size(arrays.get(f"{space}.mean", 0))
        kept = np.size(arrays.get(f"{space}.between", 0))
        shapes = ((width,), (width,), (width, kept), (kept, kept), (kept,))
        names = (f"{space}.{field.name}" for field in fields(Space))
        expected |= dict(zip(names, shapes, strict=True))
    faults = [f"{name}: is missing" for name in expected if name not in arrays]
    for name, array in arrays.items():
        kind = _KINDS.get(name, np.float64)
        if name not in expected:
            faults.append(f"{name}: does not belong here")
        elif array.shape != expected[name] or array.dtype != kind:
            faults.append(
                f"{name}: is {array.dtype} {array.shape}, expected {kind.__name__} {expected[name]}"
            )
        elif not np.isfinite(array).all():
            faults.append(f"{name}: has a value that is not finite")
        elif name.endswith(_POSITIVE) and not (array > 0).all():
            faults.append(f"{name}: has a value that is not above 0")
        elif name.endswith(".between") and (array < 0).any():
            faults.append(f"{name}: has a value below 0")
        elif name == "levels" and (np.diff(array, axis=0) < 0).any():
            faults.append(f"{name}: are not in order")
    if faults:
        raise UserError(
            "What is known of the training patients is damaged, or of another version: "
            + listed(faults)
        )
