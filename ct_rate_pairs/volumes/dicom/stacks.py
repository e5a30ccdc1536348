"""
From the images of a series to its stacks of slices. What is no slice of a stack is set aside, and acquisitions that
share a series are told apart: a volume is never woven of two.
"""

from collections import Counter, defaultdict

import numpy as np

from .headers import CT_CLASSES, PLANE, Header
from .identity import IDENTITY, MISSING, by_identity, days_of, seconds_of
from .places import SAME_PLACE, along_normal, even_step, normal_of


AXIAL = np.cos(np.radians(20.0))  # smallest cosine between the normal of an axial slice and the body's axis
_ROUNDING = 1e-3  # rounding error of cosines and voxel sizes that are written as decimals
# Slices that differ in one of these belong to different stacks if the stacks overlap. One below the other they may be
# one volume: a scanner may count each position of the table as an acquisition.
OF_ACQUISITION = (
    "ImageType",
    "ConvolutionKernel",
    "SliceThickness",
    "KVP",
    "NominalPercentageOfCardiacPhase",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "ContrastBolusAgent",
    "PatientPosition",
    "ReconstructionDiameter",
    "FilterType",
    "ScanOptions",
    "AcquisitionNumber",
    "FrameOfReferenceUID",
    "StackID",
    "IrradiationEventUID",
    "StudyTime",
    "PatientAge",
    "InstitutionName",
    "StationName",
    "DeviceSerialNumber",
    "Multiframe",
)
# A scanner counts these up from slice to slice. Where they go on at places where slices were before, another
# acquisition begins.
_TIMES = ("AcquisitionDateTime", "AcquisitionTime", "ContentTime", "FrameReferenceDateTime")
_IN_ORDER = (*_TIMES, "TriggerTime", "TemporalPositionTimeOffset", "InstanceNumber")
# These differ between copies of a slice.
_OF_COPIES = ("InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "SOPInstanceUID")
_MOST_WOVEN = 4  # acquisitions whose slices lie between each other: times that go round more often mean something else
_LEAST = 3  # slices of a stack whose spacing can be told

Part = tuple[list[Header], list[str]]  # slices, and what tells them apart from the other slices of their series


def set_aside(headers: list[Header]) -> tuple[list[Header], Counter]:
    """
    The slices of a series, and the number of each kind of image that is no slice of it: a localizer, a page or object
    that is stored with the series, an image that is not axial. Where nothing else is there, all images are kept.
    """
    kinds = (
        ("localizers", lambda h: "LOCALIZER" in h["ImageType"].upper()),
        ("images of another kind than CT (SOPClassUID)", lambda h: h["SOPClassUID"] not in ("", *CT_CLASSES)),
        ("images of another modality than CT", lambda h: h["Modality"].upper() not in ("", "CT")),
        ("colour images", lambda h: not h["PhotometricInterpretation"].upper().startswith("MONOCHROME")),
        ("images without position and orientation (such as a page with the dose)", lambda h: not _has_some_place(h)),
        ("coronal, sagittal or oblique images", lambda h: _has_place(h) and not is_axial(h)),
    )
    aside = Counter()
    for kind, is_kind in kinds:
        kept = [header for header in headers if not is_kind(header)]
        if kept:
            aside[kind] += len(headers) - len(kept)
            headers = kept
    return headers, +aside


def is_axial(header: Header) -> bool:
    """Whether an image with an orientation is an axial slice, give or take a tilt."""
    return abs(normal_of(header)[2]) >= AXIAL


def _has_place(header: Header) -> bool:
    return "ImagePositionPatient" in header and "ImageOrientationPatient" in header


def _has_some_place(header: Header) -> bool:
    return "ImagePositionPatient" in header or "ImageOrientationPatient" in header


def stacks_of(headers: list[Header]) -> list[Part]:
    """
    The stacks in the slices of a series, each with the words that tell it apart. Slices whose planes are not known
    remain together.
    """
    parts = [(headers, [])]
    if not all(keyword in header for header in headers for keyword in ("ImagePositionPatient", *PLANE)):
        return parts
    # Slices of two planes or identities belong to different stacks, wherever they lie.
    ways = [(keyword, _apart) for keyword in PLANE] + [(keyword, by_identity) for keyword in IDENTITY]
    ways += [(keyword, _apart) for keyword in (*OF_ACQUISITION, *_IN_ORDER)]  # a date and time is of both
    for keyword, split in ways:
        parts = [
            (part, [*words, _word(keyword, number, part, apart)] if len(apart) > 1 else words)
            for whole, words in parts
            for apart in [split(whole, keyword)]
            for number, part in enumerate(apart, start=1)
        ]
    return [woven for part in parts for woven in _unwoven(*part)]


def _unwoven(headers: list[Header], words: list[str]) -> list[Part]:
    """
    The acquisitions whose slices lie between each other, or at the same places, and that any other element tells
    apart: it takes a value for each acquisition. An element that varies from slice to slice does not do that.
    """
    normal = normal_of(headers[0])
    compared = {keyword for header in headers for keyword in header["Compared"]}
    if np.diff(np.sort(along_normal(headers, normal)), append=np.inf).min() <= SAME_PLACE:
        compared -= set(_OF_COPIES)
    for keyword in sorted(compared):
        kinds = defaultdict(list)
        for header in headers:
            kinds[header["Compared"].get(keyword, b"")].append(header)
        parts = [kinds[value] for value in sorted(kinds)]
        if 1 < len(parts) <= _MOST_WOVEN and _are_woven(parts, normal):
            return [
                woven
                for number, part in enumerate(parts, start=1)
                for woven in _unwoven(part, [*words, f"{keyword} {number} of {len(parts)}"])
            ]
    return [(headers, words)]


def _are_woven(parts: list[list[Header]], normal: np.ndarray) -> bool:
    """Whether parts of a stack share a range, in which each part has a place of its own in each step."""
    alongs = [along_normal(part, normal) for part in parts]
    if min(len(along) for along in alongs) < _LEAST:
        return False
    if max(along.min() for along in alongs) >= min(along.max() for along in alongs):
        return False
    if all(_is_even(part, normal) for part in parts):
        return True
    order = np.argsort(np.concatenate(alongs))
    turns = np.repeat(np.arange(len(parts)), [len(along) for along in alongs])[order]  # the part of each place
    return bool((turns[len(parts) :] == turns[: -len(parts)]).all()) and len(set(turns[: len(parts)])) == len(parts)


def _apart(headers: list[Header], keyword: str) -> list[list[Header]]:
    """The stacks that `keyword` tells apart."""
    kinds = _kinds(headers, keyword)
    if keyword in PLANE or len(kinds) == 1:
        return kinds
    normal = normal_of(headers[0])
    if keyword in _IN_ORDER:
        runs = _restarts(kinds, normal)
        shared = np.diff(np.sort(along_normal(headers, normal))).min() <= SAME_PLACE
        most = len(headers) if shared else _MOST_WOVEN
        of_numbers = (_ranks(kinds, normal), _turns(kinds, normal)) if keyword == "InstanceNumber" else ()
        for split in (runs, _turned(runs), *of_numbers):
            stacks = [[header for kind in stack for header in kind] for stack in split]
            if 1 < len(stacks) <= most and all(_is_even(stack, normal) for stack in stacks):
                return stacks
        return [headers]
    runs, ends = [], []
    for kind in sorted(kinds, key=lambda kind: along_normal(kind, normal).min()):
        along = along_normal(kind, normal)
        run = next((i for i, end in enumerate(ends) if along.min() > end), len(runs))
        if run == len(runs):
            runs.append([])
            ends.append(0.0)
        runs[run] += kind
        ends[run] = along.max()
    # Where one stack has just the slices that another one lacks, they are one stack, whatever their headers say.
    complete_each_other = _is_even(headers, normal) and not all(_is_even(run, normal) for run in runs)
    return [headers] if complete_each_other else runs


def _restarts(kinds: list[list[Header]], normal: np.ndarray) -> list[list[list[Header]]]:
    """The kinds in their order, in runs. A new run begins with the first kind that lies where slices were before."""
    runs, low, high = [], np.inf, -np.inf
    for kind in kinds:
        along = along_normal(kind, normal)
        if not runs or (along.min() < high and along.max() > low):
            runs.append([])
            low, high = np.inf, -np.inf
        runs[-1].append(kind)
        low, high = min(low, along.min()), max(high, along.max())
    return runs


def _turned(runs: list[list[list[Header]]]) -> list[list[list[Header]]]:
    """The runs of a table that goes forth and back: the last kind of each run becomes the first of the next run."""
    lasts = [[], *(run[-1:] for run in runs)]
    return [before + run[: -1 if run is not runs[-1] else None] for before, run in zip(lasts, runs, strict=False)]


def _ranks(kinds: list[list[Header]], normal: np.ndarray) -> list[list[list[Header]]]:
    """
    The first slices of all kinds along the normal, then the second ones and so on, if all kinds have as many. They are
    one stack if they lie evenly one below the other: its parts are numbered alike.
    """
    alongs = [along_normal(kind, normal) for kind in kinds]
    if len({len(along) for along in alongs}) > 1 or min(np.ptp(along) for along in alongs) <= SAME_PLACE:
        return [kinds]
    ranked = np.sort(np.stack(alongs), axis=1)  # [kinds, ranks]
    headers = [header for kind in kinds for header in kind]
    if (ranked[:, :-1].max(axis=0) < ranked[:, 1:].min(axis=0)).all() and _is_even(headers, normal):
        return [kinds]
    return [
        [[kind[np.argsort(along)[rank]]] for kind, along in zip(kinds, alongs, strict=True)]
        for rank in range(len(kinds[0]))
    ]


def _turns(kinds: list[list[Header]], normal: np.ndarray) -> list[list[list[Header]]]:
    """Every second slice along the normal (or third, or fourth), if each such stack is numbered by an own step."""
    headers = [header for kind in kinds for header in kind]
    along = along_normal(headers, normal)
    order = np.argsort(along)
    if np.diff(along[order]).min() <= SAME_PLACE:
        return [kinds]
    numbers = np.array([headers[i].get("InstanceNumber", np.nan) for i in order])
    for count in range(1, _MOST_WOVEN + 1):
        steps = [np.diff(numbers[turn::count]) for turn in range(count)]
        if all(len(step) >= _LEAST - 1 and (step == step[0]).all() and step[0] != 0 for step in steps):
            return [[[headers[i]] for i in order[turn::count]] for turn in range(count)]
    return [kinds]


def _is_even(stack: list[Header], normal: np.ndarray) -> bool:
    """Whether slices are evenly spaced, one at each place."""
    if len(stack) < _LEAST:
        return False
    along = np.sort(along_normal(stack, normal))
    return np.diff(along).min() > SAME_PLACE and even_step(along) is not None


def _kinds(headers: list[Header], keyword: str) -> list[list[Header]]:
    """The headers by the value of an element, in ascending order. Headers without a number come first."""
    values = [header.get(keyword, MISSING) for header in headers]
    if keyword in _TIMES:
        values = seconds_of(headers, keyword)
    if isinstance(values[0], str):
        kinds = defaultdict(list)
        for header, text in zip(headers, values, strict=True):
            kinds[text].append(header)
        return [kinds[text] for text in sorted(kinds)]
    numbers = np.array(values).reshape(len(headers), -1)  # [N, size of the element]
    kinds, left = [], np.lexsort(numbers.T[::-1])
    while len(left):
        near = np.abs(numbers[left] - numbers[left[0]]).max(axis=1) <= _ROUNDING
        kinds.append([headers[i] for i in left[near]])
        left = left[~near]
    return kinds


def _word(keyword: str, number: int, part: list[Header], parts: list[list[Header]]) -> str:
    """What tells a part from the others. No text of the file is quoted: it might be a name."""
    value = part[0].get(keyword)
    if isinstance(value, float) and all(h.get(keyword) == value for h in part):
        return f"{keyword} {value:g}"
    if isinstance(value, np.ndarray):
        return f"{keyword} {' '.join(f'{x:g}' for x in value)}"
    return f"{keyword} {number} of {len(parts)}"


def joined(headers: list[Header]) -> list[str]:
    """The elements of an acquisition in which the slices of a stack differ, with the number of their values."""
    counts = {keyword: len(_kinds(headers, keyword)) for keyword in OF_ACQUISITION if keyword != "Multiframe"}
    counts |= days_of(headers)
    return [f"{count} values of {keyword}" for keyword, count in counts.items() if count > 1]
