"""The cache on disk: a file that threads and processes share, that holds no text, and that may be damaged or lost."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from e2rank_integrations import DiskCache
from e2rank_integrations.caches import disk
from e2rank_integrations.errors import InputError, StoreError
from tests.caches.helpers import WIDTH, finish, key, start, vector

posix = pytest.mark.skipif(os.name != "posix", reason="of POSIX alone")


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache")


def raw(cache: DiskCache, statement: str, *values: object) -> list:
    """Run a statement on the file, past the cache."""
    with sqlite3.connect(cache.file) as connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


def test_vectors_come_back_bit_for_bit(cache: DiskCache) -> None:
    """In the order asked for, None for those not kept; from another object, and from a pickled one."""
    cache.put({key(number): vector(number) for number in range(3)})
    for other in (cache, DiskCache(cache.folder), pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        found = other.get([key(2), key(7), key(0), key(2)])
        assert found[1] is None
        for number, row in zip([2, 0, 2], [found[0], found[2], found[3]], strict=True):
            assert row is not None
            assert row.dtype == np.float32
            np.testing.assert_array_equal(row, vector(number))
            assert not row.flags.writeable


def test_another_process_finds_them(cache: DiskCache) -> None:
    """And this one what that process kept."""
    cache.put({key(1): vector(1)})
    code = """
        import sys
        from e2rank_integrations import DiskCache
        from tests.caches.helpers import key, vector
        cache = DiskCache(sys.argv[1])
        cache.put({key(2): vector(2)})
        print((cache.get([key(1)])[0] == vector(1)).all())
    """
    assert finish(start(code, cache.folder)) == "True\n"
    np.testing.assert_array_equal(cache.get([key(2)])[0], vector(2))


def test_more_keys_than_one_query_takes(cache: DiskCache) -> None:
    """SQLite's limit of variables is not the caller's."""
    cache.put({key(number): vector(number) for number in range(0, 2500, 2)})
    found = cache.get(list(map(key, range(2500))))
    assert [row is not None for row in found] == [number % 2 == 0 for number in range(2500)]
    assert len(cache) == 1250
    assert cache.get([]) == []
    cache.put({})


def test_a_new_vector_replaces_the_old(cache: DiskCache) -> None:
    """One key, one vector."""
    cache.put({key(1): vector(1)})
    cache.put({key(1): vector(2)})
    np.testing.assert_array_equal(cache.get([key(1)])[0], vector(2))
    assert len(cache) == 1


def test_the_file_holds_keys_and_little_endian_floats(cache: DiskCache) -> None:
    """Nothing else, and nothing that must be unpickled."""
    cache.put({key(5): vector(5)})
    assert raw(cache, "SELECT * FROM vectors") == [(key(5), vector(5).astype("<f4").tobytes())]
    assert raw(cache, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("vectors",)]


@pytest.mark.parametrize("damage", [b"", b"123", vector(1).tobytes()[:-1], "text", 7, 1.5], ids=repr)
def test_a_row_that_is_no_vector_counts_as_missing(cache: DiskCache, damage: object) -> None:
    """It is not an error; keeping the vector anew heals it."""
    cache.put({key(1): vector(1), key(2): vector(2)})
    raw(cache, "UPDATE vectors SET vector = ? WHERE key = ?", damage, key(1))
    assert cache.get([key(1)]) == [None]
    assert cache.get([key(2)])[0] is not None
    cache.put({key(1): vector(1)})
    np.testing.assert_array_equal(cache.get([key(1)])[0], vector(1))


# What is not a cache


@pytest.mark.parametrize("content", [b"These are notes and no database. " * 99, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused(cache: DiskCache, content: bytes) -> None:
    """The error names the file and says what to do; the file stays as it is."""
    cache.folder.mkdir()
    cache.file.write_bytes(content)
    for use in (lambda: cache.get([key(1)]), lambda: cache.put({key(1): vector(1)}), cache.clear):
        with pytest.raises(StoreError, match="delete the file") as caught:
            use()
        assert str(cache.file) in str(caught.value)
    assert cache.file.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_left_alone(cache: DiskCache) -> None:
    """It has tables, but not the cache's mark."""
    cache.folder.mkdir()
    raw(cache, "CREATE TABLE vectors (key BLOB, vector BLOB)")
    before = cache.file.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        cache.put({key(1): vector(1)})
    assert cache.file.read_bytes() == before
    assert os.listdir(cache.folder) == [cache.file.name]  # noqa: PTH208


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "file").write_text("notes")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="another folder"):
            DiskCache(folder).get([key(1)])


@pytest.mark.parametrize("folder", [None, 3, b"bytes", ["folder"]])
def test_what_is_no_path_is_refused(folder: object) -> None:
    """When the cache is made."""
    with pytest.raises(InputError, match="folder"):
        DiskCache(folder)


# The file's life


def test_making_one_makes_no_file(cache: DiskCache) -> None:
    """The first use does, in a folder that only its owner can read."""
    assert not cache.folder.exists()
    repr(cache)
    cache.get([key(1)])
    assert cache.file.is_file()
    if os.name == "posix":
        assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


