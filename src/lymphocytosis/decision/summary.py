"""The evidence in words: warnings, an outline for the terminal, a summary in Markdown."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import OF_DECISIONS, OF_PROBABILITIES
from lymphocytosis.decision.leaks import CERTAIN, ERROR_RATE, ROW_ORDER, SAME
from lymphocytosis.decision.referral import CALIBRATIONS, say_limits
from lymphocytosis.decision.results import CLASSES
from lymphocytosis.parameters import EnsembleParameters

_TWO_SOURCES = (
    "The pictures come from more than one source, and a model may have learned to tell the sources "
    "apart. Trust no score of pictures until that is ruled out."
)
# Each control in words, and what follows if it predicts the diagnosis.
_LEAKS = {
    "bag size": (
        "The number of pictures of a patient",
        "That is not biology. A method that sums over cells, or sees padding, would learn it; the "
        "methods here average.",
    ),
    "date format": (
        "The way a birth date is written",
        "The rows come from two sources. No method here uses it; make sure that none of yours "
        "does.",
    ),
    ROW_ORDER: (
        "The order of rows in the table",
        "The table was sorted or merged by class. No method here uses it; make sure that none of "
        "yours does.",
    ),
    "picture format": ("The file format of a patient's pictures", _TWO_SOURCES),
    "picture size": ("The size of a patient's pictures in pixels", _TWO_SOURCES),
    "converted pictures": ("The share of a patient's pictures that were converted", _TWO_SOURCES),
}


def warn(evaluation: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Warn of what a user must not overlook.

    Args:
        evaluation: as `measure` returns it.
        tests: as `judge_traces` and `judge_shuffles` return them, one below the other.

    Returns:
        The warnings.
    """
    warnings = []
    compared = evaluation[evaluation["metric"].isin(["balanced_accuracy", "auc"])]
    pictures = compared[compared["method"].str.endswith("pictures + clinical")]
    better = pictures[(pictures["difference_low"] > 0) & (pictures["rule"] != "referral")]
    if len(pictures) and better.empty:
        best = pictures[(pictures["metric"] == "auc")].sort_values("difference").iloc[-1]
        warnings.append(
            "The pictures add nothing that could be shown: no method with pictures and clinical "
            "values is surely better than age and lymphocyte count alone. The best, "
            f"{best['method']}, has an AUC of {best['value']:.3f}, a difference of "
            f"{best['difference']:+.3f} ({best['difference_low']:+.3f} to "
            f"{best['difference_high']:+.3f}). Do not prefer it to age and count on this evidence."
        )
    for test in tests[tests["p"] <= ERROR_RATE].to_dict("records"):
        certain, figure = test["p"] <= CERTAIN, f"{test['found']}, p = {test['p']:.3f}"
        if test["control"] in _LEAKS:
            what, follows = _LEAKS[test["control"]]
            predicts = "predicts" if certain else "may predict"
            warnings.append(f"{what} alone {predicts} the diagnosis: {figure}. {follows}")
        else:
            does = "does" if certain else "may do"
            warnings.append(
                f"{test['control']}: a classifier trained on shuffled labels {does} better than "
                f"chance: {figure}. If so, the diagnosis of held-out patients leaks to it; "
                "trust no other row before the leak is found."
            )
    # Row order is the one control in which all patients differ.
    order = tests[(tests["control"] == ROW_ORDER) & (tests["least_p"] > ERROR_RATE)]
    if len(order):
        warnings.append(
            "Too few patients to tell whether bag size, row order or the like predict the "
            "diagnosis: even for rows perfectly sorted by class, p would be "
            f"{order['least_p'].iloc[0]:.2f}."
        )
    return warnings


