"""The progress bar of a stream of documents."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@contextmanager
def document_bar(documents: Iterable[object], *, show: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that tells documents, documents per second and tokens per second.

    Args:
        documents: What is gone through; with a length, the bar has an end.
        show: Whether there is a bar at all.

    Yields:
        What to call with the documents done and the tokens that went through the model, both since the last call.
    """
    if not show:
        yield lambda _documents, _tokens: None
        return
    from tqdm import tqdm

    total = len(documents) if isinstance(documents, Sized) else None
    with tqdm(total=total, unit=" documents", dynamic_ncols=True) as bar:
        spent = 0

        def advance(done: int, tokens: int) -> None:
            nonlocal spent
            spent += tokens
            seconds = max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix_str(f"{spent / seconds:,.0f} tokens/s", refresh=False)
            bar.update(done)

        yield advance
