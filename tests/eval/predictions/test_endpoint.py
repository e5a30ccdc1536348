"""An endpoint is refused where slices or a key could be read on the way, and its key is written nowhere."""

import json
from contextlib import suppress

import httpx2
import pytest
from helpers.endpoint_scans import KEY, connect, make_scans, write
from helpers.loopback_endpoint import LoopbackEndpoint, answer, error
from starlette.responses import JSONResponse, PlainTextResponse

from ct_rate_pairs.eval.predictions.endpoint import Endpoint
from ct_rate_pairs.eval.predictions.endpoint_client import send
from ct_rate_pairs.loopback import is_here


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "predictions.jsonl"


def test_nothing_is_sent_without_the_users_word(path):
    with pytest.raises(ValueError, match=r"leave this machine for http://127.*--i_have_deidentified true"):
        Endpoint("http://127.0.0.1:1/v1", "some-model")


@pytest.mark.slow
def test_the_key_is_sent_in_its_header_and_written_nowhere(path, monkeypatch, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")  # as from a file
    with LoopbackEndpoint(error(503, f"busy, {KEY}"), JSONResponse({"echo": KEY})) as server:
        write(server, path, tries=2)
        endpoint = connect(server)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(server.bodies) and KEY not in repr(endpoint)
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    assert len(files) == 2 and not any(KEY in file.read_text() for file in files)
    assert KEY not in "".join(capfd.readouterr())


def test_without_a_key_none_is_sent(path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with LoopbackEndpoint() as server:
        write(server, path, make_scans(1))
    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://models.example.org/v1", "The key in OPENAI_API_KEY would go to models.example.org unencrypted"),
        ("models.example.org", "has to be the base"),
        ("https://models.example.org/v1#part", "has to be the base"),
        (f"https://me:{KEY}@[models/v1", "has to be the base"),
        (f"https://me:{KEY}@models.example.org/v1", "a key belongs into"),
    ],
)
def test_an_endpoint_that_would_give_the_key_away_is_refused(monkeypatch, url, message):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ValueError, match=message) as raised:
        Endpoint(url, "some-model", deidentified=True)
    assert KEY not in str(raised.value)
    Endpoint("https://models.example.org/v1", "some-model", deidentified=True)


HERE = ("localhost", "LOCALHOST.", "models.localhost", "127.0.0.1", "127.8.9.1", "[::1]", "[::ffff:127.0.0.1]")


ELSEWHERE = ("localhost.example.org", "127.0.0.1.example.org", "10.0.0.1", "0.0.0.1", "2130706433", "[fe80::1]", "gpu")


@pytest.mark.parametrize("host", ELSEWHERE)
def test_slices_go_unencrypted_to_another_machine_only_if_that_is_asked_for(monkeypatch, host):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    url = f"http://{host}:8000/v1"
    with pytest.raises(ValueError, match="The slices would go to .* unencrypted.*--allow_http true"):
        Endpoint(url, "m", deidentified=True)
    assert Endpoint(url, "m", deidentified=True, allow_http=True).url == url
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ValueError, match="The key in OPENAI_API_KEY would go to"):
        Endpoint(url, "m", deidentified=True, allow_http=True)


@pytest.mark.parametrize("host", HERE)
def test_this_machine_is_known_by_each_of_its_names(monkeypatch, host):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert is_here(httpx2.URL(f"http://{host}:8000/v1").host)
    assert Endpoint(f"http://{host}:8000/v1", "m", deidentified=True)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_does_not_see_what_goes_to_this_machine(path, monkeypatch, name):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for other in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    with LoopbackEndpoint() as proxy, LoopbackEndpoint() as server:
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        assert write(server, path, make_scans(2))[0]
    assert len(server.bodies) == 2 and not proxy.bodies


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_does_not_see_unencrypted_slices(monkeypatch, name):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with LoopbackEndpoint() as proxy:
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        endpoint = Endpoint("http://192.0.2.1:8000/v1", "m", deidentified=True, allow_http=True)  # no such machine
        with suppress(httpx2.TransportError, TimeoutError):
            send(endpoint, "POST", "chat/completions", seconds=0.5, body={})
    assert not proxy.bodies


def test_a_key_in_a_report_is_not_written(path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    text = f'{{"choices": [{{"message": {{"content": "A nodule, {escaped}."}}}}]}}'
    with LoopbackEndpoint(answer(f"A nodule, {KEY}."), PlainTextResponse(text)) as server:
        predictions, _ = write(server, path, make_scans(2))
    assert list(predictions.values()) == ["A nodule, ***."] * 2 and KEY not in path.read_text()
