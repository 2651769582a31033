"""The saved states of a training: which is the last whole one, and whose they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.training.settings import TrainSettings
    from e2rank_integrations.training.slates import TrainingSlate

STATES = "states"
"""Folder of the saved states, within the result's; removed when the training is done."""

_WHOSE = "training.json"
_WRITTEN_LAST = "trainer_state.json"


def expect_free(out: Path) -> None:
    """Refuse a folder that holds something, a saved state among it.

    Of several processes one may have made the folder of the states already, which is therefore nothing.

    Raises:
        InputError: it does.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the result, found a file")
    others = [path for path in out.iterdir() if path.name != STATES] if out.exists() else []
    if others or any((out / STATES).glob("checkpoint-*")):
        raise InputError(f"{out}: expected an empty folder; give another one, or resume the training that it holds")


def last_state(out: Path) -> Path:
    """The last state that was written to its end.

    Raises:
        InputError: there is none.
    """
    whole = [path.parent for path in (out / STATES).glob(f"checkpoint-*/{_WRITTEN_LAST}")]
    if not whole:
        raise InputError(f"{out}: there is no saved state to resume from; leave `resume` out")
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]))


def identity(slates: Sequence[TrainingSlate], encoder: E2RankEncoder, settings: TrainSettings) -> dict[str, Any]:
    """What decides each step: slates, base model, profile, and all settings but how often a state is saved."""
    digest = hashlib.sha256()
    for slate in slates:
        row = [slate.query, slate.documents, slate.ranking, slate.positives, slate.source]
        digest.update(json.dumps(row).encode())
    given = {name: value for name, value in asdict(settings).items() if name != "save_steps"}
    others = {"slates": digest.hexdigest(), "base model": encoder.checkpoint.digest, "profile": asdict(encoder.profile)}
    return dict(json.loads(json.dumps({**given, **others})))


def remember(out: Path, training: dict[str, Any]) -> None:
    """Write beside the states whose they are."""
    (out / STATES / _WHOSE).write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")


def expect_same(out: Path, training: dict[str, Any]) -> None:
    """Refuse to resume another training than the one whose states are there.

    Raises:
        InputError: something that decides the steps differs.
    """
    try:
        begun = dict(json.loads((out / STATES / _WHOSE).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        raise InputError(f"{out}: nothing says whose the saved states are; train anew in an empty folder") from None
    other = [name for name, value in training.items() if begun.get(name) != value]
    if other:
        raise InputError(f"{out}: the saved states are of a training with other {', '.join(other)}; give those again")
