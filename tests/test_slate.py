"""Candidates and the vectors they bring: any form of number is understood, anything else is refused by place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from e2rank_integrations import Candidate
from e2rank_integrations.errors import InputError, VectorError
from e2rank_integrations.slate import Slate, unit

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder

WIDTH = 64
SECRET = "xyzzy-plugh"


def a_vector() -> np.ndarray:
    return np.random.default_rng(0).normal(size=WIDTH)


@given(
    hnp.arrays(np.float64, 5, elements=st.floats(-1, 1)).filter(lambda row: np.abs(row).max() > 1e-3),
    st.floats(1e-30, 1e30),
)
@settings(deadline=None)
def test_a_unit_vector_has_the_direction_given_and_length_one(row: np.ndarray, scale: float) -> None:
    """Whatever the scale, as stores keep vectors of any length."""
    found = unit(row * scale, 5, "here")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, row / np.linalg.norm(row), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        np.float16,
        np.float32,
        np.float64,
        np.longdouble,
        list,
        tuple,
        lambda row: [np.float32(value) for value in row],
        torch.tensor,
    ],
    ids=["float16", "float32", "float64", "longdouble", "list", "tuple", "numpy scalars", "tensor"],
)
def test_every_form_of_a_vector_is_understood(form: type) -> None:
    """Arrays of any float dtype, lists, tuples and tensors of one vector give one unit vector."""
    row = a_vector().astype(np.float16).astype(np.float64)
    given_as = row.astype(form) if isinstance(form, type) and issubclass(form, np.generic) else form(row)
    np.testing.assert_allclose(unit(given_as, WIDTH, "here"), row / np.linalg.norm(row), rtol=0, atol=1e-6)


def test_integers_are_numbers() -> None:
    """A quantised store may return them."""
    np.testing.assert_allclose(unit([3, 4], 2, "here"), [0.6, 0.8], atol=1e-7)
    np.testing.assert_allclose(unit(np.array([-3, 4], np.int8), 2, "here"), [-0.6, 0.8], atol=1e-7)


@pytest.mark.parametrize(
    "vector",
    [
        np.ones(WIDTH - 1),
        np.ones(WIDTH + 1),
        np.ones((1, WIDTH)),
        np.ones((WIDTH, 1)),
        1.0,
        [],
        np.zeros(WIDTH),
        np.full(WIDTH, np.nan),
        [*np.ones(WIDTH - 1), float("nan")],
        [*np.ones(WIDTH - 1), float("inf")],
        [*np.ones(WIDTH - 1), -float("inf")],
        [None] * WIDTH,
        [[1.0, 2.0], [3.0]],
        "0.1 0.2",
        b"0.1",
        ["0.1"] * WIDTH,
        np.array(["0.1"] * WIDTH),
        np.ones(WIDTH, dtype=complex),
        [1j] * WIDTH,
        np.ones(WIDTH, dtype=bool),
        torch.ones(WIDTH, requires_grad=True),
        {"a": 1.0},
        object(),
    ],
    ids=[
        "narrow", "wide", "row", "column", "number", "empty", "zero", "all NaN", "one NaN", "infinity", "-infinity",
        "Nones", "ragged", "string", "bytes", "numeric strings", "array of strings", "complex", "complex list",
        "booleans", "with gradient", "dictionary", "object",
    ],
)  # fmt: skip
def test_a_vector_that_cannot_be_used_names_its_candidate(qwen_encoder: E2RankEncoder, vector: object) -> None:
    """Wrong width, not finite, without length, or no numbers at all: refused by position and id, without the text."""
    candidates = ["fine", Candidate(SECRET, id="doc-7", vector=vector)]
    with pytest.raises(VectorError, match=r"candidate 1 \(id 'doc-7'\)") as caught:
        Slate.of(qwen_encoder, candidates)
    assert SECRET not in str(caught.value)


def test_a_candidate_without_an_id_is_named_by_position(qwen_encoder: E2RankEncoder) -> None:
    """There is always something to find it by."""
    with pytest.raises(VectorError, match=r"^candidate 2: "):
        Slate.of(qwen_encoder, ["a", "b", Candidate("c", vector=[1.0])])


def test_the_message_on_a_wrong_width_has_both(qwen_encoder: E2RankEncoder) -> None:
    """Expected and found shape point to the other model."""
    with pytest.raises(VectorError, match=r"expected a vector of shape \(64,\), found \(384,\)"):
        Slate.of(qwen_encoder, [Candidate("a", vector=np.ones(384))])


@pytest.mark.parametrize("candidates", [None, 5, "text", b"bytes", object()])
def test_what_is_no_list_of_candidates_is_refused(qwen_encoder: E2RankEncoder, candidates: object) -> None:
    """None, a number, or a lone string, whose characters would pass as candidates."""
    with pytest.raises(InputError, match="candidates: expected a list"):
        Slate.of(qwen_encoder, candidates)


@pytest.mark.parametrize("item", [None, 5, 1.5, b"bytes", ["nested"], {"text": "a"}, ("a", 0.5), "lone \ud800"])
def test_an_item_that_is_no_candidate_is_named_by_position(qwen_encoder: E2RankEncoder, item: object) -> None:
    """Numbers in a list, records of another library, or text that is not Unicode."""
    with pytest.raises(InputError, match="candidate 1"):
        Slate.of(qwen_encoder, ["fine", item])


@pytest.mark.parametrize("text", [None, 5, b"bytes", "lone \udfff"])
@pytest.mark.parametrize("field", ["text", "prompt_text"])
def test_a_candidates_own_texts_are_checked(qwen_encoder: E2RankEncoder, field: str, text: object) -> None:
    """The embedded and the prompt's text both; None is no text, and means `text` for the prompt alone."""
    fields = {"text": "fine", "id": "doc-7", field: text}
    if field == "prompt_text" and text is None:
        assert len(Slate.of(qwen_encoder, [Candidate(**fields)]).candidates) == 1
        return
    with pytest.raises(InputError, match=r"candidate 0 \(id 'doc-7'\)"):
        Slate.of(qwen_encoder, [Candidate(**fields)])


