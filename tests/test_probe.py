"""The probe names what is wrong with a server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder, RemoteEngine, cli, profiles
from e2rank_integrations.engines import registry
from e2rank_integrations.engines.registry import local_engine
from e2rank_integrations.errors import InputError, NonFiniteError, ServerMismatchError
from e2rank_integrations.probe import probe
from tests.support import tls
from tests.support.engines import Recording
from tests.support.loopback import LoopbackServer, loopback_server
from tests.support.models import save_qwen3

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from e2rank_integrations.values import Encoded, TokenInput
    from tests.support.loopback import Handler

SMALL = profiles.E2RANK_SMALL
IM_START = 151644
"""With which a listwise prompt begins, and nothing else does."""


@pytest.fixture
def server(qwen_encoder: E2RankEncoder) -> Iterator[LoopbackServer]:
    with loopback_server(qwen_encoder.engine) as found:
        yield found


@pytest.fixture
def encoder(qwen_encoder: E2RankEncoder, server: LoopbackServer) -> Iterator[E2RankEncoder]:
    engine = RemoteEngine(server.url)
    yield replace(qwen_encoder, profile=SMALL, custom_engine=engine)
    engine.close()


def test_a_server_in_order_is_described(encoder: E2RankEncoder) -> None:
    """What it runs, what was embedded, how close it came."""
    found = probe(encoder)
    assert found.served is not None
    assert found.served.software == "vllm"
    assert (found.inputs, found.width) == (4, encoder.width)
    assert found.least_cosine == pytest.approx(1, abs=1e-6)
    assert found.longest > 500
    assert "counted alike" in str(found)
    assert "at least 1.0000" in str(found)


def test_the_longest_document_is_as_long_as_was_asked(encoder: E2RankEncoder) -> None:
    """About: it is made of words."""
    assert 150 <= probe(replace(encoder, profile=profiles.E2RANK), longest=1500).longest <= 32768
    lengths = [probe(replace(encoder, profile=profiles.E2RANK), longest=n).tokens for n in (100, 1000, 4000)]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_wrong_pooling_is_named(
    encoder: E2RankEncoder, server: LoopbackServer, qwen_encoder: E2RankEncoder, pooling: Any
) -> None:
    """And how to start the server instead."""
    server.engine = local_engine(replace(qwen_encoder.engine_key, pooling=pooling))
    with pytest.raises(ServerMismatchError, match=r"pools|--pooling last") as caught:
        probe(encoder)
    assert "pooling_type LAST" in str(caught.value)


def test_another_model_is_named(encoder: E2RankEncoder, server: LoopbackServer, tmp_path: Path) -> None:
    """Of the same width, so that nothing but its vectors shows it."""
    other = E2RankEncoder(str(save_qwen3(tmp_path / "other", seed=1)), device="cpu", dtype="float32")
    server.engine = other.engine
    with pytest.raises(ServerMismatchError, match="it runs other weights"):
        probe(encoder)
    assert probe(encoder, compare=False).least_cosine is None


def other_prompts(handler: Handler, _: dict[str, Any]) -> None:
    """Other vectors for listwise prompts."""
    vectors = handler.vectors.copy()
    for row, ids in enumerate(handler.asked["input"]):
        if ids[0] == IM_START:
            vectors[row] = np.roll(vectors[row], 1)
    handler.answer(handler.answer_of(vectors))


def test_a_listwise_adapter_that_is_not_served_is_named(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """Prompts alone differ."""
    server.fault = other_prompts
    with pytest.raises(ServerMismatchError, match="listwise prompts alone differ"):
        probe(encoder)


def test_a_server_with_too_little_room_is_named(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """Before a long prompt is refused in the middle of a day."""
    server.models[0]["max_model_len"] = 512
    with pytest.raises(ServerMismatchError, match=r"inputs of 512 tokens, and this model's may have 4096; .*4096"):
        probe(encoder)


def test_a_server_that_cuts_is_named(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """Its count gives it away."""

    def cutting(handler: Handler, answer: dict[str, Any]) -> None:
        answer["usage"]["prompt_tokens"] = sum(min(len(ids), 256) for ids in handler.asked["input"])
        handler.answer(answer)

    server.fault = cutting
    with pytest.raises(ServerMismatchError, match="cuts long inputs"):
        probe(encoder)


def test_prompts_alone_may_be_all_that_differs(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """Where no other input is long."""
    server.fault = other_prompts
    with pytest.raises(ServerMismatchError, match="listwise prompts alone differ"):
        probe(encoder, longest=40)


@pytest.mark.parametrize(
    ("factor", "error", "says"),
    [
        (7, ServerMismatchError, "length 1, found 7"),
        (0, ServerMismatchError, "found 0"),
        (np.nan, NonFiniteError, "NaN"),
    ],
)
def test_an_engine_that_does_not_normalise_is_named(
    qwen_encoder: E2RankEncoder, factor: float, error: type[Exception], says: str
) -> None:
    """One of the user's own, whose rows nobody looked at yet."""

    class Scaled(Recording):
        def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
            encoded = super().encode(inputs)
            return replace(encoded, vectors=encoded.vectors * np.float32(factor))

    with pytest.raises(error, match=says):
        probe(replace(qwen_encoder, profile=SMALL, custom_engine=Scaled(qwen_encoder.engine)), compare=False)


