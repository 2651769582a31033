"""Components travel as LlamaIndex's do: dicts, JSON, pickle and copies, whole, and without weights or secrets."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.schema import MetadataMode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.vector_stores import SimpleVectorStore

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank
from e2rank_integrations.profiles import E2RANK_SMALL, TEMPLATES
from tests.llama_index.helpers import expect_alike, found_nodes
from tests.support.engines import Gated
from tests.support.passages import QUERIES, TEXTS
from tests.support.reranking import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations.engines.registry import EngineKey

QUERY = QUERIES[0]

DUMPS: dict[str, Callable[[Any], Any]] = {
    "to_dict": lambda made: type(made).from_dict(made.to_dict()),
    "to_json": lambda made: type(made).from_json(made.to_json()),
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda made: made.model_copy(),
    "model_copy deep": lambda made: made.model_copy(deep=True),
}
WAYS = DUMPS | COPIES

SLOW_TOKENS = replace(
    E2RANK_SMALL,
    name="slow",
    template=replace(TEMPLATES["readme"], name="mine", tail="Question: {query}"),
    tasks=replace(E2RANK_SMALL.tasks, query="Find", listwise='Sort {as} "they" stand', noun="Pages"),
    caps=replace(E2RANK_SMALL.caps, document=100),
    query_weight=0.25,
)
"""A profile of which nothing is a default."""


def embedding(folder: Path) -> E2RankEmbedding:
    return E2RankEmbedding(model_name=str(folder), device="cpu", dtype="float32", query_instruction="Find",
                           embed_batch_size=7)  # fmt: skip


def reranker(folder: Path) -> E2RankRerank:
    return E2RankRerank(embed_model=embedding(folder), top_n=2, template="readme", rerank_instruction="Sort {them}",
                        num_input_docs=3, query_weight=0.5, score_threshold=-0.9, on_error="keep_order",
                        metadata_mode=MetadataMode.LLM, prompt_metadata_mode=MetadataMode.ALL,
                        keep_retrieval_score=True)  # fmt: skip


MAKERS: dict[str, Callable[[Path], Any]] = {"embedding": embedding, "rerank": reranker}


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest, qwen_folder: Path) -> Any:
    """A component with every setting another than its default."""
    return MAKERS[request.param](qwen_folder)


@pytest.fixture(params=[False, True], ids=["unused", "used"])
def used(request: pytest.FixtureRequest) -> bool:
    """Whether the component did its work before it was copied."""
    return bool(request.param)


def worked(made: Any) -> Any:
    """What a component gives."""
    if isinstance(made, E2RankEmbedding):
        return [made.get_query_embedding(QUERY), made.get_text_embedding(TEXTS[0])]
    return made.postprocess_nodes(found_nodes(["law"]), query_str=QUERY)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_whole(made: Any, way: str, used: bool, loads: list[EngineKey]) -> None:
    """Every setting survives, the results are the same, and the weights are loaded once; the original stays."""
    if used:
        worked(made)
    before = dict(made.__dict__)
    copied = WAYS[way](made)
    assert made.__dict__ == before
    assert type(copied) is type(made)
    assert copied.to_dict() == made.to_dict()
    assert replace(copied.encoder, device="cpu") == made.encoder
    found = worked(copied)
    if isinstance(made, E2RankEmbedding):
        assert found == worked(made)
    else:
        expect_alike(found, worked(made))
    assert len({key.folder for key in loads}) == 1
    assert way in DUMPS or len(loads) == 1  # a dict does not say the device


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("component", [E2RankEmbedding, E2RankRerank])
def test_a_ready_encoder_survives(component: Any, way: str, qwen_encoder: E2RankEncoder) -> None:
    """Its own profile, with caps, formats, words and template, not only its name."""
    made = component(encoder=replace(qwen_encoder, profile=SLOW_TOKENS))
    copied = WAYS[way](made)
    assert copied.encoder.profile == SLOW_TOKENS
    assert replace(copied.encoder, device="cpu") == made.encoder
    assert copied.to_dict() == made.to_dict()


@pytest.mark.parametrize("way", WAYS)
def test_updated_prompts_survive(qwen_folder: Path, way: str) -> None:
    """Words that were changed by `update_prompts` are not lost, nor are those given at construction back again."""
    made = reranker(qwen_folder)
    made.update_prompts({"rerank_instruction": PromptTemplate("Put {{first}} what answers"),
                         "listwise_line": PromptTemplate("({position}) {document}<|endoftext|>")})  # fmt: skip
    copied = WAYS[way](made)
    assert copied.encoder.profile == made.encoder.profile
    assert copied.encoder.profile.tasks.listwise == "Put {first} what answers"
    assert copied.encoder.profile.template.line == "({position}) {document}<|endoftext|>"
    assert {name: prompt.get_template() for name, prompt in copied.get_prompts().items()} == {
        name: prompt.get_template() for name, prompt in made.get_prompts().items()
    }


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_has_prompts_of_its_own(qwen_folder: Path, way: str) -> None:
    """Changing the words of a copy changes nothing of the original, nor the other way round."""
    made = reranker(qwen_folder)
    copied = COPIES[way](made)
    copied.update_prompts({"rerank_instruction": PromptTemplate("Mine")})
    assert made.encoder.profile.tasks.listwise == "Sort {them}"
    assert made.embed_model is not None
    assert made.embed_model.encoder.profile.tasks.listwise == E2RANK_SMALL.tasks.listwise
    made.update_prompts({"rerank_instruction": PromptTemplate("Yours")})
    assert copied.encoder.profile.tasks.listwise == "Mine"


def test_dumps_hold_settings_alone(qwen_folder: Path, made: Any, used: bool) -> None:
    """JSON as it is, with the model by name: no device, weights, vectors, texts, handlers or stores."""
    if used:
        worked(made)
    dumped = made.to_dict()
    assert json.loads(json.dumps(dumped)) == json.loads(made.to_json())
    assert dumped["class_name"] == type(made).__name__
    assert dumped["model"] == str(qwen_folder)
    assert not {"device", "encoder", "embed_model", "vector_store", "vector_lookup", "callback_manager",
                "embeddings_cache", "rate_limiter"} & set(dumped)  # fmt: skip
    assert len(made.to_json()) < 5_000
    assert not any(text[:15] in made.to_json() for text in (*TEXTS, *QUERIES))
    assert made.to_json() == made.json()


def test_a_dict_given_is_not_written_to(made: Any) -> None:
    """One dict makes many components."""
    dumped = made.to_dict()
    before = copy.deepcopy(dumped)
    type(made).from_dict(dumped)
    assert dumped == before


def test_a_dict_of_the_device_elsewhere(qwen_folder: Path) -> None:
    """The device is chosen where the component is made again; what is given beside a dict wins."""
    dumped = embedding(qwen_folder).to_dict()
    assert E2RankEmbedding.from_dict(dumped).encoder.device == "auto"
    assert E2RankEmbedding.from_dict(dumped, device="cpu").encoder.device == "cpu"


def test_nothing_secret_is_dumped_or_shown(encoder: E2RankEncoder) -> None:
    """What a cache, a handler or a lookup holds, and what was embedded, stays out of dumps, `repr` and `str`."""
    kept = SimpleKVStore(data={"embeddings": {SECRET: {SECRET: SECRET}}})
    embed_model = E2RankEmbedding(encoder=encoder, embeddings_cache=kept)
    embed_model.get_query_embedding(SECRET)

    class Store:
        def __repr__(self) -> str:
            return SECRET

        search = get = sample = None

    rerank = E2RankRerank(embed_model=embed_model, vector_store=Store())
    for made in (embed_model, rerank):
        for shown in (repr(made), str(made), made.to_json(), str(made.to_dict()), str(made.model_dump(mode="json"))):
            assert SECRET not in shown
            assert len(shown) < 5_000


def test_a_pickle_holds_no_weights(made: Any) -> None:
    """It names the model: a few kilobytes, however much is loaded."""
    worked(made)
    assert len(pickle.dumps(made)) < 20_000


class Open(BaseCallbackHandler):
    """A handler that cannot be pickled, as one with a connection."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.connection = Gated(None).gate  # type: ignore[arg-type]

    def on_event_start(self, *args: Any, **kwargs: Any) -> str:
        return ""

    def on_event_end(self, *args: Any, **kwargs: Any) -> None: ...

    def start_trace(self, trace_id: str | None = None) -> None: ...

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None: ...


