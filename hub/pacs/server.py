"""
A DICOMweb server, such as a PACS: where requests go, what must hold before a password or a scan goes there, and what
an answer means.

A token, or a user and a password, come from the environment, and are written to no message, file or log. What the
server answers is never quoted, because it names patients.
"""

import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from ct_rate_pairs.loopback import is_here
from ct_rate_pairs.volumes.files import MOST_BYTES


T = TypeVar("T")
TOKEN = "CT_RATE_PAIRS_DICOMWEB_TOKEN"
USER, PASSWORD = "CT_RATE_PAIRS_DICOMWEB_USER", "CT_RATE_PAIRS_DICOMWEB_PASSWORD"
LOGIN = f"a token in the environment variable {TOKEN}, or a user in {USER} and a password in {PASSWORD}"
RETRIED = (408, 425, 429, 500, 502, 503, 504)
CONNECT_TIMEOUT = 10.0  # seconds until a server that is not there counts as such
MOST_JSON = 2**26  # bytes of a list: that of 5,000 instances has about 5 MB
PIECE = 2**16  # bytes of an answer that are read at a time
# What pydicom would inflate without a limit, and where an image tells that it is so.
_DEFLATED, _META = b"1.2.840.10008.1.2.1.99", 2**12
# Libraries that log addresses with UIDs, or values of a patient.
TALKATIVE = ("dicomweb_client", "retrying", "urllib3", "pydicom", "highdicom")


class PacsError(OSError):
    """The server does not give or take what it should. The message tells the remedy, and nothing of a patient."""


@dataclass
class DicomWebServer:
    """
    A DICOMweb server. It is asked for nothing before it is used.

    A token is read from the environment variable `CT_RATE_PAIRS_DICOMWEB_TOKEN`, or a user and a password from
    `CT_RATE_PAIRS_DICOMWEB_USER` and `CT_RATE_PAIRS_DICOMWEB_PASSWORD`. Certificates are verified. For those of an
    institution's own authority, `REQUESTS_CA_BUNDLE` names a file.

    Args:
        url (`str`):
            Base of the service, such as `"https://pacs.example.org/dicom-web"`.
        allow_http (`bool`, *optional*, defaults to `False`):
            Whether scans may travel unencrypted to another machine. A token or a password never does.
        timeout (`float`, *optional*, defaults to `60.0`):
            Seconds that the server may be silent.
        seconds (`float`, *optional*, defaults to `600.0`):
            Seconds that one answer, such as a slice, may take in all.
        tries (`int`, *optional*, defaults to `4`):
            Maximum number of times that a request is sent. It is sent again after an error of the network or the
            server, a time-out or a rate limit.
        backoff (`float`, *optional*, defaults to `1.0`):
            Seconds to wait before the second try. The wait doubles before each further try.

    Raises:
        `ValueError`: for an address that is none or holds a password; if the scan or the login would be sent
            unencrypted to another machine; for an incomplete login.
    """

    url: str
    allow_http: bool = False
    timeout: float = 60.0
    seconds: float = 600.0
    tries: int = 4
    backoff: float = 1.0
    host: str = field(init=False, repr=False)

    def __post_init__(self):
        """Checks the address and the login."""
        try:
            url = urlsplit(self.url)
            self.host, is_plain = url.hostname or "", re.fullmatch(r"[!-~]+", self.url)
        except ValueError:
            url, self.host, is_plain = None, "", None
        if not self.host or not is_plain or url.scheme not in ("http", "https") or "@" in url.netloc:
            # Not quoted: it may hold a password.
            raise ValueError(
                "The DICOMweb address has to be the base of the service, with http:// or https://, such as "
                f"https://pacs.example.org/dicom-web. A login does not belong into it: put {LOGIN}."
            )
        if url.query or url.fragment:
            raise ValueError(f"The DICOMweb address has a part behind ? or #: leave it out. For a login, put {LOGIN}.")
        login = read_login()
        if url.scheme == "http" and not is_here(self.host):
            if login:
                raise ValueError(f"The login would go to {self.host} unencrypted: use https, or unset its variables.")
            if not self.allow_http:
                raise ValueError(
                    f"The scan would come from {self.host} unencrypted, and everybody on the way could read it: use "
                    "https, or a tunnel (ssh -L 8042:localhost:8042 SERVER). If every machine on the way is yours, "
                    "pass --allow_http."
                )
        self.url = self.url.rstrip("/")

    @cached_property
    def client(self) -> DICOMwebClient:
        """The client of the server."""
        session = requests.Session()
        session.auth = _Login()
        # The environment names certificates, and proxies, which only pass on what is encrypted.
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        session.trust_env = self.url.startswith("https:") and not is_here(self.host)
        session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self.seconds))
        client = DICOMwebClient(self.url, session, timeout=(min(CONNECT_TIMEOUT, self.timeout), self.timeout))
        client.set_http_retry_params(retry=False)  # `ask` does
        return client

    def ask(self, what: str, request: Callable[[DICOMwebClient], T]) -> T:
        """
        The answer to a request, which is sent again after temporary errors.

        Args:
            what (`str`):
                What the server is asked to do, in messages, such as `"give the series of the study"`.
            request (`Callable[[DICOMwebClient], T]`):
                Sends the request and reads its answer.

        Raises:
            [`PacsError`]: if there is no answer, or not the one that was asked for.
        """
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.backoff * 2 ** (attempt - 1))
            try:
                with unheard():
                    return request(self.client)
            except PacsError:
                raise
            except requests.HTTPError as error:
                status = error.response.status_code
                if status not in RETRIED:
                    raise PacsError(f"{self.host} does not {what}. {_refusal(status)}") from None
                problem = f"it answers HTTP {status}. Try again later"
            except requests.exceptions.SSLError:
                raise PacsError(
                    f"{self.host}: its certificate or encryption is not accepted. If the certificate is from your "
                    "institution's own authority, name the file of that authority in the environment variable "
                    "REQUESTS_CA_BUNDLE."
                ) from None
            except requests.ConnectTimeout:
                problem = f"no connection within {CONNECT_TIMEOUT:g} s. Check the address and the network"
            except requests.Timeout:
                problem = f"no answer within {self.timeout:g} s. Try again when the server has less to do"
            except requests.ConnectionError:
                problem = "no connection, or it broke. Check the address and whether the server runs"
            except requests.exceptions.ChunkedEncodingError:
                problem = "the connection broke in the middle of an answer. Check whether the server runs"
            except Exception as error:
                # Of `json`, `pydicom` and the client: their words quote the answer.
                raise PacsError(
                    f"{self.host} answers, but does not {what} in the form of DICOMweb ({type(error).__name__}). "
                    "Check the address: it ends with a path such as /dicom-web, and is no page for people."
                ) from None
        raise PacsError(f"{self.host} does not {what}: {problem} (tries: {self.tries}).")


