"""A scan -> its report, the 18 labels with a confidence each, and the slices that each stated finding rests on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.sentences import stating_sentences
from ct_rate_pairs.reports.texts import write_prompt
from ct_rate_pairs.trainer import PairCollator, generate_batch
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import Volume
from ct_rate_pairs.volumes.windows import to_uint8

from .confidence import Confidence
from .evidence import slice_evidence, top_slices


@dataclass(frozen=True)
class Finding:
    """
    One of the 18 labels, as a report has it.

    Args:
        label (`str`):
            Its name.
        stated (`bool`):
            Whether the report states it, by the rule labeler.
        confidence (`float`, *optional*):
            Calibrated probability that it is there, in [0, 1], whether stated or not; `None` for a model without a
            `confidence.json`. See [`~ct_rate_pairs.hub.reporting.confidence.Confidence`].
        sentence (`str`, *optional*):
            The first sentence that states it.
        evidence (`list[float]`, *optional*):
            How many nats less likely that sentence is with each slice replaced by noise. See
            [`~ct_rate_pairs.hub.reporting.evidence.slice_evidence`].
        slices (`list[int]`):
            The slices with the most evidence, the best first, counted from 1 at the top.
    """

    label: str
    stated: bool
    confidence: float | None = None
    sentence: str | None = None
    evidence: list[float] | None = None
    slices: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class ScanReport:
    """
    What a model says of one scan. It holds nothing of the scan's path and nothing of its header.

    Args:
        name (`str`):
            What the scan is called, as given to [`Reporter.report`].
        text (`str`):
            The report.
        findings (`list[Finding]`):
            The 18 labels in official order.
        slice_mm (`list[float]`):
            Depth of each slice below the first in mm.
        seconds (`dict[str, float]`):
            What `reading` the scan, `writing` the report, the `confidence` and the `evidence` took.
        model (`str`), version (`str`):
            The model's name and commit; a folder's own name, and a hash of its weights.
        calibration (`dict`, *optional*):
            How far the confidences can be trusted: the errors measured when they were fitted.
        images (`list[PIL.Image.Image]`):
            The slices that the model was shown, superior first. Not part of [`to_dict`].
    """

    name: str
    text: str
    findings: list[Finding]
    slice_mm: list[float]
    seconds: dict[str, float]
    model: str
    version: str
    calibration: dict | None
    images: list[Image.Image] = field(repr=False)

    def to_dict(self) -> dict:
        """Everything but the images, ready for `json.dump`."""
        values = {name: value for name, value in vars(self).items() if name != "images"}
        return values | {"findings": [asdict(finding) for finding in self.findings]}


class Reporter:
    """
    Writes reports of scans with a trained model, each scan read and shown as the training scans were.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into its inputs.
        row_settings (`dict`, *optional*):
            What [`~ct_rate_pairs.trainer.read_row_settings`] gives: slices, window, target and prompt. The dataset's
            defaults by default.
        confidence ([`~ct_rate_pairs.hub.reporting.confidence.Confidence`], *optional*):
            Fitted confidences. Without, reports have none.
        name (`str`, *optional*, defaults to `""`), version (`str`, *optional*, defaults to `""`):
            The model's, for the reports.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        collator: PairCollator,
        row_settings: dict | None = None,
        confidence: Confidence | None = None,
        name: str = "",
        version: str = "",
    ):
        settings = row_settings or {}
        of_volume = ("num_slices", "spacing", "window", "z_range")
        self.volume_settings = VolumeSettings(**{key: settings[key] for key in of_volume if key in settings})
        # A scan comes without age and sex. Models that are told them have seen rows without, too.
        prompt = write_prompt(settings.get("target", "findings+impression"), settings.get("prompt", "en"))
        self.prompt = [{"role": "user", "content": prompt}]
        self.model, self.collator, self.confidence = model, collator, confidence
        self.name, self.version = name, version

    def report(
        self,
        scan: str | Path | Volume,
        *,
        name: str = "scan",
        series: int | None = None,
        max_new_tokens: int = 1200,
        streamer: BaseStreamer | None = None,
    ) -> ScanReport:
        """
        Reports one scan, at temperature 0: the same scan gives the same report.

        Args:
            scan (`str`, `Path` or [`~ct_rate_pairs.volumes.Volume`]):
                A `.nii.gz`, `.nii` or `.mha` in HU, a folder of DICOM files or a `.zip` of one, or a volume.
            name (`str`, *optional*, defaults to `"scan"`):
                What the scan is called in the report. The path is never told.
            series (`int`, *optional*):
                Which DICOM series, where there are several; the error lists them.
            max_new_tokens (`int`, *optional*, defaults to `1200`):
                Longest report in tokens; the longest of CT-RATE has 1,149 Qwen tokens.
            streamer ([`~transformers.TextStreamer`], *optional*):
                Gets the text while it is written.

        Returns:
            [`ScanReport`]

        Raises:
            `VolumeError`: when the scan cannot be read, or is no chest CT in HU.
        """
        seconds: dict[str, float] = {}
        with clock(seconds, "reading"):
            row = self.read(scan, series)
        with clock(seconds, "writing"):
            (text,) = generate_batch(
                self.model, self.collator, [row], max_new_tokens=max_new_tokens, streamer=streamer
            )
        probabilities: list[float] | list[None] = [None] * len(LABELS)
        if self.confidence is not None:
            with clock(seconds, "confidence"):
                probabilities = self.confidence.probabilities(self.model, self.collator, row, text)
        with clock(seconds, "evidence"):
            evidence = slice_evidence(self.model, self.collator, row, text)
        stated = stating_sentences(text)
        findings = [
            Finding(
                label,
                stated=index in stated,
                confidence=probability,
                sentence=stated[index].text if index in stated else None,
                evidence=evidence.get(index),
                slices=top_slices(evidence[index]) if index in stated else [],
            )
            for index, (label, probability) in enumerate(zip(LABELS, probabilities, strict=True))
        ]
        return ScanReport(
            name=name,
            text=text,
            findings=findings,
            slice_mm=row["slice_mm"],
            seconds=seconds,
            model=self.name,
            version=self.version,
            calibration=self.confidence.measured if self.confidence else None,
            images=row["images"],
        )

    def read(self, scan: str | Path | Volume, series: int | None = None) -> dict:
        """The row of a scan, without a report: `images`, `slice_mm` and `prompt`, and no name in `volume`."""
        volume = scan if isinstance(scan, Volume) else read_scan(scan, series)
        of = self.volume_settings
        slices, slice_mm = volume.slices(of.num_slices, of.spacing, of.window, of.z_range)
        images = [Image.fromarray(plane) for plane in to_uint8(slices)]
        # The noise of the evidence is drawn from the volume's name: one name for all, so that it depends on no path.
        return {"volume": "scan", "images": images, "slice_mm": slice_mm, "prompt": self.prompt}


@contextmanager
def clock(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 3)
