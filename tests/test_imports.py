"""What importing costs and needs: no torch for an adapter, no extra for the core, a pip command for what is missing.

Each case runs in an interpreter of its own, since this one has imported everything already.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import e2rank_integrations

PUBLIC = {
    "Candidate",
    "Caps",
    "DiskCache",
    "DocumentCache",
    "E2RankEncoder",
    "E2RankError",
    "Fingerprint",
    "ListwiseTemplate",
    "MemoryCache",
    "PrefixCache",
    "Profile",
    "PromptPlan",
    "RankedCandidate",
    "Ranking",
    "RemoteEngine",
    "Reranker",
    "Searcher",
    "__version__",
}
HEAVY = {"torch", "transformers", "sentence_transformers", "peft"}
EXTRAS = {
    "langchain_core", "chromadb", "psycopg", "pgvector", "pyarrow", "ray", "bm25s", "ir_measures", "Stemmer", "rich",
    "peft", "sentence_transformers",
}  # fmt: skip

PACKAGE = Path(e2rank_integrations.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
ENGINE = tuple(
    f"e2rank_integrations.engines.{name}" for name in ("attention", "forward", "linear", "loading", "local", "pooling")
)
TRAINING = tuple(
    f"e2rank_integrations.training.{name}"
    for name in ("batches", "lora", "losses", "models", "result", "trainable", "trainer")
)
MTEB = "e2rank_integrations.evaluation.mteb"
NEEDING_EXTRAS = (
    "e2rank_integrations.langchain", "e2rank_integrations.llama_index", "e2rank_integrations.components",
    "e2rank_integrations.stores.chroma", "e2rank_integrations.stores.pgvector", "e2rank_integrations.demo",
    "e2rank_integrations.indexing.parquet", "e2rank_integrations.indexing.ray",
)  # fmt: skip

# Has the import system find nothing under some names, as where those packages are not installed.
WITHOUT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{top!r}}", name=top)
sys.meta_path.insert(0, Absent())
"""
REQUIRE = "from e2rank_integrations.evaluation.extras import require; require('{}')"


def python(code: str, folder: Path | None = None) -> str:
    """Run code in a fresh interpreter, where a warning is an error, and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_public_names_are_these() -> None:
    """A name that appears or vanishes is a decision, to be written down here and in the changelog."""
    assert set(e2rank_integrations.__all__) == PUBLIC
    assert set(dir(e2rank_integrations)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there(name: str) -> None:
    """The lazy table leads to real objects that know themselves by that name."""
    found = getattr(e2rank_integrations, name)
    assert getattr(found, "__name__", "__version__") == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A lazy package answers `hasattr` and misspellings as any module does."""
    assert not hasattr(e2rank_integrations, "Rerankr")
    with pytest.raises(ImportError, match="Rerankr"):
        exec("from e2rank_integrations import Rerankr")


def test_importing_the_package_loads_nothing_else() -> None:
    """The names load on first use: a program that only imports pays for nothing."""
    code = "import sys, e2rank_integrations; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in python(code).split()}
    assert not loaded & (HEAVY | EXTRAS | {"numpy", "tokenizers", "huggingface_hub", "safetensors"})


def test_no_module_above_the_engines_loads_torch() -> None:
    """Importing an adapter, the core or the evaluation loads no torch: only the first forward does."""
    modules = [name for name in MODULES if name not in (*ENGINE, *TRAINING, MTEB)]
    assert "e2rank_integrations.langchain.reranker" in modules
    code = f"""
import importlib, json, sys
heavy = {{}}
for name in {modules!r}:
    importlib.import_module(name)
    heavy[name] = sorted({HEAVY!r} & set(sys.modules))
print(json.dumps(heavy))
"""
    heavy = json.loads(python(code))
    assert {name: found for name, found in heavy.items() if found} == {}


def test_the_core_needs_no_extra() -> None:
    """Whatever is not an adapter or a store can be imported with the hard dependencies alone."""
    modules = [name for name in MODULES if not name.startswith((*NEEDING_EXTRAS, *TRAINING, MTEB))]
    assert len(modules) > 20
    python(WITHOUT.format(absent=EXTRAS) + f"import importlib\nfor n in {modules!r}: importlib.import_module(n)")


def test_langchain_needs_langchain_core_alone() -> None:
    """The adapter works beside any store: it asks for no chromadb and none of LangChain's other packages."""
    others = EXTRAS - {"langchain_core"} | {"langchain_chroma", "langchain_classic", "langchain_community", "langchain"}
    python(WITHOUT.format(absent=others) + "import e2rank_integrations.langchain")


@pytest.mark.parametrize(
    ("absent", "use", "extra"),
    [
        ("langchain_core", "import e2rank_integrations.langchain", "langchain"),
        ("chromadb", "import e2rank_integrations.stores.chroma", "chroma"),
        ("pyarrow", "import e2rank_integrations.indexing.parquet", "index"),
        ("ray", "import e2rank_integrations.indexing.ray", "ray"),
        ("httpx", "from e2rank_integrations import RemoteEngine", "remote"),
        ("orjson", "from e2rank_integrations import RemoteEngine", "remote"),
        ("psycopg", "import e2rank_integrations.stores.pgvector", "pgvector"),
        ("pgvector", "import e2rank_integrations.stores.pgvector", "pgvector"),
        ("bm25s", REQUIRE.format("bm25s"), "evaluation"),
        ("Stemmer", REQUIRE.format("Stemmer"), "evaluation"),
        ("ir_measures", REQUIRE.format("ir_measures"), "evaluation"),
        ("rich", REQUIRE.format("rich.table"), "evaluation"),
        ("peft", "from e2rank_integrations.engines.loading import _wrapped; _wrapped(None, '.')", "adapter"),
    ],
)
def test_a_missing_extra_names_the_pip_command(absent: str, use: str, extra: str, tmp_path: Path) -> None:
    """Who lacks an optional package learns from the error what to type, and may still catch an ImportError."""
    (tmp_path / "adapter_model.safetensors").touch()
    code = f"""
from e2rank_integrations.errors import E2RankError, MissingExtraError
try:
    {use}
except MissingExtraError as error:
    assert isinstance(error, ImportError) and isinstance(error, E2RankError)
    print(error)
"""
    assert f"pip install 'e2rank-integrations[{extra}]'" in python(WITHOUT.format(absent={absent}) + code, tmp_path)


def test_a_missing_model_names_the_pip_command(tmp_path: Path) -> None:
    """Without the embedded model's package and without a network the error still says what to type."""
    code = """
import os
os.environ["HF_HUB_OFFLINE"] = "1"
from importlib import metadata
def absent(name):
    raise metadata.PackageNotFoundError(name)
metadata.files = absent
from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import CheckpointError
try:
    E2RankEncoder.embedded().width
except CheckpointError as error:
    print(error)
"""
    home = f'import os; os.environ["HF_HOME"] = {str(tmp_path)!r}\n'
    assert "pip install 'e2rank-integrations[embedded]'" in python(home + code)
