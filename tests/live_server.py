"""A service on this machine that answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from greenml.grid.live.client import Patience

IMPATIENT = Patience(connect_s=0.2, silence_s=0.05, answer_s=0.15)
"""For servers that do not answer: what tests wait for them in real time."""


@dataclass
class Reply:
    """Anything other than JSON and 200."""

    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised_bytes: int | None = None
    """The length in the header, where it is another than that of what is sent."""


@dataclass
class Asked:
    path: str
    params: dict[str, str]
    headers: dict[str, str]


class Live:
    """`answers` by path: JSON, a status, a `Reply`, a function of the handler, or an iterator of such."""

    def __init__(self, url):
        self.url, self.answers, self.asked = url, {}, []
        self.slept = []
        self.over = threading.Event()
        """Releases handlers that never answer."""

    @property
    def settings(self):
        """For a client that asks here, and only notes for how long it would sleep."""
        return {"base_url": self.url, "sleep": self.slept.append}

    @property
    def paths(self):
        return [asked.path for asked in self.asked]

    def hang(self, handler):
        """Read the question, and never answer."""
        self.over.wait(5)

    def trickle(self, handler):
        """One byte at a time, each in time for a timeout that watches silence alone."""
        handler.send_response(200)
        handler.end_headers()
        while not self.over.wait(0.01):
            handler.wfile.write(b" ")


@contextmanager
def serving():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            live.asked.append(Asked(url.path, dict(parse_qsl(url.query)), dict(self.headers)))
            answer = live.answers.get(url.path, 404)
            if hasattr(answer, "__next__"):
                answer = next(answer)
            with suppress(ConnectionError):  # who asked went away
                answer(self) if callable(answer) else self.send(answer)

        def send(self, answer):
            if isinstance(answer, int):
                answer = Reply({"error": "no"}, answer)
            reply = answer if isinstance(answer, Reply) else Reply(answer)
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(reply.promised_bytes or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    live = Live(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield live
    finally:
        live.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def everything_said_by(error):
    """What an error could ever show: its words, those of whatever hangs on to it, and all that these hold."""
    said, waiting, seen = [], [error], set()
    while waiting:
        thing = waiting.pop()
        if thing is None or id(thing) in seen:
            continue
        seen.add(id(thing))
        said += [str(thing), repr(thing), repr(vars(thing)), repr(thing.args)]
        waiting += [thing.__cause__, thing.__context__]
    return "\n".join(said)
