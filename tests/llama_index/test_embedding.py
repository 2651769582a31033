"""E2RankEmbedding: the encoder's vectors as LlamaIndex wants them, queries with their instruction, texts without."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from llama_index.core import Settings
from llama_index.core.embeddings import resolve_embed_model
from llama_index.core.schema import TextNode
from pydantic import ValidationError

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.llama_index import E2RankEmbedding
from e2rank_integrations.profiles import E2RANK_SMALL, EMBEDDED
from e2rank_integrations.stores import FINGERPRINT_KEY
from tests.support.passages import QUERIES, TEXTS
from tests.support.reranking import SECRET, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.engines import Recording

QUERY = QUERIES[0]


def expect_close(found: Any, expected: Any) -> None:
    """The same vectors but for rounding, which other threads do otherwise."""
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=0, atol=1e-5)


async def test_vectors_are_the_encoders(embed_model: E2RankEmbedding, embedded_encoder: E2RankEncoder) -> None:
    """Sync and async, one text or many: the encoder's unit vectors as lists of Python floats."""
    query, texts = embedded_encoder.encode_queries([QUERY])[0], embedded_encoder.encode_documents(TEXTS[:3])
    expect_close(embed_model.get_query_embedding(QUERY), query)
    expect_close(await embed_model.aget_query_embedding(QUERY), query)
    expect_close(embed_model.get_text_embedding(TEXTS[0]), texts[0])
    expect_close(await embed_model.aget_text_embedding(TEXTS[0]), texts[0])
    for found in (
        embed_model.get_text_embedding_batch(TEXTS[:3]), await embed_model.aget_text_embedding_batch(TEXTS[:3])
    ):  # fmt: skip
        expect_close(found, texts)
        assert {type(value) for row in found for value in row} == {float}
    assert {type(value) for value in embed_model.get_query_embedding(QUERY)} == {float}


async def test_queries_have_their_instruction_and_texts_do_not(qwen_encoder: E2RankEncoder) -> None:
    """The ids that the model sees of one text: the profile's query format for a query, the document's for a text."""
    encoder, recording = watched(qwen_encoder)
    embed_model = E2RankEmbedding(encoder=encoder, query_instruction="Find the baker")
    (query,), (document,) = embed_model.encoder.query_inputs([QUERY]), encoder.document_inputs([QUERY])
    assert query != encoder.query_inputs([QUERY])[0]
    embed_model.get_query_embedding(QUERY)
    await embed_model.aget_query_embedding(QUERY)
    embed_model.get_agg_embedding_from_queries([QUERY])
    await embed_model.aget_agg_embedding_from_queries([QUERY])
    assert recording.calls == [(query,)] * 4
    recording.calls.clear()
    embed_model.get_text_embedding(QUERY)
    await embed_model.aget_text_embedding(QUERY)
    embed_model.get_text_embedding_batch([QUERY])
    await embed_model.aget_text_embedding_batch([QUERY])
    assert recording.calls == [(document,)] * 4


@pytest.mark.parametrize("workers", [None, 2])
async def test_batches_keep_the_order(
    encoder: E2RankEncoder, recording: Recording, workers: int | None, passage_vectors: Any
) -> None:
    """`embed_batch_size` texts per call of the engine, sync and async; the vectors come in the order of the texts."""
    embed_model = E2RankEmbedding(encoder=encoder, embed_batch_size=10, num_workers=workers)
    expect_close(embed_model.get_text_embedding_batch(TEXTS), passage_vectors)
    assert [len(call) for call in recording.calls] == [10, 10, 4]
    recording.calls.clear()
    expect_close(await embed_model.aget_text_embedding_batch(TEXTS), passage_vectors)
    assert sorted(len(call) for call in recording.calls) == [4, 10, 10]


async def test_no_text_is_no_call(embed_model: E2RankEmbedding, recording: Recording) -> None:
    """Nothing to embed is answered by nothing."""
    assert embed_model.get_text_embedding_batch([]) == []
    assert await embed_model.aget_text_embedding_batch([]) == []
    assert recording.calls == []


async def test_as_a_transformation(embed_model: E2RankEmbedding, embedded_encoder: E2RankEncoder) -> None:
    """Nodes get the vector of the text that LlamaIndex embeds: with their metadata, but for excluded keys."""
    node = TextNode(text="Rye.", metadata={"a": "x", "b": "y"}, excluded_embed_metadata_keys=["b"])
    expected = embedded_encoder.encode_documents(["a: x\n\nRye."])[0]
    (done,) = embed_model([node])
    expect_close(done.embedding, expected)
    node.embedding = None
    (done,) = await embed_model.acall([node])
    expect_close(done.embedding, expected)


