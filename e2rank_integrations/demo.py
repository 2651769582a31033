"""The main job from end to end, offline: index, retrieve, rerank, and measure. Run by `make demo`."""

from __future__ import annotations

import logging
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

try:
    import chromadb
    from langchain_chroma import Chroma
    from langchain_core.documents import Document
    from llama_index.core import QueryBundle  # noqa: F401 - to say that it is missing before the work begins
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table
except ModuleNotFoundError as error:
    raise SystemExit(
        f"The demo needs {error.name}; run: "
        f"pip install 'e2rank-integrations[langchain,llama-index,chroma,embedded,evaluation]' langchain-chroma"
    ) from None

from e2rank_integrations.evaluation.compare import compare
from e2rank_integrations.evaluation.demo import demo_collection
from e2rank_integrations.evaluation.first_stage import VectorIndex
from e2rank_integrations.langchain import E2RankEmbeddings
from e2rank_integrations.langchain import E2RankRetriever as LangChainRetriever
from e2rank_integrations.llama_index import E2RankRerank
from e2rank_integrations.llama_index import E2RankRetriever as LlamaIndexRetriever

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chromadb.api import ClientAPI

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.values import RankedCandidate, Ranking

NAME = "demo"
SHOWN = 5
FETCHED = 50
COMPARED = 20
BATCH = 64

console = Console()


def main() -> None:
    """Print one query before and after, then the figures of every method over all queries."""
    # What is cut is said once below; the package's own log would say it for every batch.
    logging.getLogger("e2rank_integrations").setLevel(logging.ERROR)
    collection = demo_collection()
    embeddings = E2RankEmbeddings(model="embedded")
    console.print(
        f"[bold]{len(collection.documents)} passages and {len(collection.queries)} judged claims of SciFact[/], "
        f"a subset: its figures are not SciFact's.\n"
        f"Model: all-MiniLM-L6-v2, the offline default, and its listwise adapter, which saw SciFact's train split.\n"
        f"{cut(collection, embeddings)} passages are longer than its cap and are embedded by their beginning.\n"
    )
    client = chromadb.EphemeralClient()
    store = indexed(collection, embeddings, client)
    retriever = LangChainRetriever(vectorstore=store, k=SHOWN, fetch_k=FETCHED)
    show_one(collection, retriever)
    show_both(collection, retriever, client)
    report = compare(collection, retriever.reranker.core, index=stored_vectors(store))
    console.print(report.table())
    console.print(
        "\nEvery method reuses the vectors of the index. Read a listwise figure against the rows named 'control'."
    )


def cut(collection: Collection, embeddings: E2RankEmbeddings) -> int:
    """How many passages are longer than the cap of a document's embedding."""
    writer = embeddings.encoder.writer
    return sum(len(writer.document(text)) > writer.document_cap for text in collection.documents.values())


def indexed(collection: Collection, embeddings: E2RankEmbeddings, client: ClientAPI) -> Chroma:
    """Index the passages as a LangChain user does."""
    store = Chroma(NAME, embeddings, client=client, collection_metadata=embeddings.collection_metadata())
    ids = list(collection.documents)
    batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
    for batch in track(batches, "Indexing in Chroma", console=console):
        store.add_documents([Document(collection.documents[key]) for key in batch], ids=batch)
    return store


def stored_vectors(store: Chroma) -> VectorIndex:
    """The vectors that the index holds."""
    found = store.get(include=["embeddings"])
    return VectorIndex(tuple(found["ids"]), np.asarray(found["embeddings"], dtype=np.float32))


def show_one(collection: Collection, retriever: LangChainRetriever) -> None:
    """Print the first claim whose order the rerank changed among what is shown."""
    for key, text in collection.queries.items():
        ranking = retriever.rank(text)
        if any(item.old_position != item.position for item in ranking):
            _print_before_and_after(text, ranking, collection.qrels[key])
            return


def show_both(collection: Collection, retriever: LangChainRetriever, client: ClientAPI) -> None:
    """Ask both frameworks the same claims, on the same index, and compare their orders."""
    reranker = E2RankRerank(model="embedded")
    llama_index = LlamaIndexRetriever(client.get_collection(NAME), reranker, similarity_top_k=SHOWN, fetch_k=FETCHED)
    claims = list(collection.queries.values())[:COMPARED]
    same = sum(
        [document.id for document in retriever.invoke(claim)] == [item.node_id for item in llama_index.retrieve(claim)]
        for claim in track(claims, "Asking LangChain and LlamaIndex", console=console)
    )
    shared = reranker.encoder.engine is retriever.reranker.encoder.engine
    console.print(
        f"LangChain and LlamaIndex returned the same {SHOWN} passages in the same order for {same} of {len(claims)} "
        f"claims, from one index and {'one loaded model' if shared else 'two loaded models'}.\n"
    )
    if same < len(claims) or not shared:
        raise SystemExit("The two frameworks should not differ: please report this, with the versions installed.")


def _print_before_and_after(query: str, ranking: Ranking, grades: Mapping[str, int]) -> None:
    before = sorted(ranking.ranked, key=lambda item: item.old_position or 0)[:SHOWN]
    table = Table(
        "", "before: cosine to the query", "", "after: cosine to the listwise prompt", title=f"Claim: {query}"
    )
    for place, (old, new) in enumerate(zip(before, ranking, strict=True), start=1):
        table.add_row(str(place), _cell(old, grades), _moved(new), _cell(new, grades))
    console.print(table)
    console.print(f"{ranking!r}".partition("\n")[0], style="dim", highlight=False)
    console.print()


def _cell(item: RankedCandidate, grades: Mapping[str, int]) -> str:
    mark = "[green]✓[/] " if grades.get(item.candidate.id or "", 0) > 0 else "  "
    return mark + shorten(item.candidate.text, 60, placeholder="…").replace("[", r"\[")


def _moved(item: RankedCandidate) -> str:
    move = (item.old_position or 0) - item.position
    return f"[green]▲{move}[/]" if move > 0 else f"[red]▼{-move}[/]" if move < 0 else "="


if __name__ == "__main__":
    main()
