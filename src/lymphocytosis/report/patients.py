"""What the report tells of each patient: predictions, reasons, values, cells, flags."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.cells import choose_cells
from lymphocytosis.decision.results import CLASSES
from lymphocytosis.decision.rules import RULES, describe, explain, summarise
from lymphocytosis.imaging.sheets import draw_sheet
from lymphocytosis.parameters import EnsembleParameters

Pixels = npt.NDArray[np.uint8]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Clinical values: column, title, unit, whether a logarithm is taken to draw it.
VALUES = (
    ("age_years", "age", "years", False),
    ("lymphocyte_count", "lymphocyte count", "\N{MULTIPLICATION SIGN} 10⁹ per litre", True),
    ("cell_count", "cells", "pictures", False),
)
_KINDS = {
    "toward_tumoral": "Speak most for a tumoral form",
    "toward_reactive": "Speak most for a reactive form",
    "typical": "Most typical of this patient",
    "least_typical": "Least typical of this patient",
}
_MOST = 6  # cells of each kind
# The chosen cells are seen at the size of the page's figures, all others as small as they tell.
CHOSEN_SIDE, ALL_SIDE, ALL_COLUMNS = 96, 40, 12
_CHOSEN_QUALITY, _ALL_QUALITY = 75, 60
# Of a strip on which values are drawn, in SVG's units.
STRIP = 200


def gather_predictions(
    size: str,
    predictions: pd.DataFrame | None,
    out_of_fold: pd.DataFrame | None,
    held_out: pd.DataFrame | None,
) -> pd.DataFrame:
    """Take each patient's predictions from the best source that there is.

    Args:
        size: large or small.
        predictions: of test patients: patient_id, split, view, probability.
        out_of_fold: of labelled patients, by the classifiers not trained on them.
        held_out: those of the evaluation by the method that decides: size, repeat, and the same.

    Returns:
        patient_id, split, view, probability, source (test, evaluation or out_of_fold).
    """
    evaluated = None
    if held_out is not None:
        evaluated = held_out[(held_out["size"] == size) & (held_out["repeat"] == 1)]
    tables: list[pd.DataFrame] = []
    columns = ["patient_id", "split", "view", "probability"]
    for source, table in (
        ("test", predictions), ("evaluation", evaluated), ("out_of_fold", out_of_fold)
    ):  # fmt: skip
        if table is not None:
            taken = {patient for before in tables for patient in before["patient_id"]}
            rows = table.loc[~table["patient_id"].isin(taken), columns]
            tables.append(rows.assign(source=source))
    if not tables:
        return pd.DataFrame(columns=[*columns, "source"])
    return pd.concat(tables, ignore_index=True)


def decide_each(
    predictions: Mapping[str, pd.DataFrame], ensemble: EnsembleParameters
) -> dict[str, list[dict[str, Any]]]:
    """Decide on each patient by every rule and size, with reasons.

    Args:
        predictions: by size, as `gather_predictions` returns them.
        ensemble: the block `ensemble` of the parameters.

    Returns:
        By patient, for each rule and size: method, decision (0 or 1), why.
    """
    said: dict[str, list[dict[str, Any]]] = {}
    for size, table in predictions.items():
        statistics = summarise(table)
        described = statistics.to_dict("records")
        for name, rule in RULES.items():
            method = f"{size} {rule.title.format(**ensemble.model_dump())}"
            decided = rule.decide(statistics, ensemble)["decision"].tolist()
            for row, decision in zip(described, decided, strict=True):
                reasons = {
                    "method": method,
                    "decision": decision,
                    "why": explain(name, row, ensemble),
                }
                said.setdefault(str(row["patient_id"]), []).append(reasons)
    return said


def describe_predictions(rows: pd.DataFrame) -> dict[str, Any]:
    """Describe one patient's predictions of one size.

    Args:
        rows: split, view, probability of one patient, at least one row.

    Returns:
        mean, std, min, max; positives and number; views and grid (split, a probability for each
        view, None where there is none); dots (places on a strip).
    """
    values = rows["probability"].to_numpy(dtype=float)
    wide = rows.pivot_table("probability", "split", "view")
    views = [v for v in ("original", "horizontal", "vertical") if v in wide]
    grid = wide[views].astype(object).where(wide[views].notna(), None)
    return {
        **describe(values),
        "positives": int((values >= 0.5).sum()),
        "number": len(values),
        "views": views,
        "grid": [
            (split, list(row)) for split, row in zip(grid.index, grid.to_numpy(), strict=True)
        ],
        "dots": [f"{STRIP * value:.1f}" for value in values],
    }


def describe_values(
    quantiles: Mapping[str, Mapping[str, Sequence[float] | None]],
) -> dict[str, dict[str, Any]]:
    """Prepare strips on which a patient's values are drawn against the cohort's.

    Args:
        quantiles: by class (reactive, tumoral) and column of `VALUES`, the 5, 25, 50, 75 and 95 %
            quantiles; None where there are too few patients to show.

    Returns:
        By column: title, unit; classes: name, places of the quantiles on the strip, text; place, a
        function from a value to its place on the strip.
    """
    strips = {}
    for column, title, unit, logarithm in VALUES:
        known = {name: quantiles[name].get(column) for name in CLASSES}
        given = [value for five in known.values() if five for value in five]
        if not given:
            continue
        place = _scale(min(given), max(given), logarithm)
        strips[column] = {
            "title": title,
            "unit": unit,
            "place": place,
            "classes": [
                {
                    "name": name,
                    "places": [place(value) for value in five],
                    "text": f"{name}: {five[0]:.3g} to {five[4]:.3g}, median {five[2]:.3g}",
                }
                for name, five in known.items()
                if five
            ],
        }
    return strips


def _scale(low: float, high: float, logarithm: bool) -> Callable[[float], str]:
    """A tenth of the strip is left free at either end, and what lies beyond stays at the end."""
    scale = np.log if logarithm else float
    least, span = scale(low), scale(high) - scale(low) or 1.0
    return lambda value: f"{STRIP * np.clip(0.1 + 0.8 * (scale(value) - least) / span, 0, 1):.1f}"


def place_values(
    patient: Mapping[str, Any], strips: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Place a patient's values on the strips.

    Args:
        patient: the columns of `VALUES`; empty where unknown.
        strips: as `describe_values` returns them.

    Returns:
        For each value: column, title, text, and place on the strip (empty without one).
    """
    placed = []
    for column, title, unit, _ in VALUES:
        value = patient[column]
        unknown = value is None or pd.isna(value)
        placed.append(
            {
                "column": column,
                "title": title,
                "text": "not known" if unknown else f"{value:g} {unit}",
                "place": "" if unknown or column not in strips else strips[column]["place"](value),
            }
        )
    return placed