def test_one_model_under_two_names() -> None:
    """`model_name`, as all of LlamaIndex calls it, and `model`, as this package does, are the same."""
    for made in (E2RankEmbedding(model="embedded"), E2RankEmbedding(model_name="embedded"),
                 E2RankEmbedding(encoder=E2RankEncoder.embedded())):  # fmt: skip
        assert (made.model, made.model_name, made.encoder.model) == ("embedded",) * 3
        assert made.encoder.profile == EMBEDDED
    assert E2RankEmbedding().model_name == "Alibaba-NLP/E2Rank-0.6B"
    with pytest.raises(ValidationError, match="model_name: it is another than model"):
        E2RankEmbedding(model="embedded", model_name="Alibaba-NLP/E2Rank-0.6B")
    assert E2RankEmbedding(model="embedded", model_name="embedded").model == "embedded"


def test_a_name_that_contradicts_the_encoder_is_refused() -> None:
    """By either name; the error says what to leave out."""
    for options in ({"model": "other"}, {"model_name": "other"}, {"device": "cuda"}, {"dtype": "bfloat16"}):
        with pytest.raises(ValidationError, match=r"encoder: it has another .*leave"):
            E2RankEmbedding(encoder=E2RankEncoder.embedded(device="cpu", dtype="float32"), **options)


def test_every_field_reaches_the_encoder() -> None:
    """What names a model, and the words on top of its profile."""
    made = E2RankEmbedding(model_name="x", revision="main", adapter="folder", device="cuda:1", dtype="bfloat16",
                           profile=E2RANK_SMALL, query_instruction="Find", template="readme")  # fmt: skip
    profile = replace(E2RANK_SMALL, tasks=replace(E2RANK_SMALL.tasks, query="Find")).with_template("readme")
    assert made.encoder == E2RankEncoder("x", profile, "main", "folder", "cuda:1", "bfloat16")


@pytest.mark.parametrize(
    "options",
    [{"embed_batchsize": 5}, {"embed_batch_size": 0}, {"embed_batch_size": 4096}, {"dtype": "int8"},
     {"encoder": "embedded"}, {"query_instruction": 1}, {"template": "own"}, {"embeddings_cache": {}}],
    ids=str,
)  # fmt: skip
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    """A misspelt option and a value out of its range are errors that name the option."""
    (name,) = options
    with pytest.raises(Exception, match=name):
        E2RankEmbedding(model_name="embedded", **options)


@pytest.mark.parametrize("name", ["model", "model_name", "device", "encoder", "query_instruction", "profile"])
def test_a_settled_model_is_not_renamed(embed_model: E2RankEmbedding, name: str) -> None:
    """Assigning another would leave vectors of two models under one name; it is refused, and nothing is changed."""
    before = embed_model.encoder
    with pytest.raises(InputError, match=f"{name}: it is settled"):
        setattr(embed_model, name, "other")
    with pytest.raises(InputError, match=f"{name}: it is settled"):
        embed_model.model_copy(update={name: "other"})
    assert embed_model.encoder == before
    embed_model.embed_batch_size = 3
    assert embed_model.embed_batch_size == 3


@pytest.mark.parametrize("method", ["get_query_embedding", "get_text_embedding"])
@pytest.mark.parametrize("bad", [None, 5, b"bytes", [SECRET]], ids=repr)
async def test_what_is_no_text_is_refused(embed_model: E2RankEmbedding, method: str, bad: Any) -> None:
    """Sync and async: an error of this package that says what was found and repeats no text."""
    with pytest.raises(InputError, match=type(bad).__name__) as caught:
        getattr(embed_model, method)(bad)
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError):
        await getattr(embed_model, f"a{method}")(bad)


def test_collection_metadata_is_the_fingerprint(embed_model: E2RankEmbedding) -> None:
    """What a new collection is told: by it another model is refused at once."""
    assert embed_model.collection_metadata() == {FINGERPRINT_KEY: embed_model.encoder.fingerprint.to_json()}


def test_it_is_resolved_as_it_is(embed_model: E2RankEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
    """LlamaIndex's way of finding the embedding of an index takes this one and sets its callback manager."""
    assert resolve_embed_model(embed_model) is embed_model
    monkeypatch.setattr(Settings, "_embed_model", None)
    Settings.embed_model = embed_model
    assert Settings.embed_model is embed_model


def test_what_is_shown_names_the_model_alone(embed_model: E2RankEmbedding, make_index: Callable[..., Any]) -> None:
    """`repr` and the payload of LlamaIndex's events: settings, no text that was embedded."""
    make_index("simple")
    embed_model.get_query_embedding(SECRET)
    if hasattr(embed_model, "to_payload"):  # newer LlamaIndex
        assert embed_model.to_payload() == {
            "class_name": "E2RankEmbedding",
            "model_name": "embedded",
            "embed_batch_size": 64,
        }
    assert SECRET not in repr(embed_model)
    assert not any(text[:15] in repr(embed_model) for text in TEXTS)
    assert len(repr(embed_model)) < 5_000
