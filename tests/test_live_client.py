"""Questions over HTTP: what goes wrong is said in two lines, nothing hangs, and no token shows."""

from __future__ import annotations

import errno
import socket
import time
from datetime import datetime

import pytest
import requests
from live_server import IMPATIENT, Reply, everything_said_by, serving

from greenml.errors import DataError
from greenml.grid.live import RefusedError, UnavailableError
from greenml.grid.live.client import MAX_BYTES, Client

NOON = datetime(2026, 3, 1, 12)
TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def live():
    with serving() as served:
        yield served


def ask(live, *, refusals=None, patience=None, **changes):
    client = Client("The Service", **live.settings | changes, patience=patience)

    def sign(request):
        request.headers["auth-token"] = TOKEN
        return request

    return client.get("/it", {"zone": "X Y"}, now=NOON, refusals=refusals or {}, sign=sign)


def trouble(live, **changes):
    with pytest.raises(UnavailableError) as raised:
        ask(live, **changes)
    assert raised.value.hint
    assert "\n" not in str(raised.value) + raised.value.hint
    assert TOKEN not in everything_said_by(raised.value)
    assert raised.value.__context__ is None, "a library's error hangs on, with the request in it"
    return raised.value


def test_an_answer_is_json_and_the_token_goes_in_a_header_alone(live):
    live.answers["/it"] = {"fine": True}

    assert ask(live) == {"fine": True}
    (asked,) = live.asked
    assert asked.params == {"zone": "X Y"}
    assert asked.headers["auth-token"] == TOKEN
    assert asked.headers["User-Agent"].startswith("greenml/")


def test_what_is_unavailable_is_an_error_of_data():
    assert issubclass(RefusedError, UnavailableError)
    assert issubclass(UnavailableError, DataError)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_what_passes_is_asked_again_with_growing_pauses(live, status):
    live.answers["/it"] = iter([status, status, {"fine": True}])

    assert ask(live) == {"fine": True}
    assert len(live.asked) == 3
    first_s, second_s = live.slept
    assert 0.25 <= first_s <= 0.75
    assert 0.5 <= second_s <= 1.5


@pytest.mark.parametrize("status", [500, 429])
def test_three_attempts_are_all(live, status):
    live.answers["/it"] = status

    error = trouble(live)

    assert error.status == status
    assert not isinstance(error, RefusedError)
    assert len(live.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418])
def test_a_refusal_is_not_asked_again(live, status):
    live.answers["/it"] = status

    error = trouble(live, refusals={401: ("the token is refused", "set another one")})

    assert isinstance(error, RefusedError)
    assert error.status == status
    assert len(live.asked) == 1
    if status == 401:
        assert (str(error), error.hint) == ("The Service: the token is refused (401)", "set another one")


@pytest.mark.parametrize(("header", "pause_s"), [("7", 7.0), ("Sun, 01 Mar 2026 12:00:09 GMT", 9.0)])
def test_a_short_pause_is_kept_when_asked_for(live, header, pause_s):
    live.answers["/it"] = iter([Reply(status=429, headers={"Retry-After": header}), {"fine": True}])

    assert ask(live) == {"fine": True}
    assert live.slept == [pause_s]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["120", "Sun, 01 Mar 2026 12:02:00 GMT"])
def test_a_long_pause_is_left_to_the_caller(live, header, status):
    live.answers["/it"] = Reply(status=status, headers={"Retry-After": header})

    error = trouble(live)

    assert error.later == datetime(2026, 3, 1, 12, 2)
    assert "2:00" in error.hint
    assert len(live.asked) == 1
    assert live.slept == []


@pytest.mark.parametrize("header", ["soon", "", "-5", "9" * 50, "Sun, 99 Mar 2026 12:00:09 GMT"])
def test_an_odd_pause_is_no_reason_to_fall(live, header):
    live.answers["/it"] = Reply(status=429, headers={"Retry-After": header})

    assert trouble(live).status == 429


