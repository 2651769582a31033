"""The recipe of the listwise adapter that comes with the package, as data, and the command that follows it.

    python -m e2rank_integrations.training.recipe --data ../shared/data --out e2rank_integrations/embedded

Documents and queries keep the vectors of all-MiniLM-L6-v2. What was tried before is in docs/embedded-profile.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.bundle import write_bundle
from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.evaluation.collection import load_collection
from e2rank_integrations.evaluation.subset import drawn_by_hash
from e2rank_integrations.profiles import EMBEDDED
from e2rank_integrations.training.card import Card, write_card
from e2rank_integrations.training.settings import TrainSettings
from e2rank_integrations.training.sources import Mined, Mining, mined_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.evaluation.collection import Collection


@dataclass(frozen=True, slots=True)
class Source:
    """What is taken of one data set.

    Attributes:
        folder: In BEIR's layout, with the judgements `qrels/train.tsv`.
        queries: At most so many.
        terms: Origin and licence of its texts.
        documents: So many, those whose ids have the smallest SHA-256; None for all.
    """

    folder: str
    queries: int
    terms: str
    documents: int | None = None


SOURCES = (
    Source("scifact", 809, "SciFact: claims CC BY 4.0, abstracts ODC-By 1.0 (allenai/scifact)"),
    Source("medquad", 600, "MedQuAD: CC BY 4.0 (abachaa/MedQuAD)", documents=5000),
    Source("train/stackex", 90, "six Stack Exchange sites: CC BY-SA, attribution by answer URL"),
    Source("train/openstax", 90, "five OpenStax textbooks: CC BY 4.0"),
    Source("train/covidqa", 90, "COVID-QA: articles under CC BY alone"),
    Source("train/docs-db", 90, "PostgreSQL manual (PostgreSQL licence) and SQLite's (public domain)"),
    Source("train/docs-python", 90, "Python's documentation (PSF licence)"),
    Source("train/docs-prog", 90, "Node (MIT), Rust books (MIT or Apache-2.0), httpd and Erlang (Apache-2.0)"),
    Source("train/docs-desktop", 90, "Debian handbook and GNOME help (CC BY-SA 3.0)"),
)

SETTINGS = TrainSettings(
    objective="listwise",
    batch_size=16,
    learning_rate=2e-4,
    warmup=0.05,
    infonce_weight=1.0,
    ranknet_weight=2.0,
    query_temperature=0.1,
    listwise_temperature=0.1,
    blend=0.5,
    num_input_docs=(2, 4),
    shuffle=0.5,
    lora_rank=32,
    save_steps=100,
)

PROMPT_TOKENS = 256
"""Cap of a prompt while training; a longer one costs more, and less of it is seen."""


def base_encoder() -> E2RankEncoder:
    """The embedded default without its adapter, in float32 on the CPU."""
    encoder = E2RankEncoder("embedded", listwise_adapter=None, device="cpu", dtype="float32")
    caps = replace(encoder.profile.caps, prompt=PROMPT_TOKENS, listed=PROMPT_TOKENS)
    return replace(encoder, profile=replace(encoder.profile, caps=caps))


def mined(folder: Path, source: Source, encoder: E2RankEncoder, seed: int, cache: Path) -> Mined:
    """Mine the slates of one source."""
    collection = _some_documents(load_collection(folder / source.folder, "train"), source.documents)
    how = Mining(size=16, order="both", limit=source.queries, seed=seed, cache=cache)
    return mined_from(collection, encoder, how, progress=True)


def _some_documents(collection: Collection, count: int | None) -> Collection:
    if count is None:
        return collection
    drawn = drawn_by_hash(collection.documents, count)
    return replace(collection, documents={key: collection.documents[key] for key in drawn})


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the listwise adapter of the embedded default."""
    from e2rank_integrations.training.trainer import train

    parser = argparse.ArgumentParser(prog="python -m e2rank_integrations.training.recipe", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sources")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(".figures"), help="where document vectors are kept")
    parser.add_argument("--resume", action="store_true", help="go on where a killed training stopped")
    options = parser.parse_args(arguments)
    encoder = base_encoder()
    found = [mined(options.data, source, encoder, options.seed, options.cache) for source in SOURCES]
    slates = [slate for part in found for slate in part.slates]
    corpora = {part.slates[0].source: part.corpus for part in found}
    settings = replace(SETTINGS, seed=options.seed)
    training = train(slates, encoder, options.out, settings, corpora=corpora, resume=options.resume)
    write_bundle(options.out, EMBEDDED, base_model=encoder.model, base_weights=encoder.checkpoint.digest)
    card = Card(licence="apache-2.0", data=tuple(source.terms for source in SOURCES), command=_command(options.seed))
    write_card(options.out, replace(encoder, profile=EMBEDDED), settings, slates, card)
    sys.stdout.write(f"{training.steps} steps over {training.slates} slates; the result is in {options.out}\n")


def _command(seed: int) -> str:
    return f"make adapter SEED={seed}"


if __name__ == "__main__":
    main()
