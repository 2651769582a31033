"""What is sent to an embedding server, and what of its answer is believed. Pure: bytes in, bytes and rows out.

The route is the one that OpenAI named and vLLM, llama-server and SGLang share. Token ids are sent, never text: as text,
a server's own tokenizer doubles or drops the closing token, and vectors come back that are wrong and look right.
"""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from e2rank_integrations.checks import NORM_TOLERANCE
from e2rank_integrations.errors import MissingExtraError, NonFiniteError, ProtocolError, ServerMismatchError

try:
    import orjson  # writes ids thirteen times as fast as json: a millisecond of a request
except ImportError as error:
    raise MissingExtraError("orjson", "remote") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.values import Matrix, TokenInput, Vector

_FRAME_TOKENS = 2  # what a tokenizer puts around a text: one at its end, or one at either

_ANSWER_BYTES = 1 << 20
_ROW_BYTES = 1 << 17


def is_name(value: object) -> bool:
    """Whether a request can name a model so: a text that is not empty, without half a character."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def request_body(model: str, inputs: Sequence[TokenInput]) -> bytes:
    """The request for some inputs, as JSON."""
    body = {"model": model, "input": [item.ids for item in inputs], "encoding_format": "base64"}
    return orjson.dumps(body)


def largest_answer(inputs: int) -> int:
    """Bytes that an answer of so many rows may have: room for 5,000 numbers a row, even written out as decimals."""
    return _ANSWER_BYTES + inputs * _ROW_BYTES


def read_answer(body: bytes, inputs: Sequence[TokenInput]) -> Matrix:
    """The answer's rows, in the order of the inputs, whatever order they came in.

    Returns:
        Unit rows, shape (inputs, width), float32.

    Raises:
        ProtocolError: not the answer of this route: rows missing, doubled or of several widths.
        NonFiniteError: a row holds NaN or infinity.
        ServerMismatchError: the server counted other tokens than were sent, or its rows are not of length 1.
    """
    answer = parsed(body)
    places = _places(answer.get("data"), len(inputs))
    _expect_count(answer.get("usage"), inputs)
    rows = [_row(item) for item in answer["data"]]
    if len({len(row) for row in rows}) != 1:
        raise ProtocolError("the server's answer holds rows of several widths")
    vectors = np.empty((len(rows), len(rows[0])), dtype=np.float32)
    vectors[places] = rows
    return _units(vectors)


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ProtocolError: it is something else.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        # Not from the error, which holds the answer's text.
        raise ProtocolError(f"the server's answer is not JSON ({type(error).__name__}, {len(body)} bytes)") from None
    if not isinstance(answer, dict):
        raise ProtocolError(f"the server's answer is not a JSON object but a {type(answer).__name__}")
    return answer


def _places(data: object, expected: int) -> list[int]:
    """Which input each row answers: every input exactly once."""
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise ProtocolError("the server's answer has no list of rows named 'data'")
    places = [item.get("index") for item in data]
    whole = [place for place in places if isinstance(place, int) and not isinstance(place, bool)]
    if len(places) != expected or sorted(whole) != list(range(expected)):
        raise ProtocolError(
            f"expected rows for {expected} inputs, each once, found {len(places)} rows for {len(set(whole))} inputs"
        )
    return whole


def _expect_count(usage: object, inputs: Sequence[TokenInput]) -> None:
    """The server must have read the tokens that were sent, no more and no fewer."""
    found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    expected = sum(len(item.ids) for item in inputs)
    if not isinstance(found, int) or isinstance(found, bool):
        raise ProtocolError("the server's answer has no count of tokens, 'usage.prompt_tokens', to be compared")
    if found == expected:
        return
    sent = f"{expected} tokens of {len(inputs)} inputs were sent, and the server counted {found}"
    added, rest = divmod(found - expected, len(inputs))
    if found < expected:
        advice = (
            "it cuts long inputs, or decodes ids and encodes the text again; switch its truncation off, or lower the "
            "profile's caps"
        )
    elif rest == 0 and added <= _FRAME_TOKENS:
        advice = (
            f"it adds {added} to each input, such as a closing token that is there already; start it so that it takes "
            f"token ids as they are"
        )
    else:
        advice = "it does not take token ids as they are but decodes them and encodes the text again"
    raise ServerMismatchError(f"{sent}: {advice}")


def _row(item: dict[str, Any]) -> Vector:
    """One row, from base64 of little-endian float32, or from a list of numbers."""
    found = item.get("embedding")
    try:
        if isinstance(found, str):
            return np.frombuffer(binascii.a2b_base64(found, strict_mode=True), dtype="<f4")
        if isinstance(found, list) and all(type(value) in {int, float} for value in found):
            with np.errstate(over="ignore"):  # infinity, which is found out below
                return np.asarray(found, dtype=np.float32)
    except (ValueError, OverflowError):
        pass
    raise ProtocolError("a row of the server's answer is neither base64 of float32 nor a list of numbers")


def _units(vectors: Matrix) -> Matrix:
    """The rows at length 1 exactly, once they are finite and nearly so."""
    if not np.isfinite(vectors).all():
        raise NonFiniteError(
            "the server returned NaN or infinity; start it with another dtype, float32 or bfloat16 rather than float16"
        )
    with np.errstate(over="ignore"):  # far from 1, too
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    far = norms[np.abs(norms - 1) > NORM_TOLERANCE]
    if vectors.shape[1] == 0 or len(far):
        length = far[0] if len(far) else 0.0
        raise ServerMismatchError(
            f"expected vectors of length 1, found {length:.3g}: the server does not normalise, or cuts vectors; start "
            f"it with normalisation, and without a number of dimensions"
        )
    units: Matrix = vectors / norms
    return units
