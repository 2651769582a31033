"""What importing and making components costs, and what is said where something is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.test_imports import HEAVY, WITHOUT, loaded_after, python

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = {"langchain_core", "langchain_chroma", "langchain_classic", "chromadb", "llama_index.vector_stores"}
ABSENT = {"torch", "transformers", "chromadb", "langchain_core", "langchain", "langchain_chroma"}
ADAPTER = "import e2rank_integrations.llama_index"
LLAMA_INDEX = {"llama_index", "llama_index.core", "llama_index_instrumentation"}


def test_importing_loads_nothing_heavy() -> None:
    """No torch, no transformers, nothing of LangChain; Chroma only where a collection is handed over."""
    code = f"""
import importlib, pkgutil
{ADAPTER} as adapter
names = {{module.name for module in pkgutil.iter_modules(adapter.__path__)}}
assert {{"embedding", "rerank", "retriever", "chroma"}} <= names
for name in sorted(names - {{"chroma"}}):
    importlib.import_module(f"{{adapter.__name__}}.{{name}}")
"""
    assert loaded_after(code, HEAVY | OTHERS) == set()


def test_langchain_loads_no_llama_index() -> None:
    """The one framework does not need the other."""
    assert loaded_after("import e2rank_integrations.langchain", HEAVY | LLAMA_INDEX) == set()


def test_making_components_loads_no_torch(tmp_path: Path) -> None:
    """Files are looked up, and weights loaded, on first use. No model need be there."""
    code = f"""
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
for name in ("embedded", "Alibaba-NLP/E2Rank-0.6B", {str(tmp_path / "nowhere")!r}):
    embed_model = E2RankEmbedding(model_name=name, query_instruction="Find")
    rerank = E2RankRerank(embed_model=embed_model, template="readme", top_n=5)
    retriever = E2RankRetriever(VectorStoreIndex([], embed_model=embed_model), rerank)
    for made in (embed_model, rerank):
        repr(made), made.to_json(), type(made).from_json(made.to_json())
    rerank.get_prompts()
assert rerank.postprocess_nodes([], query_str="query") == []
"""
    assert loaded_after(code, HEAVY | OTHERS) == set()


def test_a_missing_extra_names_the_command() -> None:
    """Without llama-index-core: an ImportError of this package's family, with the pip command in it."""
    code = f"""
from e2rank_integrations.errors import E2RankError, MissingExtraError
try:
    {ADAPTER}
except MissingExtraError as error:
    assert isinstance(error, ImportError) and isinstance(error, E2RankError)
    print(error)
"""
    printed = python(WITHOUT.format(absent={"llama_index"}) + code)
    assert "llama-index-core is not installed; run: pip install 'e2rank-integrations[llama-index]'" in printed


def test_llama_index_core_is_enough() -> None:
    """All three components work over LlamaIndex's own store where nothing else is installed, and with an engine of
    one's own without torch."""
    code = """
import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.base import Engine
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
from e2rank_integrations.values import Encoded, Usage
class Words(Engine):
    def encode(self, inputs):
        rows = np.zeros((len(inputs), 384), dtype=np.float32)
        for row, item in zip(rows, inputs):
            row[[id_ % 384 for id_ in item.ids]] = 1 / len({id_ % 384 for id_ in item.ids}) ** 0.5
        return Encoded(rows, Usage.of(inputs))
embed_model = E2RankEmbedding(encoder=E2RankEncoder("embedded", custom_engine=Words()))
nodes = [TextNode(text="Yeast makes bread rise.", id_="1"), TextNode(text="The Moon is far.", id_="2")]
index = VectorStoreIndex(nodes, embed_model=embed_model)
found = E2RankRetriever(index, similarity_top_k=2).retrieve("What makes bread rise?")
(kept,) = E2RankRerank(embed_model=embed_model, top_n=1).postprocess_nodes(found, query_str="What makes bread rise?")
print(kept.node_id)
"""
    assert python(WITHOUT.format(absent=ABSENT) + code).split() == ["1"]


def test_public_names() -> None:
    """What users import, and no more."""
    import e2rank_integrations.llama_index as adapter

    assert adapter.__all__ == ["E2RankEmbedding", "E2RankRerank", "E2RankRetriever", "TextHash", "with_text_hash"]
    assert all(hasattr(adapter, name) for name in adapter.__all__)
