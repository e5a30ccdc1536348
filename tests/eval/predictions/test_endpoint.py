"""An OpenAI-compatible endpoint on loopback: what is sent, what is tried again, and what never counts as a report."""

import asyncio
import base64
import gzip
import json
import socket
import threading
import time
from contextlib import suppress
from io import BytesIO

import httpx2
import numpy as np
import pytest
from datasets import Dataset
from helpers.eval_rows import make_row
from helpers.loopback_endpoint import LoopbackEndpoint, answer, error
from PIL import Image
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from ct_rate_pairs.eval.predictions import endpoint as endpoint_module
from ct_rate_pairs.eval.predictions.endpoint import (
    Endpoint,
    EndpointError,
    format_failures,
    is_here,
    request_body,
    send,
    write_endpoint_predictions,
)
from ct_rate_pairs.eval.predictions.store import read_predictions


KEY = "sk-secretSECRETsecret"


def make_scans(number=3):
    rows = [make_row(seed, f"Reference {seed}.", prompt=f"Prompt {seed}.") for seed in range(number)]
    scans = Dataset.from_dict({"volume": [row["volume"] for row in rows]})
    by_name = {row["volume"]: row for row in rows}
    return scans.with_transform(
        lambda batch: {name: [by_name[volume][name] for volume in batch["volume"]] for name in rows[0]}
    )


def connect(server, **options):
    return Endpoint(server.url, "some-model", **{"deidentified": True, "backoff": 0.01, "timeout": 5.0} | options)


def write(server, path, scans=None, concurrency=1, **options):
    return write_endpoint_predictions(
        connect(server, **options), scans or make_scans(), path, max_new_tokens=50, concurrency=concurrency
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "predictions.jsonl"


def test_nothing_is_sent_without_the_users_word(path):
    with pytest.raises(ValueError, match=r"leave this machine for http://127.*--i_have_deidentified true"):
        Endpoint("http://127.0.0.1:1/v1", "some-model")


def pictures(body):
    parts = body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))) for url in urls]


def test_only_pixels_and_prompt_are_sent():
    row = make_row(0, "The reference.", prompt="Write it.")
    row["images"][0].info["Patient"] = "Doe"  # as of a file
    body = request_body(row, Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True), 50)
    text = body["messages"][0]["content"].pop()["text"]
    assert text.endswith("\nWrite it.") and text.startswith("4 axial slices of one chest CT in this order, ")
    assert "30 mm apart" in text
    sent = pictures(body)
    assert [np.array_equal(picture, image) for picture, image in zip(sent, row["images"], strict=True)] == [True] * 4
    assert not any(picture.info for picture in sent)
    body["messages"][0]["content"].clear()
    assert body == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": []}],
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_a_montage_holds_every_slice_in_its_place():
    row = make_row(0, "The reference.")
    row["images"] = row["images"][:3]
    row["slice_mm"] = row["slice_mm"][:3]
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True, slices_as="montage")
    (picture,) = pictures(request_body(row, endpoint, 50))
    pixels = np.asarray(picture)
    assert pixels.shape == (112, 112) and not pixels[56:, 56:].any()
    for image, place in zip(row["images"], (pixels[:56, :56], pixels[:56, 56:], pixels[56:, :56]), strict=True):
        assert np.array_equal(image, place)


def test_a_video_holds_every_slice_unchanged_with_time_as_depth_and_the_prompt_of_the_training():
    row = make_row(0, "The reference.", prompt="Write it.")
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True, slices_as="video")
    body = request_body(row, endpoint, 50)
    video, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "Write it."}
    frames = video["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
    sent = [Image.open(BytesIO(base64.b64decode(frame, validate=True))) for frame in frames]
    assert [np.array_equal(picture, image) for picture, image in zip(sent, row["images"], strict=True)] == [True] * 4
    told = body["media_io_kwargs"]["video"]
    assert told == {"num_frames": -1, "fps": pytest.approx(1 / 3), "do_sample_frames": False}  # 30 mm are 3 s


def test_arguments_of_the_chat_template_are_sent_unless_they_are_none(path):
    for kwargs, sent in ((None, {"enable_thinking": False}), ({"thinking": True}, {"thinking": True}), ({}, None)):
        endpoint = Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True, chat_template_kwargs=kwargs)
        assert request_body(make_row(0, "R."), endpoint, 50).get("chat_template_kwargs") == sent
    unknown = error(400, "Unrecognized request argument supplied: chat_template_kwargs")
    with LoopbackEndpoint(unknown) as server, pytest.raises(EndpointError, match="Pass --chat_template_kwargs '{}'"):
        write(server, path)


def test_a_thought_in_an_answer_is_no_part_of_the_report(path):
    said = answer("It is round.\n</think>\n\nA nodule.")
    with LoopbackEndpoint(said, answer("<think>It is round, and"), answer("<think></think>\n")) as server:
        predictions, failures = write(server, path)
    assert list(predictions.values()) == ["A nodule."]
    assert [failure["failure"] for failure in failures.values()] == ["thinking", "empty"]


