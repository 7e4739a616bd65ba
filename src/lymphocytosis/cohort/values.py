"""Dates and numbers as tables have them."""

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_DAY_FIRST = re.compile(r"(\d{1,2})-(\d{1,2})-(\d{4})")
# Spreadsheets and databases may add a time.
_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")


def parse_date(text: str, slash_dates: str = "month_first") -> date:
    """Read a date; a dash means day first or, after a year, ISO's order.

    Args:
        text: for example `5/1/1933` (the 1st of May), `01-05-1933` or `1933-05-01` (the same day);
            a time after the last form is ignored.
        slash_dates: what stands first where there are slashes: month_first or day_first.

    Returns:
        The date.

    Raises:
        ValueError: the text is in neither form, or no such day exists.
    """
    if match := _SLASHED.fullmatch(text.strip()):
        month, day, year = map(int, match.groups())
        if slash_dates == "day_first":
            month, day = day, month
    elif match := _DAY_FIRST.fullmatch(text.strip()):
        day, month, year = map(int, match.groups())
    elif match := _ISO.fullmatch(text.strip()):
        year, month, day = map(int, match.groups()[:3])
    else:
        raise ValueError(f"{text!r} is in no known form")
    try:
        return date(year, month, day)
    except ValueError as error:
        raise ValueError(f"{text!r} is no date: {error}") from None


def completed_years(born: date, at: date) -> int:
    """Age in completed years.

    Args:
        born: date of birth.
        at: the day at which the age is wanted.

    Returns:
        Years; negative where `at` lies before `born`.
    """
    return at.year - born.year - ((at.month, at.day) < (born.month, born.day))


def decimal_sign(columns: Mapping[str, Mapping[Any, str]]) -> tuple[str, list[str]]:
    """Tell the sign before decimals, which all numbers of a table share.

    Args:
        columns: the columns of numbers: by name, the text of each line.

    Returns:
        A point or a comma: where both stand there, the more frequent one, so that the others are no
        numbers; and where commas may as well stand for thousands, a text for each.
    """
    commas: list[str] = []
    points = 0
    doubtful = True
    for column, texts in columns.items():
        for line, text in texts.items():
            if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+)", text):
                points += 1
            elif re.fullmatch(r"[+-]?(\d+,\d*|,\d+)", text):
                commas.append(f"line {line}: {column} is {text!r}")
                doubtful = doubtful and bool(_THOUSANDS.fullmatch(text))
    if points or not commas:
        return "," if len(commas) > points else ".", []
    return ",", commas if doubtful else []


def number(text: str, decimal: str) -> float:
    """Read a number.

    Args:
        text: for example `6.4`, `6,4` or `1e1`.
        decimal: the sign before decimals, a point or a comma.

    Returns:
        The number; not a number (nan) where the text is none.
    """
    if decimal == ",":
        text = "?" if "." in text else text.replace(",", ".")
    try:
        # Python would read 1_000 as a thousand.
        return float(text.replace("_", "?"))
    except ValueError:
        return math.nan
