"""What importing and making components costs, and what is said where something is not installed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = ("torch", "transformers", "chromadb", "langchain_chroma", "langchain_classic", "peft", "sentence_transformers")


def run(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def loaded_after(code: str) -> set[str]:
    return {*run(f"import sys\n{code}\nprint(*({{*{HEAVY!r}}} & {{*sys.modules}}))").split()}


def test_importing_loads_no_torch() -> None:
    """Nor anything else that takes a second to import."""
    assert loaded_after("import e2rank_integrations.langchain") == set()


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
    assert loaded_after(made) == set()


def test_an_empty_list_needs_no_model(tmp_path: Path) -> None:
    """Nothing to rerank is answered before anything is loaded."""
    code = f"""
from e2rank_integrations.langchain import E2RankReranker
assert E2RankReranker(model={str(tmp_path / "nowhere")!r}).compress_documents([], "query") == []
"""
    assert loaded_after(code) == set()


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("langchain_core", "e2rank_integrations.langchain", "langchain"),
     ("chromadb", "e2rank_integrations.stores.chroma", "chroma")],
)  # fmt: skip
def test_a_missing_extra_names_the_command(package: str, module: str, extra: str) -> None:
    """The error is an ImportError of this package's family with the pip command in it."""
    code = f"""
import sys
sys.modules[{package!r}] = None  # as if it were not installed
from e2rank_integrations.errors import MissingExtraError
try:
    import {module}
except MissingExtraError as error:
    assert isinstance(error, ImportError)
    print(error)
"""
    assert f"pip install 'e2rank-integrations[{extra}]'" in run(code)


def test_plain_langchain_core_is_enough() -> None:
    """All three components work over LangChain's own store where nothing else of LangChain is installed."""
    code = """
import sys
for package in ("chromadb", "langchain_chroma", "langchain_classic", "langchain", "langchain_community"):
    sys.modules[package] = None
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
embeddings = E2RankEmbeddings(model="embedded", device="cpu")
store = InMemoryVectorStore(embeddings)
store.add_documents([Document("Yeast makes bread rise.", id="1"), Document("The Moon is far.", id="2")])
found = E2RankRetriever(vectorstore=store, k=1).invoke("What makes bread rise?")
(kept,) = E2RankReranker(embeddings=embeddings, top_n=1).compress_documents(found, "What makes bread rise?")
print(kept.id)
"""
    assert run(code).split() == ["1"]


def test_public_names() -> None:
    """What users import, and no more."""
    import e2rank_integrations.langchain as adapter

    assert adapter.__all__ == ["E2RankEmbeddings", "E2RankReranker", "E2RankRetriever", "with_text_hash"]
    assert all(hasattr(adapter, name) for name in adapter.__all__)
