"""First stages: BM25 over words, and cosine over vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.extras import require
from e2rank_integrations.evaluation.runs import Hit, Hits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from e2rank_integrations.values import Matrix, Vector

DEPTH = 100
"""Candidates that a first stage hands on."""

DENSE = "dense retrieval"

K1, B = 1.2, 0.75


class TextSearch(Protocol):
    """A first stage that is asked in words."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def search(self, query: str, depth: int) -> Hits:
        """At most `depth` documents, best first, each once."""
        ...


class BM25:
    """Lexical retrieval: Lucene's BM25 (k1 1.2, b 0.75) over English stems without stop words.

    Args:
        documents: Text by id.
        fill: Whether documents that share no stem with the query fill the list up to its depth, in the corpus's
            order. No search engine does so; published runs of fixed length do.

    Raises:
        InputError: no document holds a word.
        MissingExtraError: bm25s or PyStemmer is not installed.
    """

    name = "BM25"

    def __init__(self, documents: Mapping[str, str], *, fill: bool = False) -> None:
        self._ids = tuple(documents)
        self._fill = fill
        self._bm25s = require("bm25s")
        self._stemmer = require("Stemmer").Stemmer("english")
        self._index = self._bm25s.BM25(k1=K1, b=B, method="lucene")
        tokens = self._stems(list(documents.values()))
        if not any(tokens):
            raise InputError("documents: none of them holds a word, so there is nothing to search")
        self._index.index(tokens, show_progress=False)

    def search(self, query: str, depth: int = DEPTH) -> Hits:
        """The best documents, at most `depth`; ties in the corpus's order."""
        (stems,) = self._stems([query])
        scores = self._index.get_scores(stems) if stems else np.zeros(len(self._ids), dtype=np.float32)
        return tuple(hit for hit in best(self._ids, scores, depth) if self._fill or hit.score > 0)

    def _stems(self, texts: list[str]) -> list[list[str]]:
        stems: list[list[str]] = self._bm25s.tokenize(
            texts, stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return stems


@dataclass(frozen=True, eq=False)
class VectorIndex:
    """Dense retrieval by cosine over the vectors of all documents.

    Args:
        ids: The documents'.
        vectors: Unit rows, shape (documents, width), float32, in the order of `ids`.

    Raises:
        InputError: not one row per id.
    """

    name: ClassVar[str] = DENSE

    ids: tuple[str, ...] = field(repr=False)
    vectors: Matrix = field(repr=False)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):  # noqa: PLR2004
            raise InputError(f"vectors: expected {len(self.ids)} rows, one per id, found shape {self.vectors.shape}")

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {document: row for row, document in enumerate(self.ids)}

    def search(self, query_vector: Vector, depth: int = DEPTH) -> Hits:
        """The `depth` documents nearest to a unit vector; ties in the corpus's order."""
        return best(self.ids, self.vectors @ query_vector, depth)

    def of(self, ids: Iterable[str]) -> Matrix:
        """The rows of some documents, shape (ids, width).

        Raises:
            InputError: the index has no such document.
        """
        try:
            return self.vectors[[self._rows[document] for document in ids]]
        except KeyError as error:
            raise InputError(f"the index has no document with id {error.args[0]!r}") from None


def best(ids: Sequence[str], scores: npt.NDArray[Any], depth: int) -> Hits:
    """The `depth` highest scores, ties in the order given."""
    order = np.argsort(-scores, kind="stable")[:depth]
    return tuple(Hit(ids[row], float(scores[row])) for row in order)
