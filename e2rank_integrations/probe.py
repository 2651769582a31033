"""`e2rank probe`: does a server embed as this model must, and if not, what is wrong with it?"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from e2rank_integrations.checks import NORM_TOLERANCE, expect_positive
from e2rank_integrations.encoder import DEFAULT_MODEL, E2RankEncoder
from e2rank_integrations.engines.registry import local_engine
from e2rank_integrations.errors import InputError, ServerMismatchError
from e2rank_integrations.profiles import PROFILES, Pooling
from e2rank_integrations.text.cuts import Cuts

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    import numpy.typing as npt

    from e2rank_integrations.engines.session import Served
    from e2rank_integrations.values import TokenInput

LEAST_COSINE = 0.999
"""Of a server's vector to this process's; bfloat16 against float32 gives .9998."""

_ROUNDED = 0.95
_SHORT = 64

QUERY = "which river flows through the town"
DOCUMENT = "The town lies on the left bank of the river; its bridge was built of stone in the fourteenth century."

_STARTED_WITH: dict[Pooling, str] = {
    "last": "vLLM: --pooler-config.pooling_type LAST, llama-server: --pooling last",
    "mean": "vLLM: --pooler-config.pooling_type MEAN, llama-server: --pooling mean",
    "cls": "vLLM: --pooler-config.pooling_type CLS, llama-server: --pooling cls",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found out about an engine that embeds as it must.

    Attributes:
        served: What the server says of itself; None for an engine that is no server.
        inputs: How many inputs were embedded: documents, a query, a listwise prompt.
        tokens: Theirs, as counted here; a server counted as many.
        longest: Tokens of the longest.
        width: Of the vectors.
        least_cosine: Of the vectors to those of the model in this process; None where they were not compared.
        seconds: What the engine took.
    """

    served: Served | None
    inputs: int
    tokens: int
    longest: int
    width: int
    least_cosine: float | None
    seconds: float

    def __str__(self) -> str:
        what, counted = ("an engine", "") if self.served is None else (str(self.served), ", counted alike")
        same = "not compared with this process: its weights are not here, or were not to be loaded"
        if self.least_cosine is not None:
            same = f"cosine to this process's vectors at least {self.least_cosine:.5f}"
        return (
            f"{what}: {self.inputs} inputs of up to {self.longest} tokens, {self.tokens} together{counted}; "
            f"unit vectors of width {self.width}; {same}; {self.seconds:.2f} s"
        )


def probe(encoder: E2RankEncoder, *, compare: bool = True, longest: int = 512) -> Probe:
    """Embed documents, a query and a listwise prompt on the encoder's engine, and check what comes back.

    Args:
        encoder: With a `custom_engine`.
        compare: Whether to embed them in this process, too, where the weights are here; that loads them for a while.
        longest: Tokens of the longest document, about; a server that cuts inputs above some length shows it above that
            length only.

    Raises:
        ServerMismatchError: the engine does not embed as this model must; the message names the mistake.
        ServerError: the server refuses the inputs, or does not serve the model.
        TransientError: it could not be asked.
        InputError: the encoder runs in this process.
    """
    expect_positive("longest", longest)
    if encoder.custom_engine is None:
        raise InputError("probe: this encoder runs in this process; give it a custom_engine, a RemoteEngine for one")
    served = encoder.custom_engine.served() if hasattr(encoder.custom_engine, "served") else None
    _expect_room(encoder, served)
    inputs = _inputs(encoder, longest)
    started = perf_counter()
    vectors = replace(encoder, document_cache=None).run(inputs).vectors
    seconds = perf_counter() - started
    _expect_units(vectors)
    compared = compare and encoder.checkpoint.has_weights
    lengths = [len(item.ids) for item in inputs]
    return Probe(
        served=served,
        inputs=len(inputs),
        tokens=sum(lengths),
        longest=max(lengths),
        width=vectors.shape[1],
        least_cosine=_expect_same(encoder, inputs, vectors) if compared else None,
        seconds=seconds,
    )


