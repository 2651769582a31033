"""sentence-transformers over the same weights, as it comes: sorted by length, 32 a batch, padded to the longest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.models import qwen3
from tests.benchmarks.outputs import Outcome
from tests.benchmarks.reference import document_texts
from tests.benchmarks.rows import Row, plain

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from tests.benchmarks.options import Options
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

DOCUMENTS = "sentence-transformers, documents alone"
_MODEL = "sentence-transformers"


def rows(options: Options, dtype: str) -> list[Row]:
    """The documents alone; it has no way of its own to rerank with such a model."""
    return [
        Row(
            name=DOCUMENTS,
            call=_documents,
            model=lambda bench: bench.plain(bench.dtype).model,
            needs=(_MODEL, plain(dtype)),
            weight="middle",
            dtype=dtype,
            layers=options.layers,
        )
    ]


def _documents(bench: Bench, work: Workload, round_: int) -> Outcome:
    return Outcome(documents=_model(bench).encode(document_texts(work), show_progress_bar=False))


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
