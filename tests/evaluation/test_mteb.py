"""MTEB's own runner over this package's encoder, offline, on the packaged SciFact passages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import InputError, MissingExtraError
from e2rank_integrations.evaluation import subset
from e2rank_integrations.evaluation.collection import Collection, load_collection
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.measures import score
from e2rank_integrations.evaluation.runs import Run
from e2rank_integrations.profiles import QUERY_TASK, task_instructions
from tests.support.reranking import watched

mteb = pytest.importorskip("mteb", reason="mteb is not installed")
from e2rank_integrations.evaluation.mteb import REFERENCE_TASKS, MTEBEncoder, chosen_tasks, main  # noqa: E402

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

    from e2rank_integrations.evaluation.first_stage import VectorIndex

SCIFACT = Path(subset.__file__).parent / "scifact_subset"
QUERIES = 15
"""Of the packaged hundred."""


@pytest.fixture(scope="module")
def collection() -> Collection:
    """Some of the packaged claims, and the abstracts that are judged for them or stand near by in the corpus."""
    whole = load_collection(SCIFACT)
    queries = dict(list(whole.queries.items())[:QUERIES])
    qrels = {query: whole.qrels[query] for query in queries}
    judged = {document for grades in qrels.values() for document in grades}
    kept = [key for place, key in enumerate(whole.documents) if key in judged or place % 20 == 0]
    return Collection("subset", {key: whole.documents[key] for key in kept}, queries, qrels)


@pytest.fixture(scope="module")
def index(collection: Collection, embedded_encoder: E2RankEncoder) -> VectorIndex:
    return embed_documents(collection, embedded_encoder)


def task_of(collection: Collection, kind: str = "Retrieval", listed: dict[str, list[str]] | None = None) -> AbsTask:
    """A task of MTEB's shape over a collection."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Subset(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="PackagedSciFact",
            description="The packaged SciFact passages.",
            dataset={"path": "none", "revision": "none"},
            type=kind,
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            reference=None, date=None, domains=None, task_subtypes=None, license=None, annotations_creators=None,
            dialect=None, sample_creation=None, bibtex_citation=None,
            prompt={"query": "Given a claim, find what speaks for or against it"},
        )  # fmt: skip

        def load_data(self, *arguments: Any, **options: Any) -> None:
            rows = {
                "corpus": Dataset.from_list([{"id": key, "text": text} for key, text in collection.documents.items()]),
                "queries": Dataset.from_list([{"id": key, "text": text} for key, text in collection.queries.items()]),
                "relevant_docs": {key: dict(grades) for key, grades in collection.qrels.items()},
                "top_ranked": listed,
            }
            self.dataset, self.data_loaded = {"default": {"test": rows}}, True

    return Subset()


