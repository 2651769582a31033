"""Makes the pictures in docs/images: a `Ranking` as a notebook shows it, of real passages, photographed by Chromium.

    python -m tests.docs.screenshot

Run it when `display.as_html` changes. Needs `chromium` on the path, or its name in CHROMIUM, and the `docs` group.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.support.engines import Failing

if TYPE_CHECKING:
    from e2rank_integrations import Ranking

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PASSAGES = 200
CLAIM = "324"
WIDTH, HEIGHT, SCALE = 1080, 1200, 2
MARGIN = 16 * SCALE

# As Jupyter dresses a table, so that the picture is what a reader will see.
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 24px; font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; background: white; color: #212121 }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }}
td, th {{ padding: 6px 10px; vertical-align: top }}
tbody tr:nth-child(odd) {{ background: #f5f5f5 }}
thead {{ border-bottom: 1px solid #bdbdbd }}
</style>{body}"""


def main() -> None:
    """Rank, photograph, cut to the content, and save."""
    ranking = real_ranking()
    for name, shown in (("ranking.png", ranking), ("ranking-kept-order.png", kept_order(ranking))):
        photograph(PAGE.format(body=shown._repr_html_()), IMAGES / name)
        print(f"{name}: {(IMAGES / name).stat().st_size // 1024} kB")


def real_ranking() -> Ranking:
    """A claim of SciFact over the first passages of the packaged subset, with a second search."""
    import chromadb

    from e2rank_integrations import E2RankEncoder, Reranker, Searcher
    from e2rank_integrations.evaluation.demo import demo_collection
    from e2rank_integrations.stores.chroma import ChromaStore

    subset, encoder = demo_collection(), E2RankEncoder.embedded(device="cpu", dtype="float32")
    passages = dict(islice(subset.documents.items(), PASSAGES))
    index = chromadb.EphemeralClient().create_collection("passages", embedding_function=None)
    vectors = encoder.encode_documents(list(passages.values()))
    index.add(ids=list(passages), documents=list(passages.values()), embeddings=vectors)
    searcher = Searcher(ChromaStore(index), Reranker(encoder, num_input_docs=3), fetch_k=8, search_again=True)
    searcher.save_fingerprint()  # checks a few vectors now, so that the search to be shown does not pay for it
    return searcher.search(subset.queries[CLAIM], 8)


def kept_order(ranking: Ranking) -> Ranking:
    """The same candidates where the engine ran out of memory and `on_error` is `keep_order`."""
    from e2rank_integrations import E2RankEncoder, Reranker
    from e2rank_integrations.errors import EngineMemoryError

    encoder = E2RankEncoder.embedded(device="cpu", dtype="float32")
    failing = replace(encoder, custom_engine=Failing(encoder.engine, EngineMemoryError("out of memory")))
    found = sorted(
        (item for item in ranking.ranked if item.old_position is not None), key=lambda item: item.old_position
    )
    reranker = Reranker(failing, num_input_docs=3, top_n=4, on_error="keep_order")
    return reranker.rank("which one?", [item.candidate for item in found])


def photograph(page: str, image: Path) -> None:
    """Render a page in Chromium and keep what is not background, with a margin."""
    browser = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if browser is None:
        sys.exit("chromium is not on the path; name it in CHROMIUM")
    with TemporaryDirectory() as folder:
        source, raw = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(page, encoding="utf-8")
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
        size = (f"--window-size={WIDTH},{HEIGHT}", f"--force-device-scale-factor={SCALE}")
        profile = f"--user-data-dir={folder}/profile"
        command = [browser, *options, *size, profile, f"--screenshot={raw}", source.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        crop(raw, image)


def crop(raw: Path, image: Path) -> None:
    """Cut a picture on white to its content."""
    from PIL import Image, ImageChops

    with Image.open(raw) as opened:
        picture = opened.convert("RGB")
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    if box is None:
        sys.exit("the browser drew nothing")
    left, top, right, bottom = box
    whole = (max(0, left - MARGIN), max(0, top - MARGIN), right + MARGIN, bottom + MARGIN)
    image.parent.mkdir(parents=True, exist_ok=True)
    picture.crop(whole).quantize(256, Image.Quantize.FASTOCTREE).save(image, optimize=True)


if __name__ == "__main__":
    main()
