"""
Reports from an OpenAI-compatible endpoint, self-hosted or commercial.

A request holds the pixels of the slices, the row's prompt, and a description of how the slices are laid out. It never
holds a volume's name, a label or the reference. The API key comes from the environment, and is written to no message,
file or log.
"""

import base64
import json
import os
import random
import re
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Literal, NamedTuple

import httpx2
from accelerate import PartialState
from datasets import Dataset
from PIL import Image
from tqdm.auto import tqdm

from ct_rate_pairs.readable_rows import is_readable

from .montage import montage, with_layout
from .store import append_predictions, resume_predictions


PREFIX = "openai:"
KEY = "OPENAI_API_KEY"
NOT_SENT = (
    "Slices of a CT would leave this machine for {url}. Make sure that nothing in the slices or in the prompt "
    "identifies the patient, and that the terms of the data and your institution allow sending them (CT-RATE: no "
    "redistribution). Then pass --i_have_deidentified true."
)
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
LONGEST_WAIT = 120.0  # seconds
UNANSWERED_IN_A_ROW = 5
# Codes of an HTTP 400 error that concern the content of one scan, not the request as such.
FILTER_CODES = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
# A refusal in words. Taken for a report, a refusal would state no finding and score as the report of a normal scan.
REFUSAL = re.compile(
    r"[\W_]*(?:(?:i[’']m|i am) (?:\w+ ){0,2}sorry|sorry\b|(?:i|my) apolog|i regret|unfortunately,? (?:i|as)\b|"
    r"as an ai\b|(?:i am|i[’']m) (?:un|not )able|i (?:can(?:no|[’'])t|won[’']t be able|(?:do not|don[’']t) have the)|"
    r"抱歉|很抱歉|对不起|我(?:无法|不能)|作为(?:一个|一名)?(?:人工智能|ai))",
    re.IGNORECASE,
)


class EndpointError(OSError):
    """The endpoint refuses every request, or no longer answers."""


class UnansweredError(OSError):
    """A request got no answer in any of its tries."""


@dataclass
class Endpoint:
    """
    Where requests are sent, and how long and how often they are tried.

    Args:
        url (`str`):
            Base of the API, such as `"http://127.0.0.1:8000/v1"`; requests go to `URL/chat/completions`.
        model (`str`):
            Name of the model at the endpoint.
        deidentified (`bool`, *optional*, defaults to `False`):
            Must be `True`: the user's statement that slices and prompts may be sent to the endpoint.
        slices_as (`str`, *optional*, defaults to `"slices"`):
            `"slices"`: one image per slice; `"montage"`: all slices in one picture. Services scale large pictures
            down.
        timeout (`float`, *optional*, defaults to `300.0`):
            Seconds to wait for an answer.
        tries (`int`, *optional*, defaults to `6`):
            Maximum number of times that a request is sent. A request is sent again after an error of the network or
            the server, a time-out or a rate limit.
        backoff (`float`, *optional*, defaults to `2.0`):
            Seconds to wait before the second try; the wait doubles before each further try. If the server sends
            `Retry-After`, at least that time is waited.

    Raises:
        `ValueError`: without `deidentified`; for an invalid URL; if the key would be sent unencrypted to another
            machine.
    """

    url: str
    model: str
    deidentified: bool = False
    slices_as: Literal["slices", "montage"] = "slices"
    timeout: float = 300.0
    tries: int = 6
    backoff: float = 2.0

    def __post_init__(self):
        """Checks the URL, the user's statement, and that the key would not be sent unencrypted."""
        if not self.deidentified:
            raise ValueError(NOT_SENT.format(url=self.url))
        url = httpx2.URL(self.url)
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
            raise ValueError(
                "The endpoint has to be the base of an API, such as http://127.0.0.1:8000/v1; a key belongs into the "
                f"environment variable {KEY}."
            )
        if api_key() and url.scheme == "http" and url.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError(f"The key in {KEY} would go to {url.host} unencrypted: use https, or unset the variable.")

    def client(self) -> httpx2.Client:
        """A client that threads may share. Redirects are not followed: slices go only where the user said."""
        key = api_key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url.rstrip("/") + "/", headers=headers, timeout=self.timeout)


def api_key() -> str:
    """The key from the environment, or an empty string. The key is read at each use, and stored nowhere."""
    key = os.environ.get(KEY, "").strip()
    if key and not re.fullmatch(r"[!-~]+", key):
        raise ValueError(f"{KEY} holds characters that no key has.")  # an error about the header would print the key
    return key