def test_a_cut_answer_is_known_by_each_word_for_it_and_the_remedy_is_told(path):
    words = ("length", "max_tokens", "MAX_TOKENS")
    with LoopbackEndpoint(*(answer("Findings: the heart", finish_reason=word) for word in words)) as server:
        predictions, failures = write(server, path, make_scans(3))
    assert not predictions and [failure["failure"] for failure in failures.values()] == ["length"] * 3
    assert format_failures(failures, 3, path.parent).endswith("Cut reports (length): raise --max_new_tokens.")


def test_each_scan_gets_its_own_answer_whatever_the_order_of_arrival(path):
    scans = make_scans(5)
    with LoopbackEndpoint(0.4) as server:
        server.reply = lambda body: body["messages"][-1]["content"][-1]["text"].splitlines()[-1]
        predictions, failures = write(server, path, scans, concurrency=2)
        assert server.most_at_once == 2
    assert list(predictions.items()) == [(f"train_{seed}_a_1.nii.gz", f"Prompt {seed}.") for seed in range(5)]
    assert not failures
    assert read_predictions(path) == predictions
    assert list(read_predictions(path)) != list(predictions)  # the late one was written when it came


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


ANSWERS = {
    "refusal": answer("", refusal="I will not."),
    "refusal in words": answer("I'm sorry, but I can't help with medical images."),
    "refusal with an apology": answer("**I apologize**, but I cannot interpret medical images."),
    "refusal of what it does not have": answer("I don't have the ability to analyze CT images."),
    "refusal in Chinese": answer("抱歉，我无法解读医学影像。"),
    "content_filter": answer("A nod", finish_reason="content_filter"),
    "content_filter of the request": error(400, "blocked", "content_policy_violation"),
    "length": answer("Findings: the heart", finish_reason="length"),
    "empty": answer(" "),
    "malformed": JSONResponse({"choices": []}),
    "thinking": answer("<unused94>thought\nThe heart is"),
}


@pytest.mark.parametrize(
    "content",
    [
        "<unused94>thought\nAn effusion?<unused95>A nodule.",
        "[THINK]An effusion?[/THINK]A nodule.",
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "An effusion?"}]},
            {"type": "text", "text": "A nodule."},
        ],
    ],
)
def test_a_thought_is_not_sent_on_as_report(path, content):
    scans = make_scans(1)
    with LoopbackEndpoint(answer(content)) as server:
        assert list(write(server, path, scans)[0].values()) == ["A nodule."]


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_is_no_report_is_listed_never_kept_and_asked_for_again(path, kind):
    scans = make_scans(2)
    first, second = scans.with_format(None)["volume"][:]
    with LoopbackEndpoint(ANSWERS[kind]) as server:
        predictions, failures = write(server, path, scans)
        assert predictions == read_predictions(path) == {second: "A nodule."}
        assert failures[first]["failure"] == kind.split()[0]
        assert json.loads((path.parent / "failures.json").read_text()) == failures
        assert len(server.bodies) == 2  # an answer is an answer
        predictions, failures = write(server, path, scans)
        assert len(server.bodies) == 3
    assert list(predictions) == [first, second] and not failures
    assert json.loads((path.parent / "failures.json").read_text()) == {}


@pytest.mark.parametrize(
    "report", ["Sorrowful words. No nodule.", "I see a nodule.", "Unfortunate motion artefacts.", "我见一枚结节。"]
)
def test_a_report_is_no_refusal(path, report):
    with LoopbackEndpoint(answer(report)) as server:
        assert list(write(server, path, make_scans(1))[0].values()) == [report]


def test_a_status_in_the_body_of_a_200_is_tried_again(path):
    busy = JSONResponse({"error": {"code": 429, "message": "slow down"}})
    with LoopbackEndpoint(busy) as server:
        predictions, failures = write(server, path, make_scans(1))
        assert len(server.bodies) == 2 and len(predictions) == 1 and not failures


def test_a_scan_that_gets_no_answer_does_not_stop_the_others(path):
    with LoopbackEndpoint(*[error(503, "down")] * 2) as server:
        predictions, failures = write(server, path, tries=2)
    assert len(predictions) == 2
    assert list(failures.values()) == [{"failure": "unanswered", "detail": "HTTP 503: down, at try 2"}]


def test_an_endpoint_that_is_not_there_is_told_at_once_and_the_run_goes_on_later(path):
    scans = make_scans(4)
    with LoopbackEndpoint(answer("First.")) as server:
        write(server, path, scans.select([0]))
    with pytest.raises(EndpointError, match=f"{server.url} cannot be reached: .*Connect.* Start the server"):
        write(server, path, scans, backoff=600)
    assert write(server, path, scans.select([0]), backoff=600)[0]  # nothing is missing, so nothing is asked
    with LoopbackEndpoint() as server:
        predictions, failures = write(server, path, scans)
        assert len(server.bodies) == 3
    assert list(predictions.values()) == ["First.", *["A nodule."] * 3] and not failures


def test_an_endpoint_that_goes_away_is_waited_for_once(path, monkeypatch):
    monkeypatch.setattr(Endpoint, "check_there", lambda _: None)
    with LoopbackEndpoint() as server:
        pass
    with pytest.raises(EndpointError, match="cannot be reached: .*Connect"):
        write(server, path, tries=3)


