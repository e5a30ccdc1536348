"""The options of `ct-rate-pairs report` for a PACS. What contradicts itself is told before anything is read."""

import re
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser


NEEDS = {"dicomweb": "dicomweb_client"} | dict.fromkeys(("sr", "store_sr", "seg"), "highdicom") | {"fhir": "fhir"}
OF_DICOMWEB = ("study", "store_sr", "allow_http")
_REFERENCE = re.compile(r"(https?://[!-~]+/)?[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}|urn:(uuid|oid):[0-9a-fA-F.\-]+")
VOLUME_FILES = (".nii", ".nii.gz", ".mha", ".npz")  # of scans without DICOM instances


def add_pacs_options(parser: CommandParser) -> None:
    """Adds the options that bring a scan from a PACS, and a report back."""
    add = parser.add_argument
    add("--dicomweb", metavar="URL", help="DICOMweb server to take the scan from, in the place of SCAN")
    add("--study", metavar="UID", help="StudyInstanceUID of the scan on the server")
    add(
        "--allow_http",
        action="store_true",
        help="let the scan come unencrypted from another machine; a login never travels so",
    )
    add(
        "--sr",
        type=Path,
        metavar="FILE.dcm",
        help="also write a DICOM Structured Report. It names the patient, as each file of a study does",
    )
    add(
        "--store_sr",
        action="store_true",
        help="store the Structured Report in the study on the server, beside those of earlier calls",
    )
    add(
        "--seg",
        type=Path,
        metavar="FILE.dcm",
        help="also write the masks of the stated findings as a DICOM Segmentation. It names the patient",
    )
    add("--fhir", type=Path, metavar="FILE.json", help="also write a FHIR R4 DiagnosticReport, without the patient")
    add("--fhir_subject", metavar="REFERENCE", help="the patient of the DiagnosticReport, such as Patient/123")


def check_pacs_options(parser: CommandParser, args: Namespace) -> None:
    """Ends the command if options for a PACS contradict each other or the scans, or lack a library."""
    if bool(args.scans) == bool(args.dicomweb):
        told = (
            "give either SCAN, or --dicomweb with --study" if args.scans else "give a SCAN, or --dicomweb and --study"
        )
        parser.error(f"{told}.")
    if args.dicomweb and not args.study:
        parser.error("--dicomweb needs --study: the StudyInstanceUID of the scan.")
    for name in OF_DICOMWEB:
        if getattr(args, name) and not args.dicomweb:
            remedy = " Write --sr FILE.dcm, and send that file." if name == "store_sr" else ""
            parser.error(f"--{name} has no effect without --dicomweb: leave it out.{remedy}")
    if args.fhir_subject and not args.fhir:
        parser.error("--fhir_subject has no effect without --fhir: leave it out, or write --fhir FILE.json.")
    check_subject(args.fhir_subject)
    for name in ("sr", "seg", "fhir"):
        path = getattr(args, name)
        if path is not None and path.is_dir():
            parser.error(f"--{name} is a folder: give a file.")
        if path is not None and not path.parent.is_dir():
            parser.error(f"--{name}: its folder is not there. Make the folder first.")
    for name, module in NEEDS.items():
        if getattr(args, name) and find_spec(module) is None:
            parser.error(f"--{name} needs a library that is not installed: pip install 'ct-rate-pairs[pacs]'.")


def check_single(parser: CommandParser, args: Namespace, scans: Sequence[Path], batch: bool) -> None:
    """Ends the command if a report for a PACS is asked for of a batch, or of a scan without DICOM instances."""
    for name in ("sr", "seg", "fhir"):
        if batch and getattr(args, name) is not None:
            parser.error(f"--{name} is for a single scan: report the scans one by one.")
    from ct_rate_pairs.volumes.scan_files import files_of, pictures_among

    is_other = scans[0].name.lower().endswith(VOLUME_FILES) or (
        scans[0].is_dir() and bool(pictures_among(files_of(scans[0])))
    )
    for name, what in (("sr", "Structured Report"), ("seg", "Segmentation")):
        if getattr(args, name) and is_other:
            parser.error(f"--{name} needs a DICOM scan: a {what} names the images of its study, and this has none.")


def series_of(parser: CommandParser, args: Namespace) -> tuple[str | None, int | None]:
    """
    What `--series` chooses: the UID of a series on a server, or `None`; and its number, or `None`. A server's series
    that holds several volumes is `UID:NUMBER`.
    """
    if args.series is None:
        return None, None
    uid, colon, number = args.series.partition(":") if "." in args.series else ("", "", args.series)
    if bool(uid) != bool(args.dicomweb):
        parser.error(
            "--series takes the SeriesInstanceUID of the series with --dicomweb, and not its number."
            if args.dicomweb
            else "--series takes the number of the series of a scan on this machine, from 1, and a UID only with "
            "--dicomweb."
        )
    if (colon or not uid) and not re.fullmatch("0*[1-9][0-9]{0,8}", number):
        parser.error("--series: give the number of a series, from 1.")
    return uid or None, int(number) if number else None


def check_subject(subject: str | None) -> None:
    """Raises a `ValueError` for a subject that is no reference of FHIR, such as a name."""
    if subject is not None and not _REFERENCE.fullmatch(subject):
        raise ValueError("The subject (--fhir_subject) is no reference of FHIR: give one such as Patient/123.")
