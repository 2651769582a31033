"""Naming a model: what is refused, what shares weights, and how often they are loaded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_chroma import Chroma
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
from e2rank_integrations.profiles import E2RANK_SMALL, EMBEDDED, TEMPLATES
from tests.langchain.helpers import documents
from tests.support.chroma import unique_name
from tests.support.passages import QUERIES
from tests.support.reranking import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chromadb.api import ClientAPI
    from pydantic import BaseModel

    from e2rank_integrations.engines.registry import EngineKey

COMPONENTS = [E2RankEmbeddings, E2RankReranker]
CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32"}


def named(folder: Path) -> dict[str, Any]:
    return {"model": str(folder), **CPU}


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("option", ["top_m", "query_prompt", "batch_size", "Model"])
def test_unknown_options_are_refused(component: type[BaseModel], option: str) -> None:
    """A misspelt option is an error that names it, not a setting without effect."""
    with pytest.raises(ValidationError, match=option):
        component(model="embedded", **{option: 5})


def test_unknown_options_of_the_retriever_are_refused() -> None:
    """As for the others."""
    store = InMemoryVectorStore(E2RankEmbeddings(model="embedded"))
    with pytest.raises(ValidationError, match="fetchk"):
        E2RankRetriever(vectorstore=store, fetchk=5)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize(
    "options",
    [{"model": 5}, {"dtype": "int8"}, {"encoder": "embedded"}, {"profile": "e2rank"}, {"template": 3},
     {"query_instruction": 1}],
    ids=str,
)  # fmt: skip
def test_options_of_another_type_are_refused(component: type[BaseModel], options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        component(**options)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize(
    "options", [{"model": "embedded"}, {"device": "cuda"}, {"dtype": "bfloat16"}, {"adapter": "x"}, {"revision": "y"}],
    ids=str,
)  # fmt: skip
def test_a_name_that_contradicts_the_encoder_is_refused(
    component: type[BaseModel], qwen_encoder: E2RankEncoder, options: dict[str, Any]
) -> None:
    """A ready encoder and a name beside it: it says which of them differ, and what to leave out."""
    (name,) = options
    with pytest.raises(ValidationError, match=f"another {name}.*leave {name} out"):
        component(encoder=qwen_encoder, **options)


def test_a_name_that_contradicts_the_embeddings_is_refused(qwen_encoder: E2RankEncoder) -> None:
    """So it is for a reranker that takes its model from embeddings."""
    embeddings = E2RankEmbeddings(encoder=qwen_encoder)
    with pytest.raises(ValidationError, match=r"another model.*leave model out"):
        E2RankReranker(embeddings=embeddings, model="embedded")
    with pytest.raises(ValidationError, match="give one of the two"):
        E2RankReranker(embeddings=embeddings, encoder=E2RankEncoder.embedded())
    assert E2RankReranker(embeddings=embeddings, encoder=qwen_encoder).encoder == qwen_encoder


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_name_that_agrees_is_fine(component: type[BaseModel], qwen_encoder: E2RankEncoder) -> None:
    """Saying the same twice is no contradiction, and the fields show the encoder's model."""
    made = component(encoder=qwen_encoder, model=qwen_encoder.model, device="cpu")
    assert made.encoder == qwen_encoder
    assert (made.model, made.device, made.dtype) == (qwen_encoder.model, "cpu", "float32")
    assert component(encoder=qwen_encoder).model == qwen_encoder.model


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_name_makes_the_encoder(component: type[BaseModel], qwen_folder: Path) -> None:
    """Every field that names a model reaches the encoder."""
    made = component(model=str(qwen_folder), revision="main", adapter="folder", device="cuda:1", dtype="bfloat16",
                     profile=E2RANK_SMALL)  # fmt: skip
    assert made.encoder == E2RankEncoder(str(qwen_folder), E2RANK_SMALL, "main", "folder", "cuda:1", "bfloat16")
    assert component(model="embedded").encoder.profile == EMBEDDED
    assert component().encoder.model == "Alibaba-NLP/E2Rank-0.6B"


