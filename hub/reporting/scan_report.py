"""What a report of a scan holds."""

from dataclasses import asdict, dataclass, field, replace

from PIL import Image

from ct_rate_pairs.volumes.instances import Instances
from ct_rate_pairs.volumes.native_slices import NativeSlices
from ct_rate_pairs.volumes.slice_places import SlicePlace

from .domain import in_short
from .masks import ScanMasks
from .patches import PatchEvidence


CUT = (
    "It is cut, and findings that it would have stated later are missing: raise the limit (max_new_tokens), and "
    "report the scan again."
)

DOUBTFUL_BELOW = 0.5  # a finding of less confidence is more likely absent than present
WHY_DOUBTFUL = f"Doubtful: stated, although its confidence is below {DOUBTFUL_BELOW:.0%}."


@dataclass(frozen=True)
class Finding:
    """
    One of the 18 labels in a report.

    Args:
        label (`str`):
            Name of the label.
        stated (`bool`):
            Whether the report states the finding, as read by the rule labeler.
        confidence (`float`, *optional*):
            Calibrated probability of the finding, in [0, 1], also for findings that are not stated; `None` for a model
            without a `confidence.json`, or if it is not known, which is then told. See
            [`~ct_rate_pairs.hub.reporting.confidence.Confidence`].
        sentence (`str`, *optional*):
            The first sentence that states the finding.
        evidence (`list[float]`, *optional*):
            Evidence of each slice in nats: how much less likely the sentence is if noise replaces the slice. See
            [`~ct_rate_pairs.hub.reporting.evidence.slice_evidence`].
        slices (`list[int]`):
            The slices that the finding rests on, in descending order of evidence, counted from 1 at the top.
        patches ([`~ct_rate_pairs.hub.reporting.patches.PatchEvidence`], *optional*):
            Evidence of each patch of the slices, for a finding that rests on some slices. [`ScanReport.to_dict`] keeps
            the patch with the most evidence.
        doubtful (`bool`, *optional*):
            Whether the finding is stated although its confidence is below 0.5, so that it is more likely absent than
            present. What set the findings line makes no difference. `None` if the confidence is not known.
    """

    label: str
    stated: bool
    confidence: float | None = None
    sentence: str | None = None
    evidence: list[float] | None = None
    slices: list[int] = field(default_factory=list)
    doubtful: bool | None = None
    patches: PatchEvidence | None = field(default=None, repr=False)

    @property
    def percent(self) -> str:
        """The confidence in percent, never 0 % or 100 %; empty if it is not known."""
        if self.confidence is None:
            return ""
        return "< 1%" if self.confidence < 0.01 else "> 99%" if self.confidence > 0.99 else f"{self.confidence:.0%}"


@dataclass(frozen=True)
class ReportSentence:
    """
    One sentence of a report.

    Args:
        start (`int`), end (`int`):
            Where the sentence begins and ends in the text of the report, in characters.
        states (`list[str]`):
            The findings that the sentence states, as read by the rule labeler.
        doubtful (`list[str]`):
            Those of them that are doubtful by their confidence.
    """

    start: int
    end: int
    states: list[str]
    doubtful: list[str]


