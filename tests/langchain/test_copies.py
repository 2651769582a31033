"""Components travel: pickle, copies, dumps and repr, before the weights are loaded and after."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.load import dumpd, dumps

from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
from tests.langchain.helpers import documents, snapshot
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_chroma import Chroma

    from e2rank_integrations.engines.registry import EngineKey

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda made: made.model_copy(deep=True),
}


@pytest.fixture(params=[False, True], ids=["unused", "used"])
def used(request: pytest.FixtureRequest) -> bool:
    """Whether the component did its work before it was copied."""
    return bool(request.param)


@pytest.mark.parametrize("way", COPIES)
def test_embeddings_are_copied(qwen_folder: Path, loads: list[EngineKey], way: str, used: bool) -> None:
    """A copy gives the same vectors from the same weights."""
    made = E2RankEmbeddings(model=str(qwen_folder), device="cpu", dtype="float32", query_instruction="Find")
    if used:
        made.embed_query(QUERIES[0])
    copied = COPIES[way](made)
    assert copied == made
    assert copied.embed_query(QUERIES[0]) == made.embed_query(QUERIES[0])
    assert len(loads) == 1


@pytest.mark.parametrize("way", COPIES)
def test_rerankers_are_copied(qwen_folder: Path, loads: list[EngineKey], way: str, used: bool) -> None:
    """A copy keeps every option and gives the same documents."""
    embeddings = E2RankEmbeddings(model=str(qwen_folder), device="cpu", dtype="float32")
    made = E2RankReranker(embeddings=embeddings, top_n=2, template="readme", score_threshold=-0.9)
    found = documents(["law", "bread"])
    if used:
        made.compress_documents(found, QUERIES[0])
    copied = COPIES[way](made)
    assert copied == made
    assert (copied.top_n, copied.core.score_threshold, copied.core.top_n) == (2, -0.9, 2)
    assert snapshot(copied.compress_documents(found, QUERIES[0])) == snapshot(
        made.compress_documents(found, QUERIES[0])
    )
    assert len(loads) == 1


def test_a_pickle_holds_no_weights(qwen_folder: Path) -> None:
    """It names the model: a few kilobytes, however much is loaded."""
    made = E2RankEmbeddings(model=str(qwen_folder), device="cpu", dtype="float32")
    made.embed_query(QUERIES[0])
    assert len(pickle.dumps(made)) < 10_000


@pytest.mark.parametrize("mode", ["python", "json"])
def test_components_dump_their_settings(mode: Any, used: bool) -> None:
    """`model_dump` gives the settings, in JSON too, and no vector or weight."""
    embeddings = E2RankEmbeddings(model="embedded", device="cpu")
    reranker = E2RankReranker(embeddings=embeddings, top_n=2)
    if used:
        reranker.compress_documents(documents(["law"]), QUERIES[0])
    for made in (embeddings, reranker):
        dumped = made.model_dump(mode=mode)
        assert dumped["model"] == "embedded"
        assert len(json.dumps(dumped, default=str)) < 20_000
    assert reranker.model_dump(mode=mode)["top_n"] == 2


def test_components_with_a_store_dump_in_json(make_store: Callable[..., Chroma]) -> None:
    """A store is not JSON; dumping what holds one leaves it out or names it, and does not fail."""
    embeddings = E2RankEmbeddings(model="embedded", device="cpu", dtype="float32")
    store = make_store([], embedding_function=embeddings)
    reranker = E2RankReranker(embeddings=embeddings, vectorstore=store)
    for made in (reranker, E2RankRetriever(vectorstore=store)):
        dumped = json.loads(made.model_dump_json())
        assert "model" in json.dumps(dumped)


def test_repr_and_serialised_forms_hold_no_texts(store: Chroma) -> None:
    """LangChain's serialiser prints `repr`: settings are in it, documents, vectors and queries are not."""
    retriever = E2RankRetriever(vectorstore=store, search_again=True)
    retriever.invoke(QUERIES[0])
    reranker = E2RankReranker(embeddings=store.embeddings, vectorstore=store, top_n=2)
    reranker.compress_documents(documents(), QUERIES[0])
    for made in (store.embeddings, reranker, retriever):
        for shown in (repr(made), str(made), dumps(made), json.dumps(dumpd(made))):
            assert len(shown) < 5_000
            assert not any(text[:15] in shown for text in (*TEXTS, *QUERIES))
    assert "top_n=2" in repr(reranker)
    assert "embedded" in repr(store.embeddings)
