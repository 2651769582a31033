"""The cache in memory: bounded in bytes, least recently used goes first, and nobody can write to what it keeps."""

from __future__ import annotations

import copy
import os
import pickle
import tracemalloc
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations import DocumentCache, MemoryCache
from e2rank_integrations.caches.memory import ENTRY_BYTES
from e2rank_integrations.errors import InputError
from tests.caches.helpers import finish, key, start, vector

PUT = st.tuples(st.just("put"), st.lists(st.tuples(st.integers(0, 9), st.sampled_from([4, 8, 100])), max_size=4))
GET = st.tuples(st.just("get"), st.lists(st.integers(0, 9), max_size=4))


@given(bound=st.integers(1, 3000), steps=st.lists(st.one_of(PUT, GET), max_size=30))
@settings(deadline=None)
def test_it_holds_what_was_used_last_and_never_more_than_its_bound(bound: int, steps: list) -> None:
    """Against a plain list of entries in the order of their use, after every step of any history."""
    cache, entries = MemoryCache(bound), OrderedDict[int, np.ndarray]()
    for kind, given_items in steps:
        if kind == "put":
            items = dict(given_items)
            cache.put({key(number): vector(number, width) for number, width in items.items()})
            for number, width in items.items():
                put(entries, number, vector(number, width), bound)
        else:
            for number, found in zip(given_items, cache.get(list(map(key, given_items))), strict=True):
                assert (found is None) == (number not in entries)
                if found is not None:
                    np.testing.assert_array_equal(found, entries[number])
                    entries.move_to_end(number)
        assert cache.nbytes == counted(entries) <= bound
        assert len(cache) == len(entries)


def put(entries: OrderedDict[int, np.ndarray], number: int, row: np.ndarray, bound: int) -> None:
    entries.pop(number, None)
    if row.nbytes + ENTRY_BYTES <= bound:
        entries[number] = row
    while counted(entries) > bound:
        entries.popitem(last=False)


def counted(entries: OrderedDict[int, np.ndarray]) -> int:
    return sum(row.nbytes + ENTRY_BYTES for row in entries.values())


@pytest.mark.parametrize("count", [100, 2800, 5500])
def test_it_takes_no_more_memory_than_it_counts(count: int) -> None:
    """The bound is one of the process's memory, keys, objects and tables included."""
    rows = [(key(number), vector(number, 384)) for number in range(count)]
    tracemalloc.start()
    try:
        cache = MemoryCache()
        before, _ = tracemalloc.get_traced_memory()
        for name, row in rows:
            cache.put({bytes(bytearray(name)): row})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == count
    assert after - before <= cache.nbytes


def test_a_vector_above_the_bound_is_not_kept_and_pushes_nothing_out() -> None:
    """Nor does an old vector of its key stay behind."""
    cache = MemoryCache(2 * (ENTRY_BYTES + 32))
    cache.put({key(1): vector(1), key(2): vector(2)})
    cache.put({key(1): vector(1, 1000)})
    assert cache.get([key(1)]) == [None]
    np.testing.assert_array_equal(cache.get([key(2)])[0], vector(2))


def test_nobody_can_write_to_what_it_keeps() -> None:
    """Neither through the array that was put, nor through one that was got."""
    cache, given_row = MemoryCache(), vector(1)
    cache.put({key(1): given_row})
    given_row[:] = 0
    (found,) = cache.get([key(1)])
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        found.setflags(write=True)
    np.testing.assert_array_equal(found, vector(1))


def test_a_row_of_a_large_matrix_does_not_keep_the_matrix() -> None:
    """What is kept is as large as what is counted."""
    matrix = np.ones((10_000, 8), dtype=np.float32)
    cache = MemoryCache()
    cache.put({key(1): matrix[0]})
    (found,) = cache.get([key(1)])
    assert found is not None
    assert found.base is None or isinstance(found.base, bytes)


def test_a_copy_is_the_same_cache_and_a_pickled_one_is_empty() -> None:
    """Vectors do not travel to another process by accident; the bound does."""
    cache = MemoryCache(5000)
    cache.put({key(1): vector(1)})
    assert copy.copy(cache) is cache
    assert copy.deepcopy(cache) is cache
    arrived = pickle.loads(pickle.dumps(cache))
    assert (arrived.max_bytes, len(arrived)) == (5000, 0)
    assert len(pickle.dumps(cache)) < 200


def test_it_forgets_on_demand_and_not_on_close() -> None:
    """`close` gives back connections, of which it has none."""
    cache = MemoryCache()
    cache.put({key(1): vector(1)})
    cache.close()
    assert len(cache) == 1
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


@pytest.mark.parametrize("bound", [0, -1, 1.5, "256", None, True])
def test_a_bound_that_is_none_is_refused(bound: object) -> None:
    """When the cache is made, with what was found."""
    with pytest.raises(InputError, match="max_bytes"):
        MemoryCache(bound)


def test_threads_share_it() -> None:
    """Each finds whole vectors of the right key, or none, while the bound makes room all the time."""
    cache = MemoryCache(20 * (ENTRY_BYTES + 32))

    def use(worker: int) -> bool:
        good = True
        for turn in range(200):
            number = (worker * 7 + turn) % 40
            cache.put({key(number): vector(number)})
            asked = [number, (number + 1) % 40]
            for wanted, row in zip(asked, cache.get(list(map(key, asked))), strict=True):
                good &= row is None or bool((row == vector(wanted)).all())
        return good

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert cache.nbytes == 20 * (ENTRY_BYTES + 32)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_can_use_it() -> None:
    """Whatever another thread of the parent was doing with it at that moment."""
    code = """
        import os, signal, threading, warnings
        from e2rank_integrations import MemoryCache
        from tests.caches.helpers import key, vector
        warnings.simplefilter("ignore")
        cache, row, done = MemoryCache(), vector(1), threading.Event()
        def work():
            while not done.is_set():
                cache.put({key(1): row})
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(30):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                cache.put({key(2): row})
                os._exit(0 if cache.get([key(2)])[0] is not None else 1)
            assert os.waitpid(child, 0)[1] == 0
        done.set()
        thread.join()
        print("fine")
    """
    assert finish(start(code)) == "fine\n"


def test_both_caches_are_document_caches() -> None:
    """The protocol tells what can be one from what cannot."""
    assert isinstance(MemoryCache(), DocumentCache)
    assert not isinstance({}, DocumentCache)
    assert not isinstance("folder", DocumentCache)