@dataclass(frozen=True)
class ScanReport:
    """
    The report of a model on one scan. It holds neither the path nor the header of the scan.

    Args:
        name (`str`):
            Name of the scan, as given to [`~ct_rate_pairs.hub.reporting.reporter.Reporter.report`].
        text (`str`):
            The report, without a findings line.
        findings (`list[Finding]`):
            The 18 labels in the official order.
        sentences (`list[ReportSentence]`):
            The sentences of the text, and which findings they state.
        slices (`list[SlicePlace]`):
            The place of each slice in the scan, see [`~ct_rate_pairs.volumes.slice_places.SlicePlace`].
        seconds (`dict[str, float]`):
            Time of each step in seconds: `reading` the scan, `writing` the report, `confidence` and `evidence`.
        model (`str`), version (`str`):
            Name and commit of the model on the Hub, or name of its folder and hash of its weights.
        calibration (`dict`, *optional*):
            Quality of the confidences, measured when they were fitted.
        images (`list[PIL.Image.Image]`):
            The slices that the model got, superior first. [`to_dict`] leaves them out.
        native ([`~ct_rate_pairs.volumes.native_slices.NativeSlices`]):
            The stored plane of the scan that is nearest to each slice, at its own resolution, for a reader to look at.
            [`to_dict`] leaves them out.
        instances ([`~ct_rate_pairs.volumes.instances.Instances`], *optional*):
            The DICOM image that is nearest to each slice, and the patient, the study and the series of the images.
            `None` for a scan in another format. [`to_dict`] leaves them out, and so does no file of a report have
            them.
        masks ([`~ct_rate_pairs.hub.reporting.masks.ScanMasks`], *optional*):
            Where the stated findings are. `None` for a model without a mask head, and for pictures. [`to_dict`] leaves
            them out.
        cut (`bool`, *optional*, defaults to `False`):
            Whether the report met its limit of tokens before its end. Findings that it would have stated later are
            missing then.
        told (`list[str]`):
            Warnings of the reader of the scan, such as an orientation that its header does not state; and what had to
            be assumed of the slices and the prompt that the model was trained with.
        unread (`str`, *optional*):
            Why no finding can be read from the text: it holds no text, or is in another language than English and
            Chinese. The findings are then not stated, which says nothing about the scan.
        line (`str`, *optional*):
            The findings line before the report, see [`~ct_rate_pairs.reports.findings_line`]. For a model that was
            trained with findings in its prompts, the line of the prompt, if findings are given.
        line_set_by (`str`, *optional*):
            What has set the findings line: `"operating point f1"`, `"operating point 0.9"` or the like, or
            `"given findings"`. `None` if the model wrote the line itself, or there is none.
        prompt_metadata (`list[str]`):
            The names of what the prompt told of the patient and the scan. The values are not kept.
        trained_on (`str`, *optional*):
            What the model was trained on, in words. `None` for a model without a `domain.json`: then nothing is
            known.
        unlike (`list[str]`):
            How the scan differs from those of the training, in words: each measure beyond its limits. See
            [`~ct_rate_pairs.hub.reporting.domain`].
        forced (`bool`, *optional*, defaults to `False`):
            Whether the model would have refused the scan, but for `force=True`.
    """

    name: str
    text: str
    findings: list[Finding]
    sentences: list[ReportSentence]
    slices: list[SlicePlace]
    seconds: dict[str, float]
    model: str
    version: str
    calibration: dict | None
    images: list[Image.Image] = field(repr=False)
    native: NativeSlices = field(repr=False)
    instances: Instances | None = field(default=None, repr=False)
    masks: ScanMasks | None = field(default=None, repr=False)
    cut: bool = False
    told: list[str] = field(default_factory=list)
    unread: str | None = None
    line: str | None = None
    line_set_by: str | None = None
    prompt_metadata: list[str] = field(default_factory=list)
    trained_on: str | None = None
    unlike: list[str] = field(default_factory=list)
    forced: bool = False

    @property
    def domain_told(self) -> list[str]:
        """What a reader must know of the scans that the model was trained on, in sentences, the worst first."""
        if self.trained_on is None:
            return ["It is not known what the model was trained on (no domain.json), so the scan may be unlike that."]
        told = [
            "The model refuses such a scan, and was forced: the report says nothing about a patient."
        ] * self.forced
        if self.unlike:
            listed = in_short(self.unlike)
            told.append(f"This scan is unlike those of the training, and the report may be wrong for it: {listed}.")
        return [*told, f"The model was trained on {self.trained_on}."]

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before the report, in sentences, the worst first."""
        warnings = self.domain_told
        if self.unread:
            warnings.append(f"{self.unread} That no finding is stated says nothing about the scan.")
        if self.cut:
            warnings.append(f"The report met its limit of tokens. {CUT}")
        if self.line_set_by:
            warnings.append(f"The report was written below a findings line that was set by {self.line_set_by}.")
        warnings += self.told
        if self.native.pixel_mm is None:
            warnings.append("Nobody knows which side of these pictures is the patient's right.")
        return warnings

    @property
    def how_made(self) -> list[str]:
        """The model, what it was told, the quality of its confidences, and the times, a sentence each."""
        lines = [f"Model {self.model}, version {self.version}."]
        if self.prompt_metadata:
            lines.append(f"Its prompt told the model {', '.join(self.prompt_metadata).replace('_', ' ')}.")
        if self.line:
            lines.append(f"Findings line: {self.line}")
        if self.calibration and self.findings[0].percent:
            error = self.calibration["calibrated"]["ece"]
            lines.append(
                f"Confidences are calibrated probabilities, {error:.1%} off on the average over validation scans."
            )
        return [*lines, f"Time: {', '.join(f'{step} {seconds:.1f} s' for step, seconds in self.seconds.items())}."]

    def to_dict(self) -> dict:
        """Everything except the images, the masks and what tells of the patient, ready for `json.dump`."""
        left_out = ("images", "native", "instances", "masks")
        values = {name: value for name, value in vars(self).items() if name not in left_out}
        listed = {name: [asdict(item) for item in values[name]] for name in ("sentences", "slices")}
        return values | {"findings": [self._finding(finding) for finding in self.findings]} | listed

    def _finding(self, finding: Finding) -> dict:
        """A finding for `json.dump`. Of its patches, it has the one with the most evidence."""
        values = asdict(replace(finding, patches=None))
        del values["patches"]
        return values | {"top_patch": finding.patches and self.native.box(*finding.patches.top)}
