"""The cache as an option of LlamaIndex's components, and one cache for both frameworks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from pydantic import ValidationError

from e2rank_integrations import DiskCache, E2RankEncoder, MemoryCache
from e2rank_integrations.langchain import E2RankEmbeddings
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
from tests.caches.helpers import Failing
from tests.llama_index.helpers import found_nodes
from tests.support.engines import Recording
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from e2rank_integrations import DocumentCache


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> DocumentCache:
    return MemoryCache() if request.param == "memory" else DiskCache(tmp_path)


def test_what_one_framework_indexed_the_other_does_not_compute(
    embedded_encoder: E2RankEncoder, cache: DocumentCache
) -> None:
    """LangChain's component indexes; LlamaIndex's, made apart with the same cache, asks the model for no document."""
    first, second = Recording(embedded_encoder.engine), Recording(embedded_encoder.engine)
    one = E2RankEmbeddings(encoder=replace(embedded_encoder, custom_engine=first, document_cache=cache))
    other = E2RankEmbedding(encoder=replace(embedded_encoder, custom_engine=second, document_cache=cache))
    vectors = one.embed_documents(TEXTS)
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=other)
    assert first.usage.documents == len(TEXTS)
    assert second.calls == []
    stored = index.vector_store.data.embedding_dict.values()
    np.testing.assert_array_equal(sorted(stored), sorted(vectors))
    assert E2RankRetriever(index).retrieve(QUERIES[0])
    assert (second.usage.documents, second.usage.queries) == (0, 1)


async def test_and_the_other_way_round(embedded_encoder: E2RankEncoder, cache: DocumentCache) -> None:
    """LlamaIndex's component indexes, sync and async; LangChain's finds the vectors."""
    recording = Recording(embedded_encoder.engine)
    encoder = replace(embedded_encoder, custom_engine=recording, document_cache=cache)
    vectors = E2RankEmbedding(encoder=encoder).get_text_embedding_batch(TEXTS[:6])
    vectors += await E2RankEmbedding(encoder=encoder).aget_text_embedding_batch(TEXTS[6:9])
    recording.calls.clear()
    assert E2RankEmbeddings(encoder=encoder).embed_documents(TEXTS[:9]) == vectors
    assert recording.calls == []


@pytest.mark.parametrize("component", [E2RankEmbedding, E2RankRerank])
def test_the_cache_reaches_the_encoder(component: Any) -> None:
    """Given beside a name, or with a ready encoder."""
    cache = MemoryCache()
    for made in (
        component(model="embedded", document_cache=cache),
        component(encoder=E2RankEncoder("embedded", document_cache=cache)),
    ):
        assert made.encoder.document_cache is cache
        assert made.document_cache is cache
    with pytest.raises(ValidationError, match="another document_cache"):
        component(encoder=E2RankEncoder("embedded", document_cache=cache), document_cache=MemoryCache())


def test_the_cache_comes_along_with_the_embedding(embedded_encoder: E2RankEncoder) -> None:
    """A reranker and a retriever that take their model from it take its cache, and use it."""
    recording = Recording(embedded_encoder.engine)
    encoder = replace(embedded_encoder, custom_engine=recording, document_cache=MemoryCache())
    embed_model = E2RankEmbedding(encoder=encoder)
    embed_model.get_text_embedding_batch(TEXTS)
    recording.calls.clear()
    rerank = E2RankRerank(embed_model=embed_model)
    assert rerank.document_cache is encoder.document_cache
    rerank.postprocess_nodes(found_nodes(["law"]), query_str=QUERIES[0])
    assert recording.usage.documents == 0
    assert recording.usage.prompts == 1
    rerank.update_prompts({"rerank_instruction": rerank.get_prompts()["rerank_instruction"]})
    assert rerank.encoder.document_cache is encoder.document_cache


@pytest.mark.parametrize("component", [E2RankEmbedding, E2RankRerank])
def test_the_cache_is_not_serialised(component: Any, tmp_path: Path) -> None:
    """A dict or JSON says the model, and nothing of this machine's folders; it makes a component without a cache."""
    made = component(model="embedded", document_cache=DiskCache(tmp_path / "secret-folder"))
    assert "document_cache" not in made.to_dict()
    assert "secret-folder" not in made.to_json() + repr(made)
    assert component.from_dict(made.to_dict()).document_cache is None


@pytest.mark.parametrize("component", [E2RankEmbedding, E2RankRerank])
def test_a_pickled_component_takes_its_cache_along(component: Any, cache: DocumentCache) -> None:
    """The file, or an empty memory of the same bound."""
    made = component(model="embedded", document_cache=cache)
    arrived = pickle.loads(pickle.dumps(made))
    assert type(arrived.document_cache) is type(cache)
    assert arrived.encoder.document_cache is arrived.document_cache
    if isinstance(cache, DiskCache):
        assert arrived.document_cache == cache


def test_a_cache_that_cannot_be_pickled_is_not_left_behind() -> None:
    """LlamaIndex would drop the encoder with it, in silence, and with the encoder its profile."""

    class Local(Failing):
        """Of this function alone, so pickle cannot name it."""

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(E2RankEmbedding(model="embedded", document_cache=Local()))
