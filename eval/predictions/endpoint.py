"""
An OpenAI-compatible endpoint, self-hosted or commercial: where requests go, and what must hold before slices or a key
are sent there. The API key comes from the environment, and is written to no message, file or log.

`endpoint_request.py` writes a request, `endpoint_client.py` sends it, `endpoint_answer.py` reads the answer, and
`endpoint_predictions.py` does this for the scans of a split.
"""

import math
import os
import re
from dataclasses import dataclass
from typing import Literal

import httpx2

from ct_rate_pairs.loopback import is_here
from ct_rate_pairs.trainer.chat_template import DEFAULTS
from ct_rate_pairs.trainer.pair_collator import MM_PER_SECOND


KEY = "OPENAI_API_KEY"
NOT_SENT = (
    "Slices of a CT would leave this machine for {url}. Make sure that nothing in the slices or in the prompt "
    "identifies the patient, and that the terms of the data and your institution allow sending them (CT-RATE: no "
    "redistribution). Then pass --i_have_deidentified true."
)
CONNECT_TIMEOUT = 10.0  # seconds until an endpoint that is not there counts as such


class EndpointError(OSError):
    """The endpoint refuses every request, or no longer answers."""


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
        seconds_per_scan (`float`, *optional*, defaults to `600.0`):
            Seconds for all tries of one scan together, with the waits between them. After that time, the request
            counts as unanswered, however slowly or often the server has answered.
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
    seconds_per_scan: float = 600.0
    tries: int = 6
    backoff: float = 2.0
    allow_http: bool = False

    def __post_init__(self):
        """Checks the URL, the user's statement, and that nothing would be sent unencrypted to another machine."""
        if self.chat_template_kwargs is None:
            self.chat_template_kwargs = DEFAULTS
        if not self.deidentified:
            raise ValueError(NOT_SENT.format(url=self.url))
        try:
            url = httpx2.URL(self.url)
        except httpx2.InvalidURL:
            url = httpx2.URL()  # refused below: a message about the address would print a key in it
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
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

    def not_there(self, error: httpx2.TransportError) -> str:
        """The message for a connection that cannot be made, such as a refused one."""
        cause: BaseException = error
        while inner := cause.__cause__ or cause.__context__:
            cause = inner  # of several addresses of a host, the client says only that all failed
        told = without_key(str(cause)) or f"no connection within {CONNECT_TIMEOUT:g} s"
        return f"{self.url} cannot be reached: {told}. Start the server, or correct --endpoint."


def api_key() -> str:
    """The key from the environment, or an empty string. The key is read at each use, and stored nowhere."""
    key = os.environ.get(KEY, "").strip()
    if key and not re.fullmatch(r"[!-~]+", key):
        raise ValueError(f"{KEY} holds characters that no key has.")  # an error about the header would print the key
    return key


def without_key(text: str) -> str:
    """A text of the server or the network, in which `***` replaces the key, in any case and with escapes."""
    if not (key := api_key()):
        return text
    # Each letter as it is, or as JSON or an address may write it.
    letters = (rf"(?:\\?{re.escape(letter)}|\\u00{ord(letter):02x}|%{ord(letter):02x})" for letter in key)
    return re.sub("".join(letters), "***", text, flags=re.IGNORECASE)
