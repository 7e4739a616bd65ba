"""Who may be one person under two names, and whose birth date is a placeholder."""

from collections import Counter, defaultdict
from typing import Any

from lymphocytosis.errors import one_line, some

OLDEST_PLAUSIBLE_AGE = 110


def tell_persons(rows: list[dict[str, Any]], column: str) -> list[str]:
    """Assign each patient to a person; say who may be one, and whose date is a placeholder.

    Two patients with the same birth date and sex may be one person, so they stay together. If that
    is impossible, the date is a placeholder, as hospitals write for dates that may not leave them,
    and each patient is a person.

    Args:
        rows: of each patient: patient_id, born (a date or None), sex, label and age_years; each is
            given its person, the first of the IDs.
        column: of the birth dates.

    Returns:
        Warnings in plain words.
    """
    pairs, placeholders = {}, {}
    same: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        row["person"] = row["patient_id"]
        if row["born"]:
            same[row["born"], row["sex"]].append(row)
    days = Counter((row["born"].month, row["born"].day) for row in rows if row["born"])
    for (born, _), twins in same.items():
        if len(twins) == 1:
            continue
        ids = sorted(row["patient_id"] for row in twins)
        reasons = {
            f"they are {len(twins)}": len(twins) > 2,
            "their labels differ": len({row["label"] for row in twins} - {None}) > 1,
            f"their age is {twins[0]['age_years']}": twins[0]["age_years"] > OLDEST_PLAUSIBLE_AGE,
            f"{days[born.month, born.day]} patients have a birthday on that day": (
                days[born.month, born.day] > max(5, len(rows) / 10)
            ),
        }
        if not any(reasons.values()):
            for row in twins:
                row["person"] = ids[0]
            pairs[" and ".join(ids)] = (
                f"Patients {', '.join(ids)} share a birth date and sex: perhaps one person twice."
            )
        else:
            why = " and ".join(reason for reason, holds in reasons.items() if holds)
            placeholders[f"{born} of {' and '.join(ids)} ({why})"] = (
                f"Patients {some(ids)} share the birth date {born} and sex, and {why}: taken for a "
                "placeholder, and each patient for a person. Their ages may be wrong."
            )
    if not same:
        return [
            f"No patient has a birth date ({column}): a person who is in the table "
            "twice can't be found."
        ]
    return one_line(
        list(pairs.values()),
        "pairs of patients share a birth date and sex, each perhaps one person twice",
        list(pairs),
    ) + one_line(
        list(placeholders.values()),
        "birth dates, each shared by patients of one sex, are taken for placeholders, and each "
        "patient for a person; their ages may be wrong",
        list(placeholders),
    )
