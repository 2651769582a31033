"""Requests to an embedding server: one deadline, a few retries, a bounded answer.

Everything here runs on the package's own event loop, so that threads and event loops of the caller share the open
connections and the bound on requests in flight.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from time import time
from typing import TYPE_CHECKING, NoReturn

from e2rank_integrations.errors import (
    AuthenticationError,
    InputError,
    MissingExtraError,
    ProtocolError,
    ServerError,
    UnavailableError,
)

try:
    import httpx
except ImportError as error:
    raise MissingExtraError("httpx", "remote") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST_PAUSE = 0.1
"""Seconds before the first retry; each further one waits twice as long."""

LONGEST_PAUSE = 10.0
"""Seconds that are waited at most before a retry, also where the server asks for more."""

# 408 is no fault of the request, unlike any other 4xx: the server, or a proxy, waited too long for it.
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_NOT_MEANT_TO = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}
_NO_SUCH_ROUTE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


class Secret:
    """A key that no `repr`, log or serialiser of attributes shows. One of no letters stands for none."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._value,)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('…')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    @property
    def bearer(self) -> Mapping[str, str]:
        """The header that carries it."""
        return {"Authorization": f"Bearer {self._value}"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is, and how it is asked.

    Attributes:
        base_url: Up to and with `/v1`, without a slash at its end.
        secret: The key.
        max_concurrency: Requests in flight at most.
        retries: How often a request is sent again after a failure that may pass.
        verify: Whether certificates are checked, or the file of those that are trusted.
    """

    base_url: str
    secret: Secret
    max_concurrency: int
    retries: int
    verify: bool | str


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and how much may come back.

    Attributes:
        method: `GET` or `POST`.
        path: What follows the base URL.
        body: What is sent.
        largest_answer: Bytes that are read at most.
        about: What it asks for, to be named in messages: never a text.
        optional: Whether a server may lack this route; its answer is empty then.
    """

    method: str
    path: str
    body: bytes | None
    largest_answer: int
    about: str
    optional: bool = False


class _Passing(Exception):  # noqa: N818 - never leaves this module
    """A failure that may pass, and how long the server wants to be left alone."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(eq=False)
class Connection:
    """Open connections to one server. To be used on one event loop only."""

    endpoint: Endpoint
    _client: httpx.AsyncClient = field(init=False)
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._client = _client(self.endpoint)
        self._slots = asyncio.Semaphore(self.endpoint.max_concurrency)

    async def close(self) -> None:
        """Close what is open; requests in flight end with `UnavailableError`."""
        await self._client.aclose()

    async def send(self, request: Request, deadline: float) -> bytes:
        """The answer's body.

        Args:
            request: What to send.
            deadline: The time, by the loop's clock, after which no retry begins.

        Raises:
            AuthenticationError: the server does not accept the key, or wants one.
            ServerError: it refuses the request.
            UnavailableError: it is not there or overloaded, and stays so.
            ProtocolError: an answer that is too large, compressed or of an unknown kind.
        """
        failures = 0
        while True:
            try:
                async with self._slots:
                    return await self._sent(request)
            except _Passing as failure:
                failures += 1
                pause = _pause(failures, failure.pause)
                if failures > self.endpoint.retries or asyncio.get_running_loop().time() + pause > deadline:
                    tried = f"{failures} times" if failures > 1 else "once"
                    raise UnavailableError(
                        f"{self.endpoint.base_url}: {failure} (tried {tried}); check that the server runs and is not "
                        f"overloaded"
                    ) from failure.__cause__
                await asyncio.sleep(pause)

    async def _sent(self, request: Request) -> bytes:
        """One attempt."""
        url = self.endpoint.base_url + request.path
        try:
            async with self._client.stream(request.method, url, content=request.body) as response:
                if request.optional and response.status_code in _NO_SUCH_ROUTE:
                    return b""
                self._expect_usable(response, request)
                return await _read(response, request.largest_answer)
        except RuntimeError as error:
            if not self._client.is_closed:
                raise
            raise UnavailableError(f"{self.endpoint.base_url}: the engine was closed while it was asked") from error
        except (httpx.TransportError, ssl.SSLError) as error:
            _expect_no_tls_fault(error, self.endpoint.base_url)
            raise _Passing(f"no answer ({type(error).__name__})") from error

    def _expect_usable(self, response: httpx.Response, request: Request) -> None:
        status, where = response.status_code, self.endpoint.base_url
        if status == HTTPStatus.OK:
            _expect_plain(response)
        elif status in _PASSING or (status >= 500 and status not in _NOT_MEANT_TO):  # noqa: PLR2004
            raise _Passing(f"the server answered {status}", _retry_after(response.headers.get("Retry-After")))
        elif status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            sent = "was not accepted" if self.endpoint.secret else "is wanted, and none was given"
            raise AuthenticationError(f"{where}: status {status}, a key {sent}; set api_key, or E2RANK_API_KEY")
        else:
            self._refuse(status, request)

    def _refuse(self, status: int, request: Request) -> NoReturn:
        where = f"{self.endpoint.base_url}{request.path}: status {status} for {request.about}"
        if status < 300:  # noqa: PLR2004 - success, but no answer
            raise ProtocolError(f"{where}; expected 200 and an answer")
        if status < 400:  # noqa: PLR2004 - redirects, which could lead anywhere
            raise ServerError(f"{where}; redirects are not followed: give the address that the server answers at")
        if status == HTTPStatus.NOT_FOUND:
            raise ServerError(f"{where}; check that base_url ends in /v1, and the model's name on the server")
        if status in _NOT_MEANT_TO:
            raise ServerError(f"{where}; was it started to embed? (vLLM: --convert embed, llama-server: --embeddings)")
        raise ServerError(f"{where}; the server's log says why: often an input longer than the server takes")


def _client(endpoint: Endpoint) -> httpx.AsyncClient:
    client = httpx.AsyncClient(
        # Compressed answers could be of any size when read.
        headers={
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            **(endpoint.secret.bearer if endpoint.secret else {}),
        },
        timeout=None,  # noqa: S113 - the call's deadline bounds everything, which no timeout of a single read would
        # No bound on connections: the semaphore has one, and httpcore never gives back the place of a request that was
        # cancelled just after it connected.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=endpoint.max_concurrency),
        verify=_trust(endpoint),
        trust_env=False,  # neither key nor ids go to a proxy that was set up for other things
        event_hooks={"response": [_without_location]},
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # they would tie requests to one replica
    return client


async def _without_location(response: httpx.Response) -> None:
    """A redirect is not followed, and httpx would read where it leads: what it cannot read it raises, in many ways."""
    response.headers.pop("Location", None)


def _trust(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """Which certificates are trusted; without TLS none are read, which takes a while."""
    if endpoint.base_url.startswith("http://"):
        return False
    if isinstance(endpoint.verify, bool):
        return endpoint.verify
    try:
        return trusting(endpoint.verify)
    except OSError as error:
        raise InputError(
            f"verify: no certificates in {endpoint.verify!r}, where they were when the engine was made; put the file "
            f"there in this process, too"
        ) from error


def trusting(file: str) -> ssl.SSLContext:
    """A context that trusts the certificates of a file.

    Raises:
        OSError: there is no such file, or it holds no certificates.
    """
    return ssl.create_default_context(cafile=file)


def is_address(url: str) -> bool:
    """Whether a client could connect to it."""
    try:
        return bool(httpx.URL(url).host)  # read, which `raw_host` is not
    except (httpx.InvalidURL, UnicodeError):
        return False


def _expect_plain(response: httpx.Response) -> None:
    coding = response.headers.get("Content-Encoding", "identity").lower()
    if coding not in {"", "identity"}:
        raise ProtocolError("the server compressed its answer, although it was asked not to")


async def _read(response: httpx.Response, most: int) -> bytes:
    """The body, given up as soon as it is too long."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise ProtocolError(f"the server's answer has more than the {most} bytes that it may have")
    return bytes(body)


def _pause(failures: int, asked: float | None) -> float:
    """Seconds before the next attempt: what the server asks for, else twice as long each time, and never the same."""
    if asked is not None:
        return min(asked, LONGEST_PAUSE)
    doubled: float = FIRST_PAUSE * 2 ** (failures - 1)
    return min(doubled, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, no secret


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a header that holds seconds or a date; None where it holds neither."""
    if value is None:
        return None
    try:
        if value.strip().isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (OSError, OverflowError, ValueError):
        return None


def _expect_no_tls_fault(error: BaseException, where: str) -> None:
    """Refuse to go on where TLS is set up wrongly on one side; a connection that breaks off may pass."""
    fault = _tls_fault(error)
    if isinstance(fault, ssl.SSLCertVerificationError):
        raise ServerError(
            f"{where}: its certificate is not trusted ({fault.verify_message.rstrip('.')}); if an authority of your "
            f"own signed it, give that one's file: verify='ca.pem'"
        ) from error
    if fault is not None and not isinstance(fault, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        raise ServerError(
            f"{where}: no TLS connection ({fault.reason}); a server without TLS has an address with http://, and one "
            f"that wants a client's certificate must be reached by a proxy that has it"
        ) from error


def _tls_fault(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
