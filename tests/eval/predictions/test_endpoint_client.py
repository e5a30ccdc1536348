"""What is tried again and for how long, what stops a run, and answers that never end."""

import asyncio
import socket
import threading
import time
from contextlib import suppress

import pytest
from helpers.endpoint_scans import KEY, make_scans, write
from helpers.loopback_endpoint import LoopbackEndpoint, error
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from ct_rate_pairs.eval.predictions.endpoint import Endpoint, EndpointError
from ct_rate_pairs.eval.predictions.endpoint_client import send


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "predictions.jsonl"


@pytest.mark.slow
def test_errors_of_the_server_and_late_answers_are_tried_again(path):
    with LoopbackEndpoint(error(500), error(503), 1.5, PlainTextResponse("overloaded", 529)) as server:
        predictions, failures = write(server, path, make_scans(1), timeout=0.5)
        assert len(server.bodies) == 5
    assert len(predictions) == 1 and not failures


@pytest.mark.parametrize("late", ["0.6", "date"])
@pytest.mark.slow
def test_a_rate_limit_is_waited_for_as_the_server_says(path, late):
    if late == "date":
        late = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))  # in whole seconds
    with LoopbackEndpoint(error(429, **{"Retry-After": late})) as server:
        write(server, path, make_scans(1))
        assert server.times[1] - server.times[0] >= 0.6


def test_a_status_in_the_body_of_a_200_is_tried_again(path):
    busy = JSONResponse({"error": {"code": 429, "message": "slow down"}})
    with LoopbackEndpoint(busy) as server:
        predictions, failures = write(server, path, make_scans(1))
        assert len(server.bodies) == 2 and len(predictions) == 1 and not failures


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (error(401, f"Incorrect key {KEY}"), "HTTP 401: the key in OPENAI_API_KEY is missing or wrong"),
        (error(404, "no such model"), "refuses requests for 'some-model'. HTTP 404: no such model"),
        (error(400, f"not with {KEY}"), r"HTTP 400: not with \*\*\*"),
        (error(429, "pay", "insufficient_quota"), "HTTP 429: pay"),
        (RedirectResponse("https://elsewhere.invalid/v1"), "HTTP 307"),
    ],
)
def test_a_request_that_no_retry_can_mend_stops_the_run_at_once(path, monkeypatch, refused, message):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LoopbackEndpoint(refused) as server, pytest.raises(EndpointError, match=message) as raised:
        write(server, path)
    assert len(server.bodies) == 1
    assert KEY not in str(raised.value)


ODD = [Response(status_code=204), Response("{}", 201), Response("{}", 206), Response("{}", 304)]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("odd", ODD, ids=[str(odd.status_code) for odd in ODD])
def test_a_status_that_neither_gives_nor_refuses_a_report_costs_its_scan_alone(path, odd):
    with LoopbackEndpoint(odd) as server:
        predictions, failures = write(server, path, make_scans(2))
    assert len(predictions) == 1
    (failure,) = failures.values()
    told = f"HTTP {odd.status_code}, which neither gives nor refuses a report."
    assert failure == {"failure": "malformed", "detail": told}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("code", ["100", "204", 999])
