"""How the listwise prompt's size and the query's weight move nDCG@10: the curve behind the embedded default.

    python -m e2rank_integrations.evaluation.tune --data ../shared/data [--svg docs/embedded-profile.svg]

Weights cost nothing here: the prompts are embedded once for each number of listed documents, and every weight
blends the same vectors.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.evaluation.collection import load_collection
from e2rank_integrations.evaluation.controls import cosine_rerank
from e2rank_integrations.evaluation.curve import as_markdown, write_svg
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import BM25, DENSE, DEPTH
from e2rank_integrations.evaluation.measures import score
from e2rank_integrations.evaluation.progress import tracked
from e2rank_integrations.evaluation.runs import Run
from e2rank_integrations.slate import unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.first_stage import VectorIndex
    from e2rank_integrations.values import Vector

TUNING = (("nfcorpus", "dev"), ("noveleval", "test"))
"""The collections on which settings may be chosen, and their splits."""

LISTED = (1, 2, 3, 4)
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""At most .9: at 1 the prompt does not matter, and that control has a name of its own, plain cosine."""


@dataclass(frozen=True, slots=True)
class Point:
    """One setting: documents in the prompt, share of the plain query, and the mean nDCG@10."""

    listed: int
    weight: float
    ndcg: float


@dataclass(frozen=True, slots=True)
class Curve:
    """All settings on one first stage.

    Attributes:
        collection: What is searched.
        first_stage: Whose list is reranked.
        plain: nDCG@10 of the plain query alone on that list, the line to beat.
        points: The settings.
    """

    collection: str
    first_stage: str
    plain: float
    points: tuple[Point, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.collection}, {self.first_stage}"

    @property
    def listed(self) -> list[int]:
        """The numbers of listed documents, from the least."""
        return sorted({point.listed for point in self.points})

    def line(self, listed: int) -> list[tuple[float, float]]:
        """Weight and nDCG@10 at one number of listed documents, from the least weight."""
        return sorted((point.weight, point.ndcg) for point in self.points if point.listed == listed)


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What every setting is measured on.

    Attributes:
        collection: Queries and grades.
        encoder: The model.
        index: Its vectors of the documents.
        queries: Its vectors of the plain queries, by id.
    """

    collection: Collection
    encoder: E2RankEncoder
    index: VectorIndex
    queries: Mapping[str, Vector]

    @classmethod
    def of(cls, collection: Collection, encoder: E2RankEncoder, index: VectorIndex) -> Sweep:
        """Embed the queries."""
        vectors = encoder.encode_queries(list(collection.queries.values()))
        return cls(collection, encoder, index, dict(zip(collection.queries, vectors, strict=True)))

    def first_stages(self) -> tuple[Run, Run]:
        """BM25's list, and the model's own."""
        bm25, queries = BM25(self.collection.documents), self.collection.queries
        return (
            Run({key: bm25.search(text, DEPTH) for key, text in queries.items()}, bm25.name),
            Run({key: self.index.search(self.queries[key], DEPTH) for key in queries}, DENSE),
        )

    def curve(self, first_stage: Run, listed: Sequence[int] = LISTED, weights: Sequence[float] = WEIGHTS) -> Curve:
        """Measure every setting on one first stage."""
        prompts = {documents: self._prompt_vectors(first_stage, documents) for documents in listed}
        points = tuple(
            Point(documents, weight, self._ndcg(first_stage, prompts[documents], weight))
            for documents in listed
            for weight in weights
        )
        return Curve(self.collection.name, first_stage.name, self._ndcg(first_stage, {}, 1.0), points)

    def _prompt_vectors(self, first_stage: Run, documents: int) -> dict[str, Vector]:
        """Vectors of the listwise prompts, by query, of the queries that have candidates."""
        keys = [key for key in self.collection.queries if first_stage[key]]
        bar = tracked(keys, f"{first_stage.name}, {documents} listed", show=True)
        return {key: self._prompt_vector(key, first_stage, documents) for key in bar}

    def _prompt_vector(self, key: str, first_stage: Run, documents: int) -> Vector:
        texts = [self.collection.document(hit.id) for hit in first_stage[key][:documents]]
        prompt, _ = self.encoder.listwise_input(self.collection.queries[key], texts, documents)
        vector: Vector = self.encoder.run([prompt]).vectors[0]
        return vector

    def _ndcg(self, first_stage: Run, prompts: Mapping[str, Vector], weight: float) -> float:
        hits = {
            key: cosine_rerank(first_stage[key], self._blended(key, prompts, weight), self.index)
            for key in self.collection.queries
        }
        return score(Run(hits), self.collection.qrels).mean

    def _blended(self, key: str, prompts: Mapping[str, Vector], weight: float) -> Vector:
        plain = self.queries[key]
        return unit(weight * plain + (1 - weight) * prompts[key], len(plain), "blend") if key in prompts else plain


def tuning_curves(data: Path, encoder: E2RankEncoder, cache: Path) -> list[Curve]:
    """Every setting on each tuning set, over BM25's list and over the model's own."""
    curves = []
    for name, split in TUNING:
        collection = load_collection(data / name, split)
        sweep = Sweep.of(collection, encoder, embed_documents(collection, encoder, cache=cache, progress=True))
        curves += [sweep.curve(first_stage) for first_stage in sweep.first_stages()]
    return curves


def best(curves: Sequence[Curve]) -> tuple[int, float]:
    """The listed documents and the weight with the best mean gain over plain cosine, each curve counted once."""
    gains: dict[tuple[int, float], float] = {}
    for curve in curves:
        for point in curve.points:
            key = (point.listed, point.weight)
            gains[key] = gains.get(key, 0.0) + point.ndcg - curve.plain
    return max(gains, key=lambda key: gains[key])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the embedded default on the tuning sets and print the curves as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m e2rank_integrations.evaluation.tune", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds nfcorpus and noveleval")
    parser.add_argument("--adapter", default="auto", metavar="FOLDER", help="a listwise adapter (default: the shipped)")
    parser.add_argument("--cache", type=Path, default=Path(".figures"), help="where document vectors are kept")
    parser.add_argument("--svg", type=Path, help="also draw the curves here; needs matplotlib")
    options = parser.parse_args(arguments)
    encoder = E2RankEncoder("embedded", listwise_adapter=options.adapter, device="cpu", dtype="float32")
    curves = tuning_curves(options.data, encoder, options.cache)
    for curve in curves:
        sys.stdout.write(f"\n{curve.name}'s first {DEPTH}:\n\n{as_markdown(curve)}\n")
    listed, weight = best(curves)
    sys.stdout.write(f"\nbest mean gain: {listed} listed, w = {weight:g}\n")
    if options.svg is not None:
        write_svg(curves, options.svg)


if __name__ == "__main__":
    main()
