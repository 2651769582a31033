"""What a row of a corpus is, and what is wrong with one that cannot be used."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import document_text
from e2rank_integrations.text.checks import expect_text

if TYPE_CHECKING:
    from collections.abc import Mapping

Scalar = str | int | float | bool
"""What a store keeps beside a record."""

_LARGEST = 2**63  # integers of a store are 64 bits wide
_RESERVED = ("chroma:", "$", "#", "e2rank_")  # Chroma refuses all but the last, and those are this package's own


@dataclass(frozen=True, slots=True)
class Fields:
    """Under which names a row has what.

    Attributes:
        id: The record's id, a string or an integer.
        text: What is embedded.
        title: Put before the text, if the row has one; none where it is the text's own field.
    """

    id: str = "_id"
    text: str = "text"
    title: str = "title"


@dataclass(frozen=True, slots=True)
class Row:
    """A document to be indexed.

    Attributes:
        position: Of its line, its table's row or its file in the corpus, from 1.
        id: Its id in the store.
        text: What is embedded and stored: title, a space, text.
        metadata: Its other fields, those that a store can keep.
        left_out: Names of fields that a store cannot keep, such as lists.
    """

    position: int
    id: str
    text: str = field(repr=False)
    metadata: Mapping[str, Scalar] = field(default_factory=dict, repr=False)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that is not indexed.

    Attributes:
        position: As in `Row`.
        id: Its id, where it has one.
        reason: What was expected and what was found; none of its text.
    """

    position: int
    id: str | None
    reason: str


def row_of(position: int, values: Mapping[str, Any], fields: Fields, unread: tuple[str, ...] = ()) -> Row | RowError:
    """A document from a row's fields, or what is wrong with it; `unread` are names of fields left out before."""
    id_ = None
    try:
        id_ = _id(values.get(fields.id), fields.id)
        text = _text(values, fields)
    except InputError as error:
        return RowError(position, id_, str(error))
    others = {key: value for key, value in values.items() if key not in {fields.id, fields.text, fields.title}}
    kept = {key: value for key, value in others.items() if _can_be_kept(key, value)}
    left_out = tuple(key for key, value in others.items() if key not in kept and value is not None)
    return Row(position, id_, text, kept, (*left_out, *unread))


def _id(value: object, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or value == "":
        raise InputError(f"no id under {name!r}")
    return expect_text(value, f"id under {name!r}")


def _text(values: Mapping[str, Any], fields: Fields) -> str:
    if values.get(fields.text) is None:
        raise InputError(f"no text under {fields.text!r}")
    title = "" if fields.title == fields.text else values.get(fields.title) or ""  # not the same words twice
    title = expect_text(title, f"title under {fields.title!r}")
    text = document_text(title, expect_text(values[fields.text], f"text under {fields.text!r}"))
    if not text:
        raise InputError(f"the text under {fields.text!r} is blank")
    return text


def _can_be_kept(key: str, value: object) -> bool:
    if not key or key.startswith(_RESERVED) or not _is_text(key):
        return False
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):  # and bool
        return -_LARGEST <= value < _LARGEST
    return isinstance(value, str) and _is_text(value)


def _is_text(value: str) -> bool:
    try:
        expect_text(value, "")
    except InputError:
        return False
    return True
