"""Numbers that callers give, checked with one wording."""

from __future__ import annotations

from e2rank_integrations.errors import InputError


def expect_count(name: str, value: object) -> None:
    """Refuse what is neither None nor a positive integer.

    Raises:
        InputError: it is something else.
    """
    if value is not None and not _is_count(value):
        raise InputError(f"{name}: expected an integer of at least 1, or None, found {value!r}")


def expect_positive(name: str, value: object) -> None:
    """Refuse what is no positive integer.

    Raises:
        InputError: it is something else.
    """
    if not _is_count(value):
        raise InputError(f"{name}: expected an integer of at least 1, found {value!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