def measured(encoder: E2RankEncoder, task: AbsTask) -> float:
    """MTEB's own nDCG@10."""
    (result,) = mteb.evaluate(MTEBEncoder(encoder), task, cache=None, show_progress_bar=False).task_results
    return result.get_score()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_mteb_measures_what_our_dense_retrieval_does(
    collection: Collection, index: VectorIndex, embedded_encoder: E2RankEncoder
):
    """nDCG@10 of the same model over the same texts, by two implementations, to 1e-4."""
    vectors = embedded_encoder.encode_queries(list(collection.queries.values()))
    hits = {key: index.search(vector) for key, vector in zip(collection.queries, vectors, strict=True)}
    ours = score(Run(hits), collection.qrels).mean
    assert 0.3 < ours < 0.99
    assert measured(embedded_encoder, task_of(collection)) == pytest.approx(ours, abs=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_mteb_s_reranking_takes_it_too(collection: Collection, index: VectorIndex, qwen_encoder: E2RankEncoder):
    """Over given candidates the tasks of that kind compare the same vectors."""
    few = dict(list(collection.queries.items())[:4])
    listed = {key: [*collection.qrels[key], *list(collection.documents)[:6]] for key in few}
    known = {document for documents in listed.values() for document in documents} & set(collection.documents)
    listed = {
        key: [document for document in dict.fromkeys(found) if document in known] for key, found in listed.items()
    }
    small = Collection(
        "small",
        {key: collection.documents[key] for key in collection.documents if key in known},
        few,
        {key: collection.qrels[key] for key in few},
    )
    encoder, recording = watched(qwen_encoder)
    assert 0 < measured(encoder, task_of(small, "Reranking", listed)) <= 1
    assert (recording.usage.prompts, recording.usage.queries) == (0, 4)


# Instructions


def described(name: str, prompt: Any = None) -> Any:
    return SimpleNamespace(name=name, type="Retrieval", prompt=prompt)


def encoded(model: MTEBEncoder, texts: list[str], **options: Any) -> Any:
    batches = [{"text": texts[start : start + 2]} for start in range(0, len(texts), 2)]
    options = {"task_metadata": described("SciFact"), "hf_subset": "default", **options}
    return model.encode(batches, hf_split="test", batch_size=2, **options)


def test_queries_carry_the_task_s_instruction_and_documents_none(qwen_encoder: E2RankEncoder):
    """As the reference writes both; one row a text, in the order given, whatever the batches."""
    model, texts = MTEBEncoder(qwen_encoder), ["one", "two three", "four"]
    found = encoded(model, texts, prompt_type=mteb.types.PromptType.query)
    scifact = qwen_encoder.profile.for_task("scifact")
    expected = E2RankEncoder(qwen_encoder.model, profile=scifact, device="cpu", dtype="float32").encode_queries(texts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(found - qwen_encoder.encode_queries(texts)).max() > 1e-3
    found = encoded(model, texts, prompt_type=mteb.types.PromptType.document)
    np.testing.assert_allclose(found, qwen_encoder.encode_documents(texts), rtol=0, atol=1e-5)


def test_a_text_that_is_neither_carries_the_instruction(qwen_encoder: E2RankEncoder):
    """Classification, clustering and similarity have no documents: each text is a query to the model."""
    model = MTEBEncoder(qwen_encoder)
    queries = encoded(model, ["a", "b"], prompt_type=mteb.types.PromptType.query)
    np.testing.assert_array_equal(encoded(model, ["a", "b"], prompt_type=None), queries)


@pytest.mark.parametrize(
    ("name", "subset", "expected"),
    [
        ("SciFact", "default", "scifact"), ("NFCorpus", "default", "nfc"), ("TRECCOVID", "default", "covid"),
        ("Touche2020Retrieval.v3", "default", "touche"), ("DBPedia", "default", "dbpedia"),
        ("BrightRetrieval", "biology", "bright-biology"),
        ("BrightLongRetrieval", "sustainable_living", "bright-sustainable_living"),
        ("BrightTheoremQAQuestionsRetrieval", "default", "bright-theoremqa_questions"),
        ("BrightEarthScienceRetrieval", "default", "bright-earth_science"),
        ("BrightPonyLongRetrieval", "default", "bright-pony"),
    ],
)  # fmt: skip
def test_the_reference_s_instructions_go_before_mteb_s(
    qwen_encoder: E2RankEncoder, name: str, subset: str, expected: str
):
    """For each task that the reference names; MTEB's prompt for it is not looked at."""
    metadata = described(name, {"query": "MTEB's own"})
    found = MTEBEncoder(qwen_encoder).instruction(metadata, subset, mteb.types.PromptType.query)
    assert found == task_instructions()[expected].query


def test_the_mapping_names_what_there_is():
    """Each name on either side exists."""
    assert set(REFERENCE_TASKS.values()) <= set(task_instructions())
    assert {task.metadata.name for task in mteb.get_tasks(tasks=list(REFERENCE_TASKS))} == set(REFERENCE_TASKS)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("Find it", "Find it"), ({"query": "Find that"}, "Find that")],
)
@pytest.mark.parametrize("kind", ["query", None])
def test_other_tasks_carry_mteb_s_instruction(
    qwen_encoder: E2RankEncoder, prompt: Any, expected: str, kind: str | None
):
    """A string for all texts, or one for queries."""
    prompt_type = None if kind is None else mteb.types.PromptType(kind)
    found = MTEBEncoder(qwen_encoder).instruction(described("FiQA2018", prompt), "default", prompt_type)
    assert found == expected != QUERY_TASK


