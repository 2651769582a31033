"""Opening a collection: in a folder or on a server, as it is or made anew."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations import Candidate
from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.stores.chroma import open_collection
from tests.support.chroma import unique_name

if TYPE_CHECKING:
    from pathlib import Path

RECORD = Candidate("Tea.", id="t", vector=np.eye(4, dtype=np.float32)[0])


@pytest.fixture(params=["folder", "server"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "index")
    return f"http://127.0.0.1:{request.getfixturevalue('server_port')}"


def test_a_new_collection_is_made_for_unit_vectors(where: str) -> None:
    """Cosine distance, the fingerprint, the width of the search; opened again, everything is there."""
    name = unique_name()
    with closing(open_collection(where, name, fingerprint='{"a": 1}', search_ef=321)) as store:
        store.upsert([RECORD])
    with closing(open_collection(where, name, create=False)) as store:
        assert (store.fingerprint, store.count()) == ('{"a": 1}', 1)
        hnsw = store._collection.configuration_json["hnsw"]
        assert (hnsw["space"], hnsw["ef_search"]) == ("cosine", 321)
        assert [item.text for item in store.search(np.asarray(RECORD.vector), 1)] == ["Tea."]


def test_an_existing_collection_is_opened_as_it_is(where: str) -> None:
    """Neither its fingerprint nor its configuration is written to."""
    name = unique_name()
    open_collection(where, name, fingerprint="{}", search_ef=50).close()
    for fingerprint in (None, '{"other": 1}'):
        with closing(open_collection(where, name, fingerprint=fingerprint, search_ef=70)) as store:
            assert store.fingerprint == "{}"
            assert store._collection.configuration_json["hnsw"]["ef_search"] == 50


def test_a_collection_that_is_not_there_is_not_made_unasked(where: str) -> None:
    """The error counts the collections that are there, and nothing is made."""
    open_collection(where, unique_name()).close()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"no collection 'nowhere' here, among \d+"):
            open_collection(where, "nowhere", create=False)


def test_a_folder_that_is_not_there_is_not_made_unasked(tmp_path: Path) -> None:
    """No empty database is left behind by a typing error."""
    with pytest.raises(StoreError, match="no folder"):
        open_collection(tmp_path / "none", "notes", create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "where",
    ["", "localhost:9000", "ftp://localhost", "http://", "http://a:b@localhost:1", "http://h:1/?key=b", "http://h:x"],
)
def test_an_address_that_cannot_be_used_is_refused(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than taken for a folder; credentials in it are not repeated."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="where: expected") as refused:
        open_collection(where, "notes")
    assert "a:b" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer kéy"}, {"X": "key\r\nY: 1"}, {"a b": "key"}, {"X": b"key"}]
)
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str]) -> None:
    """Before the HTTP client sees it, whose own error would show the key."""
    with pytest.raises(InputError, match="headers") as refused:
        open_collection("http://127.0.0.1:1", "notes", headers=headers)
    assert "key" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_server_that_is_not_there_is_a_store_error() -> None:
    """With the next step."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening
        port = bound.getsockname()[1]
        with pytest.raises(StoreError, match="check that it runs"):
            open_collection(f"http://127.0.0.1:{port}", "notes")


def test_what_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    """A file where a folder should be."""
    (tmp_path / "file").write_text("no database")
    with pytest.raises(StoreError, match="expected a folder, found a file"):
        open_collection(tmp_path / "file", "notes")


@pytest.mark.parametrize("name", ["ab", "my docs", "-abc", "abc.", "é" * 3, "n" * 513, "abc\n"])
def test_a_name_that_no_collection_may_have_is_an_input_error(where: str, name: str) -> None:
    """With the rule, before anything is made."""
    with pytest.raises(InputError, match="name: expected 3 to 512 ASCII letters"):
        open_collection(where, name)


@pytest.mark.parametrize("options", [{"headers": {"Authorization": "key"}}, {"verify": "ca.pem"}, {"verify": False}])
def test_a_folder_takes_nothing_of_a_servers(tmp_path: Path, options: dict[str, Any]) -> None:
    """Rather than dropping it in silence."""
    with pytest.raises(InputError, match="headers, verify"):
        open_collection(tmp_path / "index", "notes", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_width_of_a_search_is_positive(tmp_path: Path) -> None:
    """Refused here, not by Chroma later."""
    with pytest.raises(InputError, match="search_ef"):
        open_collection(tmp_path, "notes", search_ef=0)