def without_key(text: str) -> str:
    """A message of the server or the network, in which `***` replaces the key."""
    key = api_key()
    return text.replace(key, "***") if key else text


class Answer(NamedTuple):
    """A report, or in `failure` the reason why there is no report."""

    report: str
    failure: str = ""  # "refusal", "content_filter", "length", "empty", "malformed" or "unanswered"
    detail: str = ""


def request_body(row: dict, endpoint: Endpoint, max_new_tokens: int) -> dict:
    """
    The request for a row: the pictures, then a description of their layout and the row's prompt, at temperature 0.

    Args:
        row (`dict`):
            Row of the dataset. Only `images`, `slice_mm` and `prompt` are used.
        endpoint ([`Endpoint`]):
            The endpoint; its `model` and `slices_as` are used.
        max_new_tokens (`int`):
            Maximum length of a report, in the model's tokens.

    Returns:
        `dict`: the body of a chat completion request.
    """
    as_montage = endpoint.slices_as == "montage"
    pictures = [montage(row["images"])] if as_montage else row["images"]
    content = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in pictures]
    *before, question = with_layout(row, as_montage)
    content.append({"type": "text", "text": question["content"]})
    return {
        "model": endpoint.model,
        "messages": [*before, question | {"content": content}],
        "temperature": 0,
        "max_tokens": max_new_tokens,
    }


def data_url(picture: Image.Image) -> str:
    """The picture as a PNG data URL, with its pixels alone: metadata of the image file is removed."""
    buffer = BytesIO()
    clean = picture.copy()
    clean.info = {}
    clean.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ask(client: httpx2.Client, endpoint: Endpoint, body: dict, stop: Event) -> Answer:
    """
    Sends one request, again after temporary errors; after `stop` is set, no further try is made.

    Returns:
        [`Answer`]: the report, or the failure of this scan with the server's words in `detail`.

    Raises:
        `EndpointError`: if the server refuses the request as such: for a wrong key, an unknown model, or an account
            without credit.
    """
    try:
        response = post(client, endpoint, body, stop)
    except UnansweredError as error:
        return Answer("", "unanswered", str(error))
    if response.status_code != httpx2.codes.OK:
        return Answer("", "content_filter", error_of(response)[1])
    return read_answer(response)