def test_own_words_come_on_top(qwen_encoder: E2RankEncoder) -> None:
    """Instructions and template change the profile of the component that names them, and nothing of the one given."""
    embeddings = E2RankEmbeddings(encoder=qwen_encoder, query_instruction="Find")
    reranker = E2RankReranker(embeddings=embeddings, rerank_instruction="Sort", template="readme")
    profile = reranker.encoder.profile
    assert (profile.tasks.query, profile.tasks.listwise) == ("Find", "Sort")
    assert profile.template == TEMPLATES["readme"]
    assert embeddings.encoder.profile.template == TEMPLATES["paper"]
    assert embeddings.encoder.profile.tasks.listwise == qwen_encoder.profile.tasks.listwise
    own = replace(TEMPLATES["paper"], name="own", tail="Question: {query}")
    assert E2RankReranker(embeddings=embeddings, template=own).encoder.profile.template == own
    with pytest.raises(Exception, match="no template named 'unknown'"):
        E2RankReranker(embeddings=embeddings, template="unknown")


SET_LATER: dict[str, tuple[str, Callable[[E2RankEncoder], str]]] = {
    "model": ("embedded", lambda encoder: encoder.model),
    "dtype": ("bfloat16", lambda encoder: encoder.dtype),
    "query_instruction": ("Find", lambda encoder: encoder.profile.tasks.query),
    "rerank_instruction": ("Sort", lambda encoder: encoder.profile.tasks.listwise),
    "template": ("readme", lambda encoder: encoder.profile.template.name),
}


@pytest.mark.parametrize("change", ["assigned", "copied"])
@pytest.mark.parametrize("name", SET_LATER)
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_changed_name_counts(component: Any, qwen_folder: Path, change: str, name: str) -> None:
    """A model or wording set later, or on a copy, is in force or refused, never shown and ignored."""
    made = component(**named(qwen_folder))
    value, found = SET_LATER[name]
    try:
        if change == "copied":
            made = made.model_copy(update={name: value})
        else:
            setattr(made, name, value)
    except (ValidationError, InputError, AttributeError) as error:
        assert name in str(error)  # noqa: PT017 - either is fine
        return
    assert found(made.encoder) == value


def test_own_words_change_the_prompt(qwen_encoder: E2RankEncoder) -> None:
    """They are in force: other words are another prompt, with another vector, over the same document vectors."""
    embeddings = E2RankEmbeddings(encoder=qwen_encoder)
    found = documents(["bread"])
    vectors = [
        E2RankReranker(embeddings=embeddings, **options).rank(found, QUERIES[0]).query_vector
        for options in ({}, {"rerank_instruction": "Sort"}, {"template": "readme"}, {"template": "training"})
    ]
    assert len({tuple(vector) for vector in vectors if vector is not None}) == 4


def test_components_made_apart_load_once(qwen_folder: Path, memory: ClientAPI, loads: list[EngineKey]) -> None:
    """Embeddings, rerankers of other words, and a retriever, each naming the model: one set of weights."""
    embeddings = E2RankEmbeddings(**named(qwen_folder))
    store = Chroma(client=memory, collection_name=unique_name(), embedding_function=embeddings)
    store.add_documents(documents(["bread", "orbit"]))
    for options in ({}, {"rerank_instruction": "Sort"}, {"template": "training"}, {"query_instruction": "Find"}):
        reranker = E2RankReranker(**named(qwen_folder), **options)
        reranker.compress_documents(documents(["law"]), QUERIES[0])
        E2RankReranker(embeddings=embeddings, **options).compress_documents(documents(["law"]), QUERIES[0])
        E2RankRetriever(vectorstore=store, reranker=reranker).invoke(QUERIES[0])
    E2RankRetriever(vectorstore=store).invoke(QUERIES[0])
    assert len(loads) == 1


def test_components_in_many_threads_load_once(qwen_folder: Path, loads: list[EngineKey]) -> None:
    """16 threads that each make embeddings and a reranker by name and use them at once."""
    start = threading.Barrier(16)

    def use(position: int) -> int:
        embeddings = E2RankEmbeddings(**named(qwen_folder))
        reranker = E2RankReranker(**named(qwen_folder))
        start.wait(timeout=30)
        if position % 2:
            return len(embeddings.embed_query(QUERIES[0])) // 64
        return len(reranker.compress_documents(documents(["law"])[:1], QUERIES[0]))

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(use, range(16))) == {1}
    assert len(loads) == 1


def test_a_refused_option_repeats_no_text_of_the_user() -> None:
    """pydantic would print the arguments beside it, task strings among them."""
    with pytest.raises(ValueError, match="top_n") as caught:
        E2RankReranker(model="embedded", rerank_instruction=SECRET, top_n=0)
    assert SECRET not in str(caught.value)