def test_a_code_that_is_no_refusal_costs_its_scan_alone(path, code):
    with LoopbackEndpoint(JSONResponse({"error": {"code": code, "message": "odd"}})) as server:
        predictions, failures = write(server, path, make_scans(2))
    assert len(predictions) == 1 and [failure["failure"] for failure in failures.values()] == ["malformed"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("form", ["\\u{:04x}", "\\u{:04X}", "%{:02X}", "{:c}"])
def test_a_key_with_escapes_is_shown_nowhere(path, monkeypatch, form, status):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    escaped = "".join(form.format(ord(letter)) for letter in KEY)
    told = ""
    with LoopbackEndpoint(PlainTextResponse(f'{{"said": "{escaped}"}}', status)) as server:
        try:
            _, failures = write(server, path, make_scans(1), tries=1)
            told = str(failures)
        except EndpointError as error:
            told = str(error)
    assert '{"said": "***"}' in told


@pytest.mark.slow_but_first
@pytest.mark.parametrize("text", ["9999", "1e400", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_that_is_too_long_is_not_waited_for(path, text):
    with LoopbackEndpoint(error(429, "slow down", **{"Retry-After": text})) as server:
        predictions, failures = write(server, path, make_scans(2))
        assert len(server.bodies) == 2 and len(predictions) == 1
    (failure,) = failures.values()
    assert failure["failure"] == "unanswered" and "which is too long" in failure["detail"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("text", ["nan", "-1", "soon", "²", "Fri, 31 Dec 99999 23:59:59 GMT", ""])
def test_a_wait_that_says_nothing_is_none(path, text):
    with LoopbackEndpoint(error(503, "busy", **{"Retry-After": text.encode().decode("latin-1")})) as server:
        assert len(write(server, path, make_scans(1))[0]) == 1


async def drip():
    while True:
        yield b" "
        await asyncio.sleep(0.02)


@pytest.mark.slow
def test_an_answer_that_drips_ends_with_its_time(path):
    scans = make_scans(2)
    with LoopbackEndpoint(StreamingResponse(drip())) as server:
        predictions, failures = write(server, path, scans, timeout=0.5, tries=1)
    assert len(predictions) == 1
    assert list(failures.values()) == [{"failure": "unanswered", "detail": "no answer within 0.5 s, at try 1"}]


@pytest.mark.slow
def test_headers_that_drip_end_with_their_time(path):
    """A server that never comes to the body."""

    def serve(listener):
        with suppress(OSError):  # the client hangs up
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    connection.sendall(b"A: b\r\n")
                    time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        endpoint = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "m", deidentified=True, timeout=0.5)
        with pytest.raises(TimeoutError):
            send(endpoint, "GET", "models", seconds=0.5)
        thread.join()


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("answers", "timeout", "detail"),
    [
        (lambda: StreamingResponse(drip()), 0.2, "no answer within"),
        (lambda: error(503, "busy"), 60, "HTTP 503: busy"),
        (lambda: error(429, "slow down", **{"Retry-After": "100"}), 60, "HTTP 429: slow down"),
    ],
    ids=["drip", "busy", "Retry-After"],
)
def test_all_tries_of_a_scan_together_end_in_time(path, answers, timeout, detail):
    with LoopbackEndpoint(*(answers() for _ in range(99))) as server:
        options = {"timeout": timeout, "tries": 99, "backoff": 0.1, "seconds_per_scan": 2}
        predictions, failures = write(server, path, make_scans(1), **options)
        assert server.times[-1] - server.times[0] < 2 and len(server.times) < 20
    (failure,) = failures.values()
    assert not predictions and failure["failure"] == "unanswered"
    assert failure["detail"].startswith(detail) and failure["detail"].endswith("The 2 s of a scan are over")


@pytest.mark.slow_but_first
def test_a_try_that_the_time_of_a_scan_ends_is_told_by_what_was_met_before(path):
    """A busy server that then says nothing: the busy server is the reason."""
    with LoopbackEndpoint(error(503, "busy"), StreamingResponse(drip())) as server:
        options = {"timeout": 60, "tries": 99, "backoff": 0.01, "seconds_per_scan": 1}
        (failure,) = write(server, path, make_scans(1), **options)[1].values()
    assert failure["detail"] == "HTTP 503: busy, at try 2. The 1 s of a scan are over"


@pytest.mark.slow
def test_a_redirect_takes_neither_slices_nor_key_to_another_server(path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LoopbackEndpoint() as other:
        for status in (301, 302, 303, 307, 308):
            moved = RedirectResponse(f"{other.url}/chat/completions", status)
            with LoopbackEndpoint(moved) as server, pytest.raises(EndpointError, match=f"HTTP {status}"):
                write(server, path)
            assert len(server.bodies) == 1
    assert not other.bodies