def test_a_task_without_a_prompt_has_that_of_its_kind(qwen_encoder: E2RankEncoder):
    """As MTEB words it."""
    (task,) = mteb.get_tasks(tasks=["STSBenchmark"])
    assert "semantically similar" in MTEBEncoder(qwen_encoder).instruction(task.metadata, "default", None)


# What MTEB files the results under


def test_results_are_filed_under_the_model(qwen_encoder: E2RankEncoder, embedded_encoder: E2RankEncoder):
    """A name of two parts and the revision; without one, a digest of the weights, so that retrained ones are not
    taken for the same."""
    meta = MTEBEncoder(embedded_encoder).mteb_model_meta
    assert (meta.name, meta.revision) == ("local/embedded", embedded_encoder.checkpoint.digest[:12])
    assert (meta.embed_dim, meta.max_tokens, meta.use_instructions) == (384, 256, False)
    local = MTEBEncoder(qwen_encoder).mteb_model_meta
    assert local.name == f"local/{Path(qwen_encoder.model).name}"
    assert local.use_instructions


# The command


def test_tasks_and_benchmarks_by_name():
    """MTEB's names; an unknown one is an error that says where to look."""
    assert [task.metadata.name for task in chosen_tasks(["SciFact"], None)] == ["SciFact"]
    assert len(chosen_tasks(None, "MTEB(eng, v1)")) > 50
    for names, benchmark in ((["NoSuchTask"], None), (None, "NoSuchBenchmark")):
        with pytest.raises(InputError, match=r"NoSuch.*mteb available-tasks"):
            chosen_tasks(names, benchmark)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_the_command_prints_each_score_and_keeps_the_results(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """From the model's name to the score, with the data that MTEB would download."""
    few = dict(list(collection.queries.items())[:3])
    qrels = {key: collection.qrels[key] for key in few}
    judged = {document for grades in qrels.values() for document in grades}
    small = Collection("small", {key: collection.documents[key] for key in judged}, few, qrels)
    monkeypatch.setattr("e2rank_integrations.evaluation.mteb.chosen_tasks", lambda *_: [task_of(small)])
    assert main(["--model", "embedded", "--tasks", "PackagedSciFact", "--out", str(tmp_path)]) == 0
    name, value = capsys.readouterr().out.split()
    assert name == "PackagedSciFact"
    assert 0 < float(value) <= 1
    assert [path.name for path in tmp_path.rglob("PackagedSciFact.json")] == ["PackagedSciFact.json"]


def test_the_command_refuses_what_mteb_lacks(capsys: pytest.CaptureFixture[str]):
    """With the exit status of a wrong option, before a model is loaded."""
    for line in (["--tasks", "NoSuchTask"], [], ["--tasks", "SciFact", "--benchmark", "BRIGHT"]):
        with pytest.raises(SystemExit) as caught:
            main(line)
        assert caught.value.code == 2
    assert "NoSuchTask" in capsys.readouterr().err


def test_without_mteb_the_package_is_named(monkeypatch: pytest.MonkeyPatch):
    """On import of the module, as the adapters of the frameworks do."""
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "mteb", None)
    monkeypatch.delitem(sys.modules, "e2rank_integrations.evaluation.mteb")
    with pytest.raises(MissingExtraError, match="pip install mteb"):
        importlib.import_module("e2rank_integrations.evaluation.mteb")
