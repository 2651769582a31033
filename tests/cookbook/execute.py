"""Executes the cookbook: `python -m tests.cookbook.execute` runs every notebook again and writes it in place.

Names of notebooks may be given, and `--out FOLDER` to leave the originals alone. The kernel is this very interpreter,
whatever kernels are installed on the machine, and its working folder is a new, empty one.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess, run
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
COOKBOOK = ROOT / "cookbook"
AT_ONCE = 2
CELL_SECONDS = 600
COLOURS = 64
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Nothing listens on port 9: whatever asked the network would fail. HF_HUB_OFFLINE spares the hub's retries.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
OFFLINE = {"HF_HUB_OFFLINE": "1", **dict.fromkeys(PROXIES, "http://127.0.0.1:9"), "NO_PROXY": "", "no_proxy": ""}
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class ThisInterpreter(KernelSpecManager):
    """Knows one kernel, the interpreter that runs this."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The same for every name."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


@dataclass(frozen=True)
class Outcome:
    """One notebook, executed in a process of its own."""

    path: Path
    written: Path
    seconds: float
    process: CompletedProcess[str]


def notebooks() -> list[Path]:
    """Every notebook of the cookbook, in order."""
    return sorted(COOKBOOK.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    """A notebook, valid by its format."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the outputs of a new kernel, and nothing that tells when or where it ran.

    Raises:
        CellExecutionError: a cell failed.
    """
    with TemporaryDirectory() as folder, TemporaryDirectory() as profile:
        # Sockets in a folder of its own: free ports, looked up first and bound later, are taken by others in between.
        manager = AsyncKernelManager(kernel_spec_manager=ThisInterpreter(), transport="ipc", ip=f"{profile}/kernel")
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_SECONDS,
            startup_timeout=CELL_SECONDS,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute(env={**os.environ, "IPYTHONDIR": profile})
    notebook["metadata"] = METADATA
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "image/png" in output.get("data", ()):
            output["data"]["image/png"] = smaller(output["data"]["image/png"])
    return notebook


def smaller(png: str) -> str:
    """A plot with few colours, at a quarter of its size; both sides are base64."""
    target = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
    return base64.b64encode(target.getvalue()).decode()


def execute_apart(path: Path, out: Path) -> Outcome:
    """Execute one notebook in a process of its own, offline, and write it to a folder."""
    command = [sys.executable, "-m", "tests.cookbook.execute", "--here", "--out", str(out), str(path)]
    started = perf_counter()
    environment = {**os.environ, **OFFLINE, **THREADS}
    process = run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return Outcome(path, out / path.name, perf_counter() - started, process)


def main(arguments: Sequence[str] | None = None) -> None:
    """Execute notebooks, two at once; ends with 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.cookbook.execute", description=main.__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="by default all of them")
    parser.add_argument("--out", type=Path, default=COOKBOOK, help="folder to write to")
    parser.add_argument("--here", action="store_true", help="one after the other, in this process")
    options = parser.parse_args(arguments)
    paths = options.notebooks or notebooks()
    if options.here:
        for path in paths:
            nbformat.write(executed(read(path)), options.out / path.name)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = pool.map(lambda path: execute_apart(path, options.out), paths)
        failed = [outcome for outcome in outcomes if not _reported(outcome)]
    sys.exit(bool(failed))


def _reported(outcome: Outcome) -> bool:
    good = outcome.process.returncode == 0
    print(f"{outcome.path.name}: {outcome.seconds:.0f} s" if good else f"{outcome.path.name} failed", flush=True)
    if not good:
        print(outcome.process.stderr, file=sys.stderr)
    return good


if __name__ == "__main__":
    main()
