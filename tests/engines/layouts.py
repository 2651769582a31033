"""One engine, with sequences laid out as on a CPU or as on a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations.engines.attention import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2rank_integrations.engines.forward import Forward
    from e2rank_integrations.engines.local import LocalEngine


@contextmanager
def laid_out(engine: LocalEngine, *, packed: bool) -> Iterator[Forward]:
    """The engine's forward with sequences laid end to end, or padded as on a GPU."""
    engine.warmup()
    model = engine._forward.model
    before = model.config._attn_implementation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_forward", replace(engine._forward, packed=packed))
        model.set_attn_implementation(NAME if packed else "sdpa")
        yield engine._forward
    model.set_attn_implementation(before)
