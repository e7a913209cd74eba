"""Files from the network: given up on within seconds where there is none, and what came is what was meant."""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

GIVE_UP_S = 5.0
"""The longest wait for a first answer, look-up of the name included."""

CONNECT_S = 2.5
"""For each address of a host, so that a dead IPv6 leaves time for IPv4."""

SILENCE_S = 30.0
"""The longest that a server may fall silent in the middle of a file."""

NO_ANSWER = "no answer"

BLOCK_BYTES = 2**18


class UnavailableError(Exception):
    """No server gave the file; says in words what each one did."""


def fetch(what: str, file: Path, urls: Sequence[str], md5: str) -> Generator[Progress | Notice, None, None]:
    """`file` from the first of `urls` that gives it with this checksum.

    Raises UnavailableError, and OSError where the disk refuses.
    """
    from torchvision.datasets.utils import check_integrity

    troubles = []
    deadline = time.monotonic() + GIVE_UP_S
    knocks = [_knock(url) for url in urls]
    for url, answer in zip(urls, knocks, strict=True):
        trouble = _heard(answer, deadline - time.monotonic())
        if trouble is None:
            trouble = yield from _stream(what, url, file)
        if trouble is None:
            if check_integrity(str(file), md5):
                return
            trouble = "what came has another checksum than it should have"
        troubles.append(f"{urlsplit(url).hostname}: {trouble}")
    raise UnavailableError("; ".join(troubles))


def no_answer(url: str) -> str | None:
    """Why the host of `url` cannot be reached, in words; None where it can."""
    trouble = _heard(_knock(url), GIVE_UP_S)
    return trouble and f"{urlsplit(url).hostname}: {trouble}"


def _knock(url: str) -> Future[str | None]:
    """Try to connect to the host of `url`: what went wrong, or None.

    In a thread that can be left behind, since no timeout covers the look-up of a name.
    """
    answer: Future[str | None] = Future()

    def connect() -> None:
        try:
            socket.create_connection(_address(url), timeout=CONNECT_S).close()
            answer.set_result(None)
        except TimeoutError:
            answer.set_result(NO_ANSWER)
        except (OSError, ValueError) as error:  # ValueError: a name or port that cannot be one
            answer.set_result(getattr(error, "strerror", None) or str(error))

    Thread(target=connect, daemon=True).start()
    return answer


def _heard(answer: Future[str | None], wait_s: float) -> str | None:
    try:
        return answer.result(max(0.0, wait_s))
    except TimeoutError:
        return NO_ANSWER


def _address(url: str) -> tuple[str, int]:
    """Host and port that a request for `url` goes to: its own, or its proxy's."""
    proxy = select_proxy(url, get_environ_proxies(url))
    parts = urlsplit(prepend_scheme_if_needed(proxy, "http") if proxy else url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _stream(what: str, url: str, file: Path) -> Generator[Progress | Notice, None, str | None]:
    """Write what `url` gives into `file`; returns what went wrong, or None."""
    headers = {"Accept-Encoding": "identity"}  # an archive is meant to arrive as it is
    try:
        with requests.get(url, stream=True, timeout=(CONNECT_S, SILENCE_S), headers=headers) as answer:
            if not answer.ok:
                return f"HTTP {answer.status_code} {answer.reason}"
            done, total = 0, int(answer.headers.get("Content-Length", 0))
            yield Notice(text=f"downloading {file.name} ({total / 1e6:.1f} MB) from {urlsplit(answer.url).hostname}")
            with file.open("wb") as out:
                for block in answer.iter_content(BLOCK_BYTES):
                    done += out.write(block)
                    yield Progress(what=f"downloading {what}", done=done, total=max(done, total))
    except requests.exceptions.SSLError:
        return "its certificate is not accepted"
    except requests.exceptions.ProxyError:
        return "the proxy lets nothing through"
    except requests.Timeout:
        return NO_ANSWER
    except requests.RequestException:
        return "the connection broke off"
    return None
