"""The files of a report: Markdown, JSON, a page, and a sheet of slices."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.hub.notice import NOTICE, NOTICE_MARKDOWN
from ct_rate_pairs.json_files import JSONFileError, check_json, read_json
from ct_rate_pairs.json_schemas.scan_reports import FinishedReport
from ct_rate_pairs.shown_text import for_markdown, to_json
from ct_rate_pairs.trainer.run_record import sources_version
from ct_rate_pairs.volumes.scan_files import digest
from ct_rate_pairs.whole_files import write_whole

from .masks import FOLDER, remove_masks
from .page import format_page
from .reporter import Reporter
from .scan_report import WHY_DOUBTFUL, ScanReport
from .sheet import save_sheet


logger = logging.getLogger(__name__)

# Of `report_key`.
KEY = (
    *("digest", "series", "max_new_tokens", "code", "operating_point", "findings_given", "metadata_given", "force"),
    "with_masks",
)


def format_report(report: ScanReport) -> str:
    """The report as Markdown: text, stated findings, all other findings, and how the report was made."""
    stated = [finding for finding in report.findings if finding.stated]
    others = [finding for finding in report.findings if not finding.stated]
    lines = [f"# Chest CT report: {for_markdown(report.name)}", "", f"> {NOTICE_MARKDOWN}", ""]
    lines += ["> **Read first:**", ">", *(f"> - {for_markdown(told)}" for told in report.warnings), ""]
    lines += [
        "## Report",
        "",
        *"\n\n".join(marked_text(report).splitlines()).splitlines(),
        "",
        "## Findings it states",
        "",
    ]
    if stated:
        table = [["finding", "confidence", "slices it rests on, most first", "sentence"]]
        for finding in stated:
            slices = "; ".join(f"{number} ({report.slices[number - 1]})" for number in finding.slices)
            sentence = for_markdown(finding.sentence)
            sure = finding.percent + " (doubtful)" * bool(finding.doubtful)
            table.append([finding.label, sure, slices or "none stands out", sentence])
        lines += [
            format_markdown(table, text_columns=4),
            "Slices and planes are counted from the top. Table: place along the patient in mm, as the scan has it. "
            "![slices](sheet.png)",
        ]
        if any(finding.doubtful for finding in stated):
            lines.append(WHY_DOUBTFUL)
    else:
        lines.append("None of the 18.")
    if report.masks and report.masks.shown:
        on = {label: ", ".join(map(str, report.masks.slices(label))) for label in report.masks.shown}
        lines += [
            "",
            f"Masks ([thin outlines](sheet.png)) on slices: {'; '.join(f'{label}: {on[label]}' for label in on)}.",
        ]
    lines += ["", told_of_lungs(report)]
    lines += ["", "## Findings it does not state", ""]
    if report.findings[0].confidence is not None:
        rows = [[f.label, f.percent] for f in sorted(others, key=lambda f: -f.confidence)]
        lines.append(format_markdown([["finding", "confidence that it is there"], *rows], text_columns=2))
    else:
        lines.append(", ".join(finding.label for finding in others) + ".")
        why = "None is known for this scan" if report.calibration else "The model has no `confidence.json`"
        lines += ["", f"{why}, so no confidence is given."]
    lines += ["", "## How it was made", "", *(f"- {for_markdown(told)}" for told in report.how_made), ""]
    return "\n".join(lines)


def marked_text(report: ScanReport) -> str:
    """The text as Markdown, with a mark behind each sentence that states a finding which is doubtful."""
    sure = {finding.label: finding.percent for finding in report.findings}
    text, place = "", 0
    for sentence in (sentence for sentence in report.sentences if sentence.doubtful):
        listed = ", ".join(f"{label} {sure[label]}" for label in sentence.doubtful)
        text += f"{for_markdown(report.text[place : sentence.end])} **[doubtful: {listed}]**"
        place = sentence.end
        text += " " if report.text.startswith(" ", place) else ""  # which `for_markdown` strips
    return text + for_markdown(report.text[place:])


def told_of_lungs(report: ScanReport) -> str:
    """Which slices show nothing of the lungs."""
    if report.slices[0].in_lungs is None:
        return "No lungs are found in the scan, so it is not known which slices show them."
    outside = [str(place.number) for place in report.slices if not place.in_lungs]
    return (
        f"Outside the lungs, above or below them: {', '.join(outside)}." if outside else "All slices lie in the lungs."
    )


def save(report: ScanReport, folder: Path, key: dict | None = None) -> None:
    """
    Writes the four files of a report, and its masks if it has some and the `key` does not leave them out.
    `report.json` comes last. With the `key` of [`report_key`], it marks the scan as finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)  # the report of an earlier run must not stand beside a new sheet
    remove_masks(folder)
    masks = report.masks if (key or {}).get("with_masks", True) else None
    if masks:
        masks.save(folder / FOLDER)
    save_sheet(report, folder / "sheet.png")
    write_whole(folder / "report.html", format_page(report))
    write_whole(folder / "report.md", format_report(report))
    of_masks = {"masks": masks.to_dict()} if masks else {}
    write_json(report.to_dict() | of_masks | (key or {}) | {"notice": NOTICE}, folder / "report.json")


def write_json(values: dict | list, path: Path) -> None:
    """Writes a JSON file. After an interruption the file is complete, or it is the old one."""
    write_whole(path, to_json(values, indent=2) + "\n")


def report_key(
    scan: Path,
    series: int | None,
    max_new_tokens: int,
    operating_point: str | None = None,
    findings: Sequence[str] | None = None,
    metadata: Mapping[str, int | str] | None = None,
    force: bool = False,
    with_masks: bool = False,
) -> dict:
    """
    What identifies a report: its scan, and the options and the code that change the report. `operating_point` is that
    of [`~ct_rate_pairs.hub.reporting.reporter.Reporter.deciding_point`], or `None` for given findings. Of metadata,
    there are only the names, because the values tell of the patient.
    """
    return {
        "digest": digest(scan),
        "series": series,
        "max_new_tokens": max_new_tokens,
        "code": sources_version(),
        "operating_point": operating_point,
        "findings_given": None if findings is None else list(findings),
        "metadata_given": None if metadata is None else sorted(metadata),
        "force": force,
        "with_masks": with_masks,
    }


def finished_reports(out: Path, reporter: Reporter) -> dict[str, dict]:
    """
    Maps the name of each scan that an earlier batch in `out` has finished to its [`report_key`].

    A report that is empty or cut does not count as finished, and is told.

    Raises:
        `ValueError`: if another model, another version of the model or another program wrote these reports.
    """
    done = {}
    for path in out.glob("*/report.json"):
        try:
            report = read_json(path)
        except JSONFileError as error:
            logger.warning("%s Its scan is reported again.", error)
            continue
        names = set(report) if isinstance(report, dict) else set()
        if missing := {"model", "version", "digest", "series", "max_new_tokens"} - names:
            raise ValueError(
                f"{path} is no report of this command, without {sorted(missing)}: choose another --output_dir."
            )
        if (report["model"], report["version"]) != (reporter.name, reporter.version):
            raise ValueError(
                f"{out} holds reports of {report['model']}, version {report['version']}, not of {reporter.name}, "
                f"version {reporter.version}: choose another --output_dir."
            )
        check_json(report, FinishedReport, path)
        done[path.parent.name] = {name: report.get(name) for name in KEY}
    return done
