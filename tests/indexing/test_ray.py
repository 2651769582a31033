"""The same job by Ray Data: the same records, a killed worker notwithstanding."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from e2rank_integrations.errors import InputError, MissingExtraError, NonFiniteError
from e2rank_integrations.indexing.embedding import embed_part
from e2rank_integrations.indexing.sources import Part, open_source
from tests.indexing.conftest import Place, expect_same, rows, write_lines
from tests.support.engines import Failing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2rank_integrations import E2RankEncoder

pytest.importorskip("ray", reason="the ray extra is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def logs() -> Iterator[Path]:
    """Where Ray writes; its sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, qwen_encoder: E2RankEncoder, logs: Path) -> tuple[Path, Any]:
    """A job of two workers, the first of which is killed at its first part; the last part ends them all."""
    folder = tmp_path_factory.mktemp("ray")
    long = {"_id": "long", "text": "word " * 150}
    write_lines(folder / "corpus.jsonl", [*rows(14), "{", {"_id": "d1", "text": "Again"}, long])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_TMPDIR": str(logs), "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "tests.indexing.ray_job", str(folder), qwen_encoder.model]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, complaint = process.communicate(timeout=300)
        finally:
            with suppress(ProcessLookupError):  # Ray's own processes, where the job did not end
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, complaint[-4000:]
    return folder, json.loads(said.splitlines()[-1])


def test_a_job_of_two_workers(
    job: tuple[Path, Any], logs: Path, place: Place, qwen_encoder: E2RankEncoder, tmp_path: Path
) -> None:
    """All that one job shows, in one test: processes that share the tests would each run a job of their own."""
    expect_the_records_of_the_local_engine(job, qwen_encoder, tmp_path)
    expect_that_a_worker_was_killed(job)
    expect_that_a_part_ended_the_job(job)
    expect_that_no_room_is_an_input_error(job, place, qwen_encoder)
    expect_no_key_in(logs)


def expect_the_records_of_the_local_engine(job: tuple[Path, Any], qwen_encoder: E2RankEncoder, tmp_path: Path) -> None:
    """Each row once, the vectors to 1e-6, and the same errors, though a worker died with a part in its hands."""
    folder, _ = job
    by_ray = Place(folder / "corpus.jsonl", folder / "by-ray", folder / "by-ray.manifest", rows_per_part=4)
    again = by_ray.index(qwen_encoder)  # the part that Ray's workers could not do
    assert (again.skipped_before, again.written) == (14, 1)
    here = replace(by_ray, chroma=tmp_path / "here", manifest=tmp_path / "here.manifest")
    report = here.index(qwen_encoder)
    expect_same(by_ray.records(), here.records(), tolerance=1e-6)
    assert by_ray.errors() == here.errors()
    assert (again.rows, again.errors, again.stored) == (report.rows, report.errors, report.stored) == (17, 2, 15)


def expect_that_a_worker_was_killed(job: tuple[Path, Any]) -> None:
    """By SIGKILL, and others did its part; Ray is stopped where it was started."""
    _, said = job
    (victim,) = said["killed"]
    assert victim in said["seen"]
    assert len(said["seen"]) >= 2
    assert said["running"] is False


def expect_that_a_part_ended_the_job(job: tuple[Path, Any]) -> None:
    """After the third of them, and not never; what came before it is kept, and how to go on is said."""
    _, said = job
    assert len(said["ended"]) == 1
    name, text, *notes = said["given up"]
    assert name == "TransientError"
    assert "positions 17 to 17 ended their worker 3 times" in text
    assert "--rows-per-part" in text
    assert notes == ["14 rows are indexed; run the same again, and it goes on there"]


def expect_that_no_room_is_an_input_error(job: tuple[Path, Any], place: Place, qwen_encoder: E2RankEncoder) -> None:
    """Ray would wait for a GPU without end; and it is Ray that chooses which GPU."""
    from e2rank_integrations.indexing.ray import RayEmbedder

    _, said = job
    name, text, *_ = said["no GPU"]
    assert (name, text[:28]) == ("InputError", "Ray has no GPU for a worker;")
    with pytest.raises(InputError, match="expected 'cuda', found 'cuda:1'"):
        place.index(replace(qwen_encoder, device="cuda:1"), embedder=RayEmbedder())


def test_ray_is_given_parts_in_windows() -> None:
    """Not all parts of a large corpus at once; and each of them."""
    from e2rank_integrations.indexing.ray import _WINDOW, _windows

    parts = (Part(number, number, 1, (number,)) for number in range(2 * _WINDOW + 1))
    windows = _windows(parts)
    first = next(windows)
    assert next(parts).number == _WINDOW == len(first)
    assert [len(window) for window in windows] == [_WINDOW]


def expect_no_key_in(logs: Path) -> None:
    """The engine travels to the workers with its key, and what Ray writes about that does not hold it."""
    from tests.indexing.ray_job import KEY

    written = [path for path in logs.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []


def test_an_actors_error_arrives_as_it_is(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """Typed, and not wrapped by Ray."""
    from e2rank_integrations.indexing.ray import PartEmbedder, _unpacked

    source = open_source(place.corpus)
    (part,) = source.parts(99)
    batch = {"part": [pickle.dumps(part)]}
    (good,) = PartEmbedder(source, qwen_encoder, lambda _: 1)(batch)["embedded"]
    assert _unpacked(good).rows == embed_part(source, part, qwen_encoder).rows
    failing = replace(qwen_encoder, custom_engine=Failing(qwen_encoder.engine, NonFiniteError("NaN")))
    (bad,) = PartEmbedder(source, failing, lambda _: 1)(batch)["embedded"]
    with pytest.raises(NonFiniteError, match="NaN"):
        _unpacked(bad)


def test_without_ray_the_extra_is_named() -> None:
    """The command to install it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        patch.delitem(sys.modules, "e2rank_integrations.indexing.ray", raising=False)
        with pytest.raises(MissingExtraError, match=r"e2rank-integrations\[ray\]"):
            import e2rank_integrations.indexing.ray  # noqa: F401
