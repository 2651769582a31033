"""`e2rank index` from its options to its exit status."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations import E2RankEncoder, cli
from e2rank_integrations.engines.remote import RemoteEngine
from e2rank_integrations.errors import InputError, NonFiniteError
from e2rank_integrations.indexing import command
from e2rank_integrations.indexing.manifest import Manifest
from tests.indexing.conftest import COLLECTION, Place, expect_same, rows, write_lines
from tests.support.engines import Failing, Recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.values import Encoded, TokenInput

PATIENCE = 200.0


@pytest.fixture
def options(place: Place, qwen_encoder: E2RankEncoder) -> list[str]:
    model = ["--model", qwen_encoder.model, "--device", "cpu", "--dtype", "float32"]
    store = ["--chroma", str(place.chroma), "--collection", COLLECTION]
    return ["index", str(place.corpus), *store, *model, "--rows-per-part", "3"]


def test_all_rows_indexed(
    place: Place, options: list[str], qwen_encoder: E2RankEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 0 and what came of it, twice; the manifest is beside the corpus, and no list of errors."""
    assert cli.main(options) == 0
    assert capsys.readouterr().out.startswith("10 rows indexed in ")
    assert cli.main(options) == 0
    assert "10 rows were indexed before" in capsys.readouterr().out
    other = replace(place, chroma=place.chroma / "other")
    other.index(qwen_encoder)
    expect_same(place.records(), other.records(), tolerance=1e-6)
    (manifest,) = place.corpus.parent.glob("corpus.jsonl.*")
    assert re.fullmatch(rf"corpus\.jsonl\.{COLLECTION}\.[0-9a-f]{{8}}\.manifest", manifest.name)


