"""The engine on a server: token ids over the embeddings route of vLLM, llama-server and their kin.

The model's own tokenizer stays here; the server only embeds. Sync and async calls of all threads and event loops share
one pool of connections and one bound on requests in flight.
"""

from __future__ import annotations

import asyncio
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import numpy as np

from e2rank_integrations.checks import expect_positive
from e2rank_integrations.engines.connection import Endpoint, Secret, is_address, trusting
from e2rank_integrations.engines.session import Session, requests
from e2rank_integrations.engines.wire import is_name
from e2rank_integrations.errors import EngineTimeoutError, InputError
from e2rank_integrations.threads import on_loop, wait_on_loop
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from e2rank_integrations.engines.session import Served
    from e2rank_integrations.values import TokenInput

URL_VARIABLE = "E2RANK_BASE_URL"
KEY_VARIABLE = "E2RANK_API_KEY"

R = TypeVar("R")


@dataclass(frozen=True)
class RemoteEngine:
    """Embeds on a server. Give it to an encoder or a component as `custom_engine`.

    Making one costs nothing; on first use the server is asked what it serves, and whether the end of an input reaches
    its vector. It may be pickled, copied, hashed and used from many threads and event loops; equal ones share their
    connections. Needs `pip install 'e2rank-integrations[remote]'`.

    Args:
        base_url: Such as `http://gpu:8000/v1`; without a path, `/v1` is taken. None: the environment variable
            `E2RANK_BASE_URL`.
        model: The model's name on the server; None for the only one that it serves.
        listwise_model: The name for listwise prompts, where the server has an adapter for them; None for `model`.
        api_key: Sent as a bearer token, and shown nowhere. None: the environment variable `E2RANK_API_KEY`, if set; an
            empty one for none.
        timeout: Seconds within which a call must be done, with all its requests and retries; for one of more requests
            than may be in flight, as many times as long as it has rounds.
        max_concurrency: Requests in flight at most, of all callers together.
        batch_inputs: Inputs of a request at most.
        batch_tokens: Tokens of a request at most; a longer input is a request of its own.
        retries: How often a request is sent again where the server is not there, overloaded or broken (no answer, 408,
            429, 5xx); after anything else, none is.
        verify: Whether certificates are checked, or the file of those that are trusted.

    Raises:
        InputError: an option out of its range, or no address.

    Example:
        ```python
        engine = RemoteEngine("http://localhost:8000/v1")
        E2RankReranker(model="Alibaba-NLP/E2Rank-0.6B", custom_engine=engine)
        ```
    """

    base_url: str | None = None
    model: str | None = field(default=None, kw_only=True)
    listwise_model: str | None = field(default=None, kw_only=True)
    api_key: str | Secret | None = field(default=None, kw_only=True, repr=False)
    timeout: float = field(default=120.0, kw_only=True)
    max_concurrency: int = field(default=8, kw_only=True)
    batch_inputs: int = field(default=32, kw_only=True)
    batch_tokens: int = field(default=32_768, kw_only=True)
    retries: int = field(default=3, kw_only=True)
    verify: bool | str | os.PathLike[str] = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        url = _checked_url(os.environ.get(URL_VARIABLE) if self.base_url is None else self.base_url)
        object.__setattr__(self, "base_url", url)
        for name in ("max_concurrency", "batch_inputs", "batch_tokens"):
            expect_positive(name, getattr(self, name))
        for name in ("model", "listwise_model"):
            _expect_name(name, getattr(self, name))
        _expect_seconds("timeout", self.timeout)
        _expect_retries(self.retries)
        object.__setattr__(self, "verify", _checked_verify(self.verify))
        key = os.environ.get(KEY_VARIABLE, "") if self.api_key is None else self.api_key
        object.__setattr__(self, "api_key", key if isinstance(key, Secret) else _checked_key(key))

    @property
    def identity(self) -> str:
        """Where the weights are: what this engine embeds may differ from what any other does."""
        return f"{self.base_url} {self.model or ''} {self.listwise_model or ''}"

    @property
    def endpoint(self) -> Endpoint:
        """Where the server is, and how it is asked."""
        url, key, verify = cast("str", self.base_url), cast("Secret", self.api_key), cast("bool | str", self.verify)
        return Endpoint(url, key, self.max_concurrency, self.retries, verify)

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """Embed the inputs; see `Engine.encode`.

        Raises:
            AuthenticationError: the server does not accept the key, or wants one.
            ServerMismatchError: it reads other tokens than were sent, or pools or scales otherwise.
            ServerError: it refuses a request: for an input longer than it takes, for one.
            EngineTimeoutError: the call was not done in time.
            UnavailableError: the server is not there or overloaded, and stays so.
            ProtocolError: an answer that is not what the route must give.
            NonFiniteError: an answer that holds NaN or infinity.
        """
        return wait_on_loop(self._encoded(tuple(inputs)))

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """As `encode`, without blocking the event loop; cancelling it ends the requests."""
        return await asyncio.wrap_future(on_loop(self._encoded(tuple(inputs))))

    def served(self) -> Served:
        """What the server says that it serves; asked once.

        Raises:
            ServerError: it does not serve the model, or cannot serve this method at all.
            TransientError: as for `encode`.
        """
        return wait_on_loop(self._in_time(1, lambda session, _: session.served()))

    def warmup(self) -> None:
        """Open a connection and ask the server what it serves."""
        self.served()

    def close(self) -> None:
        """Close the connections; the next call opens them again, and asks the server anew."""
        wait_on_loop(_close(self))

    async def _encoded(self, inputs: tuple[TokenInput, ...]) -> Encoded:
        if not inputs:
            return Encoded(np.empty((0, 0), dtype=np.float32), Usage())
        _expect_ids(inputs)
        parts = requests(inputs, tokens=self.batch_tokens, most=self.batch_inputs)
        rounds = math.ceil(len(parts) / self.max_concurrency)
        vectors = await self._in_time(rounds, lambda session, deadline: session.vectors(inputs, parts, deadline))
        return Encoded(vectors, Usage.of(inputs))

    async def _in_time(self, rounds: int, call: Callable[[Session, float], Awaitable[R]]) -> R:
        """Run a call on this engine's session, with the time until which it may last."""
        if self not in _sessions:
            _sessions[self] = Session(self)
        seconds = self.timeout * rounds
        try:
            async with asyncio.timeout(seconds):
                return await call(_sessions[self], asyncio.get_running_loop().time() + seconds)
        except TimeoutError as error:
            raise EngineTimeoutError(
                f"{self.base_url}: no whole answer within {seconds:g} s; raise timeout, ask for less in a call, "
                f"or give the server more to compute with"
            ) from error


