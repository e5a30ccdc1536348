"""Asks an endpoint for the reports of a split. What is no report is listed as a failure, and never scored."""

from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

import httpx2
from accelerate import PartialState
from datasets import Dataset
from tqdm.auto import tqdm

from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.trainer.generation import MOST_CUT, Written
from ct_rate_pairs.trainer.row_settings import has_findings_line
from ct_rate_pairs.whole_files import write_whole

from .endpoint import Endpoint, EndpointError
from .endpoint_answer import Answer, read_answer
from .endpoint_client import OddAnswerError, UnansweredError, check_there, error_of, post
from .endpoint_request import request_body
from .formats import read_rows
from .store import append_predictions, resume_predictions


UNANSWERED_IN_A_ROW = 5


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
    and the next call requests the report of this scan again. Each line of the file tells which model the answer named
    (`answered_by`) and the `system_fingerprint`, if it did.

    Args:
        endpoint ([`Endpoint`]):
            Where requests are sent.
        scans ([`~datasets.Dataset`]):
            Rows of a split. A row is read when its request is sent. If they have a `findings_line`, so has the model.
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
        `EndpointError`: if the endpoint takes no connection, refuses all requests, leaves five requests in a row
            unanswered, or answers as another model than before. Reports that were written stay, and the same call
            continues.
        `ValueError`: if the file was begun with another `provenance`, or if there are several processes.
    """
    path, state = Path(path), PartialState()
    if state.num_processes > 1:
        raise ValueError("Use one process, or every process would pay for each scan: pass `concurrency` instead.")
    done = resume_predictions(path, provenance, state)
    models = {row["answered_by"] for row in read_rows(path) if "answered_by" in row}
    failures: dict[str, dict] = {}
    with_line, unanswered = has_findings_line(scans), 0
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
                if answer.answered_by:
                    models.add(answer.answered_by)
                if len(models) > 1:
                    raise EndpointError(
                        f"{endpoint.url} answers as {answer.answered_by!r}, but reports in {path} are by "
                        f"{', '.join(sorted(models - {answer.answered_by}))}. One file never holds the reports of two "
                        "models: ask for one version by its full name, and give another --output_dir."
                    )
                written = Written(answer.report, cut=False, with_line=with_line)  # a cut answer is a failure
                done[volume] = written.report
                append_predictions(path, {volume: written}, told=answer.served)
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
                pool.submit(check_there, endpoint).result()  # in a thread, because a notebook has its own event loop
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


def count_served(path: str | Path) -> dict[str, int]:
    """Number of reports of a file by the model and the fingerprint that answers named; for `results.json`."""
    rows = (row for row in read_rows(path) if "answered_by" in row)
    return dict(Counter(f"{row['answered_by']} {row.get('system_fingerprint', '')}".strip() for row in rows))


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
