"""
Reports from an OpenAI-compatible endpoint, self-hosted or commercial.

A request holds the pixels of the slices, the row's prompt, and a description of how the slices are laid out. It never
holds a volume's name, a label or the reference. The API key comes from the environment, and is written to no message,
file or log.
"""

import asyncio
import base64
import json
import math
import os
import random
import re
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple

import httpx2
from accelerate import PartialState
from datasets import Dataset
from PIL import Image
from tqdm.auto import tqdm

from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.trainer.chat_template import DEFAULTS, without_thought
from ct_rate_pairs.trainer.generation import MOST_CUT, Written
from ct_rate_pairs.trainer.pair_collator import MM_PER_SECOND
from ct_rate_pairs.trainer.row_checks import depths_of
from ct_rate_pairs.whole_files import write_whole

from .montage import montage, with_layout
from .store import append_predictions, resume_predictions


PREFIX = "openai:"
KEY = "OPENAI_API_KEY"
NOT_SENT = (
    "Slices of a CT would leave this machine for {url}. Make sure that nothing in the slices or in the prompt "
    "identifies the patient, and that the terms of the data and your institution allow sending them (CT-RATE: no "
    "redistribution). Then pass --i_have_deidentified true."
)
TEMPLATE = "chat_template_kwargs"
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
LONGEST_WAIT = 120.0  # seconds
UNANSWERED_IN_A_ROW = 5
CONNECT_TIMEOUT = 10.0  # seconds until an endpoint that is not there counts as such
MOST_BYTES = 2**24  # of an answer; that of a report has a few thousand
LONGEST_REPORT = 100_000  # letters; the longest of CT-RATE has 6,000
LONGEST_DETAIL = 300  # letters of an answer that a failure or a message quotes
# Codes of an HTTP 400 error that concern the content of one scan, not the request as such.
FILTER_CODES = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
# What servers say of an answer that met `max_tokens` before its end.
CUT_REASONS = ("length", "max_tokens", "MAX_TOKENS", "max_output_tokens")
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


class OddAnswerError(OSError):
    """An answer is too long, or in a form that was not asked for."""


class Reply(NamedTuple):
    """The answer to one request, whole and not longer than `MOST_BYTES`. The text holds no key."""

    status: int
    text: str
    retry_after: str = ""  # the header of this name


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
            down. `"video"`: one video, in the form that vLLM takes, for a model that was trained here on videos
            (Qwen2.5-VL, Qwen3-VL, Qwen3.5). Its prompt is that of the training, without a description of the layout.
        mm_per_second (`float`, *optional*, defaults to `10.0`):
            Depth in mm that counts as one second of a video: that of the training. A server does not tell it.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the model's chat template, for servers that take them (vLLM, SGLang, llama.cpp). By default
            `{"enable_thinking": False}`; `{}` sends nothing.
        timeout (`float`, *optional*, defaults to `300.0`):
            Seconds from the beginning of a request to the last byte of its answer.
        tries (`int`, *optional*, defaults to `6`):
            Maximum number of times that a request is sent. A request is sent again after an error of the network or
            the server, a time-out or a rate limit.
        backoff (`float`, *optional*, defaults to `2.0`):
            Seconds to wait before the second try; the wait doubles before each further try. If the server sends
            `Retry-After`, at least that time is waited. If it is longer than two minutes, the request counts as
            unanswered.
        allow_http (`bool`, *optional*, defaults to `False`):
            Whether slices may be sent unencrypted to another machine, such as a server in the same room. A key is
            never sent so.

    Raises:
        `ValueError`: without `deidentified`; for an invalid URL; if the slices or the key would be sent unencrypted to
            another machine.
    """

    url: str
    model: str
    deidentified: bool = False
    slices_as: Literal["slices", "montage", "video"] = "slices"
    mm_per_second: float = MM_PER_SECOND
    chat_template_kwargs: dict | None = None
    timeout: float = 300.0
    tries: int = 6
    backoff: float = 2.0
    allow_http: bool = False

    def __post_init__(self):
        """Checks the URL, the user's statement, and that nothing would be sent unencrypted to another machine."""
        if self.chat_template_kwargs is None:
            self.chat_template_kwargs = DEFAULTS
        if not self.deidentified:
            raise ValueError(NOT_SENT.format(url=self.url))
        url = httpx2.URL(self.url)
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
            raise ValueError(
                "The endpoint has to be the base of an API, with http:// or https://, such as "
                f"http://127.0.0.1:8000/v1; a key belongs into the environment variable {KEY}."
            )
        if url.scheme == "http" and not is_here(url.host):
            if api_key():
                raise ValueError(
                    f"The key in {KEY} would go to {url.host} unencrypted: use https, or unset the variable."
                )
            if not self.allow_http:
                raise ValueError(
                    f"The slices would go to {url.host} unencrypted, and everybody on the way could read them: use "
                    "https, or a tunnel (ssh -L 8000:localhost:8000 SERVER, and --endpoint http://localhost:8000/v1). "
                    "If every machine on the way is yours, pass --allow_http true."
                )
        if not 0 < self.mm_per_second < math.inf:
            raise ValueError(f"mm_per_second={self.mm_per_second!r}: give a depth in mm above 0.")

    def client(self) -> httpx2.AsyncClient:
        """
        A client for one request. Redirects are not followed: slices go only where the user said. Proxies of the
        environment never see what goes to this machine.
        """
        # The body is read as it comes: what unpacks to gigabytes would have to be unpacked to be measured.
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if (key := api_key()) else {})
        timeout = httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECT_TIMEOUT))
        return httpx2.AsyncClient(
            base_url=self.url.rstrip("/") + "/",
            headers=headers,
            timeout=timeout,
            trust_env=not is_here(httpx2.URL(self.url).host),
        )

    def check_there(self) -> None:
        """Raises an `EndpointError` if nothing listens at the URL. No slices are sent."""
        try:
            send(self, "GET", "models", seconds=min(self.timeout, CONNECT_TIMEOUT))
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise EndpointError(self.not_there(error)) from error
        except (httpx2.TransportError, OddAnswerError, TimeoutError):
            pass  # something listens: the first request for a report tells what is wrong

    def not_there(self, error: httpx2.TransportError) -> str:
        """The message for a connection that cannot be made, such as a refused one."""
        cause: BaseException = error
        while inner := cause.__cause__ or cause.__context__:
            cause = inner  # of several addresses of a host, the client says only that all failed
        told = without_key(str(cause)) or f"no connection within {CONNECT_TIMEOUT:g} s"
        return f"{self.url} cannot be reached: {told}. Start the server, or correct --endpoint."