def outline(evaluation: pd.DataFrame) -> str:
    """Summarise the most important scores in lines of up to 80 characters, for a terminal.

    Args:
        evaluation: as `measure` returns it.

    Returns:
        Balanced accuracy of AVG, and AUC, one line per method; and how methods with pictures differ
        from clinical values alone.
    """
    of_avg = evaluation[evaluation["rule"].fillna("AVG").eq("AVG")]
    found = {(row["method"], row["metric"]): row for row in of_avg.to_dict("records")}
    both = {
        method: [found[method, metric] for metric in ("balanced_accuracy", "auc")]
        for method in dict.fromkeys(of_avg["method"])
    }
    lines = [f"{'':31}{'balanced accuracy':22}AUC"]
    lines += [
        f"{method:31}"
        + "  ".join(f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in rows)
        for method, rows in both.items()
    ]
    lines.append("difference from clinical")
    lines += [
        f"{method:28}{'  '.join(map(_difference, rows))}"
        for method, rows in both.items()
        if "pictures" in method
    ]
    return "\n".join(lines)


def say_what_encoder_saw(task: str, images: str, weights: str, each_fold: bool) -> str:
    """Describe which pictures the encoder was trained on.

    Args:
        task: its `pretext.name`.
        images: `pretext.images`.
        weights: its `encoder.weights`.
        each_fold: whether each fold pretrained its own encoder.

    Returns:
        A sentence.
    """
    if task == "frozen":
        if weights in ("timm", "package", "random"):
            return f"The encoder is frozen (encoder.weights {weights}): it saw no pictures here."
        return (
            "The encoder is frozen: its weights come from your file (encoder.weights), and which "
            "pictures they were trained on is unknown."
        )
    if each_fold:
        return (
            "The encoder was pretrained anew for each fold, and never saw a picture of the "
            "patients held out."
        )
    return (
        f"The encoder was pretrained once (pretext.name {task}, pretext.images {images}), on the "
        "pictures of held-out patients too, without labels, as in the paper."
    )


def describe_evaluation(
    evaluation: pd.DataFrame, tests: pd.DataFrame, warnings: list[str], seen: str
) -> str:
    """Describe the evaluation in Markdown.

    Args:
        evaluation: as `measure` returns it.
        tests: as `judge_traces` and `judge_shuffles` return them, one below the other.
        warnings: as `warn` returns them.
        seen: which pictures the encoder was trained on.

    Returns:
        Warnings, the method, and four tables: scores, referrals, differences, controls.
    """
    first = evaluation.iloc[0]
    lines = [f"- **{text}**" for text in warnings]
    lines += [
        "",
        f"{first['patients']} patients, each predicted by models that never saw them, "
        f"{first['repeats']} time(s) over. In brackets the interval over patients; after +- the "
        "standard deviation over repeats, which differ in folds and seeds. Clinical values are age "
        "and lymphocyte count. AVG: positive where the mean prediction is 0.5 or more. " + seen,
        "",
    ]
    records = evaluation.fillna({"rule": ""}).to_dict(orient="records")
    found = {(r["method"], r["rule"], r["metric"]): r for r in records}
    decided = list(dict.fromkeys((r["method"], r["rule"]) for r in records if r["rule"]))
    scores, referrals, differences = [], [], []
    for method, rule in decided:
        of_decisions = [_cell(found[method, rule, metric]) for metric in OF_DECISIONS]
        if rule == "referral":
            referrals.append([method, *of_decisions])
        else:
            # Scores that need no decision are shown once per method.
            of_probabilities = [
                _cell(found[method, "", metric]) if rule == "AVG" else ""
                for metric in OF_PROBABILITIES
            ]
            scores.append([method, rule, *of_decisions, *of_probabilities])
        if method != CLINICAL:
            auc = found[method, "", "auc"]
            of_auc = f"{_difference(auc)}, p {auc['difference_p']:.2g}" if rule == "AVG" else ""
            accuracy = _difference(found[method, rule, "balanced_accuracy"])
            differences.append([method, rule, accuracy, of_auc])
    names = ["balanced accuracy", "sensitivity", "specificity"]
    lines += _table(["method", "rule", *names, "AUC", "Brier", "calibration error"], scores)
    lines += ["", "Referral: at the threshold chosen inside the training folds.", ""]
    lines += _table(["method", *names], referrals)
    lines += ["", f"Difference from: {CLINICAL}; p is DeLong's.", ""]
    lines += _table(["method", "rule", "balanced accuracy", "AUC"], differences)
    lines += [
        "",
        "Controls that should not predict the diagnosis. The chance of a false alarm in any of "
        f"these tests is {ERROR_RATE:.0%}.",
        "",
    ]
    judged = [
        [test["control"], test["found"], f"{test['p']:.3f}", _judgement(test)]
        for test in tests.to_dict("records")
    ]
    lines += _table(["control", "found", "p", "judgement"], judged)
    return "\n".join(lines).strip() + "\n"


