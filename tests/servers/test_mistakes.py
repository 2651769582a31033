"""Real llama.cpp servers that are set up wrongly: what does no harm, and what is named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations import RemoteEngine, Reranker
from e2rank_integrations.errors import AuthenticationError, ServerError, ServerMismatchError
from e2rank_integrations.probe import probe
from tests.support.passages import LONG_PASSAGE, QUERIES, TEXTS
from tests.support.relay import text_relay
from tests.support.reranking import SECRET
from tests.support.servers import llama_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder


KEY = "open-sesame"


@pytest.fixture(scope="module")
def strict(gguf: Path) -> Iterator[str]:
    """The address of a server that wants a key, and takes inputs of 512 tokens at most."""
    flags = ("--ctx-size", "512", "--parallel", "1", "--api-key", KEY)
    with llama_server(gguf, gguf.with_name("strict.log"), *flags) as url:
        yield url


def on(encoder: E2RankEncoder, url: str, **options: Any) -> E2RankEncoder:
    """The encoder on a server."""
    return replace(encoder, custom_engine=RemoteEngine(url, **options))


def test_a_server_that_adds_a_closing_token(local: E2RankEncoder, llama: str) -> None:
    """To ids it adds none; where a relay makes text of them, each input has one more token, and that is named."""
    assert probe(on(local, llama)).least_cosine == pytest.approx(1, abs=1e-6)
    with text_relay(llama) as relay, pytest.raises(ServerMismatchError, match="adds 1 to each input, such as a clos"):
        probe(on(local, relay))


@pytest.mark.parametrize(
    ("pooling", "named"), [("mean", "pools by 'mean' instead of 'last'"), ("cls", "it pools the first token")]
)
def test_wrong_pooling(local: E2RankEncoder, gguf: Path, tmp_path: Path, pooling: str, named: str) -> None:
    flags = ("--ubatch-size", "512")  # with these, llama.cpp takes no input that is longer
    with (
        llama_server(gguf, tmp_path / "log", *flags, pooling=pooling) as url,
        pytest.raises(ServerMismatchError, match=named),
    ):
        probe(on(local, url), longest=64)


def test_another_model_of_the_same_width(other_qwen: E2RankEncoder, llama: str) -> None:
    with pytest.raises(ServerMismatchError, match="it runs other weights"):
        probe(on(other_qwen, llama), longest=64)


async def test_inputs_that_are_too_long_are_refused(local: E2RankEncoder, strict: str) -> None:
    """They are not cut, nor is anything ranked without them; shorter ones are embedded."""
    remote = on(local, strict, api_key=KEY)
    np.testing.assert_allclose(remote.encode_documents(TEXTS[:4]), local.encode_documents(TEXTS[:4]), atol=1e-4)
    too_long = f"{SECRET} {LONG_PASSAGE} {LONG_PASSAGE}"
    with pytest.raises(ServerError, match=r"status 400 for 1 document input of up to \d{3,4} tokens") as refused:
        remote.encode_documents([too_long])
    assert SECRET not in str(refused.value)
    with pytest.raises(ServerError, match="status 400"):
        await Reranker(remote, on_error="keep_order").arank(QUERIES[0], [*TEXTS[:2], too_long])


def test_a_key(local: E2RankEncoder, strict: str) -> None:
    """The right one is accepted; without one, or with a wrong one, the error says so and does not show it."""
    on(local, strict, api_key=KEY).encode_queries(QUERIES)
    with pytest.raises(AuthenticationError, match="a key is wanted, and none was given"):
        on(local, strict).encode_queries(QUERIES)
    with pytest.raises(AuthenticationError, match="was not accepted") as refused:
        on(local, strict, api_key=f"{KEY}x").encode_queries(QUERIES)
    assert KEY not in str(refused.value)
