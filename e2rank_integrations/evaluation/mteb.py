"""MTEB's tasks with this package's encoder: queries with the task's instruction, documents as they are.

    python -m e2rank_integrations.evaluation.mteb --model Alibaba-NLP/E2Rank-0.6B --benchmark "MTEB(eng, v1)"
    python -m e2rank_integrations.evaluation.mteb --model Alibaba-NLP/E2Rank-0.6B --tasks SciFact NFCorpus --out results

Needs the package `mteb`, and its tasks need their data, which it downloads.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from e2rank_integrations.encoder import DEFAULT_MODEL, E2RankEncoder
from e2rank_integrations.errors import InputError, MissingExtraError
from e2rank_integrations.profiles import task_instructions

try:
    import mteb
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ModuleNotFoundError as error:
    if error.name != "mteb":
        raise
    raise MissingExtraError("mteb") from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from e2rank_integrations.values import Matrix

REFERENCE_TASKS: Mapping[str, str] = {
    "SciFact": "scifact",
    "NFCorpus": "nfc",
    "TRECCOVID": "covid",
    "Touche2020": "touche",
    "Touche2020Retrieval.v3": "touche",
    "DBPedia": "dbpedia",
    "MSMARCO": "dl19",
}
"""MTEB's name of a task → the reference's, whose query instruction is used. BRIGHT's are found by their subset."""


class MTEBEncoder(AbsEncoder):
    """An `E2RankEncoder` as `mteb.evaluate` takes it.

    A query, and a text that is neither query nor document (of a classification task, say), gets an instruction: the
    reference's for the tasks that it names, else MTEB's own for the task. A document gets none.

    Args:
        encoder: The model.
    """

    def __init__(self, encoder: E2RankEncoder) -> None:
        self.encoder = encoder
        self.mteb_model_meta = _meta(encoder)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,  # noqa: ANN401 - mteb's TaskMetadata
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> Matrix:
        """Embed batches of texts.

        Args:
            inputs: Batches with a list under `text`.
            task_metadata: The task.
            hf_split: Not looked at.
            hf_subset: Part of the task, such as a domain of BRIGHT.
            prompt_type: What the texts are.
            kwargs: Not looked at: batches are the engine's own.

        Returns:
            Unit rows, shape (texts, width), float32.
        """
        del hf_split, kwargs
        texts = [text for batch in inputs for text in batch["text"]]
        if prompt_type == PromptType.document:
            return self.encoder.encode_documents(texts)
        profile = self.encoder.profile
        tasks = replace(profile.tasks, query=self.instruction(task_metadata, hf_subset, prompt_type))
        return replace(self.encoder, profile=replace(profile, tasks=tasks)).encode_queries(texts)

    def instruction(self, task_metadata: Any, hf_subset: str, prompt_type: PromptType | None) -> str:  # noqa: ANN401
        """The instruction of a task's queries."""
        name = _reference_task(task_metadata.name, hf_subset)
        if name is not None:
            return task_instructions()[name].query
        found = self.get_instruction(task_metadata, prompt_type)
        return str(next(iter(found.values()))) if isinstance(found, dict) else str(found)


def _reference_task(name: str, subset: str) -> str | None:
    """The reference's name of a task, if it has one."""
    if name in REFERENCE_TASKS:
        return REFERENCE_TASKS[name]
    if not name.lower().startswith("bright"):
        return None
    domains = {key.removeprefix("bright-"): key for key in task_instructions() if key.startswith("bright-")}
    plain = {domain.replace("_", ""): key for domain, key in domains.items()}
    domain = name.lower().removeprefix("bright").removesuffix("retrieval").removesuffix("long")
    return domains.get(subset) or plain.get(domain)


def _meta(encoder: E2RankEncoder) -> ModelMeta:
    """What MTEB files its results under. A folder's path is no name on a hub, so its last part is used."""
    name = encoder.model if encoder.model.count("/") == 1 else f"local/{encoder.model.rstrip('/').rpartition('/')[2]}"
    facts = {
        "name": name,
        "revision": encoder.revision or encoder.checkpoint.digest[:12],
        "embed_dim": encoder.width,
        "max_tokens": encoder.writer.document_cap,
        "similarity_fn_name": ScoringFunction.COSINE,
        "use_instructions": "{task}" in encoder.profile.query_format,
    }
    return ModelMeta.create_empty(overwrites=facts)


def chosen_tasks(names: Sequence[str] | None, benchmark: str | None) -> list[Any]:
    """Tasks by name, and those of a benchmark.

    Raises:
        InputError: MTEB has no such name.
    """
    try:
        named = [] if not names else list(mteb.get_tasks(tasks=list(names)))
        return named if benchmark is None else [*named, *mteb.get_benchmark(benchmark).tasks]
    except (KeyError, ValueError) as error:
        wanted = ", ".join([*(names or ()), *([] if benchmark is None else [benchmark])])
        raise InputError(f"tasks: MTEB lacks one of {wanted}; `mteb available-tasks` lists what it has") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run MTEB's tasks and print each one's main score."""
    parser = argparse.ArgumentParser(prog="python -m e2rank_integrations.evaluation.mteb", description=main.__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name on the hub, folder, or `embedded`")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--tasks", nargs="+", metavar="NAME", help="such as SciFact")
    chosen.add_argument("--benchmark", metavar="NAME", help="such as 'MTEB(eng, v1)' or 'BRIGHT'")
    parser.add_argument("--out", metavar="DIR", help="folder for the results, in MTEB's layout (default: MTEB's cache)")
    options = parser.parse_args(arguments)
    try:
        tasks = chosen_tasks(options.tasks, options.benchmark)
    except InputError as error:
        parser.error(str(error))
    model: Any = MTEBEncoder(E2RankEncoder(options.model))
    results = mteb.evaluate(model, tasks, cache=mteb.ResultCache(options.out))
    for result in results.task_results:
        sys.stdout.write(f"{result.task_name}\t{result.get_score():.5f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
