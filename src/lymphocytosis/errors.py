"""The one error that is meant for the person who runs the pipeline."""

from collections.abc import Iterator, Mapping, Sequence

_FAULTS_SHOWN = 20
_NAMES_SHOWN = 10
# A cell of a CSV may have a hundred thousand letters.
_LONGEST_NAME = 80
_LONGEST_FAULT = 500


class UserError(Exception):
    """Something the user can fix: a file, a table, a parameter.

    Its message says what happened, where, what was expected and what to do. `kedro run` shows the
    message alone, without a traceback.
    """


def causes(error: BaseException) -> Iterator[BaseException]:
    """Follow an error to its causes.

    Args:
        error: as it was caught.

    Yields:
        The error itself, its cause, the cause's cause, and so on; each once, even in a circle.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__


def brief(error: Exception) -> str:
    """Shorten a library's error to one line, to be quoted in a message of ours.

    Args:
        error: the library's error; its message may be empty or long.

    Returns:
        Its kind and the first line of its message.
    """
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".removesuffix(": ")


def listed(faults: Sequence[str]) -> str:
    """List faults below one another, at the end of a message.

    Args:
        faults: one text each.

    Returns:
        Their number, and a line for each of the first 20; a long one is cut in its middle.
    """
    shown = "\n".join(
        f"  - {_both_ends(fault, _LONGEST_FAULT)}" for fault in faults[:_FAULTS_SHOWN]
    )
    hidden = len(faults) - _FAULTS_SHOWN
    more = f"\n  ... and {hidden} more" if hidden > 0 else ""
    return f"{len(faults)} fault(s).\n{shown}{more}"


def grouped(faults: Mapping[str, Sequence[str]]) -> str:
    """Group faults by cause, at the end of a message.

    Args:
        faults: by cause, a text for each place where it occurs.

    Returns:
        Their number; each cause, and below it its first places: about 20 in all, at least one for
        each cause; a long text is cut in its middle.
    """
    lines = [f"{sum(map(len, faults.values()))} fault(s)."]
    shown = max(1, _FAULTS_SHOWN // max(1, len(faults)))
    for cause, places in faults.items():
        lines.append(f"  - {_both_ends(cause, _LONGEST_FAULT)}")
        lines += [f"      {_both_ends(place, _LONGEST_FAULT)}" for place in places[:shown]]
        if len(places) > shown:
            lines.append(f"      ... and {len(places) - shown} more")
    return "\n".join(lines)


def some(names: Sequence[str]) -> str:
    """List names one after another, within a message.

    Args:
        names: of columns, or of files.

    Returns:
        The first 10, and how many more there are; a long name is cut in its middle. Bytes of a
        file's name that are not in UTF-8, which no terminal shows, are escaped.
    """
    encoded = (name.encode("utf-8", "backslashreplace").decode() for name in names[:_NAMES_SHOWN])
    shown = ", ".join(_both_ends(name, _LONGEST_NAME) for name in encoded)
    hidden = len(names) - _NAMES_SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def one_line(told: Sequence[str], many: str, places: Sequence[str]) -> list[str]:
    """Warn of a matter once, however many places it is found in.

    Args:
        told: the warning for each place.
        many: what the places have in common, after their number.
        places: each place in a few words.

    Returns:
        The warnings if there are less than two; else one with the number and the first places.
    """
    return [*told] if len(told) < 2 else [f"{len(told)} {many}: {some(places)}."]


def _both_ends(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"
