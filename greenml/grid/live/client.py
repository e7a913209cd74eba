"""Questions over HTTP: bounded in time and size, asked again where that may help, and no word of what was sent.

Errors say in greenml's own words what went wrong. They quote neither answers nor the errors of libraries, which can
hold a token, and are raised where no such error can hang on to them.
"""

from __future__ import annotations

import errno
import json
import random
import socket
import time
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from greenml import __version__
from greenml.grid.live.provider import RefusedError, UnavailableError
from greenml.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import requests

    Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]

PAUSES_S = (0.5, 1.0)
"""Between attempts, give or take a half."""

PAUSE_UP_TO_S = 10.0
"""A service that wants to be left alone for longer is: its caller hears until when."""

MAX_BYTES = 2**22
"""A month of five-minute figures takes half a megabyte."""

BLOCK_BYTES = 2**14

NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)

LATER = "ask again later; `--intensity` and `--trace` need no network"
TOO_OLD = "the service may have changed since this greenml: pip install -U greenml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a service is waited for."""

    connect_s: float = 3.0
    """For each address of a host, so that a dead IPv6 leaves time for IPv4."""
    silence_s: float = 10.0
    """In the middle of an answer."""
    answer_s: float = 20.0
    """For one answer with the look-up of the name and all bytes of it, however steadily they trickle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one attempt."""

    status: int | None = None
    body: bytes = b""
    retry_after: str | None = None
    trouble: str | None = None
    """Why there is no status or no whole body, in words."""
    passing: bool = False
    """Whether the next attempt may do better."""


class Client:
    """Asks one service."""

    def __init__(
        self,
        title: str,
        base_url: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        patience: Patience | None = None,
    ) -> None:
        self._title, self._base_url = title, base_url
        self._sleep, self._patience = sleep, patience or Patience()

    def get(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        now: datetime,
        refusals: Mapping[int, tuple[str, str]],
        sign: Sign | None = None,
    ) -> object:
        """The JSON at `path`. `sign` puts a token on a request; `refusals` are words and a hint for a status of 400 on.

        Raises UnavailableError, and RefusedError for a status from 400 to 499 other than 429.
        """
        import requests  # noqa: F401 - before the first attempt, whose time it would take

        for pause_s in (*PAUSES_S, None):
            reply = self._attempt(path, params, sign or _plain)
            asked_s = _retry_after_s(reply.retry_after, now)
            if not reply.passing or pause_s is None or (asked_s or 0.0) > PAUSE_UP_TO_S:
                break
            self._sleep(max(asked_s or 0.0, pause_s * random.uniform(0.5, 1.5)))  # noqa: S311 - guards nothing
        self._check(reply, asked_s, now, refusals)
        return self._parsed(reply.body)

    def _attempt(self, path: str, params: Mapping[str, str], sign: Sign) -> Reply:
        """One request, in a thread that can be left behind: no timeout covers looking up a name, or headers and a body
        that come byte by byte."""
        reply: Future[Reply] = Future()

        def ask() -> None:
            try:
                reply.set_result(_exchange(self._base_url + path, params, sign, self._patience))
            except BaseException as error:  # noqa: BLE001 - it is raised again by who waits
                reply.set_exception(error)

        Thread(target=ask, daemon=True).start()
        try:
            return reply.result(self._patience.answer_s)
        except TimeoutError:
            return Reply(trouble=f"no whole answer within {format_duration(self._patience.answer_s)}")

    def _check(
        self, reply: Reply, asked_s: float | None, now: datetime, refusals: Mapping[int, tuple[str, str]]
    ) -> None:
        """Raise what `reply` says other than an answer."""
        status = reply.status
        if reply.trouble is not None or status is None:
            raise UnavailableError(f"{self._title}: {reply.trouble}", hint=LATER, status=status)
        if status in refusals:
            words, hint = refusals[status]
            raise RefusedError(f"{self._title}: {words} ({status})", hint=hint, status=status)
        later = None if asked_s is None else now + timedelta(seconds=asked_s)
        wait = "ask again in some minutes" if asked_s is None else f"ask again in {format_duration(asked_s)}"
        if status == 429:
            message = f"{self._title}: too many requests (429)"
            raise UnavailableError(message, hint=f"the service wants a pause: {wait}", status=status, later=later)
        if status >= 500:
            message = f"{self._title}: the service is out of order ({status})"
            raise UnavailableError(message, hint=f"nothing is wrong here: {wait}", status=status, later=later)
        if status >= 400:
            raise RefusedError(f"{self._title}: the question is refused ({status})", hint=TOO_OLD, status=status)
        if 300 <= status < 400:
            message = f"{self._title}: it sends elsewhere ({status}), where no token goes along"
            raise UnavailableError(message, hint=TOO_OLD, status=status)
        if status != 200:
            raise UnavailableError(f"{self._title}: it answers nothing ({status})", hint=LATER, status=status)

    def _parsed(self, body: bytes) -> object:
        trouble = None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            trouble = (
                "a web page instead of data" if body.lstrip()[:1] == b"<" else "what is no JSON, or only half of it"
            )
        # Not in the handler: an error of json holds the body, in which the service may repeat a token.
        raise UnavailableError(
            f"{self._title}: it answers with {trouble}",
            hint=f"the network of a hotel or a company may stand between; {LATER}",
            status=200,
        )


