"""What counts as a report, and what never does."""

import gzip
import json

import pytest
from helpers.endpoint_scans import make_scans, write
from helpers.loopback_endpoint import LoopbackEndpoint, answer, error
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from ct_rate_pairs.eval.predictions.endpoint_predictions import format_failures
from ct_rate_pairs.eval.predictions.store import read_predictions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "predictions.jsonl"


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
    "empty but for marks": answer("---\n...\n"),
    "empty but for unseen characters": answer("\0\u200b\u2060"),
    "malformed": JSONResponse({"choices": []}),
    "thinking": answer("<unused94>thought\nThe heart is"),
}


@pytest.mark.slow_but_first
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


@pytest.mark.slow_but_first
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


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "report", ["Sorrowful words. No nodule.", "I see a nodule.", "Unfortunate motion artefacts.", "我见一枚结节。"]
)
def test_a_report_is_no_refusal(path, report):
    with LoopbackEndpoint(answer(report)) as server:
        assert list(write(server, path, make_scans(1))[0].values()) == [report]


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


@pytest.mark.slow_but_first
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
