"""How much the client process grows while it indexes many rows into a Chroma server.

    python -m tests.benchmarks.indexing_corpus --rows 100000

The texts are short and the model is the tiny Qwen3 of the tests (or `--model`), so that the rows, and not the model,
decide. The server, started with `chroma run`, is a process of its own; what it holds is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.indexing.embedding import embed_here
from e2rank_integrations.indexing.job import ROWS_PER_PART, index_corpus
from e2rank_integrations.indexing.manifest import Manifest
from e2rank_integrations.indexing.sources import open_source
from e2rank_integrations.stores.chroma import open_collection
from tests.support.chroma import chroma_server
from tests.support.models import save_qwen3

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from e2rank_integrations.indexing.embedding import EmbeddedPart, Embedder
    from e2rank_integrations.indexing.sources import Part, Source

WORDS = ("river", "bridge", "stone", "market", "tower", "garden", "winter", "signal", "copper", "letter", "valley")
MEGABYTE = 1e6


def resident() -> int:
    """Bytes of memory that this process has now; as Linux says it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Watched:
    """Has parts embedded, and notes how large the process is after each of them."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.sizes: list[int] = []

    def __call__(self, source: Source, parts: Sequence[Part], encoder: E2RankEncoder) -> Generator[EmbeddedPart]:
        for embedded in self.embedder(source, parts, encoder):
            yield embedded
            self.sizes.append(resident())


def by_ray(workers: int) -> Embedder:
    from e2rank_integrations.indexing.ray import RayEmbedder

    return RayEmbedder(workers)


def write_corpus(path: Path, rows: int) -> Path:
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            text = " ".join(draw.choices(WORDS, k=12))
            file.write(json.dumps({"_id": f"document-{row:09}", "text": text, "year": row % 100}) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rows-per-part", type=int, default=ROWS_PER_PART)
    parser.add_argument("--workers", type=int, default=0, help="of Ray (default: none, this process embeds)")
    parser.add_argument("--model", help="name or folder (default: a tiny Qwen3)")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as name, chroma_server(Path(name)) as port:
        folder = Path(name)
        model = options.model or str(save_qwen3(folder / "model"))
        measure(folder, E2RankEncoder(model, device="cpu", dtype="float32"), port, options)


def measure(folder: Path, encoder: E2RankEncoder, port: int, options: argparse.Namespace) -> None:
    source = open_source(write_corpus(folder / "corpus.jsonl", options.rows))
    encoder.warmup()
    store = open_collection(f"http://127.0.0.1:{port}", "bench", fingerprint=encoder.fingerprint.to_json())
    watched = Watched(by_ray(options.workers) if options.workers else embed_here)
    before = resident()
    with Manifest(folder / "manifest") as manifest:
        report = index_corpus(
            source, encoder, store, manifest, embedder=watched, rows_per_part=options.rows_per_part, progress=True
        )
    store.close()
    print(report)
    first, most = watched.sizes[0], max(watched.sizes)
    print(f"process: {before / MEGABYTE:.0f} MB with the model loaded, {first / MEGABYTE:.0f} MB after the first part")
    print(
        f"growth: {(most - before) / MEGABYTE:.0f} MB at most, {(most - first) / MEGABYTE:.0f} MB after the first part"
    )
    print(f"manifest: {(folder / 'manifest').stat().st_size / MEGABYTE:.1f} MB for {report.rows:,} rows")


if __name__ == "__main__":
    main()
