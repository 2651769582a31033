"""sentence-transformers over the same weights, as it comes: sorted by length, 32 a batch, padded to the longest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.benchmarks.models import qwen3
from tests.benchmarks.outputs import Outcome
from tests.benchmarks.reference import document_texts, prompt_text
from tests.benchmarks.rows import Row, plain

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from tests.benchmarks.options import Options
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

DOCUMENTS = "sentence-transformers, documents alone"
RERANK = "sentence-transformers, rerank"
_MODEL = "sentence-transformers"


def rows(options: Options, dtype: str) -> list[Row]:
    """The documents alone, and documents and prompt."""
    shared: dict[str, Any] = {
        "model": lambda bench: bench.plain(bench.dtype).model,
        "needs": (_MODEL, plain(dtype)),
        "dtype": dtype,
        "layers": options.layers,
    }
    return [
        Row(name=DOCUMENTS, call=_documents, weight="middle", **shared),
        Row(name=RERANK, call=_rerank, weight="heavy", **shared),
    ]


def _documents(bench: Bench, work: Workload, round_: int) -> Outcome:
    return Outcome(documents=_model(bench).encode(document_texts(work), show_progress_bar=False))


def _rerank(bench: Bench, work: Workload, round_: int) -> Outcome:
    documents = _model(bench).encode(document_texts(work), show_progress_bar=False)
    prompt = _model(bench).encode([prompt_text(work)], show_progress_bar=False)
    return Outcome(documents @ prompt[0], prompt, documents)


def _model(bench: Bench) -> SentenceTransformer:
    return bench.held(_MODEL, lambda: _made(bench))


def _made(bench: Bench) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    weights = bench.plain(bench.dtype).model

    class Shared(Transformer):
        """Takes the weights that are loaded already."""

        def _load_model(self, *_: object, **__: object) -> object:
            return weights

    folder = str(qwen3(bench.options, bench.root))
    pooling = Pooling(weights.config.hidden_size, pooling_mode="lasttoken")
    return SentenceTransformer(modules=[Shared(folder), pooling, Normalize()], device="cpu")