def is_here(host: str) -> bool:
    """Whether a host is this machine: `localhost`, or an address of the loopback."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


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
    failure: str = ""  # "refusal", "content_filter", "length", "thinking", "empty", "malformed" or "unanswered"
    detail: str = ""


def request_body(row: dict, endpoint: Endpoint, max_new_tokens: int) -> dict:
    """
    The request for a row: the pictures, then a description of their layout and the row's prompt, at temperature 0.

    Args:
        row (`dict`):
            Row of the dataset. Only `images`, `slice_mm` and `prompt` are used.
        endpoint ([`Endpoint`]):
            The endpoint; its `model`, `slices_as`, `mm_per_second` and `chat_template_kwargs` are used.
        max_new_tokens (`int`):
            Maximum length of a report, in the model's tokens.

    Returns:
        `dict`: the body of a chat completion request.
    """
    extra = {"chat_template_kwargs": endpoint.chat_template_kwargs} if endpoint.chat_template_kwargs else {}
    if endpoint.slices_as == "video":
        frames, fps = video_url(row, endpoint.mm_per_second)
        content = [{"type": "video_url", "video_url": {"url": frames}}]
        # All frames, with their distance in time: by default, vLLM takes 32 frames, and one frame per second.
        extra["media_io_kwargs"] = {"video": {"num_frames": -1, "fps": fps, "do_sample_frames": False}}
        *before, question = row["prompt"]
    else:
        as_montage = endpoint.slices_as == "montage"
        pictures = [montage(row["images"])] if as_montage else row["images"]
        content = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in pictures]
        *before, question = with_layout(row, as_montage)
    content.append({"type": "text", "text": text_of(question)})
    return {
        **extra,
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


def video_url(row: dict, mm_per_second: float) -> tuple[str, float]:
    """
    The slices as the frames of a video, and the frames per second at which time is depth.

    vLLM takes frames one after the other, separated by commas (`VideoMediaIO.load_base64` in its
    `vllm/multimodal/media/video.py`). It calls them JPEG, but opens each by its contents, so that PNG loses nothing.
    """
    frames = [data_url(image).partition(",")[2] for image in row["images"]]
    depths = depths_of(row)
    return f"data:video/jpeg;base64,{','.join(frames)}", mm_per_second * (len(depths) - 1) / (depths[-1] - depths[0])


def ask(endpoint: Endpoint, body: dict, stop: Event) -> Answer:
    """
    Sends one request, again after temporary errors; after `stop` is set, no further try is made.

    Returns:
        [`Answer`]: the report, or the failure of this scan with the server's words in `detail`.

    Raises:
        `EndpointError`: if the server refuses the request as such: for a wrong key, an unknown model, or an account
            without credit; or if it takes no connection in any of the tries.
    """
    try:
        reply = post(endpoint, body, stop)
    except UnansweredError as error:
        return Answer("", "unanswered", str(error))
    except OddAnswerError as error:
        return Answer("", "malformed", str(error))
    if reply.status != httpx2.codes.OK:
        return Answer("", "content_filter", error_of(reply)[1])
    return read_answer(reply)


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
            endpoint.client() as client,
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
    """The server's answer after retries: a success, or the refusal of this scan's content. See [`ask`]."""
    for attempt in range(endpoint.tries):
        # Random, so that threads do not retry together.
        pause = min(endpoint.backoff * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
        try:
            reply = send(endpoint, "POST", "chat/completions", seconds=endpoint.timeout, body=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if attempt + 1 == endpoint.tries:
                raise EndpointError(endpoint.not_there(error)) from error
            problem = f"{type(error).__name__}: {without_key(str(error))}"
        except (httpx2.TimeoutException, TimeoutError):
            problem = f"no answer within {endpoint.timeout:g} s"
        except httpx2.TransportError as error:
            problem = f"{type(error).__name__}: {without_key(str(error))}"
        else:
            code, message = error_of(reply)
            # Some servers answer 200 and put the actual status into the body.
            in_body = reply.status == httpx2.codes.OK and re.fullmatch("[1-5][0-9]{2}", code)
            status = int(code) if in_body else reply.status
            if status == httpx2.codes.OK or code in FILTER_CODES:
                return reply
            problem = f"HTTP {status}: {message}"
            if status not in RETRIED or code == "insufficient_quota":
                remedy = " Pass --chat_template_kwargs '{}', if it does not know them." if TEMPLATE in message else ""
                raise EndpointError(f"{endpoint.url} refuses requests for {endpoint.model!r}. {problem}{remedy}")
            if (asked := retry_after(reply)) > LONGEST_WAIT:
                raise UnansweredError(f"{problem}. It asks to wait {asked:.0f} s, which is too long")
            pause = max(pause, asked)
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


def retry_after(reply: Reply) -> float:
    """Seconds that the server asks to wait; 0 if it does not ask. Given as number or date."""
    told = reply.retry_after
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(told).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):  # neither a number nor a date
            return 0.0
    return 0.0 if math.isnan(seconds) else max(seconds, 0.0)


def read_answer(reply: Reply) -> Answer:
    """The report in a successful answer, or the reason why it holds no report."""
    try:
        choice = json_of(reply)["choices"][0]
        message = choice["message"]
        content, refusal, reason = message.get("content") or "", message.get("refusal"), choice.get("finish_reason")
        if isinstance(content, list):  # of parts, among which a thought may be
            content = "".join(part["text"] for part in content if part["type"] == "text")
        text = without_key(content.strip())
        text.encode()  # an answer may hold halves of characters, which no file takes
    except (LookupError, TypeError, AttributeError, UnicodeEncodeError):
        return Answer("", "malformed", quoted(reply.text))
    if refusal:
        return Answer("", "refusal", quoted(str(refusal)))
    if reason in (*CUT_REASONS, "content_filter"):
        return Answer("", "length" if reason in CUT_REASONS else reason, quoted(text))
    if len(text) > LONGEST_REPORT:
        return Answer("", "malformed", f"{len(text):,} letters, more than a report has: {quoted(text)}")
    report = without_thought(text)
    if not report:
        return Answer("", "thinking" if report is None else "empty", quoted(text or f"finish_reason {reason}"))
    return Answer("", "refusal", quoted(report)) if REFUSAL.match(report) else Answer(report)


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
        `EndpointError`: if the endpoint takes no connection, refuses all requests, or leaves five requests in a row
            unanswered. Reports that were written stay, and the same call continues.
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
                append_predictions(path, {volume: Written(answer.report, cut=False)})  # a cut answer is a failure
            bar.update()
            unanswered = unanswered + 1 if answer.failure == "unanswered" else 0
            if unanswered == UNANSWERED_IN_A_ROW:
                raise EndpointError(
                    f"{endpoint.url} left {unanswered} requests in a row unanswered, the last with: {answer.detail}. "
                    f"The reports so far are in {path}; the same command goes on."
                )

    write_failures(failures, path)
    with (
        ThreadPoolExecutor(concurrency) as pool,
        tqdm(total=len(volumes), initial=len(volumes) - len(missing), desc="Asking for reports", unit="scan") as bar,
    ):
        try:
            if missing:
                pool.submit(endpoint.check_there).result()  # in a thread, because a notebook has its own event loop
            for index in missing:
                row = scans[index]
                if is_readable(row):
                    body = request_body(row, endpoint, max_new_tokens)
                    under_way[pool.submit(ask, endpoint, body, stop)] = row["volume"]
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
    write_whole(path.parent / "failures.json", to_json(failures, indent=2) + "\n")


def count_failures(failures: dict[str, dict]) -> dict[str, int]:
    """Number of scans without a report, by reason; for `results.json`."""
    return dict(Counter(failure["failure"] for failure in failures.values()).most_common())


def format_failures(failures: dict[str, dict], scans: int, folder: Path) -> str:
    """A line with the number of scans without a report, and the reasons."""
    if not failures:
        return f"All {scans} scans have a report."
    counts = count_failures(failures)
    told = ", ".join(f"{number} {reason}" for reason, number in counts.items())
    remedy = " Cut reports (length): raise --max_new_tokens." if counts.get("length", 0) > MOST_CUT * scans else ""
    return (
        f"{len(failures)} of {scans} scans have NO report ({told}). They are listed in {folder / 'failures.json'} and "
        f"not measured. The same command asks for them again.{remedy}"
    )
