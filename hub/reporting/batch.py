"""Reports of many scans, each in its own folder. An interrupted batch can be continued."""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.json_files import JSONFileError, check_json, read_json
from ct_rate_pairs.json_schemas.scan_reports import Failures, FinishedReport
from ct_rate_pairs.shown_text import for_terminal
from ct_rate_pairs.volumes.slicing import VolumeError

from .files import finished_reports, report_key, save, write_json
from .mapping import ScanMapping
from .reporter import Reporter
from .scan_report import CUT
from .seen import see


logger = logging.getLogger(__name__)

# No longer than CT-RATE's names, so that the name of a person or a date does not match.
CT_RATE_NAME = re.compile(r"(?:train|valid)_\d{1,5}_[a-z]{1,2}_\d{1,2}")


def report_batch(
    reporter: Reporter,
    scans: Sequence[Path],
    out: Path,
    series: int | None = None,
    max_new_tokens: int = 1200,
    operating_point: str | float | None = None,
    force: bool = False,
    names: Mapping[Path, str] | None = None,
    mapping: ScanMapping | None = None,
    with_masks: bool = False,
) -> list[dict]:
    """
    Reports many scans, each in a subfolder of `out`. Scans that an earlier call has finished are skipped.

    Args:
        reporter ([`~ct_rate_pairs.hub.reporting.reporter.Reporter`]):
            Writes the reports.
        scans (`Sequence[Path]`):
            Files, or folders of DICOM files.
        out (`Path`):
            Folder to write to. `failures.json` in it lists scans that cannot be read; without such scans there is no
            `failures.json`.
        series (`int`, *optional*), max_new_tokens (`int`, *optional*, defaults to `1200`), operating_point, force:
            See [`~ct_rate_pairs.hub.reporting.reporter.Reporter.report`]. If these change, a finished scan is reported
            again.
        names (`Mapping[Path, str]`, *optional*):
            The name of each scan in its report, see [`~ct_rate_pairs.hub.reporting.names.read_names`]. By default,
            scans are numbered.
        mapping ([`~ct_rate_pairs.hub.reporting.mapping.ScanMapping`], *optional*):
            The private file that says which report is of which scan.
        with_masks (`bool`, *optional*, defaults to `False`):
            Whether the masks of the stated findings are written, too. A scan that was reported without them is
            reported again.

    Returns:
        `list[dict]`: the failures, each with `name`, `number` of the scan in the order of `scans`, `digest` and
        `error`.

    Raises:
        [`~ct_rate_pairs.folder_lock.FolderInUseError`]: if another process writes into `out`.
    """
    with folder_lock(out, "ct-rate-pairs report"):
        point = reporter.deciding_point(operating_point)
        options = {"series": series, "max_new_tokens": max_new_tokens, "operating_point": point, "force": force}
        return _report_batch(reporter, scans, out, options, names, mapping, with_masks)


def _report_batch(
    reporter: Reporter,
    scans: Sequence[Path],
    out: Path,
    options: dict,
    given: Mapping[Path, str] | None,
    mapping: ScanMapping | None,
    with_masks: bool,
) -> list[dict]:
    listed = out / "failures.json"
    done = finished_reports(out, reporter)
    earlier = earlier_failures(listed)
    # A scan keeps its name. A scan that cannot be opened has no digest, and is named by its number.
    names = {f["digest"]: f["name"] for f in earlier if f["digest"] and f["name"] not in done}
    failures: list[dict] = []
    for number, scan in enumerate(scans, start=1):
        key, name, instances = {"digest": None}, given[scan] if given else f"scan number {number}", None
        try:
            key = report_key(scan, **options, with_masks=with_masks)
            finished = [known for known, other in done.items() if other == key and (not given or known == name)]
            if finished:
                print(f"[{number}/{len(scans)}] {for_terminal(finished[0])}: finished before", flush=True)
                if mapping and not mapping.has(finished[0], key["digest"]):
                    seen = see(scan, reporter.volume_settings, options["series"])
                    mapping.add(finished[0], scan, key["digest"], seen.instances)
                continue
            if not given:
                name = names.setdefault(key["digest"], new_name(scan, {*names.values(), *done}))
            elif name in done and done[name]["digest"] != key["digest"]:
                raise VolumeError(f"the scan: the report {name} is of another scan. Choose another name or folder.")
            report = reporter.report(scan, name=name, **options)
            instances = report.instances
        except VolumeError as error:
            told = for_command_line(error)
            failures.append({"name": name, "number": number, "digest": key["digest"], "error": told})
            print(f"[{number}/{len(scans)}] {name}: {for_terminal(told)}", file=sys.stderr, flush=True)
        else:
            save(report, out / name, key)
            done[name] = key
            stated = [f.label + " (doubtful)" * bool(f.doubtful) for f in report.findings if f.stated]
            told = (
                f"{', '.join(stated) or report.unread or 'no finding'}{' (cut at the limit of tokens)' * report.cut}"
            )
            print(f"[{number}/{len(scans)}] {name}: {told}", flush=True)
        if mapping:
            mapping.add(name, scan, key["digest"], instances)
        if failures:
            write_json(failures, listed)
    if not failures:
        listed.unlink(missing_ok=True)
    if cut := [name for name in done if read_json(out / name / "report.json", FinishedReport).get("cut")]:
        named = for_terminal(", ".join(cut))
        print(f"{len(cut)} of {len(done)} reports are cut at their limit of tokens ({named}). {CUT}")
    return failures


def earlier_failures(listed: Path) -> list[dict]:
    """The failures of an earlier call; none, and a warning, if the file is empty or cut."""
    if not listed.exists():
        return []
    try:
        earlier = read_json(listed)
    except JSONFileError as error:
        logger.warning("%s It is written again.", error)
        return []
    return check_json(earlier, Failures, listed)


def for_command_line(error: VolumeError) -> str:
    """The message of an error, which names the option instead of the argument of Python."""
    return str(error).replace("series=", "--series ").replace("force=True", "--force")


def new_name(scan: Path, taken: set[str]) -> str:
    """The name of the volume in CT-RATE, or for other scans the first free name of scan-001, scan-002, ..."""
    stem = scan.name.split(".")[0]
    if CT_RATE_NAME.fullmatch(stem) and stem not in taken:
        return stem
    return next(name for number in range(1, len(taken) + 2) if (name := f"scan-{number:03d}") not in taken)
