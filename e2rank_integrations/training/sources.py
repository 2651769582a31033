"""What `e2rank train` learns from: slates from files, mined from judged data, or made of documents alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.collection import load_collection, load_documents
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.training.cloze import inverse_cloze
from e2rank_integrations.training.frozen import Corpus
from e2rank_integrations.training.mining import mine

if TYPE_CHECKING:
    from pathlib import Path

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.training.mining import ListOrder
    from e2rank_integrations.training.slates import TrainingSlate
    from e2rank_integrations.training.teachers import Teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Mining:
    """How slates are mined; see `mining.mine`.

    Attributes:
        size: Documents of a slate.
        order: Whose order they stand in.
        limit: Queries of a source, at most.
        seed: Of every draw.
        cache: Folder in which the documents' vectors are kept, or None.
        teacher: Ranks documents of equal grade; None for the fusion of BM25 and cosine.
    """

    size: int
    order: ListOrder
    limit: int | None
    seed: int
    cache: Path | None
    teacher: Teacher | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Mined:
    """Slates of one source, and all its documents with their vectors."""

    slates: tuple[TrainingSlate, ...] = field(repr=False)
    corpus: Corpus = field(repr=False)


def mined_from(collection: Collection, encoder: E2RankEncoder, how: Mining, *, progress: bool) -> Mined:
    """Embed a collection's documents and mine its slates."""
    index = embed_documents(collection, encoder, cache=how.cache, progress=progress)
    slates = mine(
        collection,
        encoder,
        index=index,
        size=how.size,
        order=how.order,
        limit=how.limit,
        teacher=how.teacher,
        seed=how.seed,
        progress=progress,
    )
    return Mined(tuple(slates), Corpus(tuple(collection.documents.values()), index.vectors))


def judged(name: str, split: str = "train") -> Collection:
    """A collection from `FOLDER`, with the split given, or from `FOLDER:SPLIT`."""
    folder, _, split = name.rpartition(":") if ":" in name else (name, "", split)
    return load_collection(folder, split)


def unjudged(path: Path, seed: int) -> Collection:
    """Documents without queries, from a file like BEIR's `corpus.jsonl`: inverse cloze makes the queries."""
    name = f"{path.resolve().parent.name}/{path.name}"  # most such files have the same name
    return inverse_cloze(load_documents(path), seed=seed, name=name)
