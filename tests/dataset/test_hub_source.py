"""
The gated repository, against a Hub-protocol server on loopback that does wrong on request.

One client process meets all `CASES` in turn (importing takes longer than most of them): this file, run as a script.
What it read is compared, to the byte, with the same tree read from disk.
"""

import hashlib
import io
import json
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers import programs
from helpers.loopback_hub import COMMIT, GRANTED, UNGRANTED, LoopbackHub, set_faults
from helpers.tree import SPACING, write_tree


pytestmark = pytest.mark.slow

WRONG, MALFORMED = "hf_wrongWRONGwrong", "hf_malformed\nMALFORMED"
BAD, MISSING = "train_5_a_1", "train_7_a_1"
GATED = {"status": 403, "headers": {"X-Error-Code": "GatedRepo"}}
LIMIT = {"status": 429, "headers": {"Retry-After": "0"}}
FOREVER = 10**6
STREAM, SKIP = {"streaming": True}, {"streaming": True, "on_error": "skip"}

# In this order: once tables are cached, nobody is asked for them again. `take` limits the rows, of the split `train`.
CASES = {
    "no token": {"token": None},
    "token without access": {"token": UNGRANTED},
    "wrong token": {"token": WRONG},
    "malformed token": {"token": MALFORMED},
    "tables: limited, ill": {
        "faults": [
            {"path": "/api/datasets/", "status": 503, "times": 2},
            {"path": "train_predicted_labels", "times": 2, **LIMIT},
            {"path": "validation_reports", "method": "GET", "status": 500},
        ],
        "options": STREAM,
    },
    "index": {"take": 0},
    "map-style": {},
    "first row": {"options": STREAM, "take": 1},
    "limited": {
        "faults": [
            {"path": "resolve/.*nii", "times": 2, **LIMIT},
            {"path": "objects", **LIMIT},
        ],
        "options": STREAM,
    },
    "ill": {"faults": [{"path": "objects", "status": 500}, {"path": "objects", "status": 502}], "options": STREAM},
    "address expired": {"faults": [{"path": "objects", "status": 403}], "options": STREAM},
    "cut": {"faults": [{"path": "objects", "cut": 4096}], "options": STREAM},
    "cut again and again": {"faults": [{"path": f"objects.*{BAD}", "cut": 4096, "times": 3}], "options": STREAM},
    "dies": {"faults": [{"path": BAD, "method": "GET", "die": 4096}], "options": STREAM},
    "workers": {"faults": [{"path": "objects", "cut": 4096}], "options": STREAM, "workers": 2},
    "corrupt once": {"faults": [{"path": "objects", "corrupt": True}], "options": STREAM},
    "short once": {"faults": [{"path": "objects", "shrink": 100}], "options": STREAM},
    "corrupt": {"faults": [{"path": f"objects.*{BAD}", "corrupt": True, "times": FOREVER}], "options": STREAM},
    "corrupt, skip": {"faults": [{"path": f"objects.*{BAD}", "corrupt": True, "times": FOREVER}], "options": SKIP},
    "short, skip": {"faults": [{"path": f"objects.*{BAD}", "shrink": 100, "times": FOREVER}], "options": SKIP},
    "truncated on the Hub": {"options": STREAM, "split": "test"},
    "truncated on the Hub, skip": {"options": SKIP, "split": "test"},
    "missing": {
        "faults": [{"path": MISSING, "status": 404, "headers": {"X-Error-Code": "EntryNotFound"}, "times": FOREVER}],
        "options": STREAM,
    },
    "missing, skip": {
        "faults": [{"path": BAD, "status": 404, "headers": {"X-Error-Code": "EntryNotFound"}, "times": FOREVER}],
        "options": SKIP,
    },
    "access revoked": {"faults": [{"path": BAD, "times": FOREVER, **GATED}], "options": SKIP},
    # As a mirror does it: the answer comes from another address than that of HF_ENDPOINT.
    "gate behind a redirect": {
        "faults": [
            {"path": "^/api/datasets/", "status": 307, "headers": {"Location": "http://localhost:PORT/elsewhere"}},
            {"path": "^/elsewhere", "times": FOREVER, **GATED},
        ],
        "options": STREAM,
    },
    "gate of the download": {
        "faults": [{"path": f"objects.*{BAD}", "method": "GET", "times": FOREVER, **GATED}],
        "options": SKIP,
    },
    "new address refused, too": {
        "faults": [{"path": f"objects.*{BAD}", "method": "GET", "status": 403, "times": FOREVER}],
        "options": SKIP,
    },
    "gone": {"faults": [{"path": f"objects.*{BAD}", "status": 410, "times": FOREVER}], "options": SKIP},
    "ill for too long": {
        "faults": [{"path": f"objects.*{BAD}", "status": 500, "times": FOREVER}],
        "options": SKIP,
        "patience": 0.5,
    },
}


def digest(row: dict) -> list[str]:
    """The row's volume, its partner, and the hash of every pixel of both."""
    pixels = hashlib.sha256(b"".join(np.asarray(i).tobytes() for i in (*row["images"], *row["negative_images"])))
    return [row["volume"], row["negative_volume"], pixels.hexdigest()]


