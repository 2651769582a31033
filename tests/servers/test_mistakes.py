"""Real llama.cpp servers that are set up wrongly: what does no harm, and what is named."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder, RemoteEngine, Reranker
from e2rank_integrations.errors import AuthenticationError, ServerError, ServerMismatchError
from e2rank_integrations.probe import probe
from tests.support.gguf import write_gguf
from tests.support.models import save_qwen3
from tests.support.passages import LONG_PASSAGE, QUERIES, TEXTS
from tests.support.relay import text_relay
from tests.support.reranking import SECRET
from tests.support.servers import llama_server

if TYPE_CHECKING:
    from pathlib import Path


def on(encoder: E2RankEncoder, url: str) -> E2RankEncoder:
    """The encoder on a server."""
    return replace(encoder, custom_engine=RemoteEngine(url))


def test_a_server_that_adds_a_closing_token(local: E2RankEncoder, qwen_folder: Path, tmp_path: Path) -> None:
    """To ids it adds none; where a relay makes text of them, each input has one more token, and that is named."""
    model = write_gguf(qwen_folder, tmp_path / "eos.gguf", add_eos=True)
    with llama_server(model, tmp_path / "log") as url:
        remote = on(local, url)
        np.testing.assert_allclose(remote.encode_documents(TEXTS[:4]), local.encode_documents(TEXTS[:4]), atol=1e-4)
        assert probe(remote).least_cosine == pytest.approx(1, abs=1e-6)
        with text_relay(url) as relay, pytest.raises(ServerMismatchError, match="adds 1 to each input, such as a clos"):
            probe(on(local, relay))


def test_a_relay_that_makes_text_of_ids(local: E2RankEncoder, llama: str) -> None:
    """Harmless as far as the text gives the same ids again, which those of a long text and a prompt do here."""
    with text_relay(llama) as relay:
        assert probe(on(local, relay)).least_cosine == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("pooling", "named"), [("mean", "pools by 'mean' instead of 'last'"), ("cls", "pools the first")]
)
def test_wrong_pooling(local: E2RankEncoder, gguf: Path, tmp_path: Path, pooling: str, named: str) -> None:
    flags = ("--ubatch-size", "2048")  # other pooling than the last token's takes no input above it
    with (
        llama_server(gguf, tmp_path / "log", *flags, pooling=pooling) as url,
        pytest.raises(ServerMismatchError, match=named),
    ):
        probe(on(local, url))


def test_another_model_of_the_same_width(local: E2RankEncoder, tmp_path: Path) -> None:
    model = write_gguf(save_qwen3(tmp_path / "other", seed=1), tmp_path / "other.gguf")
    with (
        llama_server(model, tmp_path / "log") as url,
        pytest.raises(ServerMismatchError, match="it runs other weights"),
    ):
        probe(on(local, url))


async def test_inputs_that_are_too_long_are_refused(local: E2RankEncoder, gguf: Path, tmp_path: Path) -> None:
    """They are not cut, nor is anything ranked without them; shorter ones are embedded."""
    with llama_server(gguf, tmp_path / "log", "--ctx-size", "512", "--parallel", "1") as url:
        remote = on(local, url)
        np.testing.assert_allclose(remote.encode_documents(TEXTS[:4]), local.encode_documents(TEXTS[:4]), atol=1e-4)
        too_long = f"{SECRET} {LONG_PASSAGE} {LONG_PASSAGE}"
        with pytest.raises(ServerError, match=r"status 400 for 1 document input of up to \d{3,4} tokens") as refused:
            remote.encode_documents([too_long])
        assert SECRET not in str(refused.value)
        with pytest.raises(ServerError, match="status 400"):
            await Reranker(remote).arank(QUERIES[0], [*TEXTS[:2], too_long])


def test_a_key(local: E2RankEncoder, gguf: Path, tmp_path: Path) -> None:
    """The right one is accepted; without one, or with a wrong one, the error says so and does not show it."""
    with llama_server(gguf, tmp_path / "log", "--api-key", SECRET) as url:
        keyed = replace(local, custom_engine=RemoteEngine(url, api_key=SECRET))
        np.testing.assert_allclose(keyed.encode_queries(QUERIES), local.encode_queries(QUERIES), atol=1e-4)
        with pytest.raises(AuthenticationError, match="a key is wanted, and none was given"):
            on(local, url).encode_queries(QUERIES)
        wrong = f"{SECRET}-wrong"
        with pytest.raises(AuthenticationError, match="was not accepted") as refused:
            replace(local, custom_engine=RemoteEngine(url, api_key=wrong)).encode_queries(QUERIES)
        assert not re.search(SECRET, str(refused.value))