def read_login() -> AuthBase | None:
    """
    The login from the environment, or `None`. It is read at each use, and stored nowhere.

    Raises:
        `ValueError`: if a part of it is missing, or if there are two.
    """
    token, user, password = (os.environ.get(name, "").strip() for name in (TOKEN, USER, PASSWORD))
    if bool(user) != bool(password):
        raise ValueError(f"{USER if user else PASSWORD} is set, and {PASSWORD if user else USER} is not: set both.")
    if token and user:
        raise ValueError(f"{TOKEN} and {USER} are both set: unset the one that is not for this server.")
    if token and not re.fullmatch(r"[!-~]+", token):
        raise ValueError(f"{TOKEN} holds characters that no token has.")  # an error about the header would print it
    if token:
        return _Bearer(token)
    return HTTPBasicAuth(user.encode(), password.encode()) if user else None


class _Bearer(AuthBase):
    def __init__(self, token: str):
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class _Login(AuthBase):
    """The login of the environment at the time of each request. Without one, the file `.netrc` is not asked."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        login = read_login()
        return login(request) if login else request


def _refusal(status: int) -> str:
    """What an HTTP status means, and the remedy."""
    if status == 401 and read_login() is None:
        return f"HTTP 401: it asks for a login. Put {LOGIN}."
    return {
        401: f"HTTP 401: the login is wrong or has expired. It is {LOGIN}.",
        403: "HTTP 403: this login may not do that. Ask who runs the server for the right to do so.",
        404: "HTTP 404: it has nothing of that kind. Check the UIDs, and the address of the service.",
        405: "HTTP 405: the service is not offered at this address. Check the address.",
        406: "HTTP 406: it cannot send DICOM files. Ask who runs the server.",
        409: "HTTP 409: it refuses what it was sent. Ask who runs the server whether it takes such files.",
        413: "HTTP 413: what it was sent is too large for it. Ask who runs the server.",
        415: "HTTP 415: it does not take files of this kind. Ask who runs the server.",
    }.get(status, f"HTTP {status}. Check the address.")


class _Adapter(HTTPAdapter):
    """Sends requests, follows no redirects, and bounds what is read of an answer, in bytes and in seconds."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        super().__init__()

    def build_response(self, req, resp):
        response = super().build_response(req, resp)
        if 300 <= response.status_code < 400:
            raise PacsError("The server sends on to another address. Give that address, if you trust it.")
        response.raw = _Body(resp, response.headers.get("Content-Type", ""), time.monotonic() + self.seconds)
        return response


class _Body:
    """The body of an answer. Reading it fails where it is too long, too slow or cut."""

    def __init__(self, body, kind: str, end: float):
        self.body, self.end = body, end
        self.is_multipart, self.left = (
            kind.lower().startswith("multipart"),
            MOST_JSON if "json" in kind else MOST_BYTES,
        )

    def stream(self, _: int, decode_content: bool | None = None) -> Iterator[bytes]:
        start = last = b""
        # As it comes: a whole piece may take a slow server for ever.
        while piece := self.body.read1(PIECE, decode_content=decode_content):
            self.left -= len(piece)
            if self.left < 0:
                raise PacsError("The server sends more than any scan has. Check the address and the UIDs.")
            if time.monotonic() > self.end:
                raise requests.Timeout
            start, last = (start + piece)[:_META], (last + piece)[-256:]
            if self.is_multipart and _DEFLATED in start:
                raise PacsError("The server keeps the series deflated, which is read from a folder only: export it.")
            yield piece
        # A connection without a length may be cut unnoticed. The boundary behind the last part ends with two dashes.
        if self.is_multipart and not last.rstrip().endswith(b"--"):
            raise requests.exceptions.ChunkedEncodingError

    def __getattr__(self, name: str):
        return getattr(self.body, name)


@contextmanager
def unheard() -> Iterator[None]:
    """Leaves out what libraries log and warn of: they quote addresses with UIDs, and values of a patient."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
