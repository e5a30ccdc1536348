"""
Sends requests to an endpoint: only where the user said, within limits of bytes and seconds, and again after temporary
errors.
"""

import asyncio
import json
import random
import re
import time
from threading import Event
from typing import Any, NamedTuple

import httpx2

from ct_rate_pairs.loopback import is_here
from ct_rate_pairs.retry_after import retry_after

from .endpoint import CONNECT_TIMEOUT, KEY, Endpoint, EndpointError, api_key, without_key


TEMPLATE = "chat_template_kwargs"
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
LONGEST_WAIT = 120.0  # seconds
REFUSALS = (300, 301, 302, 303, 305, 307, 308, *range(400, 600))
MOST_BYTES = 2**24  # of an answer; that of a report has a few thousand
LONGEST_DETAIL = 300  # letters of an answer that a failure or a message quotes
# Codes of an HTTP 400 error that concern the content of one scan, not the request as such.
FILTER_CODES = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")


class UnansweredError(OSError):
    """A request got no answer in any of its tries."""


class OddAnswerError(OSError):
    """An answer is too long, in a form that was not asked for, or of a status that has no meaning here."""


class Reply(NamedTuple):
    """The answer to one request, whole and not longer than `MOST_BYTES`. The text holds no key."""

    status: int
    text: str
    retry_after: str = ""  # the header of this name


def connect(endpoint: Endpoint) -> httpx2.AsyncClient:
    """
    A client for one request. Redirects are not followed: slices go only where the user said. Proxies of the
    environment only pass on what is encrypted: they never see slices, nor what goes to this machine.
    """
    url = httpx2.URL(endpoint.url)
    # The body is read as it comes: what unpacks to gigabytes would have to be unpacked to be measured.
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if (key := api_key()) else {})
    timeout = httpx2.Timeout(endpoint.timeout, connect=min(endpoint.timeout, CONNECT_TIMEOUT))
    return httpx2.AsyncClient(
        base_url=endpoint.url.rstrip("/") + "/",
        headers=headers,
        timeout=timeout,
        trust_env=url.scheme == "https" and not is_here(url.host),
    )


def check_there(endpoint: Endpoint) -> None:
    """Raises an `EndpointError` if nothing listens at the URL. No slices are sent."""
    try:
        send(endpoint, "GET", "models", seconds=min(endpoint.timeout, CONNECT_TIMEOUT))
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise EndpointError(endpoint.not_there(error)) from error
    except (httpx2.TransportError, OddAnswerError, TimeoutError):
        pass  # something listens: the first request for a report tells what is wrong


def send(endpoint: Endpoint, method: str, path: str, *, seconds: float, body: dict | None = None) -> Reply:
    """
    One request and its answer. Neither takes longer than `seconds` together, however slowly a server sends.

    Raises:
        `httpx2.TransportError`: if there is no connection, or if it breaks.
        `TimeoutError`: if the time is over.
        [`OddAnswerError`]: if the answer has more than `MOST_BYTES`, or is compressed.
    """

    async def exchange() -> Reply:
        async with (
            asyncio.timeout(seconds),
            connect(endpoint) as client,
            client.stream(method, path, json=body) as response,
        ):
            if (encoding := response.headers.get("Content-Encoding", "identity").strip().lower()) != "identity":
                raise OddAnswerError(f"The answer is compressed ({encoding:.20}), which was not asked for.")
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                if len(content) > MOST_BYTES:
                    raise OddAnswerError(f"The answer is longer than {MOST_BYTES:,} bytes.")
            text = without_key(content.decode("utf-8", "replace"))
            return Reply(response.status_code, text, response.headers.get("Retry-After", ""))

    return asyncio.run(exchange())


def post(endpoint: Endpoint, body: dict, stop: Event) -> Reply:
    """The server's answer after retries: a success, or the refusal of this scan's content. See `ask`."""
    end = time.monotonic() + endpoint.seconds_per_scan
    problem = ""
    for attempt in range(endpoint.tries):
        seconds = min(endpoint.timeout, end - time.monotonic())
        # Random, so that threads do not retry together.
        pause = min(endpoint.backoff * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
        try:
            reply = send(endpoint, "POST", "chat/completions", seconds=seconds, body=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if attempt + 1 == endpoint.tries:
                raise EndpointError(endpoint.not_there(error)) from error
            problem = f"{type(error).__name__}: {without_key(str(error))}"
        except (httpx2.TimeoutException, TimeoutError):
            # Where the scan's own time ended this try, what the tries before met says more.
            problem = problem if problem and seconds < endpoint.timeout else f"no answer within {seconds:.3g} s"
        except httpx2.TransportError as error:
            problem = f"{type(error).__name__}: {without_key(str(error))}"
        else:
            code, message = error_of(reply)
            # Some servers answer 200 and put the actual status into the body.
            in_body = reply.status == httpx2.codes.OK and re.fullmatch("[45][0-9]{2}", code)
            status = int(code) if in_body else reply.status
            if status == httpx2.codes.OK or code in FILTER_CODES:
                return reply
            if status not in REFUSALS:
                raise OddAnswerError(f"HTTP {status}, which neither gives nor refuses a report.")
            problem = f"HTTP {status}: {message}"
            if status not in RETRIED or code == "insufficient_quota":
                remedy = " Pass --chat_template_kwargs '{}', if it does not know them." if TEMPLATE in message else ""
                raise EndpointError(f"{endpoint.url} refuses requests for {endpoint.model!r}. {problem}{remedy}")
            if (asked := retry_after(reply.retry_after) or 0.0) > LONGEST_WAIT:
                raise UnansweredError(f"{problem}. It asks to wait {asked:.0f} s, which is too long")
            pause = max(pause, asked)
        if time.monotonic() + pause >= end:
            over = f"The {endpoint.seconds_per_scan:g} s of a scan are over"
            raise UnansweredError(f"{problem}, at try {attempt + 1}. {over}")
        if attempt + 1 == endpoint.tries or stop.wait(pause):
            break
    raise UnansweredError(f"{problem}, at try {attempt + 1}")


def json_of(reply: Reply) -> Any:
    """The JSON of an answer; `None` if it is none, or nested too deeply."""
    try:
        return json.loads(reply.text)
    except (ValueError, RecursionError):
        return None


def error_of(reply: Reply) -> tuple[str, str]:
    """Code and message of an error, if the server gives them. No part of a rejected key is repeated."""
    if reply.status == httpx2.codes.UNAUTHORIZED:
        return "", f"the key in {KEY} is missing or wrong"
    try:
        error = json_of(reply)["error"]
        return str(error.get("code"))[:LONGEST_DETAIL], quoted(str(error["message"]))
    except (LookupError, TypeError, AttributeError):
        return "", quoted(reply.text)


def quoted(text: str) -> str:
    """The beginning of what a server says, without the key and without halves of characters."""
    return without_key(text)[:LONGEST_DETAIL].encode("utf-8", "replace").decode()
