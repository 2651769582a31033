"""A reverse proxy on the loopback interface that ends TLS and asks for a header, as one stands before a real Chroma."""

from __future__ import annotations

import http.client
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "Bearer k3y-of-the-t3sts"


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and its key, made by the openssl command."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command, which makes the test's certificate, is not on the path")
    certificate, key = folder / "server.pem", folder / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


class Proxy(http.server.ThreadingHTTPServer):
    """Hands on what carries the header and is not too large, under the path /chroma too; counts whom it refused."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.refused = 0
        self.largest = 2**30
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)

    def finish_request(self, request, client_address) -> None:  # in the connection's own thread
        secured = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with suppress(OSError), secured as secure:  # a client that does not trust the certificate hangs up
            try:
                secure.do_handshake()
            except ssl.SSLError:
                _hear_out(secure)
            else:
                super().finish_request(secure, client_address)


def _hear_out(refused: ssl.SSLSocket) -> None:
    """Read what a client still says: closed with words unread, a connection is reset, and why may never be read."""
    with socket.socket(fileno=refused.detach()) as plain:
        plain.settimeout(30)
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(1 << 12):
            pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != KEY:
            self.server.refused += 1
            self.reply(401, {"Content-Type": "text/plain"}, b"who are you?")
            return
        if len(body) > self.server.largest:
            self.reply(413, {"Content-Type": "text/html"}, b"too large")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
        try:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() in ("content-type", "accept")
            }
            connection.request(self.command, self.path.removeprefix("/chroma"), body, headers)
            response = connection.getresponse()
            self.reply(response.status, {"Content-Type": response.getheader("Content-Type") or ""}, response.read())
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names that the base class calls

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def tls_proxy(port: int, folder: Path) -> Iterator[tuple[Proxy, Path]]:
    """A running proxy before a port, and the certificate to trust."""
    certificate, key = self_signed(folder)
    proxy = Proxy(port, certificate, key)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy, certificate
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
