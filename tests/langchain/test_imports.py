"""What importing and making components costs, and what is said where something is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.test_imports import HEAVY, WITHOUT, loaded_after, python

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = {"chromadb", "langchain_chroma", "langchain_classic"}


def test_importing_loads_no_torch() -> None:
    """Nor anything else that takes a second to import."""
    assert loaded_after("import e2rank_integrations.langchain", HEAVY | OTHERS) == set()


def test_making_components_loads_no_torch(tmp_path: Path) -> None:
    """Nor does making them: files are looked up, and weights loaded, on first use. No model need be there."""
    made = f"""
from langchain_core.vectorstores import InMemoryVectorStore
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
for name in ("embedded", "Alibaba-NLP/E2Rank-0.6B", {str(tmp_path / "nowhere")!r}):
    embeddings = E2RankEmbeddings(model=name, query_instruction="Find")
    reranker = E2RankReranker(embeddings=embeddings, template="readme", top_n=5)
    retriever = E2RankRetriever(vectorstore=InMemoryVectorStore(embeddings), reranker=reranker)
    repr((embeddings, reranker, retriever))
"""
    assert loaded_after(made, HEAVY | OTHERS) == set()


def test_an_empty_list_needs_no_model(tmp_path: Path) -> None:
    """Nothing to rerank is answered before anything is loaded."""
    code = f"""
from e2rank_integrations.langchain import E2RankReranker
assert E2RankReranker(model={str(tmp_path / "nowhere")!r}).compress_documents([], "query") == []
"""
    assert loaded_after(code, HEAVY | OTHERS) == set()


def test_langchain_core_is_enough(qwen_folder: Path) -> None:
    """All three components work over LangChain's own store where nothing else of LangChain is installed."""
    absent = {*OTHERS, "langchain", "langchain_community"}
    code = f"""
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
embeddings = E2RankEmbeddings(model={str(qwen_folder)!r}, device="cpu")
store = InMemoryVectorStore(embeddings)
store.add_documents([Document("Yeast makes bread rise.", id="1"), Document("The Moon is far.", id="2")])
found = E2RankRetriever(vectorstore=store, k=2).invoke("What makes bread rise?")
kept = E2RankReranker(embeddings=embeddings, top_n=1).compress_documents(found, "What makes bread rise?")
print(len(found), len(kept))
"""
    assert python(WITHOUT.format(absent=absent) + code).split() == ["2", "1"]


def test_public_names() -> None:
    """What users import, and no more."""
    import e2rank_integrations.langchain as adapter

    assert adapter.__all__ == ["E2RankEmbeddings", "E2RankReranker", "E2RankRetriever", "with_text_hash"]
    assert all(hasattr(adapter, name) for name in adapter.__all__)