def test_an_engine_that_is_no_server_counts_nothing(qwen_encoder: E2RankEncoder) -> None:
    """So nothing is said of it."""
    found = str(probe(replace(qwen_encoder, profile=SMALL, custom_engine=Recording(qwen_encoder.engine))))
    assert found.startswith("an engine: 4 inputs")
    assert "counted" not in found


def test_what_was_loaded_to_compare_is_freed(encoder: E2RankEncoder, no_engines: None, server: LoopbackServer) -> None:
    """A client of a server need not hold the model after it looked."""
    probe(encoder)
    assert [engine.loaded for engine in registry._engines.values()] == [False]


def test_without_weights_counts_and_width_are_compared(
    server: LoopbackServer, qwen_folder: Path, tmp_path: Path
) -> None:
    """The config and the tokenizer are all that a client needs."""
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((qwen_folder / name).read_bytes())
    engine = RemoteEngine(server.url)
    encoder = E2RankEncoder(str(tmp_path), profile=SMALL, custom_engine=engine)
    found = probe(encoder)
    assert (found.least_cosine, found.width) == (None, encoder.width)
    assert "not compared" in str(found)
    assert encoder.fingerprint.weights is None
    engine.close()


def test_an_encoder_without_a_server_is_refused(qwen_encoder: E2RankEncoder) -> None:
    """There is nothing to compare it with."""
    with pytest.raises(InputError, match="custom_engine"):
        probe(qwen_encoder)


def test_the_command_prints_one_line(
    server: LoopbackServer, qwen_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the address that was probed."""
    arguments = ["probe", server.url, "--model", str(qwen_folder), "--profile", "e2rank-small"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{server.url}: software 'vllm', model 'tiny': 4 inputs")
    server.models = [{"id": "other"}, {"id": "another"}]
    RemoteEngine(server.url).close()
    assert cli.main(arguments) == 2
    assert "name the model" in capsys.readouterr().err
    assert cli.main([*arguments, "--served-model", "other", "--no-compare"]) == 0
    for name in (None, "other"):
        RemoteEngine(server.url, model=name).close()


def test_the_certificates_of_a_server_may_be_given(
    server: LoopbackServer, qwen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To this command and to that which indexes."""
    monkeypatch.setenv("E2RANK_API_KEY", tls.KEY.removeprefix("Bearer "))
    with tls.tls_proxy(server.server_port, tmp_path) as (proxy, certificate):
        options = ["--ca", str(certificate), "--model", str(qwen_folder)]
        url = f"https://127.0.0.1:{proxy.server_port}"
        assert cli.main(["probe", url, *options, "--profile", "e2rank-small", "--no-compare"]) == 0
        assert cli.main([*index(tmp_path), "--base-url", url, *options, "--no-probe"]) == 0
        RemoteEngine(url, verify=certificate).close()


def test_a_model_with_an_adapter_for_prompts_is_indexed_on_a_server(
    embedded_encoder: E2RankEncoder, tmp_path: Path
) -> None:
    """Documents do without it."""
    with loopback_server(embedded_encoder.engine) as server:
        assert cli.main([*index(tmp_path), "--base-url", server.url, "--model", "embedded"]) == 0
        assert {body["model"] for body in server.requests} == {"tiny"}
        RemoteEngine(server.url).close()


def test_certificates_of_no_server_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An option without effect is a misunderstanding."""
    assert cli.main([*index(tmp_path), "--ca", str(tmp_path / "ca.pem")]) == 2
    assert "--ca: there is no server to embed; give --base-url" in capsys.readouterr().err


def index(folder: Path) -> list[str]:
    """The command that indexes a corpus of one row."""
    pytest.importorskip("chromadb")
    (folder / "corpus.jsonl").write_text('{"_id": "1", "text": "Apples fall."}\n')
    return ["index", str(folder / "corpus.jsonl"), "--chroma", str(folder / "index"), "--collection", "fruit"]
