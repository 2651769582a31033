"""The cross-encoder rerankers that both frameworks come with: every document is read with the query, one by one.

langchain-community, which holds LangChain's own cross-encoder, is no longer maintained; it was these five lines.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.benchmarks.models import MINILM_LAYERS, minilm, qwen3_reranker
from tests.benchmarks.outputs import Outcome
from tests.benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    import torch

    from tests.benchmarks.options import Options
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

LLAMA_INDEX, LANGCHAIN = "LlamaIndex SentenceTransformerRerank", "LangChain CrossEncoderReranker"
MINILM, QWEN = "MiniLM-L6", "Qwen3-Reranker"
_CUT = "LlamaIndex cuts a pair to 512 tokens. "
_BARE = "The pairs are bare: the instructions that Qwen3-Reranker wants would add tokens. "


def rows(options: Options, dtype: str) -> list[Row]:
    """MiniLM through both frameworks, the large one through LlamaIndex only."""
    found = [_row(framework, MINILM, MINILM_LAYERS, dtype) for framework in (LLAMA_INDEX, LANGCHAIN)]
    return [*found, _row(LLAMA_INDEX, QWEN, options.layers, dtype)]


ONE_ONLY = (
    "Qwen3-Reranker goes through LlamaIndex only, for time; LangChain calls the same library, as MiniLM's rows show."
)
"""What is said of the row that was left out."""


def _row(framework: str, kind: str, layers: int, dtype: str) -> Row:
    name = f"{framework}, {kind}"
    make = partial(_MAKERS[framework], name, kind, dtype)
    return Row(
        name=name,
        call=lambda bench, work, _: _CALLS[framework](make(bench), work),
        model=lambda bench: _network(make(bench)),
        needs=(name,),
        weight="heavy" if kind == QWEN else "middle",
        dtype=dtype,
        layers=layers,
        note=(_CUT if framework == LLAMA_INDEX else "") + (_BARE if kind == QWEN else ""),
    )


def _folder(bench: Bench, kind: str, dtype: str) -> Path:
    return (
        minilm(bench.options, dtype, bench.root) if kind == MINILM else qwen3_reranker(bench.options, dtype, bench.root)
    )


def _llama_index(name: str, kind: str, dtype: str, bench: Bench) -> Any:
    def made() -> Any:
        from llama_index.core.postprocessor import SentenceTransformerRerank

        folder = str(_folder(bench, kind, dtype))
        return SentenceTransformerRerank(
            model=folder, top_n=bench.options.candidates, device="cpu", trust_remote_code=False
        )

    return bench.held(name, made)


def _langchain(name: str, kind: str, dtype: str, bench: Bench) -> Any:
    def made() -> Any:
        from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
        from langchain_core.cross_encoders import BaseCrossEncoder
        from sentence_transformers import CrossEncoder

        class HuggingFace(BaseCrossEncoder):
            def __init__(self, folder: str) -> None:
                self.client = CrossEncoder(folder, device="cpu")

            def score(self, text_pairs: list[tuple[str, str]]) -> Any:
                return self.client.predict(text_pairs)

        model = HuggingFace(str(_folder(bench, kind, dtype)))
        return CrossEncoderReranker(model=model, top_n=bench.options.candidates)

    return bench.held(name, made)


def _network(reranker: Any) -> torch.nn.Module:
    """The network within either framework's reranker."""
    encoder = reranker._model if hasattr(reranker, "_model") else reranker.model.client
    return encoder[0].model


def _call_llama_index(reranker: Any, work: Workload) -> Outcome:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in work.documents]
    found = reranker.postprocess_nodes(nodes, query_str=work.query)
    assert len(found) == len(work.documents)
    return Outcome()


def _call_langchain(reranker: Any, work: Workload) -> Outcome:
    from langchain_core.documents import Document

    found = reranker.compress_documents([Document(text) for text in work.documents], work.query)
    assert len(found) == len(work.documents)
    return Outcome()


_MAKERS: dict[str, Callable[..., Any]] = {LLAMA_INDEX: _llama_index, LANGCHAIN: _langchain}
_CALLS: dict[str, Callable[[Any, Workload], Outcome]] = {LLAMA_INDEX: _call_llama_index, LANGCHAIN: _call_langchain}
