"""What a model's name stands for: its profile, and for a trained folder the model that it was trained on.

`e2rank train` writes `e2rank.json` beside what it trained. A folder with that file is used like any other model:
`E2RankEncoder("path/to/folder")`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2rank_integrations.errors import CheckpointError, ProfileError
from e2rank_integrations.profiles import E2RANK, EMBEDDED, Caps, ListwiseTemplate, Profile, TaskInstructions

FILE = "e2rank.json"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
"""The listwise adapter that comes with the package, and its card."""

_PARTS: dict[str, type] = {"template": ListwiseTemplate, "tasks": TaskInstructions, "caps": Caps}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A model's profile and what it is made of.

    Attributes:
        profile: What the checkpoint wants.
        base_model: The model whose weights are used; None where the folder holds its own.
        base_revision: Its branch, tag or commit on the hub, or None.
        base_weights: Digest of those weights' files, see `checkpoint.folder_digest`; None for any.
        listwise_adapter: Folder of the adapter that is switched on for listwise prompts alone, or None.
    """

    profile: Profile
    base_model: str | None = None
    base_revision: str | None = None
    base_weights: str | None = None
    listwise_adapter: str | None = None


def bundle_of(model: str) -> Bundle:
    """What a model's name stands for: E2Rank's profile, unless it is `embedded` or a trained folder.

    Raises:
        CheckpointError: the folder's `e2rank.json` is not what this version writes.
    """
    if model == EMBEDDED.name:
        return Bundle(profile=EMBEDDED, listwise_adapter=str(EMBEDDED_FOLDER))
    file = Path(model).expanduser() / FILE
    return read_bundle(file.parent) if file.is_file() else Bundle(profile=E2RANK)


def write_bundle(
    folder: Path,
    profile: Profile,
    *,
    base_model: str | None = None,
    base_revision: str | None = None,
    base_weights: str | None = None,
) -> None:
    """Write a trained folder's `e2rank.json`; with a base model, the folder holds a listwise adapter for it."""
    base = {"base_model": base_model, "base_revision": base_revision, "base_weights": base_weights}
    row = {**base, "profile": asdict(profile)}
    (folder / FILE).write_text(json.dumps(row, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_bundle(folder: Path) -> Bundle:
    """Read what `write_bundle` wrote.

    Raises:
        CheckpointError: it is not what this version writes.
    """
    try:
        row = json.loads((folder / FILE).read_text(encoding="utf-8"))
        base, weights = (_name(row[key]) for key in ("base_model", "base_weights"))
        revision = _name(row.get("base_revision"))
        return Bundle(
            profile=_profile(row["profile"]),
            base_model=base,
            base_revision=revision,
            base_weights=weights,
            listwise_adapter=None if base is None else str(folder.resolve()),
        )
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError, ProfileError) as error:
        raise CheckpointError(
            f"{folder / FILE} is not what this version writes ({type(error).__name__}); train again, or give the "
            f"profile and the adapter's folder yourself"
        ) from error


def _name(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def _profile(row: dict[str, Any]) -> Profile:
    parts = {name: kind(**row[name]) for name, kind in _PARTS.items()}
    return Profile(**{**row, **parts})
