"""What a terminal is given to show: names from anywhere, and nothing that it would obey."""

import logging


def harmless(text: str) -> str:
    """Write out what a terminal would obey, or not show: a file's name may hold its commands.

    Args:
        text: a message, with what it quotes.

    Returns:
        The text. What can't be printed stands as Python writes it, an escape as backslash, x, 1, b;
        ends of lines and tabs stay.
    """
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1]
        for letter in text
    )


def make_log_harmless() -> None:
    """Have every handler of the root's write out what a terminal would obey."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_write_out)


def _write_out(record: logging.LogRecord) -> bool:
    # Without arguments, Kedro's handler adds no markup of its own.
    record.msg, record.args = harmless(record.getMessage()), None
    return True
