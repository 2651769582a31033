"""The manifest says what is done, of which job, and nothing that is not so."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.fingerprint import Fingerprint
from e2rank_integrations.indexing.manifest import Done, Job, Manifest
from e2rank_integrations.indexing.rows import RowError

if TYPE_CHECKING:
    from pathlib import Path

MODEL = Fingerprint(
    model="a", weights="w", adapter=None, pooling="mean", document_format="{document}", document_cap=9,
    document_words=None,
)  # fmt: skip
JOB = Job("corpus, 3 bytes", "fields", MODEL.to_json(), "c0ffee", 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "done.manifest"


def test_what_is_recorded_is_there_the_next_time(path: Path) -> None:
    """Parts, ids with their first positions, and errors in the rows' order."""
    with Manifest(path) as manifest:
        assert manifest.start(JOB, 5) == Done(0, 0, 0, 5)
        manifest.record(0, {"a": 1, "b": 2}, [RowError(4, None, "bad"), RowError(3, "c", "worse")])
        manifest.record(1, {f"id {n}": n for n in range(5, 2005)}, [])
    with Manifest(path) as manifest:
        assert manifest.start(JOB, 2007) == Done(2, 2002, 2, 5), "what was found is found once"
        assert manifest.positions(["b", "c", *(f"id {n}" for n in range(5, 2005))]) == {
            "b": 2, **{f"id {n}": n for n in range(5, 2005)}
        }  # fmt: skip
        assert list(manifest.errors()) == [RowError(3, "c", "worse"), RowError(4, None, "bad")]


def test_a_part_is_recorded_whole_or_not_at_all(path: Path) -> None:
    """An id that is recorded already leaves nothing of its part."""
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        manifest.record(0, {"a": 1}, [])
        with pytest.raises(StoreError):
            manifest.record(1, {"new": 2, "a": 3}, [RowError(4, None, "bad")])
        assert manifest.done == Done(1, 1, 0, 5)
        assert manifest.positions(["new"]) == {}


CHANGED = {
    "corpus": "corpus, 4 bytes",
    "fields": "others",
    "model": replace(MODEL, weights="v").to_json(),
    "collection": "decaf",
    "rows_per_part": 5,
}


@pytest.mark.parametrize("name", CHANGED)
def test_another_jobs_manifest_is_refused(path: Path, name: str) -> None:
    """It says in what they differ, with both values, and what to do; nothing is changed by it."""
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        manifest.record(0, {"a": 1}, [])
        with pytest.raises(StoreError, match=f"with {name} .*--restart"):
            manifest.start(replace(JOB, **{name: CHANGED[name]}), 5)
        assert manifest.start(JOB, 5) == Done(1, 1, 0, 5)
        manifest.restart()
        assert manifest.start(replace(JOB, **{name: CHANGED[name]}), 5) == Done(0, 0, 0, 5)


def test_the_models_name_is_not_compared(path: Path) -> None:
    """The same files elsewhere make the same vectors."""
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        assert manifest.start(replace(JOB, model=replace(MODEL, model="b").to_json()), 5) == Done(0, 0, 0, 5)


def damaged(path: Path) -> None:
    """Its second half is another file's."""
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        manifest.record(0, {f"id {n}": n for n in range(2000)}, [])
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def another_programs(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things (name)")
    connection.commit()
    connection.close()


def of_a_later_version(path: Path) -> None:
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def without_its_job(path: Path) -> None:
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        manifest._connection.execute("DELETE FROM job WHERE name = 'model'")
        manifest._connection.commit()


def taken_up(path: Path) -> None:
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        manifest.positions(["id 5"])


FAULTS = {
    "damaged": (damaged, "cannot be used as a manifest"),
    "another program's": (another_programs, "no manifest of this version"),
    "of a later version": (of_a_later_version, "no manifest of this version"),
    "without its job": (without_its_job, "which job"),
    "no database": (lambda path: path.write_text("no database " * 999), "cannot be used as a manifest"),
    "a folder": (lambda path: path.mkdir(), "cannot be opened"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_is_no_manifest_is_a_store_error(tmp_path: Path, name: str) -> None:
    """It is never taken for an empty one, and never written to."""
    path = tmp_path / "done.manifest"
    damage, words = FAULTS[name]
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=words):
        taken_up(path)
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_job_is_one_processs(path: Path) -> None:
    """A second process that takes it up meanwhile is told so; once the first ended, in whatever way, it is free."""
    code = (
        "import sys; from pathlib import Path; from e2rank_integrations.indexing.manifest import Manifest\n"
        "from e2rank_integrations.errors import StoreError\n"
        "try:\n    Manifest(Path(sys.argv[1])).__enter__(); print('free')\n"
        "except StoreError as error:\n    print(error)"
    )

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        assert "another process is at this job" in other()
    assert other() == "free\n"


def test_only_its_owner_can_read_it(path: Path) -> None:
    """Ids may tell something."""
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
    assert path.stat().st_mode & 0o077 == 0


def test_a_closed_manifest_says_so(path: Path) -> None:
    """Before and after its with statement."""
    manifest = Manifest(path)
    with pytest.raises(InputError, match="with statement"):
        manifest.start(JOB, 5)


def test_another_thread_is_said(path: Path) -> None:
    """It is no fault of the file, which must not be deleted for it."""
    with Manifest(path) as manifest, ThreadPoolExecutor(1) as pool:
        with pytest.raises(InputError, match="thread"):
            pool.submit(manifest.start, JOB, 0).result()
        assert manifest.start(JOB, 0) == Done(0, 0, 0, 0)


def test_a_full_disk_is_no_reason_to_delete_it(path: Path) -> None:
    """What is recorded stays; there must be room, and then the job goes on."""
    with Manifest(path) as manifest:
        manifest.start(JOB, 5)
        (pages,) = manifest._connection.execute("PRAGMA page_count").fetchone()
        manifest._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match=r"full\); make room .* run the same again") as caught:
            manifest.record(0, {f"id {n}": n for n in range(9999)}, [])
        assert "delete" not in str(caught.value)
        assert manifest.done == Done(0, 0, 0, 5)
