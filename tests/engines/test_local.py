"""The engine of this process computes what the reference's formula says, whatever shares the batch."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3Model

from e2rank_integrations.engines import local
from e2rank_integrations.engines.forward import Forward
from e2rank_integrations.values import TokenInput, Usage
from tests.engines.layouts import laid_out
from tests.support.models import SMALL_VOCABULARY, reference_embed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.engines.local import LocalEngine

DOCUMENTS = [
    "Beijing is the capital of China.",
    "Gravity attracts.",
    "",
    "重力は引力です。" * 20,
    "a\r\nb 🙂",
    "x" * 300,
]
QUERIES = ["What is the capital of China?", "Explain gravity", "为什么?"]

ids = st.lists(st.integers(0, SMALL_VOCABULARY - 1), min_size=1, max_size=40).map(tuple)
token_inputs = st.builds(TokenInput, ids, st.sampled_from(["document", "query", "listwise"]))


def some_inputs(*lengths: int) -> list[TokenInput]:
    generator = np.random.default_rng(0)
    return [TokenInput(tuple(generator.integers(0, SMALL_VOCABULARY, n).tolist()), "document") for n in lengths]


@pytest.fixture(scope="module")
def reference_model(qwen_folder: Path) -> Qwen3Model:
    return Qwen3Model.from_pretrained(qwen_folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("template", ["paper", "readme", "training"])
def test_documents_queries_and_prompts_equal_the_reference_formula(
    qwen_encoder: E2RankEncoder, reference_model: Qwen3Model, padding_side: str, template: str
) -> None:
    """Each kind of input gets the reference's vector to 1e-5, on whichever side the reference pads its batch."""
    encoder = type(qwen_encoder)(
        qwen_encoder.model, qwen_encoder.profile.with_template(template), device="cpu", dtype="float32"
    )
    prompts = [encoder.listwise_input(query, DOCUMENTS)[0] for query in QUERIES]
    inputs = [*encoder.document_inputs(DOCUMENTS), *encoder.query_inputs(QUERIES), *prompts]
    expected = reference_embed(reference_model, [item.ids for item in inputs], padding_side).numpy()
    np.testing.assert_allclose(encoder.run(inputs).vectors, expected, rtol=0, atol=1e-5)


def test_the_public_encoders_equal_the_reference_formula(
    qwen_encoder: E2RankEncoder, reference_model: Qwen3Model
) -> None:
    """`encode_documents`, `encode_queries` and `encode_listwise` return those same vectors, in the order given."""
    prompt, plan = qwen_encoder.encode_listwise(QUERIES[0], DOCUMENTS)
    found = np.concatenate([qwen_encoder.encode_documents(DOCUMENTS), qwen_encoder.encode_queries(QUERIES), prompt])
    inputs = [
        *qwen_encoder.document_inputs(DOCUMENTS),
        *qwen_encoder.query_inputs(QUERIES),
        qwen_encoder.listwise_input(QUERIES[0], DOCUMENTS)[0],
    ]
    expected = reference_embed(reference_model, [item.ids for item in inputs], "left").numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert plan.tokens == len(inputs[-1].ids)


@contextmanager
def batched(engine: LocalEngine, *, tokens: int, pad: bool) -> Iterator[None]:
    """Batches of another budget, packed or padded."""
    with laid_out(engine, packed=not pad), pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_CPU_BATCH_TOKENS", tokens)
        yield


@pytest.mark.parametrize("pad", [False, True], ids=["as on a CPU", "as on a GPU"])
@given(items=st.lists(token_inputs, min_size=1, max_size=12), tokens=st.integers(1, 200))
@settings(deadline=None, max_examples=30)
def test_a_result_does_not_depend_on_its_neighbours(
    bare_engine: LocalEngine, pad: bool, items: list[TokenInput], tokens: int
) -> None:
    """An input embedded among others, in batches of any size, padded or not, gets its own vector to 1e-5."""
    alone = np.concatenate([bare_engine.encode([item]).vectors for item in items])
    with batched(bare_engine, tokens=tokens, pad=pad):
        together = bare_engine.encode(items).vectors
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [64, 10_000])
def test_padding_changes_no_result_where_tokens_see_what_follows(embedded_encoder: E2RankEncoder, tokens: int) -> None:
    """In a bidirectional model, too: padding is masked from attention and left out of the mean."""
    inputs = embedded_encoder.document_inputs(DOCUMENTS)
    alone = np.concatenate([embedded_encoder.run([item]).vectors for item in inputs])
    with batched(embedded_encoder.engine, tokens=tokens, pad=True):
        together = embedded_encoder.run(inputs).vectors
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("pooling", ["last", "mean", "cls"])
@given(items=st.lists(token_inputs, min_size=2, max_size=8))
@settings(deadline=None, max_examples=25)
def test_the_layout_changes_no_result(
    bare_engine: LocalEngine, pooling: str, packed: bool, items: list[TokenInput]
) -> None:
    """Padded or laid end to end, each sequence gets the vector that it has alone, to 1e-5, with every pooling."""
    with laid_out(bare_engine, packed=packed) as laid:
        forward = replace(laid, pooling=pooling)
        alone = torch.cat([forward.rows([item.ids]) for item in items])
        torch.testing.assert_close(forward.rows([item.ids for item in items]), alone, rtol=0, atol=1e-5)