@pytest.mark.parametrize("way", ["pickle", "copy", "model_copy"])
@pytest.mark.parametrize("template", [None, "readme"])
def test_what_cannot_travel_stays_where_it_is(qwen_encoder: E2RankEncoder, way: str, template: str | None) -> None:
    """Pickling leaves out a lookup or a handler that cannot be pickled: from the copy, not the original."""
    manager = CallbackManager([Open()])
    embed_model = E2RankEmbedding(encoder=qwen_encoder, callback_manager=manager)
    rerank = E2RankRerank(embed_model=embed_model, template=template, vector_lookup=lambda ids: {},
                          callback_manager=manager, top_n=None)  # fmt: skip
    for made in (embed_model, rerank):
        before = dict(made.__dict__)
        copied = COPIES[way](made)
        assert made.__dict__ == before
        assert copied.to_dict() == made.to_dict()
        assert set(copied.__dict__) == set(made.__dict__)
        if not isinstance(made, E2RankEmbedding):
            expect_alike(worked(copied), worked(made))


def test_an_engine_that_cannot_travel_is_an_error(qwen_encoder: E2RankEncoder) -> None:
    """A copy without it would load the weights in its place; the original keeps it."""
    engine = Gated(qwen_encoder.engine)
    embed_model = E2RankEmbedding(encoder=replace(qwen_encoder, custom_engine=engine))
    for made in (embed_model, E2RankRerank(embed_model=embed_model)):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(made)
        assert made.encoder.engine is engine


def test_a_store_does_not_travel(qwen_folder: Path) -> None:
    """A pickled copy computes vectors; half a store would fail at its first use."""
    made = reranker(qwen_folder)
    made.vector_store = SimpleVectorStore()
    assert pickle.loads(pickle.dumps(made)).vector_store is None
    assert made.vector_store is not None


def test_a_reranker_of_own_words_comes_back_made_anew(qwen_folder: Path) -> None:
    """Words that differ from those of its embedding are no contradiction; what stayed behind is absent, not missing."""
    made = reranker(qwen_folder)
    made.__dict__["vector_lookup"] = lambda ids: {}
    copied = pickle.loads(pickle.dumps(made))
    assert copied.vector_lookup is None
    assert copied.encoder == made.encoder
    assert made.vector_lookup is not None