def test_an_endpoint_that_leaves_requests_unanswered_stops_the_run(path, monkeypatch):
    monkeypatch.setattr(endpoint_module, "UNANSWERED_IN_A_ROW", 2)
    with (
        LoopbackEndpoint(*[error(503, "down")] * 9) as server,
        pytest.raises(EndpointError, match="2 requests in a row unanswered.*HTTP 503"),
    ):
        write(server, path, tries=2)


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


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_does_not_see_what_goes_to_this_machine(path, monkeypatch, name):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for other in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    with LoopbackEndpoint() as proxy, LoopbackEndpoint() as server:
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        assert write(server, path, make_scans(2))[0]
    assert len(server.bodies) == 2 and not proxy.bodies


def compressed(size, encoding="gzip"):
    packed = gzip.compress(bytes(size))
    return Response(packed, headers={"Content-Encoding": encoding, "Content-Type": "application/json"})


def without_end():
    while True:
        yield b" " * 2**16


ODD = {
    "a code that is a digit and no number": JSONResponse({"error": {"code": "²", "message": "no"}}),
    "a code of another alphabet": JSONResponse({"error": {"code": "٤٢٩", "message": "no"}}),
    "a code that is too long": JSONResponse({"error": {"code": "9" * 5000, "message": "no"}}),
    "an error that is no object": JSONResponse({"error": ["no"]}),
    "deep JSON": PlainTextResponse("[" * 10**6),
    "deep objects": PlainTextResponse('{"choices":' * 10**5),
    "a long number": PlainTextResponse('{"choices": ' + "9" * 10**5 + "}"),
    "half a character": PlainTextResponse('{"choices": [{"message": {"content": "A \\ud800 nodule."}}]}'),
    "a list for a text": JSONResponse({"choices": [{"message": {"content": ["A nodule."]}}]}),
    "a number for a text": JSONResponse({"choices": [{"message": {"content": 7}}]}),
    "a report without end": answer("A nodule. " * 20_000),
    "no UTF-8": Response(b'\xff\xfe{"choices"'),
    "nothing": Response(b""),
    "null": JSONResponse(None),
    "compressed": compressed(100),
    "compressed gigabytes": compressed(2**25),
    "an unknown compression": compressed(100, "zstd, gzip"),
    "bytes without end": StreamingResponse(without_end()),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_answer_is_a_failure_of_its_scan(path, kind):
    scans = make_scans(2)
    first, second = scans.with_format(None)["volume"][:]
    with LoopbackEndpoint(ODD[kind]) as server:
        predictions, failures = write(server, path, scans)
        assert len(server.bodies) == 2
    assert predictions == read_predictions(path) == {second: "A nodule."}
    assert failures[first]["failure"] == "malformed" and len(failures[first]["detail"]) < 400
    assert json.loads((path.parent / "failures.json").read_text()) == failures


@pytest.mark.parametrize("text", ["9999", "1e400", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_that_is_too_long_is_not_waited_for(path, text):
    with LoopbackEndpoint(error(429, "slow down", **{"Retry-After": text})) as server:
        predictions, failures = write(server, path, make_scans(2))
        assert len(server.bodies) == 2 and len(predictions) == 1
    (failure,) = failures.values()
    assert failure["failure"] == "unanswered" and "which is too long" in failure["detail"]


@pytest.mark.parametrize("text", ["nan", "-1", "soon", "²", "Fri, 31 Dec 99999 23:59:59 GMT", ""])
def test_a_wait_that_says_nothing_is_none(path, text):
    with LoopbackEndpoint(error(503, "busy", **{"Retry-After": text.encode().decode("latin-1")})) as server:
        assert len(write(server, path, make_scans(1))[0]) == 1


async def drip():
    while True:
        yield b" "
        await asyncio.sleep(0.02)


def test_an_answer_that_drips_ends_with_its_time(path):
    scans = make_scans(2)
    with LoopbackEndpoint(StreamingResponse(drip())) as server:
        predictions, failures = write(server, path, scans, timeout=0.5, tries=1)
    assert len(predictions) == 1
    assert list(failures.values()) == [{"failure": "unanswered", "detail": "no answer within 0.5 s, at try 1"}]


def test_headers_that_drip_end_with_their_time(path):
    """A server that never comes to the body."""

    def serve(listener):
        while True:
            connection, _ = listener.accept()
            with suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    connection.sendall(b"A: b\r\n")
                    time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        endpoint = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "m", deidentified=True, timeout=0.5)
        with pytest.raises(TimeoutError):
            send(endpoint, "GET", "models", seconds=0.5)


def test_a_key_in_a_report_is_not_written(path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    text = f'{{"choices": [{{"message": {{"content": "A nodule, {escaped}."}}}}]}}'
    with LoopbackEndpoint(answer(f"A nodule, {KEY}."), PlainTextResponse(text)) as server:
        predictions, _ = write(server, path, make_scans(2))
    assert list(predictions.values()) == ["A nodule, ***."] * 2 and KEY not in path.read_text()
