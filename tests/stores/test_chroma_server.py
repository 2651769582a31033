"""A Chroma server as it stands in a company: behind TLS and a key."""

from __future__ import annotations

import gc
import traceback
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2rank_integrations import Reranker, Searcher
from e2rank_integrations.errors import StoreError
from e2rank_integrations.stores.chroma import ChromaStore, open_collection
from e2rank_integrations.values import Candidate
from tests.support.chroma import unique_name
from tests.support.passages import IDS, PASSAGES, QUERIES, TEXTS
from tests.support.tls import KEY, tls_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Matrix
    from tests.support.engines import Recording
    from tests.support.tls import Proxy

HEADERS = {"Authorization": KEY}


@pytest.fixture(scope="module")
def behind_tls(server_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Path]]:
    """The real server behind the proxy, and the certificate to trust."""
    with tls_proxy(server_port, tmp_path_factory.mktemp("tls")) as found:
        yield found


@pytest.fixture
def address(behind_tls: tuple[Proxy, Path]) -> str:
    return f"https://127.0.0.1:{behind_tls[0].server_port}"


@pytest.fixture
def certificate(behind_tls: tuple[Proxy, Path]) -> str:
    return str(behind_tls[1])


@pytest.fixture
def refusals() -> Iterator[None]:
    """Chroma's client leaves a connection open when it fails to be made; it is closed here, not in a later test."""
    yield
    gc.collect()


def leaking(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test in which Chroma's client fails to be made."""
    ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return pytest.mark.usefixtures("refusals")(ignored(test))


def opened(address: str, verify: bool | str, headers: dict[str, str] | None = HEADERS) -> ChromaStore:
    return open_collection(address, unique_name(), headers=headers, verify=verify)


@pytest.mark.parametrize("path", ["", "/", "/chroma", "/chroma/"])
def test_everything_works_with_the_key_and_the_certificate(  # noqa: PLR0917
    address: str, certificate: str, path: str, encoder: E2RankEncoder, recording: Recording, passage_vectors: Matrix
) -> None:
    """Opened, written, searched, read, sampled; the fingerprint saved and found; every request with the header."""
    with closing(opened(address + path, certificate)) as store:
        rows = zip(PASSAGES.items(), passage_vectors, strict=True)
        store.upsert([Candidate(text, id=id_, vector=vector) for (id_, text), vector in rows])
        searcher = Searcher(store, Reranker(encoder))
        searcher.save_fingerprint()
        recording.calls.clear()
        assert {item.vector_source for item in searcher.search(QUERIES[0])} == {"store"}
        assert recording.usage.documents == 0
        assert (store.count(), len(store.sample())) == (len(PASSAGES), len(PASSAGES))
        assert store.get([IDS[3]])[IDS[3]].text == TEXTS[3]


@leaking
@pytest.mark.parametrize("headers", [None, {}, {"Authorization": "Bearer wr0ng"}, {"X-Chroma-Token": KEY}])
def test_a_key_that_is_wrong_or_missing_is_a_store_error(
    address: str, certificate: str, behind_tls: tuple[Proxy, Path], headers: dict[str, str] | None
) -> None:
    """It says that the key was refused, and shows neither it nor what the server answered."""
    before = behind_tls[0].refused
    with pytest.raises(StoreError, match="refused the credentials") as refused:
        opened(address, certificate, headers)
    assert behind_tls[0].refused > before
    shown = "".join(traceback.format_exception(refused.value))
    assert "wr0ng" not in shown
    assert KEY not in shown
    assert "who are you" not in str(refused.value)


@leaking
def test_a_certificate_that_is_not_trusted_is_a_store_error(address: str, behind_tls: tuple[Proxy, Path]) -> None:
    """By default, and nothing is sent: the key has not left."""
    before = behind_tls[0].refused
    with pytest.raises(StoreError, match="certificate is not trusted") as refused:
        opened(address, verify=True)
    assert behind_tls[0].refused == before
    assert KEY not in "".join(traceback.format_exception(refused.value))


def test_a_certificate_is_not_looked_at_where_asked(address: str) -> None:
    """`verify=False` is passed on."""
    with closing(opened(address, verify=False)) as store:
        assert store.count() == 0


@leaking
def test_certificates_that_are_not_there_are_a_store_error(address: str, tmp_path: Path) -> None:
    """A wrong path of the CA file is no question of trust."""
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(address, str(tmp_path / "none.pem"))


@leaking
def test_plain_http_where_tls_is_wanted_is_a_store_error(address: str) -> None:
    """And the other way round."""
    with pytest.raises(StoreError):
        opened(address.replace("https", "http"), verify=True)


@leaking
def test_a_server_that_speaks_no_tls_is_a_store_error(server_port: int) -> None:
    with pytest.raises(StoreError):
        opened(f"https://127.0.0.1:{server_port}", verify=True)


def test_a_batch_that_is_too_large_in_bytes_is_written_in_smaller_ones(
    address: str, certificate: str, behind_tls: tuple[Proxy, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chroma itself takes 40 MB at once, and this proxy less; a record that is too large alone is named."""
    monkeypatch.setattr(behind_tls[0], "largest", 5000)
    sizes = [3000, 1, 1, 4000, 1, 3000, 9000, 1]
    rows = np.eye(8, dtype=np.float32)
    records = [Candidate("x" * size, id=str(n), vector=rows[n]) for n, size in enumerate(sizes)]
    with closing(opened(address, certificate)) as store:
        store.upsert(records[:6])
        with pytest.raises(StoreError, match="record '6': the server takes no request as large as this record alone"):
            store.upsert(records[6:])
        found = store.get([str(n) for n in range(8)])
        assert {id_: len(record.text) for id_, record in found.items()} == {str(n): sizes[n] for n in range(6)}


def test_a_key_that_is_withdrawn_later_is_a_store_error(
    address: str, certificate: str, behind_tls: tuple[Proxy, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each method's error is of this package's family and shows no key."""
    monkeypatch.setattr("tests.support.tls.KEY", KEY)
    with closing(opened(address, certificate)) as store:
        record = Candidate("Tea.", id="t", vector=np.eye(4, dtype=np.float32)[0])
        monkeypatch.setattr("tests.support.tls.KEY", "another")
        for ask in (
            lambda: store.upsert([record]), store.count, store.sample, lambda: store.get(["t"]),
            lambda: store.search(np.eye(4, dtype=np.float32)[0], 1), lambda: store.save_fingerprint("{}"),
        ):  # fmt: skip
            with pytest.raises(StoreError, match="refused the credentials") as refused:
                ask()
            assert KEY not in "".join(traceback.format_exception(refused.value))
