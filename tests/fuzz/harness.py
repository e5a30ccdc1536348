"""Mutates bytes, and runs each case in a process of its own."""

import faulthandler
import os
import re
import resource
import shutil
import signal
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


SECONDS = 60  # for one case: some are read in 50 ms
MEGABYTES = 1024  # that a case may take beyond what the process had before
_MOST_MEMORY = 10 * 2**30  # bytes, for the sake of the machine: what is promised counts, too
_BAD = ("crash", "hang", "uncaught", "memory", "leak")
OUTCOMES = ("read", "refused", "cured", *_BAD)
_CURED = "the process that read it"  # of a volume has ended, so the volume is refused
_HEAD = 700  # bytes, in which most headers lie
_NUMBERS = [
    *(struct.pack(f"{order}{kind}", value) for order in "<>" for kind in "hHiIq" for value in (0, 1, 3, 127)),
    *(struct.pack(f"{order}{kind}", value) for order in "<>" for kind in "hiq" for value in (-1, -2, -128)),
    *(struct.pack(f"{order}I", value) for order in "<>" for value in (2**31 - 1, 2**31, 2**32 - 1, 2**24, 65536)),
    *(struct.pack(f"{order}q", value) for order in "<>" for value in (2**31, 2**62, -(2**63))),
    *(
        struct.pack(f"{order}{kind}", value)
        for order in "<>"
        for kind in "fd"
        for value in (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 2.0, 1e-30, 1e30)
    ),
]
_WORDS = ("-1", "0", "1", "2", "3", "100", "65536", "2147483648", "99999999999", "1e9", "1e999", "nan", "-inf", "1_0")


@dataclass(frozen=True)
class Kind:
    """
    A kind of input.

    Args:
        make (`Callable`):
            Writes one case into an empty folder, from a random generator.
        use (`Callable`):
            What the product does with that folder.
        refusal (`type`, or a tuple of types):
            The errors by which the product may refuse it.
        unspoken (`tuple[str, ...]`):
            What no message may hold.
    """

    make: Callable[[np.random.Generator, Path], None]
    use: Callable[[Path], None]
    refusal: type[Exception] | tuple[type[Exception], ...]
    unspoken: tuple[str, ...] = ()


def mutated(rng: np.random.Generator, data: bytes, most: int = 4) -> bytes:
    """The same bytes with one to `most` faults, most of them near the beginning or the end."""
    for _ in range(rng.integers(1, most + 1)):
        data = _FAULTS[rng.integers(len(_FAULTS))](rng, bytearray(data)) if data else b"\0"
    return bytes(data)


def _place(rng: np.random.Generator, data: bytes) -> int:
    size = len(data)
    low, high = [(0, min(size, _HEAD)), (max(size - _HEAD, 0), size), (0, size), (0, min(size, _HEAD))][
        rng.integers(4)
    ]
    return int(rng.integers(low, high)) if high > low else 0


def _flip(rng, data):
    data[_place(rng, data)] ^= 1 << rng.integers(8)
    return data


def _byte(rng, data):
    data[_place(rng, data)] = rng.integers(256)
    return data


def _number(rng, data):
    number, place = _NUMBERS[rng.integers(len(_NUMBERS))], _place(rng, data)
    place -= place % 2
    data[place : place + len(number)] = number
    return data


def _text(rng, data):
    """Another word in the place of a number that is written as text, if there is one."""
    found = list(re.finditer(rb"(?<![\w.])-?\d[\d.]*(?![\w.])", data[: 2 * _HEAD]))
    if not found:
        return _number(rng, data)
    (start, end), word = found[rng.integers(len(found))].span(), _WORDS[rng.integers(len(_WORDS))]
    return data[:start] + word.encode() + data[end:]


def _cut(rng, data):
    return data[: _place(rng, data)]


def _lose(rng, data):
    place = _place(rng, data)
    return data[:place] + data[place + int(rng.integers(1, 64)) :]


def _insert(rng, data):
    place = _place(rng, data)
    return data[:place] + rng.bytes(int(rng.integers(1, 64))) + data[place:]


def _repeat(rng, data):
    place, size = _place(rng, data), int(rng.integers(1, 256))
    return data[: place + size] + data[place:]


_FAULTS = (_flip, _byte, _number, _number, _number, _text, _text, _cut, _lose, _insert, _repeat)


def outcome(kind: Kind, seed: tuple[int, ...]) -> tuple[str, str]:
    """What becomes of one case, and the last words of a process that did not end well."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        (folder / "case").mkdir()
        kind.make(np.random.default_rng(seed), folder / "case")
        child = os.fork()
        if not child:
            _run(kind, folder)
        _, status, usage = os.wait4(child, 0)
        words = (folder / "words").read_text("utf-8", "replace") if (folder / "words").exists() else ""
        if os.WIFSIGNALED(status):
            return ("hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"), f"signal {os.WTERMSIG(status)}"
        # In kilobytes. The process starts with less than this one has, because it shares the libraries' pages.
        taken = (usage.ru_maxrss - int((folder / "before").read_text())) / 1024
        if taken > MEGABYTES:
            return "memory", f"{taken:.0f} MB"
        if os.WEXITSTATUS(status) == 1 and _CURED in words:
            return "cured", words
        return {0: "read", 1: "refused", 2: "uncaught", 3: "leak"}.get(os.WEXITSTATUS(status), "crash"), words
    finally:
        shutil.rmtree(folder)


def _kilobytes() -> int:
    """What this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def _run(kind: Kind, folder: Path) -> None:
    """Uses the case in a new process, and ends it."""
    code = 2
    try:
        (folder / "before").write_text(str(_kilobytes()))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends native code, too
        signal.alarm(SECONDS)
        faulthandler.disable()  # pytest's
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        try:
            kind.use(folder / "case")
            code = 0
        except kind.refusal as error:
            said = [word for word in (*kind.unspoken, str(folder)) if word in str(error)]
            (folder / "words").write_text(f"{said}: {error}" if said else str(error), "utf-8", "replace")
            code = 3 if said else 1
    except BaseException:
        (folder / "words").write_text(traceback.format_exc(), "utf-8", "replace")
    finally:
        os._exit(code)


def run(kind: Kind, name: str, cases: int, first: int = 0) -> tuple[Counter, list[str]]:
    """
    Runs `cases` of a kind, from number `first`.

    Returns:
        `tuple[Counter, list[str]]`: the number of each outcome, and what to say of bad ones.
    """
    counts, bad = Counter(), []
    for number in range(first, first + cases):
        what, words = outcome(kind, (*name.encode(), number))
        counts[what] += 1
        if what in (*_BAD, "cured"):
            bad.append(f"{name} {number}: {what}: {words.strip()[-1500:]}")
    return counts, bad
