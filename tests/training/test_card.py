"""The model card says what a result is, what it was made of, and what it gains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.compare import compare
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, PRF, RRF, SEARCH_AGAIN
from e2rank_integrations.evaluation.report import Report
from e2rank_integrations.reranker import Reranker
from e2rank_integrations.training.card import CARD, Card, write_card
from e2rank_integrations.training.settings import TrainSettings
from e2rank_integrations.training.slates import TrainingSlate

QUERIES = {"1": "what do cats eat", "2": "which dogs eat meat", "3": "owls"}
QRELS = {"1": {"a": 1}, "2": {"b": 1}, "3": {"c": 1, "a": 1}}
SETTINGS = TrainSettings(objective="listwise", lora_rank=4, seed=7)


@pytest.fixture(scope="module")
def reports(tiny: E2RankEncoder) -> tuple[Report, Report]:
    """Two comparisons on three documents, by two query weights."""
    documents = {"a": "cats eat fish", "b": "dogs eat meat", "c": "owls eat mice"}
    collection = Collection("pets test", documents, QUERIES, QRELS)
    before, after = (compare(collection, Reranker(tiny, query_weight=weight), progress=False) for weight in (1.0, 0.0))
    return before, after


def written(folder: Path, encoder: E2RankEncoder, slates: list[TrainingSlate], card: Card) -> str:
    folder.mkdir(exist_ok=True)
    write_card(folder, encoder, SETTINGS, slates, card)
    return (folder / CARD).read_text(encoding="utf-8")


def test_it_holds_data_licence_settings_command_and_figures(
    tmp_path: Path, tiny: E2RankEncoder, slates: list[TrainingSlate], reports: tuple[Report, Report]
) -> None:
    """Each source with its number of slates, each term, each setting, and each method before and after."""
    card = Card(
        licence="apache-2.0", data=("animals: invented, CC0", "metals: invented"), command="e2rank train --seed 7",
        reports=(reports,),
    )  # fmt: skip
    text = written(tmp_path / "result", tiny, slates, card)
    assert 'license: "apache-2.0"' in text
    assert "| animals | 6 |" in text
    assert "| metals | 6 |" in text
    assert "- animals: invented, CC0" in text
    assert "```bash\ne2rank train --seed 7\n```" in text
    assert "| lora_rank | 4 |" in text
    assert "| seed | 7 |" in text
    assert f"query weight {tiny.profile.query_weight:g}" in text
    assert "pets test" in text
    for name in (COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF):
        scores = [report[name].scores.mean for report in reports]
        assert f"| {name} | {scores[0]:.4f} | {scores[1]:.4f} |" in text


def test_its_head_is_what_the_hub_reads(tmp_path: Path, tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """YAML between two lines of dashes, whatever the licence is called."""
    import yaml

    text = written(tmp_path / "result", tiny, slates, Card(licence='mine: "all"'))
    _, head, _ = text.split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields["license"] == 'mine: "all"'
    assert fields["pipeline_tag"] == "text-ranking"


@pytest.mark.parametrize(
    ("objective", "words"),
    [("listwise", "an index of that model keeps working"), ("joint", "an index has to be made anew"),
     ("retrieval", "stage I")],
)  # fmt: skip
def test_it_says_whether_an_index_goes_on_working(
    tmp_path: Path, tiny: E2RankEncoder, slates: list[TrainingSlate], objective: str, words: str
) -> None:
    """The one thing that the owner of an index must know."""
    write_card(tmp_path, tiny, replace(SETTINGS, objective=objective), slates, Card())
    assert words in (tmp_path / CARD).read_text()


def test_it_names_the_base_model_and_no_folder_of_this_machine(
    tmp_path: Path, tiny: E2RankEncoder, slates: list[TrainingSlate]
) -> None:
    """A hub name as it is, the embedded default by its name there, and of a folder its name alone."""
    text = written(tmp_path / "result", tiny, slates, Card())
    assert str(tiny.checkpoint.folder.parent) not in text
    assert str(tmp_path) not in text
    assert f"Base model: `{tiny.checkpoint.folder.name}`" in text
    embedded = written(tmp_path / "result", E2RankEncoder.embedded(), slates, Card())
    assert 'base_model: "sentence-transformers/all-MiniLM-L6-v2"' in embedded


def test_it_owns_up_to_what_was_not_given(tmp_path: Path, tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """Neither figures nor terms are made up, and slates without a source are counted all the same."""
    text = written(tmp_path, tiny, [replace(slates[0], source="")], Card())
    assert "terms of the texts were not given" in text
    assert "| unnamed | 1 |" in text
    assert "Figures" not in text
