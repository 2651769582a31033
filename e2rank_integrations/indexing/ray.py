"""The parts of a corpus embedded by actors of Ray Data, on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
import pickle
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import E2RankError, InputError, MissingExtraError, TransientError
from e2rank_integrations.indexing.embedding import EmbeddedPart, embed_part

try:
    import ray
    import ray.data
    from ray.exceptions import RayError
except ModuleNotFoundError as error:
    raise MissingExtraError("ray[data]", "ray") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.indexing.sources import Part, Source

_WINDOW = 4096
"""Parts that Ray is given at a time; each costs it some milliseconds before the first is embedded."""

_ATTEMPTS = 3
"""How many workers a part may end before the job is given up."""


@dataclass(frozen=True, slots=True)
class RayEmbedder:
    """Embeds parts by actors of Ray Data, to be given to `index_corpus`.

    Each actor reads its parts itself, so all machines must see the corpus under the same path, and have this package.
    It loads the model, or asks the encoder's `custom_engine`. The vectors come back in the corpus's order; an actor
    that dies is started again, and its parts are done again; a part that ends three actors ends the job.

    Ray is used as it is initialised; else a cluster's address is used, from `address` or the environment's
    `RAY_ADDRESS`; else Ray is started on this machine and stopped afterwards.

    Args:
        workers: Actors; each takes a CPU, and a GPU where the encoder's `device` is `cuda`.
        address: A cluster's, as `ray.init` takes it.
    """

    workers: int = 1
    address: str | None = field(default=None, kw_only=True)

    def __call__(self, source: Source, parts: Iterable[Part], encoder: E2RankEncoder) -> Generator[EmbeddedPart]:
        """The parts, embedded, in their order.

        Raises:
            E2RankError: the corpus cannot be read, or the engine fails.
            InputError: Ray cannot be used, or has no machine for a worker; or the device is a certain GPU.
            TransientError: Ray fails, or a part ended its worker each time.
        """
        needs = _needs(encoder)
        windows = _windows(iter(parts))
        window = next(windows, None)
        if window is None:
            return
        try:
            with _initialised(self), _in_order():
                _expect_room(needs)
                attempts = partial(_begun, ray.remote(_Attempts).options(num_cpus=0).remote())
                while window:
                    for batch in self._data(source, window, encoder, needs, attempts).iter_batches(batch_size=None):
                        yield from map(_unpacked, batch["embedded"])
                    window = next(windows, None)
        except (RayError, ConnectionError) as error:
            raise TransientError(
                f"Ray stopped the job ({type(error).__name__}); see its logs, mostly in /tmp/ray/session_latest/logs"
            ) from error

    def _data(
        self,
        source: Source,
        parts: Sequence[Part],
        encoder: E2RankEncoder,
        needs: dict[str, int],
        attempts: Callable[[int], int],
    ) -> ray.data.Dataset:
        # A block for each part: what a dead worker did of a block is done again, and what it holds is one result.
        rows = ray.data.from_items([{"part": pickle.dumps(part)} for part in parts], override_num_blocks=len(parts))
        return rows.map_batches(
            PartEmbedder,
            fn_constructor_kwargs={"source": source, "encoder": _from_anywhere(encoder), "attempts": attempts},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=self.workers),
            num_gpus=needs.get("GPU", 0),
        )


class _Attempts:
    """Counts how often each part was begun.

    Ray Data does a dead actor's part again for ever, and says that the arguments by which it could be stopped
    (`max_restarts`, `max_task_retries`) will go; they would count the deaths of a long job's machines, too.
    """

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, part: int) -> int:
        self._begun[part] += 1
        return self._begun[part]


def _begun(attempts: Any, part: int) -> int:  # noqa: ANN401 - the handle of an actor
    """How often a part was begun, this time included."""
    return int(ray.get(attempts.begin.remote(part)))


class PartEmbedder:
    """An actor: reads and embeds one part at a time.

    Its errors travel as values, since Ray would wrap them and write them into its logs.
    """

    def __init__(self, source: Source, encoder: E2RankEncoder, attempts: Callable[[int], int]) -> None:
        self._source, self._encoder, self._attempts = source, encoder, attempts

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """A part's description to its rows and vectors."""
        return {"embedded": [pickle.dumps(self._embedded(pickle.loads(part))) for part in batch["part"]]}  # noqa: S301

    def _embedded(self, part: Part) -> EmbeddedPart | E2RankError:
        if self._attempts(part.number) > _ATTEMPTS:
            return _ends_its_worker(part)
        try:
            return embed_part(self._source, part, self._encoder)
        except E2RankError as error:
            return error


def _ends_its_worker(part: Part) -> TransientError:
    return TransientError(
        f"positions {part.first} to {part.first + part.rows - 1} ended their worker {_ATTEMPTS} times, for want of "
        f"memory maybe (Ray's logs say why); give each worker more, or embed fewer rows at a time: --rows-per-part, "
        f"with --restart"
    )


def _windows(parts: Iterator[Part]) -> Iterator[list[Part]]:
    while window := list(islice(parts, _WINDOW)):
        yield window


def _needs(encoder: E2RankEncoder) -> dict[str, int]:
    """What one worker takes of a machine."""
    if encoder.custom_engine is not None or not encoder.device.startswith("cuda"):
        return {"CPU": 1}
    if encoder.device != "cuda":
        raise InputError(f"device: expected 'cuda', found {encoder.device!r}: Ray chooses each worker's GPU")
    return {"CPU": 1, "GPU": 1}


def _expect_room(needs: dict[str, int]) -> None:
    """Refuse what Ray would wait for without end."""
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, count in needs.items():
        if there.get(name, 0) < count:
            raise InputError(
                f"Ray has no {name} for a worker; connect it to machines that have one (--ray-address), or choose "
                f"another device"
            )


def _unpacked(data: bytes) -> EmbeddedPart:
    """What an actor of ours sent; Ray itself carries everything as pickles."""
    embedded: EmbeddedPart | E2RankError = pickle.loads(data)  # noqa: S301
    if isinstance(embedded, E2RankError):
        raise embedded
    return embedded


@contextmanager
def _initialised(options: RayEmbedder) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        if address == "local":
            ray.init(
                address,
                num_cpus=options.workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"Ray cannot be used at {address!r} ({type(error).__name__})") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _in_order() -> Iterator[None]:
    """Data sets made here give their blocks in order, and draw no bar beside ours."""
    context = ray.data.DataContext.get_current()
    order, bars = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = order, bars


def _from_anywhere(encoder: E2RankEncoder) -> E2RankEncoder:
    """The same encoder in another working directory."""
    adapter = None if encoder.adapter is None else str(Path(encoder.adapter).absolute())
    return replace(encoder, model=_absolute(encoder.model), adapter=adapter)


def _absolute(model: str) -> str:
    """A folder wherever it is looked for; a name as it is."""
    return str(Path(model).absolute()) if Path(model).is_dir() else model