def describe_referral(referral_evaluation: pd.DataFrame, ensemble: EnsembleParameters) -> str:
    """Describe in Markdown how the advice did, and which calibration was kept.

    Args:
        referral_evaluation: as `measure_referral` returns it.
        ensemble: the block `ensemble` of the parameters.

    Returns:
        What was measured; classes with too few patients; two tables.
    """
    records = referral_evaluation.fillna({"calibration": ""}).to_dict(orient="records")
    found = {(r["method"], r["calibration"], r["metric"]): r for r in records}
    methods = list(dict.fromkeys(r["method"] for r in records))
    reactive, tumoral = (found[methods[0], "", f"coverage_{c}"]["patients"] for c in CLASSES)
    lines = [
        "Advice on a new patient: refer, do not refer, or look again, where the referral and the "
        "conformal set do not say the same. Calibration, threshold and sets were fitted on the "
        "other folds' patients, by their held-out predictions. Coverage, the share of a class's "
        f"patients whose set holds it, should be at least {1 - ensemble.error_rate:.0%}, and "
        f"sensitivity {ensemble.wanted_sensitivity:.0%}. Exact intervals.",
        "",
    ]
    limits = say_limits(reactive, tumoral, ensemble.error_rate)
    lines += [f"- **{text}**" for text in limits] + [""] * bool(limits)
    advice = {
        "coverage of tumoral": "coverage_tumoral",
        "coverage of reactive": "coverage_reactive",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "look again": "undecided",
        "balanced accuracy of the others": "decided_balanced_accuracy",
    }
    rows = [[m, *(_cell(found[m, "", metric]) for metric in advice.values())] for m in methods]
    lines += _table(["method", *advice], rows)
    lines += [
        "",
        "Calibrations. None is kept unless another has a lower log loss by more than chance in the "
        "patients that a referral is fitted on.",
        "",
    ]
    rows = [
        [
            method,
            name,
            *(_cell(found[method, name, metric]) for metric in ("log_loss", "brier")),
            f"{found[method, name, 'kept']['value']:.0%}",
        ]
        for method in methods
        for name in CALIBRATIONS
    ]
    lines += _table(["method", "calibration", "log loss", "Brier", "kept in folds"], rows)
    return "\n".join(lines) + "\n"


def _judgement(test: Mapping[Any, Any]) -> str:
    if test["p"] <= ERROR_RATE:
        return "predicts the diagnosis" if test["p"] <= CERTAIN else "may predict the diagnosis"
    if test["found"] == SAME:
        return "no leak"
    if test["least_p"] <= ERROR_RATE:
        return "nothing found"
    if test["control"] in _LEAKS:
        return "unknown: too few patients differ in it"
    return "unknown: too few folds; raise evaluation.repeats"


def _cell(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["value"]):
        return "-"
    spread = "" if pd.isna(row.get("spread")) else f" +- {row['spread']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{spread}"


def _difference(row: Mapping[Any, Any]) -> str:
    low, high = row["difference_low"], row["difference_high"]
    return f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