def read(split: str = "train", take: int | None = None, workers: int = 0, **options) -> list[list[str]]:
    """Digests of the rows that the literal call gives."""
    from datasets import load_dataset
    from torch.utils.data import DataLoader

    import ct_rate_pairs  # noqa: F401

    dataset = load_dataset("ct_rate_pairs", negative="heter", spacing=SPACING, **options)[split]
    if workers:
        dataset = DataLoader(dataset, batch_size=None, num_workers=workers)
    return [digest(row) for row in islice(dataset, take)]


def client(url: str, log_file: Path) -> dict[str, dict]:
    """Meet every case; for each, the rows or the error, and what was logged and requested meanwhile."""
    from huggingface_hub import constants

    from ct_rate_pairs.sources import hub as hub_source

    hub_source.FIRST_WAIT = 0.1
    constants.DOWNLOAD_CHUNK_SIZE = 1024  # what is resumed; the 10 MB of the client are more than these volumes have
    outcomes = {}
    for name, case in CASES.items():
        os.environ.pop("HF_TOKEN", None)
        token = case.get("token", GRANTED)
        options = dict(case.get("options", {}))
        if token is not None and "\n" in token:
            options["token"] = token  # as an argument, which the client does not strip
        elif token is not None:
            os.environ["HF_TOKEN"] = token
        hub_source.PATIENCE = case.get("patience", 20)
        logged, before = io.StringIO(), len(log_file.read_text().splitlines())
        handler = logging.StreamHandler(logged)
        logging.getLogger().addHandler(handler)
        faults = json.dumps(case.get("faults", [])).replace("PORT", url.rpartition(":")[2])
        set_faults(url, json.loads(faults))
        try:
            picked = {key: case[key] for key in ("split", "take", "workers") if key in case}
            outcome = {"rows": read(**picked, **options)}
        except Exception as error:
            outcome = {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}
        logging.getLogger().removeHandler(handler)
        requests = [json.loads(line) for line in log_file.read_text().splitlines()[before:]]
        outcomes[name] = {**outcome, "log": logged.getvalue(), "requests": requests}
    return outcomes


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> dict:
    """The served `tree`, the client's `outcomes` by case, its `output`, and the folder `work` of all it wrote."""
    tree, work = write_tree(tmp_path_factory.mktemp("served")), tmp_path_factory.mktemp("work")
    truncate(tree, "valid_3_a_1")
    (work / "tmp").mkdir()
    log, results, output = (tmp_path_factory.mktemp("logs") / name for name in ("requests", "results", "output"))
    log.touch()
    hub = LoopbackHub(tree, log)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(work / "hf_home"),
        "TMPDIR": str(work / "tmp"),
    }
    with output.open("w") as file:
        process = programs.start(__file__, hub.url, log, results, env=environment, stdout=file, stderr=file)
    deaths = 0
    try:
        while process.poll() is None:
            if hub.process.poll() is not None:
                deaths += 1
                time.sleep(3)
                hub.start()
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        hub.stop()
    assert process.returncode == 0, output.read_text()
    outcomes = json.loads(results.read_text())
    return {"tree": tree, "work": work, "outcomes": outcomes, "output": output.read_text(), "deaths": deaths}


def truncate(tree: Path, volume: str) -> None:
    file = next(tree.rglob(f"{volume}.nii.gz"))
    file.write_bytes(file.read_bytes()[:-1000])


def volumes_fetched(outcome: dict) -> list[dict]:
    return [request for request in outcome["requests"] if request["method"] == "GET" and "nii" in request["path"]]


@pytest.mark.parametrize(
    "case",
    [
        "tables: limited, ill",
        "limited",
        "ill",
        "address expired",
        "cut",
        "cut again and again",
        "dies",
        "corrupt once",
        "short once",
    ],
)
def test_the_stream_is_the_tree_to_the_byte_whatever_the_server_does(session, case):
    expected = read(data_dir=str(session["tree"]), streaming=True)
    assert session["outcomes"][case].get("rows") == expected, session["outcomes"][case]


def test_every_fault_was_met(session):
    """Else the test above would pass without meaning anything."""
    outcomes = session["outcomes"]
    assert session["deaths"] == 1
    statuses = [request["status"] for request in outcomes["limited"]["requests"]]
    assert statuses.count(429) == 3
    assert [request["status"] for request in outcomes["ill"]["requests"] if request["status"] >= 500] == [500, 502]
    assert outcomes["cut again and again"]["log"].count("Trying to resume") == 3
    for case in ("corrupt once", "short once"):
        assert outcomes[case]["log"].count("Downloading it once more") == 1
    tables = outcomes["tables: limited, ill"]
    failed = [request["status"] for request in tables["requests"] if request["path"].endswith(("RATE", "csv"))]
    assert [status for status in failed if status >= 400] == [503, 503, 429, 429, 500]
    assert tables["log"].count("Trying again") == 3