def quantiles_of(patients: pd.DataFrame) -> dict[str, dict[str, list[float] | None]]:
    """Take the quantiles of each class's values.

    Args:
        patients: label, and the columns of `VALUES`.

    Returns:
        By class and column; None for a class without patients.
    """
    return {
        name: {
            column: np.quantile(rows[column].to_numpy(dtype=float), QUANTILES).tolist()
            if len(rows)
            else None
            for column, *_ in VALUES
        }
        for name, rows in ((n, patients[patients["label"] == v]) for v, n in enumerate(CLASSES))
    }


def show_cells(
    cells: pd.DataFrame, pixels: Sequence[Pixels], names: Sequence[str]
) -> dict[str, Any]:
    """Choose a patient's cells, and draw two sheets: of those, and of all.

    Args:
        cells: of one patient: contribution, distance (empty where unknown) and odd, a row for each
            picture that was taken.
        pixels: of each, (S, S, 3) uint8.
        names: of each.

    Returns:
        kinds: title and cells (at: place on the sheet; name, share, odd) of each kind that has any;
        chosen: a WebP file, one row of cells; all: a WebP file with every cell, from the greatest
        contribution to the least; both None where there is no picture; number: how many cells;
        moved: whether contributions are known.
    """
    if not len(cells):
        return {"kinds": [], "chosen": None, "all": None, "number": 0, "moved": False}
    cells = cells.reset_index(drop=True)
    chosen = choose_cells(cells, _MOST)
    order = list(dict.fromkeys(row for rows in chosen.values() for row in rows.index))
    kinds = [
        {
            "title": _KINDS[kind],
            "cells": [
                {
                    "at": order.index(row),
                    "name": names[row],
                    "share": _share(cells.loc[row, "contribution"]),
                    "odd": bool(cells.loc[row, "odd"]),
                }
                for row in rows.index
            ],
        }
        for kind, rows in chosen.items()
        if len(rows)
    ]
    ranked = cells.sort_values("contribution", ascending=False, kind="stable").index
    return {
        "kinds": kinds,
        "chosen": draw_sheet(
            [pixels[row] for row in order], CHOSEN_SIDE, max(1, len(order)), _CHOSEN_QUALITY
        )
        if order
        else None,
        "all": draw_sheet([pixels[row] for row in ranked], ALL_SIDE, ALL_COLUMNS, _ALL_QUALITY),
        "number": len(cells),
        "moved": bool(cells["contribution"].notna().any()),
    }


