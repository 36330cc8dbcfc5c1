"""A real HTTP server on a real port that speaks `/api/embed` and `/v1/embeddings`, and misbehaves when told to.

A vector is the signed sum of its text's words' codes, so like texts have like vectors. What the server is to do wrong
is a list of behaviours, one for each request that comes, before it is itself again.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Handler = BaseHTTPRequestHandler
Behaviour = Callable[["Service", Handler, dict[str, Any]], None]


class Service:
    """What the server has seen and is to do."""

    def __init__(self) -> None:
        self.dim = 48
        self.seed = "model one"
        self.url = ""
        self.faults: list[Behaviour | None] = []  # None: behave
        self.always: Behaviour | None = None
        self.refuses = "\0"  # texts that hold this get 400
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def n_texts(self) -> int:
        return sum(len(request["input"]) for request in self.requests)

    def vector(self, text: str) -> list[float]:
        total = np.zeros(self.dim)
        for word in text.lower().split() or [""]:
            bits = hashlib.shake_256(f"{self.seed} {word}".encode()).digest(self.dim)
            total += np.frombuffer(bits, np.uint8).astype(float) - 127.5
        return [round(float(number), 4) for number in total]

    def answer(self, path: str, texts: list[str]) -> dict[str, Any]:
        rows = [self.vector(text) for text in texts]
        if path.endswith("/api/embed"):
            return {"model": "m", "embeddings": rows, "total_duration": 1}
        data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)]
        return {"object": "list", "data": data[::-1], "model": "m", "usage": {"prompt_tokens": 1}}  # in any order


def send(handler: Handler, status: int, body: bytes | str | dict[str, Any], **headers: str) -> None:
    data = json.dumps(body) if isinstance(body, dict) else body
    raw = data.encode() if isinstance(data, str) else data
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(raw)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(raw)


def fails(status: int, body: bytes | str | dict[str, Any] = "{}", **headers: str) -> Behaviour:
    """Answer with a status."""
    return lambda service, handler, request: send(handler, status, body, **headers)


def says(body: Callable[[dict[str, Any]], Any] | bytes | str, **headers: str) -> Behaviour:
    """Answer 200 with another body; a function gets the right answer and returns a wrong one."""

    def behave(service: Service, handler: Handler, request: dict[str, Any]) -> None:
        right = service.answer(handler.path, request["input"])
        send(handler, 200, json.dumps(body(right)) if callable(body) else body, **headers)

    return behave


def sleeps(seconds: float) -> Behaviour:
    """Say nothing for a while."""
    return lambda service, handler, request: time.sleep(seconds)


def drips(service: Service, handler: Handler, request: dict[str, Any]) -> None:
    """A byte now and then, each well within any timeout of a single read."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def hangs_up(service: Service, handler: Handler, request: dict[str, Any]) -> None:
    """Half an answer, then nothing."""
    raw = json.dumps(service.answer(handler.path, request["input"])).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw[: len(raw) // 2])


@contextmanager
def serving(service: Service, port: int = 0) -> Iterator[Service]:
    """Serve on a port of this machine until the block ends."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.requests.append(request)
            service.headers.append(dict(self.headers))
            service.paths.append(self.path)
            behave = service.faults.pop(0) if service.faults else service.always
            try:
                if behave is not None:
                    behave(service, self, request)
                elif any(service.refuses in text for text in request["input"]):
                    send(self, 400, {"error": "the input exceeds the context length"})
                else:
                    send(self, 200, service.answer(self.path, request["input"]))
            except OSError:
                pass  # the client has left

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


class HandClock:
    """A clock that stands still except when somebody sleeps."""

    def __init__(self, time: float = 1_700_000_000.0) -> None:
        self.time = time
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