_sessions: dict[RemoteEngine, Session] = {}  # touched on the package's event loop only

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sessions.clear)  # a child must not talk over its parent's connections


async def _close(engine: RemoteEngine) -> None:
    session = _sessions.pop(engine, None)
    if session is not None:
        await session.close()


def _checked_url(url: str | None) -> str:
    """The address up to `/v1`. A key in it would end up in messages, so it is refused without being shown."""
    if url is None:
        raise InputError(f"base_url: give the server's address, http://host:8000/v1, or set {URL_VARIABLE}")
    try:
        parts = urlsplit(url)
        found = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (AttributeError, TypeError, ValueError):
        raise InputError("base_url: expected an address such as http://host:8000/v1") from None
    if not found or not url.isascii() or any(map(str.isspace, url)) or not is_address(url):
        raise InputError("base_url: expected an address such as http://host:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(f"base_url: it has a user, a query or a fragment; give a key as api_key, or as {KEY_VARIABLE}")
    path = parts.path.rstrip("/").removesuffix("/embeddings")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _checked_key(key: object) -> Secret:
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or key != key.strip():
        raise InputError("api_key: expected printable ASCII without spaces around it; a line end came with it?")
    return Secret(key)


def _expect_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{name}: expected seconds above 0, found {value!r}")


def _expect_retries(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"retries: expected an integer of at least 0, found {value!r}")


def _expect_name(name: str, value: object) -> None:
    if value is not None and not is_name(value):
        raise InputError(f"{name}: expected the name of a model on the server, or None, found {value!r}")


def _checked_verify(value: object) -> bool | str:
    """The file by its whole path, since another process may have another folder."""
    if isinstance(value, bool):
        return value
    file = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if isinstance(file, str) and _holds_certificates(file):
        return str(Path(file).absolute())
    raise InputError(f"verify: expected True, False or a file of certificates in PEM, found {value!r}")


def _holds_certificates(file: str) -> bool:
    try:
        return bool(file and trusting(file))
    except (OSError, ValueError):
        return False


def _expect_ids(inputs: Sequence[TokenInput]) -> None:
    for position, item in enumerate(inputs):
        if not item.ids:
            raise InputError(f"input {position}: it has no ids, so there is nothing to embed")