def test_a_cut_stream_goes_on_where_it_broke(session):
    resumed = [request["status"] for request in volumes_fetched(session["outcomes"]["cut again and again"])]
    assert resumed.count(206) == 3


def test_workers_read_the_same_rows(session):
    expected = read(data_dir=str(session["tree"]), streaming=True)
    assert sorted(session["outcomes"]["workers"]["rows"]) == sorted(expected)


def test_map_style_rows_are_the_tree_too(session, tmp_path):
    assert session["outcomes"]["map-style"]["rows"] == read(data_dir=str(session["tree"]))


def test_the_bare_literal_downloads_no_volume_and_the_first_row_two(session):
    assert not volumes_fetched(session["outcomes"]["index"])
    assert len(session["outcomes"]["first row"]["rows"]) == 1
    assert len(volumes_fetched(session["outcomes"]["first row"])) == 2


@pytest.mark.parametrize("case", ["corrupt, skip", "short, skip", "missing, skip"])
def test_a_bad_volume_is_left_out_and_counted(session, case, tmp_path):
    shutil.copytree(session["tree"], tmp_path / "tree")
    truncate(tmp_path / "tree", BAD)
    expected = read(data_dir=str(tmp_path / "tree"), **SKIP)
    outcome = session["outcomes"][case]
    assert outcome.get("rows") == expected, outcome
    assert BAD not in str(expected)
    assert "Skipped a volume (1 so far" in outcome["log"]


def test_a_volume_that_is_bad_on_the_hub_is_left_out_and_counted(session):
    expected = read(data_dir=str(session["tree"]), split="test", **SKIP)
    assert session["outcomes"]["truncated on the Hub, skip"]["rows"] == expected


@pytest.mark.parametrize(
    ("case", "volume"), [("corrupt", BAD), ("truncated on the Hub", "valid_3_a_1"), ("missing", MISSING)]
)
def test_a_bad_volume_is_refused_by_name(session, case, volume):
    outcome = session["outcomes"][case]
    assert outcome["error"] == "VolumeError", outcome
    assert volume in outcome["message"]


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("no token", "there is no token, or it is not valid"),
        ("token without access", "has not been granted access"),
        ("wrong token", "there is no token, or it is not valid"),
        ("malformed token", "cannot be reached"),
        ("access revoked", "has not been granted access"),
        ("gate behind a redirect", "has not been granted access"),
        ("gate of the download", "has not been granted access"),
        ("gone", "the Hub refuses it (HTTP 410"),
    ],
)
def test_without_access_the_gate_and_the_remedy_are_named_at_once(session, case, cause):
    outcome = session["outcomes"][case]
    assert outcome["error"] == "CTRateAccessError", outcome
    for part in (cause, "https://huggingface.co/datasets/ibrahimhamamci/CT-RATE", "hf auth login"):
        assert part in outcome["message"]
    assert "gain" not in outcome["log"], "it was not at once"


def test_a_storage_that_refuses_a_new_address_too_is_asked_no_third_time(session):
    outcome = session["outcomes"]["new address refused, too"]
    assert outcome["error"] == "CTRateAccessError", outcome
    assert [request["status"] for request in volumes_fetched(outcome) if BAD in request["path"]].count(403) == 2


def test_a_server_that_stays_ill_is_an_access_error_in_the_end_and_never_skipped(session):
    outcome = session["outcomes"]["ill for too long"]
    assert outcome["error"] == "CTRateAccessError", outcome
    assert BAD in outcome["message"]
    assert f"{BAD}.nii.gz: the Hub fails (HTTP 500: the server fails). Trying again" in outcome["log"]


def test_a_hub_that_cannot_be_reached_is_told_at_once(tmp_path):
    literal = 'import ct_rate_pairs, datasets; datasets.load_dataset("ct_rate_pairs", negative="heter")'
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    run = programs.run("-c", literal, env=environment, timeout=120)
    assert "CTRateAccessError: The repository: the Hub cannot be reached (ConnectError)" in run.stderr
    assert "hf auth login" in run.stderr
    assert "gain" not in run.stderr, "it was not at once"


def test_every_file_is_read_at_one_commit(session):
    for outcome in session["outcomes"].values():
        resolved = [request["path"] for request in outcome["requests"] if "/resolve/" in request["path"]]
        assert all(f"/resolve/{COMMIT}/" in path for path in resolved)


def test_no_volume_stays_on_disk(session):
    names = [path.name for path in session["work"].rglob("*")]
    assert "train_reports.csv" in names
    assert not [name for name in names if ".nii" in name or name.endswith(".incomplete")]
    assert not list((session["work"] / "tmp").iterdir())


def test_tokens_are_never_shown(session):
    shown = session["output"] + json.dumps(session["outcomes"])
    for token in (GRANTED, UNGRANTED, WRONG, "MALFORMED"):
        assert token not in shown
    requests = [request for outcome in session["outcomes"].values() for request in outcome["requests"]]
    assert not [request for request in requests if "objects" in request["path"] and request["authorized"]]


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(client(sys.argv[1], Path(sys.argv[2]))))
