"""The one gate that every text of a user passes."""

from __future__ import annotations

from e2rank_integrations.errors import InputError


def expect_text(value: object, where: str) -> str:
    """Return the value if it is text that can be encoded.

    Args:
        value: What the caller gave.
        where: What it is, for the message: `query`, `candidate 3`, …

    Raises:
        InputError: it is not a string, or it holds a lone surrogate, which is not a character.
    """
    if not isinstance(value, str):
        raise InputError(f"{where}: expected a string, found {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: expected text, found a lone surrogate (U+{ord(value[error.start]):04X}) at character "
                f"{error.start}; clean it with text.encode('utf-8', 'replace').decode()"
            ) from None
    return value
