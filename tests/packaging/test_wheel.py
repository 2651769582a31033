"""The built wheel in an empty environment, with one extra at a time; run by `make test-wheel`."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from transformers import Qwen3Model

from tests.packaging.environments import Environment, base, checked, make
from tests.packaging.examples import ROOT, Example, examples

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.wheel

EXTRAS = (
    *("", "langchain", "llama-index", "chroma", "embedded", "evaluation", "adapter", "train", "remote", "pgvector"),
    "index",
)
# What the docs tell people to install besides.
BESIDE = {"pgvector": ("psycopg[binary]",)}
# Extras that hold others. peft brings accelerate, and with it all that the trainer itself needs; mining and plots need
# the rest of `train`. LangChain's tracing and Chroma's client speak HTTP and JSON by the same packages as `remote`.
HOLDS = {
    "adapter": {"train"},
    "chroma": {"remote"},
    "embedded": {"adapter", "train"},
    "index": {"chroma", "remote"},
    "langchain": {"remote"},
    "train": {"adapter", "evaluation"},
}
PACKAGE = ROOT / "e2rank_integrations"
EXAMPLES = examples(ROOT / "README.md")
# What an example needs, by the start of the modules that it imports.
HOMES = {
    "chromadb": "chroma",
    "e2rank_integrations.demo": "demo",
    "e2rank_integrations.evaluation": "evaluation",
    "e2rank_integrations.langchain": "langchain",
    "e2rank_integrations.llama_index": "llama-index",
    "e2rank_integrations.stores.chroma": "chroma",
    "langchain_core": "langchain",
    "llama_index.core": "llama-index",
}

# A use of each extra, in which `MODEL` is a folder with a small Qwen3 and `ADAPTER` one with a LoRA adapter.
USES = {
    "": """
from e2rank_integrations import E2RankEncoder, Reranker
ranking = Reranker(E2RankEncoder(MODEL, device="cpu"), top_n=1).rank("what?", ["this", "that"])
assert len(ranking) == 1 and ranking.plan.documents_used == 2, ranking
""",
    "langchain": """
import sys
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
assert "torch" not in sys.modules and "transformers" not in sys.modules
from langchain_core.vectorstores import InMemoryVectorStore
embeddings = E2RankEmbeddings(model=MODEL, device="cpu")
store = InMemoryVectorStore.from_texts(["this", "that", "other"], embeddings)
found = E2RankRetriever(vectorstore=store, k=2).invoke("what?")
assert len(found) == 2 and isinstance(found[0].metadata["relevance_score"], float), found
assert len(E2RankReranker(embeddings=embeddings, top_n=1).compress_documents(found, "what?")) == 1
""",
    "llama-index": """
import sys
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
assert "torch" not in sys.modules and "transformers" not in sys.modules
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
embed_model = E2RankEmbedding(model_name=MODEL, device="cpu")
index = VectorStoreIndex([TextNode(text=text) for text in ("this", "that", "other")], embed_model=embed_model)
found = E2RankRetriever(index, similarity_top_k=2).retrieve("what?")
assert len(found) == 2 and type(found[0].score) is float, found
assert len(E2RankRerank(embed_model=embed_model, top_n=1).postprocess_nodes(found, query_str="what?")) == 1
""",
    "chroma": """
import sys
from e2rank_integrations.stores.chroma import ChromaStore
assert "torch" not in sys.modules and "transformers" not in sys.modules
import chromadb
from e2rank_integrations import E2RankEncoder, Reranker, Searcher
encoder = E2RankEncoder(MODEL, device="cpu", dtype="float32")
texts = ["this", "that", "other"]
collection = chromadb.EphemeralClient().create_collection("texts")
collection.add(ids=texts, documents=texts, embeddings=encoder.encode_documents(texts))
ranking = Searcher(ChromaStore(collection), Reranker(encoder)).search("what?", 2)
assert len(ranking) == 2 and {item.vector_source for item in ranking} == {"store"}, ranking
""",
    "embedded": """
from e2rank_integrations import E2RankEncoder, Reranker
ranking = Reranker(E2RankEncoder.embedded(device="cpu")).rank(
    "What is the capital of China?", ["Gravity attracts two bodies.", "The capital of China is Beijing."]
)
assert [item.old_position for item in ranking] == [1, 0], ranking
""",
    "evaluation": """
