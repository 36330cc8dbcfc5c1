"""One JSON request over HTTP, to a service that need not be friendly.

Purpose: send, receive, and turn everything that can go wrong into one `EmbedderError`. Invariants: the whole exchange
has one deadline, also against a service that answers a byte at a time; no more than the bytes that an answer may
have are read; redirects are not followed, so what is sent goes to the address that was named and nowhere else; a
key is sent over https or to this machine only, and no message holds it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emm_engine.embeddings.backoff import retry_after_s
from emm_engine.embeddings.choice import Endpoint
from emm_engine.errors import EmbedderUnavailable, TextRefused

REFUSED = (400, 413, 422)  # something is wrong with what was sent
TRANSIENT = (408, 409, 425, 429)  # and every 5xx
EXCERPT_CHARS = 200  # of what a service says about an error
ERROR_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """What to post, and how much of an answer to take."""

    path: str
    body: Mapping[str, Any]
    answer_bytes_max: int


class _Deadline:
    """Cuts the sockets of one exchange when its time is over. A timeout of each read would never end a slow drip."""

    def __init__(self, seconds: float) -> None:
        self.passed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def watch(self, connected: socket.socket) -> None:
        self._sockets.append(connected)
        if self.passed.is_set():
            self._cut()

    def _cut(self) -> None:
        self.passed.set()
        for connected in self._sockets:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


class Wire:
    """Requests to one service, each on a connection of its own."""

    def __init__(self, endpoint: Endpoint, timeout_s: float, key: str | None) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._key = key

    def post(self, request: Request, now: float) -> Any:
        """The JSON that the service answers with; `EmbedderUnavailable` or `TextRefused` for anything else."""
        with _Deadline(self._timeout_s) as deadline:
            late = f"no whole answer within {self._timeout_s:g} s"
            try:
                data = self._exchange(request, deadline, now)
            except (OSError, http.client.HTTPException) as error:
                raise self._unavailable(late if deadline.passed.is_set() else _reason(error)) from error
            if deadline.passed.is_set():  # a connection that was cut can look like an answer that ended
                raise self._unavailable(late)
        try:
            return json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise self._unavailable("the answer is not JSON") from error

    def _exchange(self, request: Request, deadline: _Deadline, now: float) -> bytes:
        """One request and the body of its answer."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        with contextlib.closing(self._connected(deadline)) as connection:
            path = self._endpoint.path + request.path
            connection.request("POST", path, json.dumps(request.body).encode(), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise self._refusal(answer, now)
            return self._read(answer, request.answer_bytes_max)

    def _connected(self, deadline: _Deadline) -> http.client.HTTPConnection:
        """A connection whose socket the deadline watches from the first byte, a TLS handshake included."""
        host, port = self._endpoint.host, self._endpoint.port
        plain = socket.create_connection((host, port), self._timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._endpoint.scheme == "http":
            connection = http.client.HTTPConnection(host, port)
            connection.sock = plain
            deadline.watch(plain)
            return connection
        context = ssl.create_default_context()
        with contextlib.ExitStack() as if_it_fails:
            secured = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            if_it_fails.enter_context(secured)
            deadline.watch(secured)
            secured.do_handshake()
            if_it_fails.pop_all()
        connection = http.client.HTTPSConnection(host, port, context=context)
        connection.sock = secured
        return connection

    def _read(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self._unavailable("the answer is compressed, which was not asked for")
        if answer.length is not None and answer.length > most:
            raise self._unavailable(f"the answer has {answer.length} bytes, more than {most}")
        data = answer.read(most + 1)
        if len(data) > most:
            raise self._unavailable(f"the answer has more than {most} bytes")
        if answer.length:  # `read(n)` says nothing about a body that ends early
            raise self._unavailable(f"the answer ends {answer.length} bytes early")
        return data

    def _refusal(self, answer: http.client.HTTPResponse, now: float) -> EmbedderUnavailable | TextRefused:
        """The error for an answer that is not 200."""
        status, asked = answer.status, retry_after_s(answer.headers.get("Retry-After"), now)
        said = self._excerpt(answer.read(ERROR_BYTES_MAX))
        sentence = f"HTTP {status}{': ' + said if said else ''}"
        if status in REFUSED:
            return TextRefused(f"{self._endpoint} refuses the request: {sentence}")
        error = self._unavailable(sentence).after(asked)
        return error if status in TRANSIENT or status >= 500 else error.permanent()

    def _excerpt(self, body: bytes) -> str:
        """What a service says about an error, on one line, without the key that it may repeat."""
        text = body.decode("utf-8", "replace")
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(text)
            found = found.get("error", found) if isinstance(found, dict) else found
            found = found.get("message", found) if isinstance(found, dict) else found
            text = found if isinstance(found, str) else text
        if self._key:
            text = text.replace(self._key, "***")
        flat = " ".join(text.split())[:EXCERPT_CHARS]
        return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in flat)

    def _unavailable(self, why: str) -> EmbedderUnavailable:
        return EmbedderUnavailable(f"{self._endpoint} does not embed: {why}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _reason(error: Exception) -> str:
    """What went wrong on the way, in words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
