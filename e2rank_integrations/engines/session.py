"""One server, as a process uses it: what it serves is asked once, then inputs go to it in bounded requests.

Everything here runs on the package's own event loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from e2rank_integrations.engines.batching import batches
from e2rank_integrations.engines.connection import Connection, Request
from e2rank_integrations.engines.wire import is_name, largest_answer, parsed, read_answer, request_body
from e2rank_integrations.errors import ProtocolError, ServerError, ServerMismatchError
from e2rank_integrations.values import TokenInput

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from e2rank_integrations.engines.batching import Batch
    from e2rank_integrations.engines.remote import RemoteEngine
    from e2rank_integrations.values import Matrix

INFINITY = "infinity"

SAME_VECTOR = 1e-5
"""Two vectors that differ by no more than this in any place are one: servers repeat themselves to rounding."""

_SPECIMEN_IDS = 8
_LISTED_BYTES = 1 << 20
_SHOWN_NAMES, _SHOWN_LETTERS = 5, 80

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself.

    Attributes:
        model: The name that requests carry.
        software: Who owns the model, as the server puts it: `vllm`, `llamacpp`, `sglang`; None where it does not say.
        max_tokens: Tokens that an input may have; None where it does not say.
    """

    model: str
    software: str | None = None
    max_tokens: int | None = None

    def __str__(self) -> str:
        software = "a server" if self.software is None else f"software {_quoted([self.software])}"
        return f"{software}, model {_quoted([self.model])}"


