"""From a judged collection to slates: hard negatives from two first stages, and full ranking labels.

```
query ─┬─► BM25  ─┐   in turn, rank by rank      ┌─► documents in BM25's order
       └─► dense ─┴─► negatives + positives ─────┴─► documents in the dense order
                      ranked by grade, then by the teacher
```
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from e2rank_integrations.checks import expect_count, expect_positive
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.controls import reciprocal_rank_fusion
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import BM25, DEPTH
from e2rank_integrations.evaluation.progress import tracked
from e2rank_integrations.training.candidates import hard_negatives, in_list_order, relevant_documents, some_of
from e2rank_integrations.training.slates import TrainingSlate
from e2rank_integrations.training.teachers import teacher_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.first_stage import VectorIndex
    from e2rank_integrations.training.teachers import Teacher
    from e2rank_integrations.values import TokenInput, Vector

logger = logging.getLogger(__name__)

SLATE_SIZE = 16
"""Documents of a slate in the paper: 1 positive and 15 negatives (appendix B)."""

ListOrder = Literal["bm25", "dense", "both"]

_CHUNK = 64


def mine(
    collection: Collection,
    encoder: E2RankEncoder,
    *,
    index: VectorIndex | None = None,
    size: int = SLATE_SIZE,
    order: ListOrder = "both",
    teacher: Teacher | None = None,
    skip: int = 0,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> list[TrainingSlate]:
    """Make slates of a collection's judged queries. The same arguments give the same slates.

    A slate holds the query's positives, those with the highest grades first, but at most half of `size`, and fills up
    with documents that are not judged relevant, from BM25's and the dense list in turn. No text occurs twice in it.
    Documents stand in the order of a list. A positive that the list does not have among its first `size` documents
    stands at a random place: were it always the last one, that would be what the model learns.

    Args:
        collection: Documents, queries and judgements. The slates hold its very strings.
        encoder: Makes the dense list: the model to be trained.
        index: All documents' vectors by this encoder; computed if None.
        size: Documents of a slate, at least 2; fewer where the collection has no more.
        order: Whose order the documents stand in; `both` makes two slates of a query, since at inference a prompt may
            come from either first stage.
        teacher: Ranks documents of equal grade, unjudged ones having grade 0. By default reciprocal rank fusion of the
            two lists; `teachers.CosineTeacher(other_encoder)`, or any function of a query and documents.
        skip: So many unjudged documents at the head of each list are left out: among them are those that answer the
            query and that nobody judged.
        limit: At most so many queries, drawn by `seed`; all if None.
        seed: For the draw, and for the places of positives.
        progress: Whether to show bars on a terminal's stderr.

    Returns:
        Slates by query, in the collection's order; their `source` is the collection's name. Queries that give none are
        counted in one log record.

    Raises:
        InputError: an option is out of its range, a query is blank or longer than the model's cap, a teacher gives no
            finite score per document, or not one query gives a slate.
        MissingExtraError: the `evaluation` extra is not installed.
    """
    _expect_options(size, order, skip, limit)
    positives = {query: relevant_documents(collection, query) for query in collection.queries}
    drawn = some_of([query for query, ids in positives.items() if ids], limit, seed)
    without = sum(not ids for ids in positives.values())
    if not drawn:
        raise InputError(f"{collection.name}: none of {without} queries has a document of positive grade in the corpus")
    index = _expect_same_documents(index, collection) or embed_documents(collection, encoder, progress=progress)
    miner = _Miner(collection, index, BM25(collection.documents), size, order, teacher, skip, seed)
    slates: list[TrainingSlate] = []
    counts = Counter(positive=without)
    for query, vector in _embedded(collection, drawn, encoder, progress):
        made = miner.slates(query, positives[query], vector)
        counts["negative"] += not made
        counts["crowded"] += len(positives[query]) > size // 2
        slates += made
    _report(collection, counts)
    if not slates:
        raise InputError(f"{collection.name}: none of {len(drawn)} queries has a document that is not relevant to it")
    return slates


@dataclass(frozen=True, slots=True, eq=False)
class _Miner:
    """Makes the slates of one query after the other; attributes as in `mine`."""

    collection: Collection
    index: VectorIndex
    bm25: BM25
    size: int
    order: ListOrder
    teacher: Teacher | None
    skip: int
    seed: int

    def slates(self, query: str, positives: Sequence[str], vector: Vector) -> list[TrainingSlate]:
        """One slate for each order asked for; none if there is no negative."""
        depth = max(DEPTH, self.size) + self.skip + len(self.collection.qrels[query])
        bm25 = self.bm25.search(self.collection.queries[query], depth)
        dense = self.index.search(vector, depth)
        fused = {hit.id: hit.score for hit in reciprocal_rank_fusion([bm25, dense])}
        kept = sorted(positives, key=lambda key: (-self._grade(query, key), -fused.get(key, 0.0)))[: self.size // 2]
        negatives = hard_negatives(self.collection, query, [bm25, dense], self.skip)[: self.size - len(kept)]
        if not negatives:
            return []
        ranked = self._ranked(query, [*kept, *negatives], fused)
        lists = {"bm25": [bm25, dense], "dense": [dense, bm25]}
        names = list(lists) if self.order == "both" else [self.order]
        placed = [
            in_list_order(kept, negatives, lists[name], self.size, f"{self.seed} {name} {query}") for name in names
        ]
        return [self._slate(query, ranked, kept, documents) for documents in placed]

    def _grade(self, query: str, document: str) -> int:
        return self.collection.qrels[query].get(document, 0)

    def _ranked(self, query: str, members: Sequence[str], fused: Mapping[str, float]) -> list[str]:
        """Best first: by grade, then as the teacher has it; its ties in the order given."""
        if self.teacher is None:
            scores = [fused.get(key, 0.0) for key in members]
        else:
            texts = [self.collection.documents[key] for key in members]
            where = f"{self.collection.name}, query {query!r}"
            scores = teacher_scores(self.teacher, self.collection.queries[query], texts, where)
        by_key = dict(zip(members, scores, strict=True))
        return sorted(members, key=lambda key: (-self._grade(query, key), -by_key[key]))

    def _slate(self, query: str, ranked: Sequence[str], kept: Sequence[str], placed: Sequence[str]) -> TrainingSlate:
        position = {key: place for place, key in enumerate(placed)}
        return TrainingSlate(
            query=self.collection.queries[query],
            documents=tuple(self.collection.documents[key] for key in placed),
            ranking=tuple(position[key] for key in ranked),
            positives=tuple(position[key] for key in ranked if key in kept),
            source=self.collection.name,
        )


def _embedded(
    collection: Collection, queries: Sequence[str], encoder: E2RankEncoder, progress: bool
) -> Iterator[tuple[str, Vector]]:
    """Each query with its plain vector, shape (width,)."""
    starts = range(0, len(queries), _CHUNK)
    for start in tracked(starts, f"mining {collection.name}", show=progress):
        chunk = queries[start : start + _CHUNK]
        encoded = encoder.run([_query_input(collection, query, encoder) for query in chunk])
        yield from zip(chunk, encoded.vectors, strict=True)


def _query_input(collection: Collection, query: str, encoder: E2RankEncoder) -> TokenInput:
    try:
        return encoder.query_inputs([collection.queries[query]])[0]
    except InputError as error:
        raise InputError(f"{collection.name}, query {query!r}: {error}") from error


def _expect_same_documents(index: VectorIndex | None, collection: Collection) -> VectorIndex | None:
    if index is not None and set(index.ids) != collection.documents.keys():
        raise InputError(f"index: expected the vectors of {collection.name}'s documents, found those of others")
    return index


def _expect_options(size: int, order: str, skip: int, limit: int | None) -> None:
    expect_positive("size", size)
    expect_count("limit", limit)
    if size == 1:
        raise InputError("size: expected an integer of at least 2, found 1")
    if not isinstance(skip, int) or isinstance(skip, bool) or skip < 0:
        raise InputError(f"skip: expected an integer of at least 0, found {skip!r}")
    if order not in get_args(ListOrder):
        raise InputError(f"order: expected one of {', '.join(get_args(ListOrder))}, found {order!r}")


def _report(collection: Collection, counts: Counter[str]) -> None:
    """Say in one log record what the slates do not hold."""
    if any(counts.values()):
        logger.warning(
            "%s, of %d judged queries: %d have no document of positive grade in the corpus and %d no negative, and "
            "give no slate; %d have more positives than half a slate, and the rest of them is left out",
            collection.name, len(collection.queries), counts["positive"], counts["negative"], counts["crowded"],
        )  # fmt: skip
