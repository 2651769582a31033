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


def loaded_after(code: str, of: set[str]) -> set[str]:
    """Which of some modules a new interpreter has loaded after running code."""
    return {*python(f"import sys\n{code}\nprint(*({of!r} & {{*sys.modules}}))").split()}


def test_importing_the_package_loads_nothing_else() -> None:
    """The names load on first use: a program that only imports pays for nothing."""
    others = {"numpy", "tokenizers", "huggingface_hub", "safetensors", "llama_index"}
    assert loaded_after("import e2rank_integrations", HEAVY | EXTRAS | others) == set()


def test_making_components_loads_no_framework() -> None:
    """Neither torch nor transformers nor an integration: they load with the first forward."""
    code = """
from e2rank_integrations import *
DiskCache("nowhere")
E2RankEncoder("a/b", document_cache=MemoryCache())
Reranker(E2RankEncoder("a/b"), top_n=3)
E2RankEncoder.embedded().document_inputs(["a"])
"""
    assert loaded_after(code, HEAVY | {"chromadb", "langchain_core", "llama_index"}) == set()


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
