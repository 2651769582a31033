"""Telling stores apart, and what they are, without importing them."""

from __future__ import annotations

import weakref
from types import MethodType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

_tokens: dict[int, object] = {}


def identity_of(store: object) -> Hashable:
    """A token that stands for an object and is never another's; it does not keep the object alive.

    A bound method is known by its object. What cannot be watched has another token each time.
    """
    if store is None:
        return None
    if isinstance(store, MethodType):
        return identity_of(store.__self__), store.__name__
    new = object()
    if not _can_be_watched(store):
        return new
    token = _tokens.setdefault(id(store), new)
    if token is new:
        weakref.finalize(store, _tokens.pop, id(store), None)
    return token


def is_chroma_collection(store: object) -> bool:
    """Whether it is a collection of Chroma's native client."""
    kind = type(store)
    return kind.__name__ == "Collection" and kind.__module__.startswith("chromadb.")


def _can_be_watched(store: object) -> bool:
    try:
        weakref.ref(store)
    except TypeError:
        return False
    return True