def _exchange(url: str, params: Mapping[str, str], sign: Sign, patience: Patience) -> Reply:
    """One request and what came of it."""
    import requests

    deadline = time.monotonic() + patience.answer_s
    try:
        with requests.get(
            url,
            params=dict(params),
            # An `auth` of our own, and always one: without it requests takes what ~/.netrc has for the host.
            auth=sign,
            headers={"Accept": "application/json", "User-Agent": f"greenml/{__version__}"},
            timeout=(patience.connect_s, patience.silence_s),
            # Only `Authorization` would be left out on the way to another host.
            allow_redirects=False,
            stream=True,
        ) as answer:
            body = b""
            for block in answer.iter_content(BLOCK_BYTES):
                body += block
                if len(body) > MAX_BYTES:
                    return Reply(trouble=f"it answers with more than {MAX_BYTES / 2**20:.0f} MB")
                if time.monotonic() > deadline:  # who asked is gone
                    break
            status = answer.status_code
            return Reply(
                status=status,
                body=body,
                retry_after=answer.headers.get("Retry-After"),
                passing=status == 429 or status >= 500,
            )
    except requests.exceptions.SSLError:
        return Reply(trouble="its certificate is not accepted")
    except requests.exceptions.ProxyError:
        return Reply(trouble="the proxy lets nothing through", passing=True)
    except requests.Timeout:
        return Reply(trouble="no answer")
    except requests.RequestException as error:
        return _broken(error, url)


def _broken(error: Exception, url: str) -> Reply:
    """A connection that was not made, or broke, in words."""
    causes = list(_causes(error))
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return Reply(trouble="no answer")
    host = urlsplit(url).hostname
    if any(isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in NO_WAY for cause in causes):
        return Reply(trouble=f"no network: {host} cannot be reached", passing=True)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Reply(trouble=f"{host} refuses the connection", passing=True)
    return Reply(trouble="the connection broke off", passing=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those behind it: requests and urllib3 wrap what the system said several times over."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after_s(text: str | None, now: datetime) -> float | None:
    """The header, which is seconds or a date; None where it is neither."""
    if text is None:
        return None
    try:
        return float(min(max(int(text), 0), 10**6))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    return max((moment - now).total_seconds(), 0.0)


def with_header(name: str, value: str) -> Sign:
    """Puts a token on a request, as a header."""

    def sign(request: Any) -> Any:
        request.headers[name] = value
        return request

    return sign


def _plain(request: Any) -> Any:
    """As it is, with no token."""
    return request