def _share(contribution: float) -> str:
    return "" if pd.isna(contribution) else f"{contribution:+.2g}"


def distances(embeddings: Any, view: str) -> pd.DataFrame:
    """Measure how far each cell's embedding lies from the mean of its patient's.

    Args:
        embeddings: an Arrow table: patient_id, image_id, view, large.
        view: the view that is compared.

    Returns:
        patient_id, image_id, distance.
    """
    keys = embeddings.select(["patient_id", "image_id", "view"]).to_pandas()
    rows = np.flatnonzero(keys["view"] == view)
    large = embeddings["large"].take(rows).combine_chunks()
    vectors = large.flatten().to_numpy().reshape(len(rows), -1)
    found = keys.iloc[rows][["patient_id", "image_id"]].reset_index(drop=True)
    found["distance"] = np.nan
    for _, of_patient in found.groupby("patient_id", sort=False):
        own = vectors[of_patient.index]
        found.loc[of_patient.index, "distance"] = np.linalg.norm(own - own.mean(axis=0), axis=1)
    return found


def flag(
    patient: Mapping[str, Any],
    said: Sequence[Mapping[str, Any]],
    records: pd.DataFrame,
    known: pd.DataFrame,
    warnings: Sequence[str],
) -> Iterator[str]:
    """Say what a reader should know before trusting the answer.

    Args:
        patient: patient_id, label, and the columns of `VALUES`.
        said: the patient's decisions, as `decide_each` returns them.
        records: of the patient's files: status, reason.
        known: the labelled training patients.
        warnings: of the ingest.

    Yields:
        Sentences.
    """
    decisions = {row["decision"] for row in said}
    if len(decisions) > 1:
        sides = {
            CLASSES[value]: ", ".join(row["method"] for row in said if row["decision"] == value)
            for value in (0, 1)
        }
        yield "The methods disagree: " + "; ".join(f"{c}: {m}" for c, m in sides.items()) + "."
    for column, title, unit, _ in VALUES:
        values = known.loc[known["patient_id"] != patient["patient_id"], column]
        value = patient[column]
        if len(values) and not values.min() <= value <= values.max():
            yield (
                f"Beyond the labelled patients in {title}: {value:g} {unit}; they have "
                f"{values.min():g} to {values.max():g}."
            )
    unusual = records.loc[records["status"] != "taken", ["status", "reason"]].value_counts(
        sort=False
    )
    for status, reason, number in unusual.reset_index().to_numpy().tolist():
        yield f"{number} of {len(records)} pictures {status.replace('_', ' ')}: {reason}"
    whole = re.compile(rf"(?<!\w){re.escape(str(patient['patient_id']))}(?!\w)")
    yield from (text for text in warnings if whole.search(text))