def test_only_missing_vectors_are_asked_for(qwen_encoder: E2RankEncoder) -> None:
    """A mix of stored and bare candidates asks for the bare ones' inputs, each at its own position."""
    mixed = ["a", Candidate("b", vector=a_vector()), Candidate("c"), Candidate("d", vector=a_vector())]
    slate = Slate.of(qwen_encoder, mixed)
    assert sorted(slate.stored) == [1, 3]
    assert list(slate.missing.items()) == list(zip([0, 2], qwen_encoder.document_inputs(["a", "c"]), strict=True))
    assert [slate.source(position) for position in range(4)] == ["computed", "given", "computed", "given"]


@pytest.mark.parametrize("source", ["given", "document", "store"])
def test_the_source_of_a_vector_is_the_one_stated(qwen_encoder: E2RankEncoder, source: str) -> None:
    """Where a vector is absent the statement is ignored."""
    given_one = Candidate("a", vector=a_vector(), vector_source=source)
    slate = Slate.of(qwen_encoder, [given_one, Candidate("a", vector_source=source)])
    assert [slate.source(0), slate.source(1)] == [source, "computed"]


def test_vectors_come_in_the_order_of_the_candidates(qwen_encoder: E2RankEncoder) -> None:
    """Stored and computed rows meet in one matrix, float32, at their candidates' places."""
    row = a_vector()
    slate = Slate.of(qwen_encoder, ["a", Candidate("b", vector=row), "c"])
    computed = dict(zip(slate.missing.values(), qwen_encoder.encode_documents(["a", "c"]), strict=True))
    matrix = slate.vectors(computed)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix[[0, 2]], qwen_encoder.encode_documents(["a", "c"]), rtol=0, atol=1e-7)
    np.testing.assert_allclose(matrix[1], row / np.linalg.norm(row), rtol=0, atol=1e-6)