from e2rank_integrations.evaluation.demo import demo_collection
from e2rank_integrations.evaluation.first_stage import BM25
from e2rank_integrations.evaluation.measures import score
from e2rank_integrations.evaluation.runs import Hit, Run
assert BM25({"a": "the cat sat", "b": "dogs bark"}).search("cats")[0].id == "a"
collection = demo_collection()
query, judged = next(iter(collection.qrels.items()))
run = Run({query: tuple(Hit(document, 1.0) for document in judged)})
assert score(run, {query: judged}).mean == 1
""",
    "adapter": """
import warnings
warnings.simplefilter("ignore")  # peft's own
from e2rank_integrations import E2RankEncoder
plain, adapted = (E2RankEncoder(MODEL, adapter=a, device="cpu", dtype="float32") for a in (None, ADAPTER))
cosine = float(plain.encode_documents(["this"])[0] @ adapted.encode_documents(["this"])[0])
assert cosine < .999, cosine
""",
    "train": """
import warnings
warnings.simplefilter("ignore")  # the trainer's own
from pathlib import Path
from e2rank_integrations import E2RankEncoder
from e2rank_integrations.training.settings import TrainSettings
from e2rank_integrations.training.slates import TrainingSlate
from e2rank_integrations.training.trainer import train
base = E2RankEncoder(MODEL, device="cpu", dtype="float32")
slates = [TrainingSlate("what?", ("this", "that"), (1, 0)), TrainingSlate("which?", ("those", "these"), (0, 1))]
train(slates, base, "trained", TrainSettings(objective="listwise", lora_rank=2, batch_size=2), progress=False)
trained = E2RankEncoder("trained", device="cpu", dtype="float32")
assert (trained.encode_documents(["this"]) == base.encode_documents(["this"])).all()
""",
    "remote": """
from e2rank_integrations import E2RankEncoder, RemoteEngine
from e2rank_integrations.errors import UnavailableError
engine = RemoteEngine("http://127.0.0.1:9/v1", retries=0)
try:
    E2RankEncoder(MODEL, custom_engine=engine).encode_queries(["what?"])
except UnavailableError as error:
    assert "127.0.0.1:9" in str(error), error
else:
    raise AssertionError("somebody listens on port 9")
engine.close()
""",
    "pgvector": """
from e2rank_integrations.stores.pgvector import PgVectorStore
from e2rank_integrations.errors import StoreError
try:
    PgVectorStore("postgresql://127.0.0.1:9/none", "texts").count()
except StoreError as error:
    assert "PostgreSQL" in str(error), error
else:
    raise AssertionError("somebody listens on port 9")
""",
    "index": """
from e2rank_integrations.indexing.parquet import ParquetSource
from pathlib import Path
import pyarrow, pyarrow.parquet
from e2rank_integrations import E2RankEncoder
from e2rank_integrations.cli import main
pyarrow.parquet.write_table(pyarrow.table({"_id": ["a", "b"], "text": ["this", "that"]}), "c.parquet")
store = ["--chroma", "chroma", "--collection", "texts"]
assert main(["index", "c.parquet", *store, "--model", MODEL, "--device", "cpu"]) == 0
assert len(list(Path().glob("c.parquet.texts.*.manifest"))) == 1
""",
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is published."""
    folder = tmp_path_factory.mktemp("dist")
    checked([sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT])
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, qwen_folder: Path) -> str:
    """Lines that name the folders of a model and of an adapter."""
    import peft

    folder = tmp_path_factory.mktemp("adapter")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers for an attribute under its old name
        peft.get_peft_model(Qwen3Model.from_pretrained(qwen_folder), config).save_pretrained(folder)
    return f"MODEL, ADAPTER = {str(qwen_folder)!r}, {str(folder)!r}\n"


@dataclass(frozen=True)
class Installed:
    """An environment in which the wheel is, and with which extra."""

    extra: str
    environment: Environment