def _inputs(encoder: E2RankEncoder, longest: int) -> list[TokenInput]:
    documents = [DOCUMENT, " ".join([DOCUMENT] * (longest // len(DOCUMENT.split()) + 1))[: 5 * longest]]
    prompt, _ = encoder.listwise_input(QUERY, documents)
    cut = encoder.cut_documents(documents, Cuts(encoder.writer.document_cap))  # of which nobody need be told
    return [*cut, *encoder.query_inputs([QUERY]), prompt]


def _expect_room(encoder: E2RankEncoder, served: Served | None) -> None:
    most = max(encoder.writer.prompt_cap, encoder.writer.document_cap)
    if served is not None and served.max_tokens is not None and served.max_tokens < most:
        raise ServerMismatchError(
            f"the server takes inputs of {served.max_tokens} tokens, and this model's may have {most}; start it with "
            f"room for them (vLLM: --max-model-len {most}), or give a profile with lower caps (profiles.E2RANK_SMALL)"
        )


def _expect_units(vectors: npt.NDArray[np.float32]) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    far = lengths[np.abs(lengths - 1) > NORM_TOLERANCE]
    if len(far):
        raise ServerMismatchError(
            f"expected vectors of length 1, found {far[0]:.3g}: the engine does not normalise; have it do so"
        )


def _expect_same(encoder: E2RankEncoder, inputs: Sequence[TokenInput], vectors: npt.NDArray[np.float32]) -> float:
    """The least cosine to the vectors of the model in this process; what was loaded for it is freed."""
    cosines = _cosines(encoder, encoder.profile.pooling, inputs, vectors)
    if cosines.min() >= LEAST_COSINE:
        return float(cosines.min())
    raise ServerMismatchError(
        f"the server's vectors have cosines of {cosines.min():.3f} to {cosines.max():.3f} to those of this model here, "
        f"expected at least {LEAST_COSINE}: {_mistake(encoder, inputs, vectors, cosines)}"
    )


def _mistake(
    encoder: E2RankEncoder,
    inputs: Sequence[TokenInput],
    vectors: npt.NDArray[np.float32],
    cosines: npt.NDArray[np.float32],
) -> str:
    plain = np.array([item.role != "listwise" for item in inputs])
    short = np.array([len(item.ids) < _SHORT for item in inputs])
    long = plain & ~short
    if cosines.min() >= _ROUNDED:
        return "it may be the same model in coarser numbers, quantised for one; index and search with one of the two"
    if short.any() and cosines[short].min() >= LEAST_COSINE and (cosines[long] < LEAST_COSINE).any():
        return "short inputs agree and long ones do not: it cuts them without saying so, or slides a window over them"
    if cosines[plain].min() >= LEAST_COSINE:
        return "listwise prompts alone differ; serve their adapter under a name, and give it as listwise_model"
    own = encoder.profile.pooling
    for other in get_args(Pooling):
        if other != own and _cosines(encoder, other, inputs, vectors)[plain].min() >= LEAST_COSINE:
            return f"it pools by {other!r} instead of {own!r}; start it with {_STARTED_WITH[own]}"
    return "it runs other weights, or another adapter; have it serve the files that this encoder names"


def _cosines(
    encoder: E2RankEncoder, pooling: Pooling, inputs: Sequence[TokenInput], vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    engine = local_engine(replace(encoder.engine_key, pooling=pooling))
    loaded = engine.loaded
    here = engine.encode(inputs).vectors
    if not loaded:
        engine.close()
    cosines: npt.NDArray[np.float32] = (here * vectors).sum(axis=1)
    return cosines


def add_arguments(parser: ArgumentParser) -> None:
    """Add every option to a parser."""
    parser.add_argument("base_url", nargs="?", help="such as http://gpu:8000/v1 (default: E2RANK_BASE_URL)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"hub name or folder (default: {DEFAULT_MODEL})")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--profile", choices=PROFILES, help="formats and caps (default: the model's)")
    parser.add_argument("--served-model", metavar="NAME", help="the model's name on the server (default: its only one)")
    parser.add_argument("--listwise-model", metavar="NAME", help="the name on the server for listwise prompts")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificates that the server's is checked by")
    parser.add_argument("--longest", type=int, default=512, metavar="N", help="tokens of the longest document")
    parser.add_argument("--no-compare", action="store_true", help="do not load the weights here, if they are here")
    parser.epilog = "A key is taken from the environment variable E2RANK_API_KEY."


def run(options: Namespace) -> int:
    """Probe a server and print what was found.

    Raises:
        E2RankError: the server cannot be used, and why.
    """
    from e2rank_integrations.engines.remote import RemoteEngine

    engine = RemoteEngine(
        options.base_url,
        model=options.served_model,
        listwise_model=options.listwise_model,
        verify=options.ca or True,
    )
    chosen: dict[str, Any] = {"profile": PROFILES[options.profile]} if options.profile else {}
    encoder = E2RankEncoder(options.model, revision=options.revision, custom_engine=engine, **chosen)
    found = probe(encoder, compare=not options.no_compare, longest=options.longest)
    sys.stdout.write(f"{engine.base_url}: {found}\n")
    return 0
