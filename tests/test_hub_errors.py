"""An answer of the Hub is told by its type and status, whatever address it came from."""

from importlib import import_module

import pytest
from helpers.xet_storage import XetStorage
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import hf_raise_for_status

from ct_rate_pairs.hub_errors import explain, is_refusal, may_have_expired
from ct_rate_pairs.sources import hub as hub_source
from ct_rate_pairs.sources.hub import CTRateAccessError, _patiently


HTTPX = import_module(HTTPError.__module__.partition(".")[0])  # of the version that the client uses
GATED = {"X-Error-Code": "GatedRepo"}
ADDRESSES = (f"{constants.ENDPOINT}/api/datasets/a/b", "https://mirror.example/datasets/a/b/resolve/main/c")


def answer(status: int, headers: dict | None = None, method: str = "GET", url: str = ADDRESSES[1]) -> HfHubHTTPError:
    """The error that the client makes of an answer."""
    with pytest.raises(HfHubHTTPError) as raised:
        hf_raise_for_status(HTTPX.Response(status, headers=headers or {}, request=HTTPX.Request(method, url)))
    return raised.value


@pytest.mark.parametrize("url", ADDRESSES)
@pytest.mark.parametrize(
    ("status", "headers", "told", "refused"),
    [
        (403, GATED, "gated repository, and this account has not been granted access", True),
        (401, GATED, "gated repository, and there is no token", True),
        (
            401,
            {"X-Error-Message": "Invalid credentials in Authorization header"},
            "no token, or it is not valid",
            True,
        ),
        (403, {"X-Error-Message": "Forbidden"}, "has not been granted access", True),
        (404, {"X-Error-Code": "RepoNotFound"}, "no such repository", True),
        (404, {"X-Error-Code": "RevisionNotFound"}, "no such branch, tag or commit", True),
        (404, {"X-Error-Code": "EntryNotFound"}, "no such file", True),
        (404, {}, "nothing at this address", True),
        (429, {"Retry-After": "1"}, "number of requests is limited", False),
        (408, {}, "HTTP 408", False),
        (500, {}, "the server fails", False),
        (503, {"X-Error-Code": "GatedRepo?"}, "the server fails", False),
    ],
)
def test_type_and_status_tell_what_an_answer_means(url, status, headers, told, refused):
    error = answer(status, headers, url=url)
    assert told in explain(error) and url not in explain(error)
    assert is_refusal(error) is refused


def test_only_a_download_that_is_refused_without_a_word_may_have_expired():
    assert may_have_expired(answer(403)) and may_have_expired(answer(400))
    assert not may_have_expired(answer(403, GATED))
    assert not may_have_expired(answer(403, method="HEAD"))
    assert not may_have_expired(answer(401)) and not may_have_expired(answer(404))
    assert not may_have_expired(TimeoutError())


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("status", "told"), [(401, "no token"), (403, "has not been granted access"), (404, "nothing at this address")]
)
def test_a_refusal_of_xet_is_one_and_its_address_is_not_shown(tmp_path, status, told):
    with XetStorage(status) as storage:
        for transfer in (lambda: storage.download(tmp_path / "file"), storage.upload):
            with pytest.raises((RuntimeError, ConnectionError)) as raised:
                transfer()
            assert is_refusal(raised.value) and not may_have_expired(raised.value)
            assert f"HTTP {status}: " in (shown := explain(raised.value)) and told in shown
            assert "http://" not in shown


@pytest.mark.slow
def test_a_download_that_xet_refuses_is_not_repeated(tmp_path, caplog):
    with XetStorage(403) as storage, pytest.raises(CTRateAccessError, match="refuses it .HTTP 403") as raised:
        _patiently("a.nii.gz", lambda: storage.download(tmp_path / "file"))
    assert "127.0.0.1" not in str(raised.value) and "Trying again" not in caplog.text


@pytest.mark.parametrize(
    "error", [RuntimeError("Task error: connection reset"), ConnectionError("Network error: no route")]
)
def test_a_connection_that_xet_has_lost_is_tried_again(error, monkeypatch):
    monkeypatch.setattr(hub_source, "FIRST_WAIT", 0.01)
    assert not is_refusal(error) and explain(error) == type(error).__name__
    answers = iter([error])

    def request() -> str:
        for lost in answers:
            raise lost
        return "there"

    assert _patiently("a.nii.gz", request) == "there"


def test_offline_is_a_refusal_that_no_server_has_given():
    assert is_refusal(OfflineModeIsEnabled("no")) and "HF_HUB_OFFLINE" in explain(OfflineModeIsEnabled("no"))
    assert not is_refusal(ConnectionError("hf_secret")) and explain(ConnectionError("hf_secret")) == "ConnectionError"