def test_padding_with_the_pooled_token_changes_no_result(bare_engine: LocalEngine) -> None:
    """The mask comes from lengths: an input that ends in runs of the padding's own id (0) keeps its vector."""
    items = [TokenInput((5, 0, 0), "document"), TokenInput((5,), "document"), TokenInput((5, 0, 0, 0, 0), "document")]
    alone = np.concatenate([bare_engine.encode([item]).vectors for item in items])
    with laid_out(bare_engine, packed=False) as forward:
        padded = forward.rows([item.ids for item in items])
    np.testing.assert_allclose(padded.numpy(), alone, rtol=0, atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [("last", lambda hidden: hidden[-1]), ("cls", lambda hidden: hidden[0]), ("mean", lambda hidden: hidden.mean(0))],
)
def test_each_pooling_is_what_its_name_says(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, pooling: str, pool: Callable
) -> None:
    """Last token, first token, or the mean over all tokens of the final hidden states, then scaled to one."""
    items = some_inputs(3, 9, 9, 1)
    model = Qwen3Model.from_pretrained(bare_folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        rows = [pool(model(input_ids=torch.tensor([item.ids])).last_hidden_state[0]) for item in items]
    expected = torch.nn.functional.normalize(torch.stack(rows), dim=-1).numpy()
    np.testing.assert_allclose(make_engine(pooling=pooling).encode(items).vectors, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pad", [False, True])
@given(order=st.permutations(range(8)))
@settings(deadline=None, max_examples=20)
def test_rows_come_in_the_order_of_the_inputs(bare_engine: LocalEngine, pad: bool, order: list[int]) -> None:
    """However inputs are grouped by length, row i belongs to input i."""
    items = some_inputs(4, 11, 4, 30, 1, 11, 2, 7)
    straight = bare_engine.encode(items).vectors
    with batched(bare_engine, tokens=60, pad=pad):
        permuted = bare_engine.encode([items[i] for i in order]).vectors
    np.testing.assert_allclose(permuted, straight[order], rtol=0, atol=1e-5)


def test_rows_are_unit_float32(bare_engine: LocalEngine) -> None:
    """An engine's answer has shape (inputs, width), float32, each row of length one."""
    vectors = bare_engine.encode(some_inputs(1, 2, 50, 300)).vectors
    assert vectors.shape == (4, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_half_precision_still_answers_in_unit_float32(make_engine: Callable[..., LocalEngine]) -> None:
    """The dtype of the weights does not show in the answer's, and rows are normalised after widening."""
    vectors = make_engine(dtype="bfloat16").encode(some_inputs(5, 9)).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_usage_counts_sequences_by_role_and_tokens_without_padding(bare_engine: LocalEngine) -> None:
    """What a call spent is what went through the model."""
    inputs = [*some_inputs(3, 4), TokenInput((1, 2), "query"), TokenInput((1,) * 9, "listwise")]
    assert bare_engine.encode(inputs).usage == Usage(documents=2, queries=1, prompts=1, tokens=18)


def test_prompts_never_share_a_forward_with_documents(
    bare_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even at the same length: roles are embedded apart, so that a prompt costs no document its speed."""
    rows, seen = Forward.rows, []

    def noting(forward: Forward, sequences: list[tuple[int, ...]]) -> torch.Tensor:
        seen.append(sequences)
        return rows(forward, sequences)

    monkeypatch.setattr(Forward, "rows", noting)
    roles = ("document", "listwise", "document", "query")
    bare_engine.encode([TokenInput((i, 2, 3), role) for i, role in enumerate(roles)])
    assert sorted(seen) == [[(0, 2, 3), (2, 2, 3)], [(1, 2, 3)], [(3, 2, 3)]]


def test_no_inputs_give_no_rows(bare_engine: LocalEngine) -> None:
    """An empty request is answered with shape (0, width)."""
    encoded = bare_engine.encode([])
    assert encoded.vectors.shape == (0, 32)
    assert encoded.usage == Usage()


async def test_the_async_form_gives_the_same_rows(bare_engine: LocalEngine) -> None:
    """`aencode` is `encode` elsewhere."""
    items = some_inputs(3, 8, 3)
    encoded = await bare_engine.aencode(items)
    np.testing.assert_array_equal(encoded.vectors, bare_engine.encode(items).vectors)
    assert encoded.usage == bare_engine.encode(items).usage


def test_the_same_call_gives_the_same_bits(bare_engine: LocalEngine) -> None:
    """Asking twice changes nothing."""
    items = some_inputs(3, 8, 3, 100)
    np.testing.assert_array_equal(bare_engine.encode(items).vectors, bare_engine.encode(items).vectors)