def test_rows_that_cannot_be_used_are_listed(
    place: Place, options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Status 3, the others are indexed, and the file is named, in later runs, too; without errors it is gone."""
    write_lines(place.corpus, [*rows(4), "{", {"_id": "d1", "text": "Again"}])
    for _ in range(2):
        assert cli.main(options) == 3
        printed = capsys.readouterr()
        assert "2 of 6 rows could not be used" in printed.out
        (listed,) = tmp_path.glob("*.manifest.errors.jsonl")
        assert str(listed) in printed.err
        found = [json.loads(line) for line in listed.read_text().splitlines()]
        assert found == [
            {"position": 5, "id": None, "reason": "expected a JSON object (JSONDecodeError)"},
            {"position": 6, "id": "d1", "reason": "the id is that of position 1, too"},
        ]
    assert len(place.records()) == 4
    write_lines(place.corpus, rows(4))
    assert cli.main([*options, "--restart"]) == 0
    assert not listed.exists()


def test_the_list_goes_where_it_is_asked_for(place: Place, options: list[str], tmp_path: Path) -> None:
    """Also where it is empty, so that a script can read it."""
    asked = tmp_path / "deep" / "errors.jsonl"
    assert cli.main([*options, "--errors", str(asked), "--manifest", str(tmp_path / "own")]) == 0
    assert asked.read_text() == ""
    assert (tmp_path / "own").is_file()


@pytest.mark.parametrize(
    ("manifest", "errors"), [("corpus.jsonl", "e"), ("m", "x/../corpus.jsonl"), ("m", "m"), ("m", "x/../m")]
)
def test_no_file_is_written_over_another(
    place: Place, options: list[str], capsys: pytest.CaptureFixture[str], manifest: str, errors: str
) -> None:
    """Neither the corpus nor the manifest, however their paths are written."""
    before, folder = place.corpus.read_bytes(), place.corpus.parent
    assert cli.main([*options, "--manifest", str(folder / manifest), "--errors", str(folder / errors)]) == 2
    assert "expected files of their own" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["corpus.jsonl"]
    assert place.corpus.read_bytes() == before


def test_the_list_may_be_asked_for_where_it_is_anyhow(place: Place, options: list[str]) -> None:
    """It is there, and not removed as that of an earlier run."""
    listed = place.corpus.with_name("m.errors.jsonl")
    assert cli.main([*options, "--manifest", str(place.corpus.with_name("m")), "--errors", str(listed)]) == 0
    assert listed.read_text() == ""


def test_the_list_is_known_to_be_writable_before_the_work(
    place: Place, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest's name may be too long for the name of the list beside it."""
    assert cli.main([*options, "--manifest", str(place.corpus.with_name("m" * 240))]) == 2
    assert "errors.jsonl: cannot be written" in capsys.readouterr().err
    assert not place.chroma.exists()


def test_an_interrupted_job_says_how_to_go_on(
    options: list[str], qwen_encoder: E2RankEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends it with the shell's status and without a traceback."""
    engine = Failing(qwen_encoder.engine, KeyboardInterrupt())
    engine.fails = lambda _: len(engine.calls) == 3  # after the probe and a part
    monkeypatch.setattr(command, "_encoder", lambda _: replace(qwen_encoder, custom_engine=engine))
    assert cli.main(options) == 130
    assert capsys.readouterr().err.endswith(
        "interrupted\n3 rows are indexed; run the same again, and it goes on there\n"
    )


def test_the_root_of_a_disk_has_nothing_beside_it(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest must be named."""
    assert cli.main(["index", "/", *options[2:]]) == 2
    assert "--manifest: expected a file" in capsys.readouterr().err


def test_a_new_index_fits_the_searches_to_come(place: Place, options: list[str]) -> None:
    """Its HNSW looks at twice the candidates that they fetch, by cosine."""
    assert cli.main([*options, "--fetch-k", "150"]) == 0
    with place.store() as store:
        hnsw = store._collection._model.configuration_json["hnsw"]
    assert (hnsw["ef_search"], hnsw["space"]) == (300, "cosine")


def test_restart_begins_again(place: Place, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """After a change of the corpus, which is refused without it."""
    assert cli.main(options) == 0
    write_lines(place.corpus, rows(12))
    assert cli.main(options) == 2
    assert "--restart" in capsys.readouterr().err
    assert cli.main([*options, "--restart"]) == 0
    assert capsys.readouterr().out.startswith("12 rows indexed in ")
    assert len(place.records()) == 12


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--id-field", "key"], "no id under 'key'); its fields are '_id', 'title', 'text', 'year'"),
        (["--text-field", "body"], "no text under 'body'"),
        (["--chroma-header", "Authorization=E2RANK_NO_SUCH_VARIABLE"], "--chroma-header"),
        (["--chroma-header", "Authorization"], "--chroma-header"),
        (["--collection", "no name!"], "name: expected 3 to 512 ASCII letters"),
        (["--chroma", ""], "where: expected a folder"),
        (["--chroma-ca", "ca.pem"], "they are for a server"),
        (["--chroma", "http://127.0.0.1:9"], "cannot be reached"),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--errors", "/dev/null/errors.jsonl"], "cannot be written"),
        (["--workers", "1"], "give --engine ray"),
        (["--ray-address", "head:1"], "give --engine ray"),
        (["--engine", "ray", "--ray-address", "head:1"], "--manifest"),
        (["--base-url", "http://127.0.0.1:9/v1"], "--device, --dtype"),
        (["--no-probe"], "--no-probe: there is no server"),
    ],
)
def test_what_cannot_be_used_is_status_two(
    options: list[str], more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason on stderr, and nothing on stdout."""
    assert cli.main([*options, *more]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert words in printed.err
    assert printed.out == ""


def test_an_engine_that_fails_is_status_two_and_says_how_to_go_on(
    options: list[str], qwen_encoder: E2RankEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command goes on behind what is done."""
    engine = Failing(qwen_encoder.engine, NonFiniteError("NaN"))
    engine.fails = lambda _: len(engine.calls) == 3  # after the probe and a part
    monkeypatch.setattr(command, "_encoder", lambda _: replace(qwen_encoder, custom_engine=engine))
    assert cli.main(options) == 2
    assert "error: NaN\n3 rows are indexed; run the same again" in capsys.readouterr().err
    assert cli.main(options) == 0
    assert "7 rows indexed in" in capsys.readouterr().out


def test_a_killed_command_goes_on(place: Place, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL between the writing of a part and its record, then the same command again: every row is there once."""
    asked = [*options, "--manifest", str(place.manifest)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *asked], timeout=PATIENCE, check=False)
    assert killed.returncode == -signal.SIGKILL
    with Manifest(place.manifest) as manifest:
        assert (manifest.done.parts, manifest.done.written) == (2, 6)
    assert len(place.records()) == 9
    assert cli.main(asked) == 0
    assert "6 rows were indexed before" in capsys.readouterr().out
    stored = place.records()
    assert {id_: record.text for id_, record in stored.items()} == {
        row["_id"]: f"{row['title']} {row['text']}".strip() for row in rows(10)
    }
    assert all(record.vector is not None for record in stored.values())


KILLED = """
import os, signal, sys
from e2rank_integrations import cli
from e2rank_integrations.indexing.manifest import Manifest

def record(self, part, *arguments):
    if part == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    recording(self, part, *arguments)

recording, Manifest.record = Manifest.record, record
cli.main(sys.argv[1:])
"""


def test_a_server_is_asked_for_by_options(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key comes from the environment, and the encoder does not show it."""
    monkeypatch.setenv("E2RANK_API_KEY", "sk-secret")
    asked = [*options, "--base-url", "http://127.0.0.1:9/v1", "--served-model", "tiny"]
    encoder = command._encoder(cli._parser().parse_args(asked))
    assert isinstance(encoder.custom_engine, RemoteEngine)
    assert (encoder.custom_engine.base_url, encoder.custom_engine.model) == ("http://127.0.0.1:9/v1", "tiny")
    assert "sk-secret" not in repr(encoder)
    with pytest.raises(SystemExit):
        cli.main([*options, "--api-key", "sk-secret"])


def test_ray_is_asked_for_by_options(options: list[str]) -> None:
    """And only then imported."""
    pytest.importorskip("ray", reason="the ray extra is not installed")
    from e2rank_integrations.indexing.ray import RayEmbedder

    asked = [*options, "--engine", "ray", "--workers", "3", "--ray-address", "ray://head:1", "--manifest", "m"]
    parsed = cli._parser().parse_args(asked)
    assert command._embedder(parsed) == RayEmbedder(3, address="ray://head:1")


def test_the_default_manifest_is_one_stores(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same folder, written in whatever way, or the same server, and a collection of it."""

    def name(where: str, collection: str = "c") -> str:
        asked = [*options, "--chroma", where, "--collection", collection]
        return command._manifest(cli._parser().parse_args(asked)).name

    assert name("index") == name("./other/../index") == name(str(Path("index").resolve()))
    assert name("http://a:1") == name("http://a:1/")
    assert len({name("index"), name("other"), name("http://a:1"), name("http://a:2"), name("index", "d")}) == 5
    monkeypatch.setenv("RAY_ADDRESS", "head:1")
    with pytest.raises(InputError, match="--manifest"):
        command.run(cli._parser().parse_args([*options, "--engine", "ray"]))


def test_lists_of_errors_are_one_manifests(place: Place, options: list[str], tmp_path: Path) -> None:
    """Another job's list beside it stays, whatever the names have in common."""
    write_lines(place.corpus, [*rows(1), "{"])
    assert cli.main([*options, "--manifest", str(tmp_path / "m.one")]) == 3
    write_lines(place.corpus, rows(1))
    assert cli.main([*options, "--manifest", str(tmp_path / "m.two")]) == 0
    assert (tmp_path / "m.one.errors.jsonl").exists()


def test_names_that_cannot_be_printed_are_escaped(
    place: Place, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of another encoding, and where they are no text; the list of errors is there all the same."""
    write_lines(place.corpus, [{"_id": "a", "text": "A", "\ud800": "x", "日本": []}, "{"])
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main([*options, "--errors", str(tmp_path / "errors")]) == 3
    terminal.seek(0)
    assert r"'\ud800', '\u65e5\u672c'" in terminal.read()
    assert len((tmp_path / "errors").read_text().splitlines()) == 1


def test_a_server_is_probed_before_its_first_row(
    options: list[str], qwen_encoder: E2RankEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, and not where it is asked not to be; what embeds otherwise fills no collection."""

    def served(engine: object, *more: str) -> tuple[int, str]:
        monkeypatch.setattr(command, "_encoder", lambda _: replace(qwen_encoder, custom_engine=engine))
        return cli.main([*options, *more]), capsys.readouterr().err

    class Mirrored(Recording):
        def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
            encoded = super().encode(inputs)
            return replace(encoded, vectors=-encoded.vectors)

    status, said = served(Mirrored(qwen_encoder.engine))
    assert (status, "expected at least 0.999" in said) == (2, True)
    status, said = served(Recording(qwen_encoder.engine))
    assert status == 0
    assert re.search(r"^an engine: 4 inputs .* cosine to this process's vectors at least", said, re.MULTILINE)
    status, said = served(Recording(qwen_encoder.engine))
    assert (status, said) == (0, "")