class Session:
    """The connections of an engine, and what its server serves.

    Args:
        engine: Where the server is, and how it is to be asked.
    """

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine
        self._connection = Connection(engine.endpoint)
        self._forget()

    def _forget(self) -> None:
        """Ask anew with the next call."""
        self._served: Once[Served] = Once(self._engine.timeout)
        self._sound: Once[None] = Once(self._engine.timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def served(self) -> Served:
        """What the server serves; asked once.

        Raises:
            ServerError: not the model that is wanted, or a server that cannot serve this method.
        """
        return await self._served.result(self._ask)

    async def vectors(self, inputs: Sequence[TokenInput], parts: Sequence[Batch], deadline: float) -> Matrix:
        """Embed the inputs, each part in a request of its own; the first failure ends them all.

        Returns:
            Unit rows in the order of the inputs, shape (inputs, width), float32.
        """
        try:
            return await self._embedded(inputs, parts, deadline)
        except ServerError:  # it may be another one by now, that serves under another name
            self._forget()
            raise

    async def _embedded(self, inputs: Sequence[TokenInput], parts: Sequence[Batch], deadline: float) -> Matrix:
        served = await self.served()
        await self._expect_sound(inputs, served)
        answers: dict[int, Matrix] = {}
        numbered = iter(enumerate(parts))

        async def work() -> None:
            for number, part in numbered:
                answers[number] = await self._answer([inputs[i] for i in part], served.model, deadline)

        # No more of them than may be in flight, so that a large call does not queue before everybody else's.
        tasks = [asyncio.create_task(work()) for _ in parts[: self._engine.max_concurrency]]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return _in_order(len(inputs), parts, [answers[number] for number in range(len(parts))])

    async def _answer(self, inputs: Sequence[TokenInput], model: str, deadline: float) -> Matrix:
        """One request; its inputs have one role."""
        role, longest = inputs[0].role, max(len(item.ids) for item in inputs)
        name = self._engine.listwise_model if role == "listwise" and self._engine.listwise_model else model
        about = f"{len(inputs)} {role} {'input' if len(inputs) == 1 else 'inputs'} of up to {longest} tokens"
        body = request_body(name, inputs)
        answer = await self._connection.send(
            Request("POST", "/embeddings", body, largest_answer(len(inputs)), about), deadline
        )
        return read_answer(answer, inputs)

    async def _ask(self, deadline: float) -> Served:
        # A server may do without this route; the next one tells whether the address is wrong.
        request = Request("GET", "/models", None, _LISTED_BYTES, "the list of models", optional=True)
        try:
            listed = _listed(await self._connection.send(request, deadline))
        except ProtocolError:
            if self._engine.model is None:
                raise
            listed = []
        return self._chosen(listed)

    def _chosen(self, listed: Sequence[Served]) -> Served:
        url, wanted = self._engine.base_url, self._engine.model
        if any((item.software or "").lower() == INFINITY for item in listed):
            raise ServerError(
                f"{url}: an Infinity server takes no token ids, and strips the line ends that close a listwise prompt, "
                f"so its vectors would be wrong; serve the model with vLLM or llama-server"
            )
        names = list(dict.fromkeys(item.model for item in listed))
        absent = [name for name in (wanted, self._engine.listwise_model) if names and name and name not in names]
        if absent:
            raise ServerError(f"{url}: it serves {_quoted(names)}, and not {absent[0]!r}")
        if wanted is None and len(names) != 1:
            found = f"serves {_quoted(names)}" if names else "does not say what it serves"
            raise ServerError(f"{url}: it {found}; name the model: RemoteEngine(…, model=…)")
        return next((item for item in listed if item.model == (wanted or names[0])), None) or Served(str(wanted))

    async def _expect_sound(self, inputs: Sequence[TokenInput], served: Served) -> None:
        """Once, before the first real inputs: two that begin alike must not have one vector."""
        # Not of one and the same id, whose vector may well not depend on how many there are.
        pair = next((pair for pair in map(_specimens, inputs) if len(set(pair[0].ids)) > 1), None)
        if pair is not None:
            await self._sound.result(lambda deadline: self._compare(pair, served, deadline))

    async def _compare(self, pair: Sequence[TokenInput], served: Served, deadline: float) -> None:
        one, other = await self._answer(pair, served.model, deadline)
        if np.abs(one - other).max() < SAME_VECTOR:
            raise ServerMismatchError(
                f"{self._engine.base_url}: inputs that begin alike have the same vector, so it pools the first token, "
                f"or does not read its input; start it with the model's own pooling, for E2Rank the last token's "
                f"(vLLM: --pooler-config.pooling_type LAST, llama-server: --pooling last)"
            )


class Once(Generic[R]):
    """A call whose result is shared by all who want it; after a failure the next one makes it anew.

    Args:
        seconds: How long it may take, whoever waits for it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[R] | None = None

    async def result(self, call: Callable[[float], Coroutine[Any, Any, R]]) -> R:
        """The result, of a call that is made now, was made before, or is being made."""
        if self._task is None or _failed(self._task):
            self._task = asyncio.create_task(self._in_time(call))
            self._task.add_done_callback(_failed)  # whoever waited may have gone
        return await asyncio.shield(self._task)

    async def _in_time(self, call: Callable[[float], Coroutine[Any, Any, R]]) -> R:
        async with asyncio.timeout(self._seconds):
            return await call(asyncio.get_running_loop().time() + self._seconds)


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def requests(inputs: Sequence[TokenInput], *, tokens: int, most: int) -> list[Batch]:
    """Positions of the inputs that share a request: of one role, up to so many tokens, and `most` inputs."""
    return [
        batch[start : start + most]
        for batch in batches(inputs, tokens=tokens, pad=False)
        for start in range(0, len(batch), most)
    ]


def _quoted(names: Sequence[str]) -> str:
    """Some names, cut and escaped, so that a server can neither fill a log nor command a terminal."""
    shown = [repr(name[:_SHOWN_LETTERS]) for name in names[:_SHOWN_NAMES]]
    return ", ".join([*shown, "…"] if len(names) > _SHOWN_NAMES else shown)


def _specimens(item: TokenInput) -> tuple[TokenInput, TokenInput]:
    """Two short inputs with one beginning and one end, made of an input's own ids: those are in the vocabulary."""
    ids = (*item.ids[: min(_SPECIMEN_IDS, len(item.ids) - 1)], item.ids[-1])
    return TokenInput(ids, "document"), TokenInput((ids[0], *ids), "document")


def _in_order(count: int, parts: Sequence[Batch], answers: Sequence[Matrix]) -> Matrix:
    """The rows of all requests at the places of their inputs."""
    widths = {answer.shape[1] for answer in answers}
    if len(widths) != 1:
        raise ProtocolError(f"the server's answers hold rows of several widths: {sorted(widths)}")
    vectors = np.empty((count, widths.pop()), dtype=np.float32)
    for part, answer in zip(parts, answers, strict=True):
        vectors[part] = answer
    return vectors


def _listed(body: bytes) -> list[Served]:
    """The models of a list, as far as they can be read."""
    data = parsed(body).get("data") if body else []
    if not isinstance(data, list):
        raise ProtocolError("the server's list of models has no 'data'")
    return [
        Served(item["id"], _text(item.get("owned_by")), _count(item.get("max_model_len")))
        for item in data
        if isinstance(item, dict) and is_name(item.get("id"))
    ]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
