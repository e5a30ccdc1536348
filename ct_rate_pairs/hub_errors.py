"""
What a failed request to the Hub means. Only the type and the status of the answer decide, never the address that the
answer came from: a mirror (`HF_ENDPOINT`) or a redirect may send a request to any server.
"""

import re

from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


# The meaning of an error, by its type. The first type that fits counts: a gated repository is a subclass of a missing
# one, which is also how the Hub answers for a repository that a token may not see.
_TYPES = {
    OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, so that nothing is asked",
    FileMetadataError: "the server does not answer as a Hub does: look at HF_ENDPOINT and the proxy",
    DisabledRepoError: "the repository is disabled",
    RevisionNotFoundError: "there is no such branch, tag or commit",
    RemoteEntryNotFoundError: "there is no such file",
}
_NO_TOKEN = "there is no token, or it is not valid"
_STATUS = {
    401: _NO_TOKEN,
    403: "this account has not been granted access",
    404: "there is nothing at this address, or this token may not see it",
    429: "the number of requests is limited",
}


# `hf_xet` raises plain errors, which tell the status of the storage's answer in their text only.
_XET_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})")


def status_of(error: BaseException) -> int | None:
    """The HTTP status of the answer; `None` if no server has answered."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code
    told = _XET_STATUS.search(str(error)) if isinstance(error, RuntimeError | ConnectionError) else None
    return int(told[1]) if told else None


def is_refusal(error: BaseException) -> bool:
    """Whether another try cannot help: a server has answered, and not because it fails or is overloaded."""
    if isinstance(error, OfflineModeIsEnabled | FileMetadataError):
        return True
    status = status_of(error)
    return status is not None and status < 500 and status not in (408, 425, 429)


def may_have_expired(error: BaseException) -> bool:
    """
    Whether a storage may have refused a download because its signed address has expired. Another try gets a new one.

    A Hub says in a header why it refuses, and a mirror passes the header on. A storage says nothing. Only downloads
    (`GET`) are sent to a storage.
    """
    response = getattr(error, "response", None)  # `hf_xet` gives none, and renews its addresses by itself
    if response is None or response.status_code not in (400, 403) or response.request.method != "GET":
        return False
    return not any(header in response.headers for header in ("X-Error-Code", "X-Error-Message"))


def explain(error: BaseException) -> str:
    """
    The meaning of an error in words. The text of the error is left out, because it may hold a signed address or the
    token.
    """
    status = status_of(error)
    if isinstance(error, GatedRepoError):
        told = f"it is a gated repository, and {_NO_TOKEN if status == 401 else _STATUS[403]}"
    elif isinstance(error, RepositoryNotFoundError):
        told = _NO_TOKEN if status == 401 else "there is no such repository, or this token may not see it"
    elif known := next((words for kind, words in _TYPES.items() if isinstance(error, kind)), ""):
        told = known
    elif status is None:
        return type(error).__name__
    else:
        told = _STATUS.get(status, "the server fails" if status >= 500 else "the request is refused")
    return f"HTTP {status}: {told}" if status else told
