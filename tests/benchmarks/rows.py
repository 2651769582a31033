"""What a row is, and what rows share: models, loaded once and let go when no row needs them any more."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Qwen3ForCausalLM

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.local import settled
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.profiles import E2RANK, Caps
from tests.benchmarks.models import qwen3
from tests.benchmarks.options import WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    import torch

    from e2rank_integrations.values import Matrix
    from tests.benchmarks.options import Options, Weight
    from tests.benchmarks.outputs import Outcome
    from tests.benchmarks.workload import Workload

    T = TypeVar("T")

OURS = "ours"
# As E2RANK_SMALL, but nothing is cut.
CAPS = Caps(document=1024, listed=1024, prompt=16384, query=512, floor=32)


@dataclass
class Bench:
    """What rows share.

    Attributes:
        options: The run's.
        dtype: Of our engine, settled.
        root: Folder of weights.
    """

    options: Options
    dtype: str
    root: Path = WORK
    _held: dict[str, Any] = field(default_factory=dict)
    _vectors: dict[tuple[str, ...], Matrix] = field(default_factory=dict)

    def held(self, name: str, make: Callable[[], T]) -> T:
        """A thing by name, made when first asked for."""
        if name not in self._held:
            self._held[name] = make()
        return self._held[name]

    def keep(self, names: Collection[str]) -> None:
        """Let go of everything else, but for our engine, which is asked again after all rows."""
        for name in set(self._held) - {*names, OURS}:
            del self._held[name]
        gc.collect()

    def plain(self, dtype: str) -> Qwen3ForCausalLM:
        """The weights as transformers loads them, with its default attention."""
        return self.held(plain(dtype), lambda: _load(qwen3(self.options, self.root), dtype))

    @property
    def encoder(self) -> E2RankEncoder:
        """Our engine on the same weights."""
        return self.held(OURS, self._encoder)

    def _encoder(self) -> E2RankEncoder:
        folder = str(qwen3(self.options, self.root))
        return E2RankEncoder(folder, replace(E2RANK, caps=CAPS), device="cpu", dtype=self.dtype)

    @property
    def engine_model(self) -> torch.nn.Module:
        """The model within our engine, to count its forwards."""
        engine = local_engine(self.encoder.engine_key)
        engine.warmup()
        return engine._forward.model

    def stored(self, work: Workload) -> Matrix:
        """Vectors of the documents as an index has them; computed when first asked for."""
        if work.documents not in self._vectors:
            self.store(work, self.encoder.encode_documents(work.documents))
        return self._vectors[work.documents]

    def store(self, work: Workload, vectors: Matrix) -> None:
        """Keep vectors that a row has computed anyway."""
        self._vectors[work.documents] = vectors


@dataclass(frozen=True, slots=True)
class Row:
    """One way to rerank.

    Attributes:
        name: As tables show it.
        call: What is timed: gets the workload and the round.
        model: The model whose forwards are counted.
        needs: Names of what it holds in `Bench`.
        weight: How often it runs.
        dtype: Of the weights.
        layers: Of the model.
        prepare: Called once before the first round, not timed.
        expected: What the output must be, where that is not the reference's.
        exact: Whether the run fails where the output is another.
        ours: Whether it is this package's.
        lengths: Of the sequences whose operations are counted.
        note: What a reader must know.
        skipped: Why it does not run.
    """

    name: str
    call: Callable[[Bench, Workload, int], Outcome]
    model: Callable[[Bench], torch.nn.Module]
    needs: tuple[str, ...]
    weight: Weight
    dtype: str
    layers: int
    prepare: Callable[[Bench, Workload], object] | None = None
    expected: Callable[[Bench, Workload, int], Outcome] | None = None
    exact: bool = False
    ours: bool = False
    lengths: Callable[[Bench, Workload], list[int]] | None = None
    note: str = ""
    skipped: str | None = None


def plain(dtype: str) -> str:
    """Name under which `Bench` holds the plain model."""
    return f"plain {dtype}"


def settled_dtype(dtype: str) -> str:
    """What `auto` is on this machine."""
    return settled(EngineKey(Path(), None, "last", dtype=dtype, device="cpu")).dtype


def _load(folder: Path, dtype: str) -> Qwen3ForCausalLM:
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
    # As sentence-transformers does: keys and values that nobody reads would take gigabytes. `generate` asks for them.
    model.config.use_cache = False
    return model
