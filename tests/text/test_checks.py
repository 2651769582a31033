"""The gate that every text of a user passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.errors import E2RankError, InputError
from e2rank_integrations.text.checks import expect_text
from tests.golden.inputs import TEXTS
from tests.text.strategies import few

NOT_TEXT = [None, 3, 2.5, True, b"private bytes", ["private"], {"text": "private"}, object()]
SURROGATES = ["\ud800", "private \udfff", "private \ud83d text", "\udc80private"]


class OwnText(str):
    """A framework's subclass of str."""

    __slots__ = ()


@pytest.mark.parametrize("text", [*TEXTS.values(), "\U0010ffff", "\ufffe"])
def test_text_passes_unchanged(text: str) -> None:
    """Whatever can be encoded comes back as the same object, noncharacters and controls included."""
    assert expect_text(text, "query") is text


def test_a_subclass_of_str_is_text() -> None:
    """Frameworks wrap strings; that is no reason to refuse them."""
    assert expect_text(OwnText("a"), "query") == "a"


@pytest.mark.parametrize("value", NOT_TEXT, ids=lambda value: type(value).__name__)
def test_what_is_not_text_is_named_by_place_and_type(value: object) -> None:
    """The message says where and which type was found, and nothing of the value."""
    with pytest.raises(InputError) as caught:
        expect_text(value, "candidate 7")
    assert str(caught.value) == f"candidate 7: expected a string, found {type(value).__name__}"


@pytest.mark.parametrize("text", SURROGATES, ids=ascii)
def test_a_lone_surrogate_is_named_by_place_and_code(text: str) -> None:
    """The message says where the surrogate is and which, gives the next step, and none of the text."""
    place = next(i for i, character in enumerate(text) if 0xD800 <= ord(character) <= 0xDFFF)
    with pytest.raises(InputError) as caught:
        expect_text(text, "candidate 7 (id 'x')")
    message = str(caught.value)
    assert message.startswith("candidate 7 (id 'x'): ")
    assert f"U+{ord(text[place]):04X}" in message
    assert f"at character {place}" in message
    assert "private" not in message
    message.encode()  # a log must be able to print it


def test_the_error_does_not_carry_the_text_behind_it() -> None:
    """A traceback prints the cause; UnicodeEncodeError holds the whole text, so it must not be shown."""
    with pytest.raises(InputError) as caught:
        expect_text("private \ud800", "query")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@few
@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_exactly_what_utf8_cannot_write_is_refused(text: str) -> None:
    """A text passes if and only if it has an encoding."""
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        with pytest.raises(InputError):
            expect_text(text, "query")
    else:
        assert expect_text(text, "query") is text


@pytest.mark.parametrize("bad", [*NOT_TEXT, "private \ud800"], ids=lambda value: type(value).__name__)
def test_every_door_of_the_encoder_has_the_gate(embedded_encoder: E2RankEncoder, bad: object) -> None:
    """Queries, documents and both texts of a prompt are checked, and the message names the position."""
    doors = {
        "query 1": lambda: embedded_encoder.query_inputs(["good", bad]),  # type: ignore[list-item]
        "document 1": lambda: embedded_encoder.document_inputs(["good", bad]),  # type: ignore[list-item]
        "candidate 1": lambda: embedded_encoder.listwise_input("good", ["good", bad]),  # type: ignore[list-item]
        "query": lambda: embedded_encoder.listwise_input(bad, ["good"]),  # type: ignore[arg-type]
    }
    for where, door in doors.items():
        with pytest.raises(E2RankError) as caught:
            door()
        assert isinstance(caught.value, ValueError)
        assert str(caught.value).startswith(f"{where}: ")
        assert "private" not in str(caught.value)


@pytest.mark.parametrize("texts", ["one string", None, 3, b"bytes"], ids=ascii)
def test_a_lone_string_is_not_a_list_of_texts(embedded_encoder: E2RankEncoder, texts: object) -> None:
    """The characters of one string would pass as texts, so it is refused, like whatever is no list."""
    with pytest.raises(InputError):
        embedded_encoder.document_inputs(texts)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        embedded_encoder.query_inputs(texts)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        embedded_encoder.listwise_input("query", texts)  # type: ignore[arg-type]
