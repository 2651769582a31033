"""`prefix_cache` as users set it: on an encoder, or on a component of either framework."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import ValidationError

from e2rank_integrations import E2RankEncoder, PrefixCache, Reranker
from e2rank_integrations.errors import InputError
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank
from tests.support.engines import Recording
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

LONG = [f"{text} {text} {text} {text}" for text in TEXTS[:8]]
CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32"}


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(50_000_000)


@pytest.fixture
def encoder(qwen_encoder: E2RankEncoder, cache: PrefixCache) -> E2RankEncoder:
    return replace(qwen_encoder, prefix_cache=cache)


def test_a_follow_up_query_ranks_as_without_the_cache(
    encoder: E2RankEncoder, qwen_encoder: E2RankEncoder, cache: PrefixCache
) -> None:
    """The same candidates for other queries: found in the cache, with the scores of a whole run."""
    for query in QUERIES[:3]:
        found, expected = (Reranker(each).rank(query, LONG) for each in (encoder, qwen_encoder))
        assert [item.candidate.text for item in found] == [item.candidate.text for item in expected]
        assert [item.score for item in found] == pytest.approx([item.score for item in expected], abs=1e-5)
        assert found.usage == expected.usage
    assert (cache.hits, cache.misses, len(cache)) == (2, 1, 1)


async def test_many_queries_at_once_share_a_block(encoder: E2RankEncoder, cache: PrefixCache) -> None:
    """`rank_many` and `arank` go through the cache, too."""
    Reranker(encoder).rank_many([(query, LONG) for query in QUERIES[:3]])
    await Reranker(encoder).arank(QUERIES[0], LONG)
    assert (cache.hits, cache.misses) == (3, 1)


def test_other_candidates_are_another_block(encoder: E2RankEncoder, cache: PrefixCache) -> None:
    """The order counts: the block is the list as it stands in the prompt."""
    Reranker(encoder).rank(QUERIES[0], LONG)
    Reranker(encoder).rank(QUERIES[0], LONG[::-1])
    assert (cache.hits, len(cache)) == (0, 2)


def test_both_frameworks_share_one_cache(qwen_folder: Path, cache: PrefixCache) -> None:
    """What LangChain's reranker read, LlamaIndex's finds."""
    settings = {"model": str(qwen_folder), "prefix_cache": cache, "prompt_text_key": None, **CPU}
    E2RankReranker(**settings).compress_documents([Document(text) for text in LONG], QUERIES[0])
    settings.pop("prompt_text_key")
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in LONG]
    E2RankRerank(**settings).postprocess_nodes(nodes, query_str=QUERIES[1])
    assert (cache.hits, cache.misses) == (1, 1)


@pytest.mark.parametrize("component", [E2RankEmbeddings, E2RankReranker, E2RankEmbedding, E2RankRerank])
def test_a_component_passes_it_on(component: Any, cache: PrefixCache) -> None:
    """Beside a name, or with a ready encoder; never against the encoder's own."""
    encoder = E2RankEncoder(prefix_cache=cache)
    assert component(prefix_cache=cache).encoder.prefix_cache is cache
    assert component(encoder=encoder).prefix_cache is cache
    with pytest.raises((InputError, ValidationError), match="another prefix_cache"):
        component(encoder=encoder, prefix_cache=PrefixCache(7))


def test_it_does_not_tell_encoders_apart(encoder: E2RankEncoder, qwen_encoder: E2RankEncoder) -> None:
    """It decides what a call costs, not what it returns; and a pickled encoder takes no tensors along."""
    assert encoder == qwen_encoder
    assert hash(encoder) == hash(qwen_encoder)
    other = pickle.loads(pickle.dumps(encoder))
    assert other.prefix_cache.max_bytes == encoder.prefix_cache.max_bytes


def test_close_lets_go_of_the_blocks(encoder: E2RankEncoder, cache: PrefixCache) -> None:
    """Freeing the weights frees what they computed."""
    Reranker(encoder).rank(QUERIES[0], LONG)
    encoder.close()
    assert len(cache) == 0


def test_the_embedded_default_cannot_use_it(embedded_encoder: E2RankEncoder, cache: PrefixCache) -> None:
    """Its documents see the query; the first call says so."""
    with pytest.raises(InputError, match="prefix_cache: this model's documents see the query"):
        Reranker(replace(embedded_encoder, prefix_cache=cache)).rank(QUERIES[0], LONG)


def test_an_engine_elsewhere_cannot_use_it(qwen_encoder: E2RankEncoder, cache: PrefixCache) -> None:
    """A server keeps prefixes of its own."""
    with pytest.raises(InputError, match="leave it out beside custom_engine"):
        replace(qwen_encoder, prefix_cache=cache, custom_engine=Recording(qwen_encoder.engine))


def test_something_else_is_refused() -> None:
    """A number of bytes is no cache; the message says what is expected."""
    with pytest.raises(InputError, match="prefix_cache: expected a PrefixCache, found int"):
        E2RankEncoder(prefix_cache=2**30)
