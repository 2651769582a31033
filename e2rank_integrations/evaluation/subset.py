"""How the demo's passages were chosen from SciFact: by rule, never by outcome.

    python -m e2rank_integrations.evaluation.subset --data ../shared/data/scifact --out <folder>

Judged test claims are drawn by a hash of their ids. With all their judged abstracts come the ones most easily taken
for an answer: BM25's and the embedded model's first hits for those claims, in turn, rank by rank.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.evaluation.collection import load_collection, numbered_lines
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import BM25

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.runs import Hits

QUERIES = 100
PASSAGES = 500


def drawn_by_hash(ids: Iterable[str], count: int) -> list[str]:
    """The ids with the smallest SHA-256, in the order given."""
    ids = list(ids)
    drawn = set(sorted(ids, key=lambda key: hashlib.sha256(key.encode()).digest())[:count])
    return [key for key in ids if key in drawn]


def chosen_queries(collection: Collection, count: int = QUERIES) -> list[str]:
    """Ids of the queries whose ids have the smallest SHA-256, in the collection's order."""
    return drawn_by_hash(collection.queries, count)


def chosen_documents(judged: Iterable[str], lists: Sequence[Hits], count: int = PASSAGES) -> set[str]:
    """Ids of all judged documents and, rank by rank over all lists, of those found first, until there are enough."""
    chosen = set(judged)
    for rank in zip_longest(*lists):
        for hit in rank:
            if len(chosen) >= count:
                return chosen
            if hit is not None:
                chosen.add(hit.id)
    return chosen


def write_subset(source: Path, target: Path, queries: AbstractSet[str], documents: AbstractSet[str]) -> None:
    """Copy the rows of some test queries and documents, unaltered."""
    (target / "qrels").mkdir(parents=True, exist_ok=True)
    _copy(source, target, "corpus.jsonl", lambda line: json.loads(line)["_id"] in documents)
    _copy(source, target, "queries.jsonl", lambda line: json.loads(line)["_id"] in queries)
    _copy(source, target, "qrels/test.tsv", lambda line: line.split("\t")[0] in queries | {"query-id"})


def _copy(source: Path, target: Path, name: str, keep: Callable[[str], bool]) -> None:
    kept = [f"{line}\n" for _, line in numbered_lines(source / name) if keep(line)]
    (target / name).write_text("".join(kept), encoding="utf-8", newline="\n")


def _first_hits(collection: Collection, queries: Sequence[str], cache: Path) -> list[Hits]:
    """BM25's and the embedded model's lists, in turn."""
    encoder = E2RankEncoder.embedded(device="cpu", dtype="float32")
    index, bm25 = embed_documents(collection, encoder, cache=cache, progress=True), BM25(collection.documents)
    texts = [collection.queries[query] for query in queries]
    pairs = zip(texts, encoder.encode_queries(texts), strict=True)
    return [hits for text, vector in pairs for hits in (bm25.search(text), index.search(vector))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose and copy the demo's passages."""
    parser = argparse.ArgumentParser(prog="python -m e2rank_integrations.evaluation.subset", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="SciFact in BEIR's layout")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--cache", type=Path, default=Path(".figures"), help="where document vectors are kept")
    options = parser.parse_args(arguments)
    collection = load_collection(options.data)
    queries = chosen_queries(collection)
    judged = (document for query in queries for document in collection.qrels[query])
    documents = chosen_documents(judged, _first_hits(collection, queries, options.cache))
    write_subset(options.data, options.out, set(queries), documents)


if __name__ == "__main__":
    main()