def post(client: httpx2.Client, endpoint: Endpoint, body: dict, stop: Event) -> httpx2.Response:
    """The server's answer after retries: a success, or the refusal of this scan's content. See [`ask`]."""
    for attempt in range(endpoint.tries):
        # Random, so that threads do not retry together.
        pause = min(endpoint.backoff * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
        try:
            response = client.post("chat/completions", json=body)
        except httpx2.TimeoutException:
            problem = f"no answer within {endpoint.timeout:g} s"
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            problem = f"{type(error).__name__}: {without_key(str(error))}"
        else:
            code, message = error_of(response)
            # Some servers answer 200 and put the actual status into the body.
            status = int(code) if response.status_code == httpx2.codes.OK and code.isdigit() else response.status_code
            if status == httpx2.codes.OK or code in FILTER_CODES:
                return response
            problem = f"HTTP {status}: {message}"
            if status not in RETRIED or code == "insufficient_quota":
                raise EndpointError(f"{endpoint.url} refuses requests for {endpoint.model!r}. {problem}")
            pause = max(pause, retry_after(response))
        if attempt + 1 == endpoint.tries or stop.wait(pause):
            break
    raise UnansweredError(f"{problem}, at try {attempt + 1}")


def error_of(response: httpx2.Response) -> tuple[str, str]:
    """Code and message of an error, if the server gives them. No part of a rejected key is repeated."""
    if response.status_code == httpx2.codes.UNAUTHORIZED:
        return "", f"the key in {KEY} is missing or wrong"
    try:
        error = response.json()["error"]
        return str(error.get("code")), without_key(str(error["message"]))[:300]
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", without_key(response.text)[:300]


def retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks to wait, at most `LONGEST_WAIT`; 0 if it does not ask. Given as number or date."""
    told = response.headers.get("Retry-After", "")
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(told).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except ValueError:  # neither a number nor a date
            return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def read_answer(response: httpx2.Response) -> Answer:
    """The report in a successful response, or the reason why the response holds no report."""
    try:
        choice = response.json()["choices"][0]
        message = choice["message"]
        text, refusal, reason = (
            (message.get("content") or "").strip(),
            message.get("refusal"),
            choice.get("finish_reason"),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return Answer("", "malformed", without_key(response.text)[:300])
    if refusal:
        return Answer("", "refusal", refusal)
    if reason in ("length", "content_filter"):
        return Answer("", reason, text)
    if not text:
        return Answer("", "empty", f"finish_reason {reason}")
    if REFUSAL.match(text):
        return Answer("", "refusal", text)
    return Answer(text)


def write_endpoint_predictions(
    endpoint: Endpoint,
    scans: Dataset,
    path: str | Path,
    *,
    max_new_tokens: int = 1200,
    concurrency: int = 4,
    provenance: dict | None = None,
) -> tuple[dict[str, str], dict[str, dict]]:
    """
    Requests a report for each scan that has no report in the file yet, and appends each report when it arrives.

    A refused, truncated or empty answer is never taken for a report: it is written to `failures.json` beside the file,
    and the next call requests the report of this scan again.

    Args:
        endpoint ([`Endpoint`]):
            Where requests are sent.
        scans ([`~datasets.Dataset`]):
            Rows of a split. A row is read when its request is sent.
        path (`str` or `Path`):
            The `.jsonl` file, see [`~ct_rate_pairs.eval.predictions.store.write_predictions`].
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Maximum length of a report, in the model's tokens.
        concurrency (`int`, *optional*, defaults to `4`):
            Number of concurrent requests.
        provenance (`dict`, *optional*):
            What the reports depend on. It is written beside the file.

    Returns:
        `tuple`: two dicts in the order of `scans`, for these scans alone: the first maps a VolumeName to its report,
        the second maps the VolumeName of a failed scan to `failure` and `detail`.

    Raises:
        `EndpointError`: if the endpoint refuses all requests, or leaves five requests in a row unanswered. Reports
            that were written stay, and the same call continues.
        `ValueError`: if the file was begun with another `provenance`, or if there are several processes.
    """
    path, state = Path(path), PartialState()
    if state.num_processes > 1:
        raise ValueError("Use one process, or every process would pay for each scan: pass `concurrency` instead.")
    done = resume_predictions(path, provenance, state)
    failures: dict[str, dict] = {}
    unanswered = 0
    stop = Event()
    volumes: list[str] = scans.with_format(None)["volume"][:]
    missing = [index for index, volume in enumerate(volumes) if volume not in done]
    under_way: dict[Future, str] = {}

    def collect() -> None:
        """Waits for at least one answer, and writes what has arrived."""
        nonlocal unanswered
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            volume, answer = under_way.pop(future), future.result()
            if answer.failure:
                failures[volume] = {"failure": answer.failure, "detail": answer.detail}
                write_failures(failures, path)
            else:
                done[volume] = answer.report
                append_predictions(path, {volume: answer.report})
            bar.update()
            unanswered = unanswered + 1 if answer.failure == "unanswered" else 0
            if unanswered == UNANSWERED_IN_A_ROW:
                raise EndpointError(
                    f"{endpoint.url} left {unanswered} requests in a row unanswered, the last with: {answer.detail}. "
                    f"The reports so far are in {path}; the same command goes on."
                )

    write_failures(failures, path)
    with (
        endpoint.client() as client,
        ThreadPoolExecutor(concurrency) as pool,
        tqdm(total=len(volumes), initial=len(volumes) - len(missing), desc="Asking for reports", unit="scan") as bar,
    ):
        try:
            for index in missing:
                row = scans[index]
                if is_readable(row):
                    body = request_body(row, endpoint, max_new_tokens)
                    under_way[pool.submit(ask, client, endpoint, body, stop)] = row["volume"]
                if len(under_way) == concurrency:
                    collect()
            while under_way:
                collect()
        finally:
            stop.set()  # after an error or Ctrl+C, no request waits for another try
    return (
        {volume: done[volume] for volume in volumes if volume in done},
        {volume: failures[volume] for volume in volumes if volume in failures},
    )


def write_failures(failures: dict[str, dict], path: Path) -> None:
    """Writes `failures.json` beside the file of reports `path`."""
    (path.parent / "failures.json").write_text(json.dumps(failures, indent=2, ensure_ascii=False) + "\n")


def count_failures(failures: dict[str, dict]) -> dict[str, int]:
    """Number of scans without a report, by reason; for `results.json`."""
    return dict(Counter(failure["failure"] for failure in failures.values()).most_common())


def format_failures(failures: dict[str, dict], scans: int, folder: Path) -> str:
    """A line with the number of scans without a report, and the reasons."""
    if not failures:
        return f"All {scans} scans have a report."
    told = ", ".join(f"{number} {reason}" for reason, number in count_failures(failures).items())
    return (
        f"{len(failures)} of {scans} scans have NO report ({told}). They are listed in {folder / 'failures.json'} and "
        "not measured. The same command asks for them again."
    )
