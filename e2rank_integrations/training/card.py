"""The model card of a trained folder: data, licence, settings, figures."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.checkpoint import EMBEDDED
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, PRF, RRF, SEARCH_AGAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.evaluation.report import Report
    from e2rank_integrations.training.settings import TrainSettings
    from e2rank_integrations.training.slates import TrainingSlate

CARD = "README.md"

_USE = """```python
from e2rank_integrations import E2RankEncoder

encoder = E2RankEncoder("path/to/{name}")
```"""
_KINDS = {
    "retrieval": "All weights that learn are the retriever's (the paper's stage I).",
    "joint": "Retrieval and listwise reranking in one model (the paper's stage II). Its vectors are not the base "
    "model's: an index has to be made anew.",
    "listwise": "A LoRA adapter that is switched on for listwise prompts alone. The vectors of documents and queries "
    "stay the base model's, so an index of that model keeps working.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a card says besides what the training itself knows.

    Attributes:
        licence: Of the result, as an SPDX identifier.
        data: Where the texts come from and under which terms, a line each.
        command: The command that made it, if one did.
        reports: Figures, before and after: pairs of the same comparison with the base model and with the result.
    """

    licence: str = "other"
    data: tuple[str, ...] = ()
    command: str = ""
    reports: tuple[tuple[Report, Report], ...] = ()


def write_card(
    folder: Path, encoder: E2RankEncoder, settings: TrainSettings, slates: Sequence[TrainingSlate], card: Card
) -> None:
    """Write a trained folder's README.md."""
    sections = [
        _head(encoder, card),
        f"# {folder.resolve().name}\n\nBase model: `{_base(encoder)}`. {_KINDS[settings.objective]}",
        _USE.format(name=folder.resolve().name),
        _data(slates, card),
        _settings(encoder, settings, card),
        *(_figures(before, after) for before, after in card.reports),
    ]
    (folder / CARD).write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _head(encoder: E2RankEncoder, card: Card) -> str:
    fields = {"license": card.licence, "base_model": _base(encoder), "library_name": "e2rank-integrations"}
    rows = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(["---", *rows, "pipeline_tag: text-ranking", "---"])


def _base(encoder: E2RankEncoder) -> str:
    """The base model's name on the hub; of a folder its name alone, since its path says nothing elsewhere."""
    name = encoder.checkpoint.name
    if name == EMBEDDED:
        return "sentence-transformers/all-MiniLM-L6-v2"
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def _data(slates: Sequence[TrainingSlate], card: Card) -> str:
    counts = Counter(slate.source or "unnamed" for slate in slates)
    rows = [f"| {source} | {count:,} |" for source, count in counts.items()]
    terms = [f"- {line}" for line in card.data] or ["The terms of the texts were not given."]
    return "\n".join(["## Data", "", "| source | slates |", "|---|---|", *rows, "", *terms])


def _settings(encoder: E2RankEncoder, settings: TrainSettings, card: Card) -> str:
    profile = encoder.profile
    made = [f"Made by\n\n```bash\n{card.command}\n```\n"] if card.command else []
    prompt = (
        f"For reranking: {profile.num_input_docs} documents in the prompt, query weight {profile.query_weight:g}, "
        f"prompts of at most {profile.caps.prompt} tokens."
    )
    rows = [f"| {name} | {value} |" for name, value in asdict(settings).items()]
    return "\n".join(["## Settings", "", *made, prompt, "", "| setting | value |", "|---|---|", *rows])


def _figures(before: Report, after: Report) -> str:
    """A comparison's table: the controls, and the listwise figures with the base model and with the result."""
    measure = after.rows[0].scores.measure
    first = after.rows[0].name
    lines = [f"## Figures: {after.collection}", "", f"{measure}, {after.queries} queries.", ""]
    lines += ["| method | before | after |", "|---|---|---|"]
    for name in (first, COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF):
        found = [[row.scores.mean for row in report.rows if row.name == name] for report in (before, after)]
        if all(found):
            lines.append(f"| {name} | {found[0][0]:.4f} | {found[1][0]:.4f} |")
    return "\n".join(lines)
