"""The reports of a split: each scan gets its own, and a run that stopped goes on."""

import pytest
from helpers.endpoint_scans import make_scans, write
from helpers.loopback_endpoint import LoopbackEndpoint, answer, error

from ct_rate_pairs.eval.predictions import endpoint_predictions
from ct_rate_pairs.eval.predictions.endpoint import EndpointError
from ct_rate_pairs.eval.predictions.endpoint_predictions import count_served
from ct_rate_pairs.eval.predictions.store import read_predictions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "predictions.jsonl"


@pytest.mark.slow
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


def test_each_report_tells_what_answered_and_a_name_that_comes_to_mean_another_model_stops_the_run(path):
    scans = make_scans(4)
    names = (("some-model-05", "fp_1"), ("some-model-05", "fp_2"), ("some-model-08", "fp_2"))
    by = [{"model": model, "system_fingerprint": fingerprint} for model, fingerprint in names]
    with LoopbackEndpoint(*(answer(served=served) for served in by[:2])) as server:
        write(server, path, scans.select([0, 1, 2]))  # the last answer names no model
    assert count_served(path) == {"some-model-05 fp_1": 1, "some-model-05 fp_2": 1}
    before = path.read_text()
    with (
        LoopbackEndpoint(answer(served=by[2])) as server,
        pytest.raises(EndpointError, match="answers as 'some-model-08', but .* by some-model-05"),
    ):
        write(server, path, scans)
    assert path.read_text() == before
    with LoopbackEndpoint(answer(served={"model": 7, "system_fingerprint": None})) as server:
        assert len(write(server, path, scans)[0]) == 4
    assert len(read_predictions(path)) == 4


def test_a_scan_that_gets_no_answer_does_not_stop_the_others(path):
    with LoopbackEndpoint(*[error(503, "down")] * 2) as server:
        predictions, failures = write(server, path, tries=2)
    assert len(predictions) == 2
    assert list(failures.values()) == [{"failure": "unanswered", "detail": "HTTP 503: down, at try 2"}]


@pytest.mark.slow
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
    monkeypatch.setattr(endpoint_predictions, "check_there", lambda _: None)
    with LoopbackEndpoint() as server:
        pass
    with pytest.raises(EndpointError, match="cannot be reached: .*Connect"):
        write(server, path, tries=3)


def test_an_endpoint_that_leaves_requests_unanswered_stops_the_run(path, monkeypatch):
    monkeypatch.setattr(endpoint_predictions, "UNANSWERED_IN_A_ROW", 2)
    with (
        LoopbackEndpoint(*[error(503, "down")] * 9) as server,
        pytest.raises(EndpointError, match="2 requests in a row unanswered.*HTTP 503"),
    ):
        write(server, path, tries=2)
