"""Messages that are safe to print: names may come from anywhere, and could control a terminal."""

import logging


def harmless(text: str) -> str:
    """Escape what a terminal would obey, or not show: a file's name may contain its commands.

    Args:
        text: a message, with what it quotes.

    Returns:
        The text. What can't be printed is escaped as in Python, an escape as backslash, x, 1, b;
        ends of lines and tabs stay.
    """
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1]
        for letter in text
    )


def make_log_harmless() -> None:
    """Have every handler of the root logger escape what a terminal would obey."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_write_out)


def _write_out(record: logging.LogRecord) -> bool:
    # Without arguments, Kedro's handler adds no markup of its own.
    record.msg, record.args = harmless(record.getMessage()), None
    return True
