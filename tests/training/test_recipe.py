"""The recipe of the shipped adapter, followed on a handful of passages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.profiles import EMBEDDED
from e2rank_integrations.training import recipe
from tests.support.collections import write_beir
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_recipe_makes_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folders that it names to an adapter with the shipped profile and a card with every source's terms."""
    documents = dict(list(PASSAGES.items())[:4])
    for source in recipe.SOURCES:
        judged = {"q": {next(iter(documents)): 1}}
        write_beir(tmp_path / source.folder, documents, {"q": QUERIES[0]}, judged, "train")
    monkeypatch.setattr(recipe, "SETTINGS", replace(recipe.SETTINGS, batch_size=2, lora_rank=2))
    out = tmp_path / "out"
    recipe.main(["--data", str(tmp_path), "--out", str(out), "--cache", str(tmp_path / "cache")])
    trained = E2RankEncoder(str(out), device="cpu", dtype="float32")
    assert trained.profile == EMBEDDED
    texts = list(documents.values())
    np.testing.assert_array_equal(trained.encode_documents(texts), recipe.base_encoder().encode_documents(texts))
    card = (out / "README.md").read_text(encoding="utf-8")
    assert all(source.terms in card for source in recipe.SOURCES)


def test_documents_are_drawn_by_their_ids_alone() -> None:
    """The sample of a large corpus is the same wherever and whenever it is drawn."""
    collection = recipe.load_collection(recipe_folder())
    some = recipe._some_documents(collection, 50)
    assert len(some.documents) == 50
    assert list(some.documents) == [key for key in collection.documents if key in some.documents]
    assert recipe._some_documents(collection, None) is collection


def recipe_folder() -> Path:
    from e2rank_integrations.evaluation.demo import DEMO_FOLDER

    return DEMO_FOLDER
