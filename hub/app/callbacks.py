"""What the page does: it reads a scan, shows its slices, writes its report, and asks about it."""

import base64
import html
import io
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr
from transformers import TextIteratorStreamer

from ct_rate_pairs.hub.reporting.domain import FORCE, in_short
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.hub.reporting.scan_report import ScanReport
from ct_rate_pairs.hub.reporting.seen import SeenScan
from ct_rate_pairs.hub.reporting.sheet import slices_told
from ct_rate_pairs.reports.findings_line import open_text
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.shown_text import for_markdown
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.volumes.told import collected_warnings


COUNT = re.compile("0*[1-9][0-9]{0,3}", re.ASCII)
DECIDES = "the model decides"  # of the operating points
MODELS = "as the model sees it"  # of the windows


@dataclass
class Opened:
    """
    A scan that a visitor of the page has given.

    Args:
        seen ([`~ct_rate_pairs.hub.reporting.seen.SeenScan`]):
            What is taken from the scan.
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`], *optional*):
            Its last report.
        closed (`bool`, *optional*, defaults to `False`):
            Whether the visitor has given another scan: a report or an answer that is ready later is not shown.
    """

    seen: SeenScan
    report: ScanReport | None = None
    closed: bool = False


class Callbacks:
    """
    The callbacks of the page, as [`~ct_rate_pairs.hub.app.page.make_page`] connects them.

    Args:
        reporter ([`~ct_rate_pairs.hub.reporting.reporter.Reporter`]):
            The model.
        server ([`~ct_rate_pairs.hub.pacs.server.DicomWebServer`], *optional*):
            A PACS to take studies from.
    """

    def __init__(self, reporter: Reporter, server=None):
        """Keeps the model and the server."""
        self.reporter, self.server = reporter, server

    def open(self, scan: str | Path, series: str | None) -> Opened:
        """Reads a scan; an error of the page tells why it cannot be read."""
        series = (series or "").strip()  # `None` as long as the options have never been opened
        if series and not COUNT.fullmatch(series):
            raise told_error(
                "The DICOM series is chosen by its number, from 1. Leave the field empty if there is one."
            )
        try:
            return Opened(self.reporter.see(scan, int(series) if series else None)[0])
        except VolumeError as error:
            told = str(error).removeprefix("the scan: ").replace("series=", "“DICOM series” ").replace(FORCE, "")
            raise told_error(f"This scan cannot be read: {told}") from None

    def open_upload(self, scan: str, series: str | None) -> Opened:
        """Reads an uploaded scan, and deletes the file."""
        try:
            return self.open(scan, series)
        finally:
            Path(scan).unlink(missing_ok=True)

    def open_study(self, study: str, series: str | None) -> Opened:
        """Reads a study of the PACS. Its files are kept in a temporary folder until they are read."""
        from ct_rate_pairs.hub.pacs import PacsError, choose_series, retrieved_series  # noqa: PLC0415 - needs the extra pacs

        try:
            with collected_warnings() as told:
                uid, number = series_of_study(series)
                chosen = uid or choose_series(self.server, study.strip())
                with retrieved_series(self.server, study.strip(), chosen, progress=False) as folder:
                    opened = self.open(folder, number)
        except (PacsError, ValueError) as error:
            told = str(error).replace("as series (--series UID)", "in the field “DICOM series” of the options")
            raise told_error(f"This study cannot be read: {told}") from None
        return replace(opened, seen=replace(opened.seen, told=(*told, *opened.seen.told)))

    def write(
        self,
        opened: Opened,
        window: str,
        number: int,
        operating_point: str,
        findings: Sequence[str] | None,
        *known: object,
    ) -> Iterator[tuple]:
        """
        Writes the report of a scan, or writes it anew for the `findings` that a reader has ticked. `window` and
        `number` are of the slice that is shown.

        Yields:
            `tuple`: the notes, the text so far, the choices of findings, how the report was made, the scan with its
            report, and the slice that is shown. Until the report is whole, nothing of an earlier one is left.
        """
        opened.report = None
        empty = gr.update(choices=list(LABELS))
        yield "Writing …", "", empty, "", gr.skip(), show(opened, window, number)
        point = "none" if operating_point == DECIDES else operating_point
        point = point if findings is None else None  # what a reader ticks is written, whatever is probable
        options = {"operating_point": point, "findings": findings, "metadata": self.metadata(known)}
        tokenizer = self.reporter.collator.processor.tokenizer
        pieces = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        with ThreadPoolExecutor(1) as pool, errors_as_told():
            writing = pool.submit(self.reporter.report, opened.seen, streamer=pieces, **options)
            writing.add_done_callback(lambda _: pieces.end())  # also after an error before the first piece
            text, with_line = "", self.reporter.has_line and point == "none"
            for piece in pieces:
                text += piece
                # A line of findings that the model writes itself is not shown: the findings below are the same.
                shown = open_text(text.lstrip(), with_line).report
                if not opened.closed:
                    yield gr.skip(), shown, gr.skip(), gr.skip(), gr.skip(), gr.skip()
            if not opened.closed:
                yield "Measuring which slices each finding rests on …", *[gr.skip()] * 5
            opened.report = writing.result()
        if opened.closed:
            return
        report = opened.report
        stated = [finding.label for finding in report.findings if finding.stated]
        choices = gr.update(choices=choices_of(report), value=stated)
        yield as_list(report.warnings), report.text, choices, how_made(report), opened, gr.skip()

    def ask(self, opened: Opened, question: str, after_report: bool, turns: list, *known: object) -> tuple[list, str]:
        """Asks about a scan. Returns the questions and answers so far, and an empty text for the next question."""
        report = opened.report if after_report else None
        if after_report and report is None:
            raise told_error("There is no report to ask after: write the report first.")
        with errors_as_told():
            answers = self.reporter.ask(opened.seen, question, report=report, metadata=self.metadata(known))
        if opened.closed:
            return gr.skip(), gr.skip()
        (answer,) = answers.answers
        told = "".join(f"\n\n({told})" for told in answers.told)
        asked = {"role": "user", "content": answer.question}, {"role": "assistant", "content": answer.text + told}
        return [*turns, *asked], ""

    def notes_of_scan(self, seen: SeenScan) -> str:
        """What a reader must know of a scan before its report, as Markdown."""
        unlike = self.reporter.domain.unlike(seen.measures) if self.reporter.domain else []
        told = [f"This scan is unlike those of the training: {in_short(unlike)}."] * bool(unlike)
        return as_list([*told, *seen.told])

    def metadata(self, known: Sequence[object]) -> dict[str, int | str]:
        """What a visitor has filled in of the patient, by its name."""
        told = {name: value for name, value in zip(self.reporter.metadata, known, strict=True) if value}
        if told.get("age", "").isdecimal():
            told["age"] = int(told["age"])
        return told


