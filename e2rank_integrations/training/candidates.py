"""Which documents come into a query's slate, and in which order the prompt lists them."""

from __future__ import annotations

from itertools import zip_longest
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.runs import Hits


def some_of(queries: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """At most `limit` queries, drawn by `seed`, in the order given; all if it is None."""
    if limit is None or limit >= len(queries):
        return list(queries)
    chosen = set(Random(seed).sample(queries, limit))  # noqa: S311
    return [query for query in queries if query in chosen]


def relevant_documents(collection: Collection, query: str) -> list[str]:
    """Documents of positive grade that the corpus has, highest grade first; none blank, and no text twice."""
    judged = sorted(collection.qrels[query].items(), key=lambda item: -item[1])
    return _each_text_once(collection, [key for key, grade in judged if grade > 0])


def hard_negatives(collection: Collection, query: str, lists: Sequence[Hits], skip: int) -> list[str]:
    """Documents of several lists in turn, rank by rank, that are not judged relevant.

    None is blank, none is excluded for the query, none says what a relevant one says, and no text is there twice. The
    first `skip` unjudged documents of each list are left out.
    """
    judged = collection.qrels[query]
    unjudged = [[hit.id for hit in hits if hit.id not in judged] for hits in lists]
    skipped = {key for keys in unjudged for key in keys[:skip]} | collection.excluded.get(query, frozenset())
    relevant = {collection.documents.get(key) for key, grade in judged.items() if grade > 0}
    in_turn = (hit.id for rank in zip_longest(*lists) for hit in rank if hit is not None)
    distinct = _each_text_once(collection, (key for key in in_turn if key not in skipped))
    return [key for key in distinct if collection.documents[key] not in relevant]


def in_list_order(
    positives: Sequence[str], negatives: Sequence[str], lists: Sequence[Hits], head: int, seed: str
) -> list[str]:
    """Documents in the order of the first list, those that it lacks in the order of the next.

    A positive that is not among the first list's first `head` documents comes to a place drawn by `seed`: were it
    always the last one, that would be what a model learns.
    """
    places = {key: place for place, key in enumerate(dict.fromkeys(hit.id for hits in lists for hit in hits))}
    found = {hit.id for hit in lists[0][:head]}
    placed = sorted([*negatives, *(key for key in positives if key in found)], key=places.__getitem__)
    random = Random(seed)  # noqa: S311
    for key in positives:
        if key not in found:
            placed.insert(random.randint(0, len(placed)), key)
    return placed


def _each_text_once(collection: Collection, documents: Iterable[str]) -> list[str]:
    """The first document of each text that is not blank."""
    by_text: dict[str, str] = {}
    for key in documents:
        text = collection.documents.get(key, "")
        if text.strip():
            by_text.setdefault(text, key)
    return list(by_text.values())