def test_a_server_that_never_answers_is_left(live):
    live.answers["/it"] = live.hang

    assert str(trouble(live, patience=IMPATIENT)) == "The Service: no answer"
    assert len(live.asked) == 1


def test_a_server_that_trickles_is_left(live):
    live.answers["/it"] = live.trickle
    began = time.monotonic()

    assert "no whole answer within" in str(trouble(live, patience=IMPATIENT))
    assert time.monotonic() - began < 2


def test_headers_that_trickle_are_left(live):
    def trickle(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        while not live.over.wait(0.01):
            handler.wfile.write(b"x")

    live.answers["/it"] = trickle

    assert "no whole answer within" in str(trouble(live, patience=IMPATIENT))


def test_a_body_without_end_is_left(live):
    live.answers["/it"] = b"[" + b"1," * MAX_BYTES

    assert "more than 4 MB" in str(trouble(live))
    assert len(live.asked) == 1


def test_a_refused_connection_is_said_after_three_attempts(live):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    error = trouble(live, base_url=f"http://127.0.0.1:{port}")

    assert str(error) == "The Service: 127.0.0.1 refuses the connection"
    assert len(live.slept) == 2


@pytest.mark.parametrize(
    "system",
    [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), OSError(errno.ENETUNREACH, "unreachable")],
)
def test_no_network_is_called_so(live, monkeypatch, system):
    def no_names(*_, **__):
        raise system

    monkeypatch.setattr(socket, "getaddrinfo", no_names)

    error = trouble(live, base_url="http://api.example")

    assert str(error) == "The Service: no network: api.example cannot be reached"
    assert "--intensity" in error.hint


def test_a_connection_that_breaks_is_tried_again(live):
    live.answers["/it"] = iter([Reply(b"[1", promised_bytes=99), {"fine": True}])

    assert ask(live) == {"fine": True}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.SSLError, "its certificate is not accepted"),
        (requests.exceptions.ProxyError, "the proxy lets nothing through"),
        (requests.exceptions.InvalidHeader, "the connection broke off"),
    ],
)
def test_errors_of_the_library_are_said_in_our_words(live, monkeypatch, error, words):
    def fails(*_, **__):
        raise error(f"all about {TOKEN}")

    monkeypatch.setattr(requests, "get", fails)

    assert str(trouble(live)) == f"The Service: {words}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"<html>sign in, {TOKEN}</html>".encode(), "a web page instead of data"),
        (b'{"zone": "DE", "carb', "no JSON, or only half of it"),
        (b"", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (f"Invalid auth-token: {TOKEN}".encode(), "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"1" * 5000, "no JSON"),
    ],
)
def test_a_body_that_is_no_json_is_not_asked_for_again_and_not_quoted(live, body, words):
    live.answers["/it"] = body

    assert words in str(trouble(live))
    assert len(live.asked) == 1


def test_nothing_is_no_answer(live):
    live.answers["/it"] = Reply(status=204)

    assert "answers nothing (204)" in str(trouble(live))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nobody_is_sent_elsewhere_with_a_token(live, status):
    with serving() as elsewhere:
        elsewhere.answers["/it"] = {"caught": True}
        live.answers["/it"] = Reply(status=status, headers={"Location": f"{elsewhere.url}/it?token={TOKEN}"})

        error = trouble(live)

        assert elsewhere.asked == []
    assert f"it sends elsewhere ({status})" in str(error)


def test_what_netrc_knows_of_a_host_is_not_sent(live, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1\nlogin somebody\npassword else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    live.answers["/it"] = {}

    Client("The Service", **live.settings).get("/it", {}, now=NOON, refusals={})

    assert "Authorization" not in live.asked[0].headers


def test_a_bug_behind_the_question_stays_a_bug(live, monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(requests, "get", fails)

    with pytest.raises(ZeroDivisionError):
        ask(live)
