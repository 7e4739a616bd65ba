"""Names as people and systems write them: one form for matching, and what is nearly the same."""

import unicodedata
from collections.abc import Iterable


def normal(name: str) -> str:
    """Bring a name to the form in which names are compared.

    macOS writes an accented letter of a file name as two characters, a spreadsheet as one.

    Args:
        name: of a patient, a column or a class.

    Returns:
        The name in Unicode's composed form (NFC), without blanks around it.
    """
    return unicodedata.normalize("NFC", name.strip()).strip()


def folded(name: str) -> str:
    """Remove from a name what a reader overlooks: case, blanks, the form of a letter."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def alike(name: str, others: Iterable[str]) -> str:
    """Say which other names differ only in case, blanks or form.

    Args:
        name: a name that was not found.
        others: the names that are there.

    Returns:
        A clause to end a message with, or nothing.
    """
    near = [repr(other) for other in others if folded(other) == folded(name)]
    return f"; {' and '.join(near)} differs in case, blanks or form alone" if near else ""