def test_the_folder_is_the_same_wherever_the_process_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is that of the moment the cache was made; two names of it are one cache."""
    monkeypatch.chdir(tmp_path)
    cache = DiskCache("here")
    monkeypatch.chdir("/")
    cache.put({key(1): vector(1)})
    assert (tmp_path / "here").is_dir()
    assert cache == DiskCache(tmp_path / "here")
    assert hash(cache) == hash(DiskCache(str(tmp_path / "here")))
    assert cache != DiskCache(tmp_path / "there")


def test_clear_leaves_no_vector_in_the_files(cache: DiskCache) -> None:
    """Rows that SQLite only marks as deleted would still be readable."""
    secret = vector("secret", 1000)
    cache.put({key(1): secret})
    cache.clear()
    assert len(cache) == 0
    assert cache.get([key(1)]) == [None]
    cache.close()
    content = b"".join(path.read_bytes() for path in cache.folder.iterdir())
    assert secret.tobytes()[:64] not in content


def test_a_closed_cache_opens_again(cache: DiskCache) -> None:
    """`close` gives back the connection and keeps the vectors; twice is no error."""
    cache.put({key(1): vector(1)})
    cache.close()
    cache.close()
    assert cache.get([key(1)])[0] is not None


def test_a_cache_that_nobody_holds_closes_its_file(cache: DiskCache) -> None:
    """The files beside the database, which SQLite keeps while it is in use, are gone with it."""
    folder = cache.folder
    other = DiskCache(folder)
    other.put({key(1): vector(1)})
    assert len(list(folder.iterdir())) == 3
    del other
    gc.collect()
    assert len(list(folder.iterdir())) == 1


@posix
def test_a_deleted_folder_is_made_again(cache: DiskCache) -> None:
    """Deleting the file is how a user empties a cache; SQLite would go on with the one that is gone."""
    cache.put({key(1): vector(1)})
    shutil.rmtree(cache.folder)
    assert cache.get([key(1)]) == [None]
    cache.put({key(2): vector(2)})
    assert DiskCache(cache.folder).get([key(2)])[0] is not None
    cache.file.unlink()
    DiskCache(cache.folder).put({key(3): vector(3)})
    assert cache.get([key(3)])[0] is not None
    assert raw(cache, "PRAGMA integrity_check") == [("ok",)]


def test_a_lock_that_lasts_is_an_error_that_passes(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on while another writes; writing waits, then fails with the file's name, and works later."""
    monkeypatch.setattr(disk, "_PATIENCE", 0.01)
    cache.put({key(1): vector(1)})
    other = sqlite3.connect(cache.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert cache.get([key(1)])[0] is not None
    with pytest.raises(OSError, match="locked") as caught:
        cache.put({key(2): vector(2)})
    assert str(cache.file) in str(caught.value)
    other.execute("ROLLBACK")
    other.close()
    cache.put({key(2): vector(2)})
    assert cache.get([key(2)])[0] is not None


# Several at once


def test_threads_share_it(cache: DiskCache) -> None:
    """Eight of them, from the first use on: nothing is lost or mixed up."""

    def use(worker: int) -> bool:
        for turn in range(20):
            cache.put({key(worker * 100 + turn): vector(worker * 100 + turn)})
        rows = cache.get([key(worker * 100 + turn) for turn in range(20)])
        return all(row is not None and (row == vector(worker * 100 + t)).all() for t, row in enumerate(rows))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert len(cache) == 160


def test_processes_write_at_once(cache: DiskCache) -> None:
    """Four that meet on a folder that none has made yet, with keys of their own and common ones."""
    code = """
        import sys
        from e2rank_integrations import DiskCache
        from tests.caches.helpers import key, vector
        print("ready", flush=True)
        sys.stdin.readline()
        cache, worker = DiskCache(sys.argv[1]), int(sys.argv[2])
        for turn in range(50):
            numbers = [worker * 1000 + turn, 9000 + turn]
            cache.put({key(number): vector(number) for number in numbers})
            assert all(row is not None for row in cache.get([key(number) for number in numbers]))
    """
    workers = [start(code, cache.folder, worker) for worker in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        finish(worker)
    numbers = [*(worker * 1000 + turn for worker in range(4) for turn in range(50)), *range(9000, 9050)]
    for number, row in zip(numbers, cache.get(list(map(key, numbers))), strict=True):
        np.testing.assert_array_equal(row, vector(number))
    assert len(cache) == len(numbers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_opens_a_connection_of_its_own(cache: DiskCache) -> None:
    """Also where another thread was at work in the parent; both go on, and the file stays whole."""
    code = """
        import os, signal, sys, threading, warnings
        from e2rank_integrations import DiskCache
        from tests.caches.helpers import key, vector
        warnings.simplefilter("ignore")
        cache, done = DiskCache(sys.argv[1]), threading.Event()
        cache.put({key(0): vector(0)})
        def work():
            while not done.is_set():
                cache.put({key(0): vector(0)})
        thread = threading.Thread(target=work)
        thread.start()
        for number in range(1, 11):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                cache.put({key(number): vector(number)})
                good = cache.get([key(0)])[0] is not None
                cache.close()
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0
        done.set()
        thread.join()
        print(len(cache))
    """
    assert finish(start(code, cache.folder)) == "11\n"
    assert raw(cache, "PRAGMA integrity_check") == [("ok",)]
    assert cache.get([key(1)])[0].shape == (WIDTH,)
