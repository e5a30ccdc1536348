"""
What a report leaves for a PACS or an electronic record: a Structured Report, a Segmentation, and a DiagnosticReport of
FHIR.
"""

import io
from argparse import Namespace
from pathlib import Path

from pydicom import Dataset, dcmwrite

from ct_rate_pairs.hub.reporting.scan_report import ScanReport
from ct_rate_pairs.whole_files import write_whole

from .fhir import make_diagnostic_report
from .segmentation import make_segmentation
from .server import DicomWebServer
from .store import reports_before, store_instance
from .structured_report import make_structured_report


def write_for_pacs(report: ScanReport, args: Namespace, server: DicomWebServer | None) -> list[str]:
    """
    Writes and stores what the command was asked for.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report.
        args (`Namespace`):
            The options `sr`, `store_sr`, `seg`, `fhir` and `fhir_subject` of the command.
        server ([`~ct_rate_pairs.hub.pacs.server.DicomWebServer`], *optional*):
            Where the scan comes from.

    Returns:
        `list[str]`: what was written and stored, in words.

    Raises:
        `ValueError`: if the scan cannot have a Structured Report or a Segmentation.
        [`~ct_rate_pairs.hub.pacs.server.PacsError`]: if the server does not store it.
    """
    done = []
    if args.sr or args.store_sr:
        document = make_structured_report(report)
        if args.sr:
            done.append(write_document(document, args.sr))
        if args.store_sr:
            before = reports_before(server, args.study)
            store_instance(server, document)
            beside = f" (beside {before} of earlier calls)" if before else ""
            done.append(f"a Structured Report in the study{beside}, on {server.host}")
    if args.seg:
        masks = make_segmentation(report)
        if masks is None:
            args.seg.unlink(missing_ok=True)  # an earlier one must not stand for this report
            done.append(f"no {args.seg}, because no stated finding has a mask")
        else:
            done.append(write_document(masks, args.seg))
    if args.fhir:
        write_whole(args.fhir, make_diagnostic_report(report, args.fhir_subject).model_dump_json(indent=2) + "\n")
        done.append(str(args.fhir))
    return done


def write_document(document: Dataset, path: Path) -> str:
    """Writes a document that names the patient, for this user alone. Returns what was written, in words."""
    content = io.BytesIO()
    dcmwrite(content, document, enforce_file_format=True)
    write_whole(path, content.getvalue(), private=True)
    return f"{path} (it names the patient)"