@pytest.fixture(scope="session", params=EXTRAS, ids=lambda extra: extra or "no extra")
def installed(request: pytest.FixtureRequest, wheel: Path) -> Iterator[Installed]:
    """The wheel with one extra."""
    environment = make(request.param or "none", base())
    environment.install(f"{wheel}[{request.param}]" if request.param else str(wheel), *BESIDE.get(request.param, ()))
    yield Installed(request.param, environment)
    shutil.rmtree(environment.folder)


def test_the_wheel_holds_the_whole_package(wheel: Path) -> None:
    """Every file of the package is in it, data and `py.typed` among them, and no other package or test."""
    sources = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    expected = {path.relative_to(ROOT).as_posix() for path in sources}
    names = set(zipfile.ZipFile(wheel).namelist())
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == expected
    assert {f"{PACKAGE.name}/py.typed", f"{PACKAGE.name}/tasks.json"} <= packed
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_the_environment_is_the_wheels(installed: Installed, tmp_path: Path) -> None:
    """What runs below is the installed copy, not this repository, with the data that it reads."""
    code = """
import e2rank_integrations
from e2rank_integrations.profiles import task_instructions
print(e2rank_integrations.__file__, len(task_instructions()))
"""
    file, tasks = installed.environment.run(code, tmp_path).split()
    assert Path(file).is_relative_to(installed.environment.packages)
    assert int(tasks) > 0


def test_the_extra_works(installed: Installed, models: str, tmp_path: Path) -> None:
    """An extra alone is enough for what it promises, without a warning."""
    installed.environment.run(models + USES[installed.extra], tmp_path)


def test_the_other_extras_name_their_pip_command(installed: Installed, models: str, tmp_path: Path) -> None:
    """What needs an extra that is not there says how to install it."""
    there = {"", installed.extra, *HOLDS.get(installed.extra, ())}
    others = {extra: use for extra, use in USES.items() if extra not in there}
    code = f"""
from e2rank_integrations.errors import E2RankError
for extra, use in {others!r}.items():
    try:
        exec(use)
    except E2RankError as error:
        assert f"pip install 'e2rank-integrations[{{extra}}]'" in str(error), (extra, error)
    else:
        raise AssertionError(f"{{extra}} is not installed, and yet it works")
"""
    installed.environment.run(models + code, tmp_path)


def test_the_examples_run_as_far_as_the_extra_goes(installed: Installed, qwen_folder: Path, tmp_path: Path) -> None:
    """Those that need no more than this extra, with a small model of the same make for the real weights."""
    for example in EXAMPLES:
        if example.skip is None and needs(example) <= {installed.extra}:
            installed.environment.run(program(example, repr(str(qwen_folder))), tmp_path)


def test_the_readmes_install_commands_are_enough(wheel: Path, tmp_path: Path) -> None:
    """After the `pip install` lines of the README every one of its examples runs."""
    environment = make("readme", base())
    environment.install(*install_arguments((ROOT / "README.md").read_text(encoding="utf-8"), wheel))
    for number, example in enumerate(examples(ROOT / "README.md")):
        if example.skip is None:
            folder = tmp_path / str(number)
            folder.mkdir()
            environment.run(program(example), folder)
    shutil.rmtree(environment.folder)


def program(example: Example, model: str = '"embedded"') -> str:
    """An example in which a traceback names the document and its line."""
    return f"exec(compile({example.offline(model)!r}, {example.path.name!r}, 'exec'))"


def needs(example: Example) -> set[str]:
    """The extras of an example, and the top names of other packages that it imports."""
    found = {"embedded"} if "embedded" in example.source else set()
    for name in imported(example.source):
        homes = [extra for start, extra in HOMES.items() if f"{name}.".startswith(f"{start}.")]
        top = name.partition(".")[0]
        found |= set(homes) or ({top} - {"e2rank_integrations"} - sys.stdlib_module_names)
    return found


def imported(source: str) -> set[str]:
    """The modules that a program imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def install_arguments(markdown: str, wheel: Path) -> list[str]:
    """What the `pip install` lines of a text ask for, with the wheel for the published package."""
    lines = re.findall(r"^\s*pip install (.*)$", markdown, flags=re.MULTILINE)
    words = {word for line in lines for word in shlex.split(line, comments=True)}
    return sorted(re.sub(r"^e2rank-integrations(?=\[|$)", str(wheel), word) for word in words)