def close(opened: Opened | None) -> None:
    """Closes a scan: what is still computed about it is not shown any more."""
    if opened is not None:
        opened.closed = True


def series_of_study(series: str | None) -> tuple[str, str]:
    """The UID of a series in a PACS, and the number of a volume in it, from `UID`, `UID:NUMBER` or `NUMBER`."""
    uid, _, number = (series or "").strip().partition(":")
    return (uid, number) if "." in uid else ("", uid)


def told_error(message: str) -> gr.Error:
    """An error that the page shows until it is closed."""
    return gr.Error(html.escape(message, quote=False), duration=None, print_exception=False)


@contextmanager
def errors_as_told() -> Iterator[None]:
    """Makes what is wrong with a visitor's values an error that the page shows."""
    try:
        yield
    except ValueError as error:
        raise told_error(str(error)) from None


def show(opened: Opened | None, window: str, number: int) -> str:
    """A slice of a scan in a window, and what rests on it, as HTML. The image is a part of it, and never a file."""
    if opened is None:
        return ""
    seen, report = opened.seen, opened.report
    images = seen.images if window == MODELS else seen.native.images(window)
    data = io.BytesIO()
    images[number - 1].save(data, "png")
    image = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    here = [finding.label for finding in report.findings if number in finding.slices] if report else []
    told = f"Slice {number} of {len(images)}: {seen.places[number - 1]}"
    told += ", outside the lungs" if seen.places[number - 1].in_lungs is False else ""
    told += f". Rests on it: {', '.join(here)}" if here else ""
    # Of pictures, nobody knows the sides.
    sides = "<span>R</span><span>L</span>" if seen.native.pixel_mm else ""
    figure = f'<div>{sides}<img src="{image}" alt="{told}"></div><figcaption>{told}</figcaption>'
    return f'<figure class="{"evidence" if here else ""}">{figure}</figure>'


def choices_of(report: ScanReport) -> list[tuple[str, str]]:
    """The 18 findings as choices: their labels with confidence and slices, and the labels alone as values."""
    choices = []
    for finding in report.findings:
        told = [finding.percent] if finding.confidence is not None else []
        told += ["doubtful"] if finding.doubtful else []
        told += [slices_told(finding)] if finding.slices else []
        choices.append((" · ".join([finding.label, *told]), finding.label))
    return choices


def how_made(report: ScanReport) -> str:
    """How a report was made, as Markdown. Its scan was read before."""
    seconds = {step: value for step, value in report.seconds.items() if step != "reading"}
    return as_list(replace(report, seconds=seconds).how_made)


def as_list(notes: Sequence[str]) -> str:
    """Notes as a list in Markdown."""
    return "\n".join(f"- {for_markdown(note)}" for note in notes)
