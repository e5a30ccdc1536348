"""Writes the report of a scan, with the confidence of each label and the slices that each finding rests on."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from ct_rate_pairs.eval.looking.line_probabilities import line_logits
from ct_rate_pairs.reports.findings_line import write_line
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.prompt_lines import FINDINGS, metadata_lines, metadata_names, put_before
from ct_rate_pairs.reports.readable import is_missing
from ct_rate_pairs.reports.texts import write_prompt
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import Written, write_batch
from ct_rate_pairs.trainer.row_settings import OF_THE_VOLUME, RowSettingsError, assumed_settings
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import Volume, VolumeError

from .asking import TASKS, ScanAnswers, doubts, read_questions, write_answers
from .clock import clock
from .confidence import Confidence, choose_point
from .domain import Domain, UnlikeScanError, in_short
from .evidence import slice_evidence, top_slices
from .locating import LocatedSentence, locate_findings, read_sentence
from .masks import Masker, check_masker
from .masks_and_text import told_of_masks
from .patch_evidence import patch_evidence
from .patient import given_metadata
from .regions import find_chest
from .scan_report import CUT, ScanReport
from .seen import SeenScan, see
from .set_line import check_line, no_point_holds, read_own_line
from .text_findings import disagreements, findings_of, sentences_of, why_unread


LACKS_LINES = (
    "The prompts of the training told {names}, and without prompt_dropout hardly any lacked this. It is not given "
    "here, and the report may be worse for it: give it as metadata."
)

NO_LINE_OF_ITS_OWN = "No confidence is known: the findings in the prompt are not the model's."
NO_SOUND_LINE = "No confidence is known: the model's own findings line is malformed or not calibrated."
NOT_KNOWN = (None,) * len(LABELS)  # probabilities

UNLIKE = "This scan is unlike those of the training, and the place may be wrong:"

logger = logging.getLogger(__name__)


class Reporter:
    """
    Writes reports of scans with a trained model, and answers questions about scans. Scans are read in the same way as
    the training scans.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into inputs of the model.
        row_settings (`dict`, *optional*):
            Slices, window, target and prompt of the training, from [`~ct_rate_pairs.trainer.read_row_settings`].
            Missing settings have the dataset's defaults.
        confidence ([`~ct_rate_pairs.hub.reporting.confidence.Confidence`], *optional*):
            Fitted confidences. Without them, findings have no confidence.
        name (`str`, *optional*, defaults to `""`), version (`str`, *optional*, defaults to `""`):
            Name and version of the model, for the reports.
        tasks (`Sequence[str]`, *optional*):
            The tasks that the model was trained on. `None` if that is not known.
        domain ([`~ct_rate_pairs.hub.reporting.domain.Domain`], *optional*):
            The scans that the model was trained on. Without it, nobody knows whether a scan is like them.
        masker ([`~ct_rate_pairs.hub.reporting.masks.Masker`], *optional*):
            The mask head of the model. Without it, findings have no masks.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        collator: PairCollator,
        row_settings: dict | None = None,
        confidence: Confidence | None = None,
        name: str = "",
        version: str = "",
        tasks: Sequence[str] | None = None,
        domain: Domain | None = None,
        masker: Masker | None = None,
    ):
        """Takes the volume settings and the prompt from `row_settings`."""
        self.settings = settings = row_settings or {}
        self.volume_settings = VolumeSettings(**{key: settings[key] for key in OF_THE_VOLUME if key in settings})
        self.findings_line, self.language = settings.get("findings_line", "none"), settings.get("prompt", "en")
        self.metadata = metadata_names(settings.get("prompt_metadata", False))
        self.takes_findings = settings.get("prompt_findings", False)
        self.may_lack_lines = settings.get("prompt_dropout", 0) > 0
        self.question = write_prompt(settings.get("target", "findings+impression"), self.language)
        assumed = assumed_settings(settings)
        unknown = f"It is not known how the training rows of the model were made. Assumed: {assumed}."
        self.told = [unknown] if assumed else []
        self.model, self.collator, self.confidence = model, collator, confidence
        self.name, self.version, self.tasks, self.domain = name, version, tasks, domain
        self.masker = masker

    def report(
        self,
        scan: str | Path | Volume | SeenScan,
        *,
        name: str = "scan",
        series: int | None = None,
        max_new_tokens: int = 1200,
        streamer: BaseStreamer | None = None,
        operating_point: str | float | None = None,
        findings: Sequence[str] | None = None,
        metadata: Mapping[str, int | str] | None = None,
        force: bool = False,
    ) -> ScanReport:
        """
        Reports one scan at temperature 0, so that the same scan always gives the same report.

        Args:
            scan (`str`, `Path`, [`~ct_rate_pairs.volumes.Volume`] or [`~ct_rate_pairs.hub.reporting.seen.SeenScan`]):
                A `.nii.gz`, `.nii` or `.mha` file in HU, a folder of DICOM files, a `.zip` of such a folder, a volume,
                or what [`~ct_rate_pairs.hub.reporting.seen.see`] gave, so that several calls read the scan once.
            name (`str`, *optional*, defaults to `"scan"`):
                Name of the scan in the report. The path is never written.
            series (`int`, *optional*):
                Number of the DICOM series, from 1. If there are several and none is chosen, the error lists them.
            max_new_tokens (`int`, *optional*, defaults to `1200`):
                Maximum length of the report in tokens. The longest report of CT-RATE has 1,149 Qwen tokens.
            streamer ([`~transformers.TextStreamer`], *optional*):
                Gets the text while the model writes it. It does not get a findings line that is set.
            operating_point (`str` or `float`, *optional*):
                Decides on the findings by the probabilities of the model's findings line, and lets the model write the
                report below that decision: `"f1"` for the best F1, or a sensitivity such as `0.9`, see
                [`~ct_rate_pairs.eval.scoring.operating_points`]. `"none"` lets the model decide by itself. By default,
                the operating point at which the model was measured after its training, which is that of its card; for
                a model that was measured without one, `"none"`.
            findings (`Sequence[str]`, *optional*):
                The labels that the scan has, by a reader, in the place of any operating point. The model writes the
                report for these findings; `[]` for none of the 18. They are set as the findings line, or for a model
                that was trained with `prompt_findings` named in its prompt. For a model whose line has sides, a label
                may end with one, as in `"Lung nodule right"`; otherwise the model's likeliest side is set. Labels
                may be in upper or lower case. What the model writes need not follow them: a warning in `told` names
                each difference.
            metadata (`Mapping[str, int or str]`, *optional*):
                What is known of the patient and the scan, for a model that was trained with `prompt_metadata`: `age`
                in whole years, `sex` as `"M"` or `"F"`, and the texts `clinical_information`, `technique`,
                `contrast`, `surgery` and `device`. If the model was trained without `prompt_dropout`, what is not
                given is told.
            force (`bool`, *optional*, defaults to `False`):
                Whether a model that was trained on phantoms reports a scan that is unlike them, too.

        Returns:
            [`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]: the report. A scan that is unlike those of the
            training is told in `unlike`. A model with a mask head gives `masks`, too: where the stated findings are.

        Raises:
            `VolumeError`: if the scan cannot be read, or is not a chest CT in HU.
            [`~ct_rate_pairs.hub.reporting.domain.UnlikeScanError`]: for a model that was trained on phantoms, if the
                scan is unlike them, as that of a patient is.
            `ValueError`: if both `operating_point` and `findings` are given; for a model without findings lines, or
                without their calibration; for a finding that is no label; for metadata that the prompts of the model
                do not tell, or a value that is none.
            [`~ct_rate_pairs.trainer.row_settings.RowSettingsError`]: if the model was not trained to write reports.
        """
        self.check_task(["report"], "write reports")
        given, point = check_line(
            operating_point,
            findings,
            kind=self.findings_line,
            in_prompt=self.takes_findings,
            confidence=self.confidence,
        )
        lines = metadata_lines(given_metadata(metadata or {}, self.metadata), self.metadata, self.language)
        cue = write_line(given.labels, "names", self.language) if given and self.takes_findings else None
        seconds: dict[str, float] = {}
        with clock(seconds, "reading"):
            seen, unlike = self.see(scan, series, force)
        row = self.row(seen) | {"prompt": self.prompt(lines | ({FINDINGS: cue} if cue else {}))}
        told = [*seen.told, *self.lacking(lines), *self.without_effect(force)]
        options = {"max_new_tokens": max_new_tokens, "with_line": self.has_line}
        logits, line, sides = None, cue, {}
        takes_sides = given is not None and self.findings_line == "sides"
        if point or takes_sides or (given and self.confidence and self.confidence.line):
            with clock(seconds, "confidence"):
                own, (logits, sides) = read_own_line(self.model, self.collator, row, max_new_tokens)
            if point and not (line := point.set_line(logits, own, sides)):
                told.append(no_point_holds(own))
        if given and not cue:
            line = write_line(given.labels, self.findings_line, self.language, sides | given.sides)
        with clock(seconds, "writing"):
            openings = [f"{line}\n"] if line and not cue else None
            (written,) = write_batch(self.model, self.collator, [row], **options, streamer=streamer, openings=openings)
        unread = why_unread(written.report)
        warn(name, unlike, unread, max_new_tokens if written.cut else None)
        probabilities = NOT_KNOWN
        if self.confidence is not None:
            # What is set by a reader or a threshold is no statement of the model: only its own line has probabilities.
            way = "line" if given or point else self.confidence.way
            with clock(seconds, "confidence"):
                probabilities = self.probabilities(way, row, written, logits)
            if probabilities is NOT_KNOWN:
                told.append(NO_LINE_OF_ITS_OWN if cue else NO_SOUND_LINE)
        if line and not unread:
            told += disagreements(line, written)
        with clock(seconds, "evidence"):
            evidence = slice_evidence(self.model, self.collator, row, written.text, line=written.line)
            named = [label for label, own in evidence.items() if top_slices(own)]
            patches = patch_evidence(self.model, self.collator, row, written.text, line=written.line, labels=named)
        findings = findings_of(written.report, probabilities, evidence, patches)
        masks = None
        if self.masker and seen.plan:
            with clock(seconds, "masks"):
                stated = [finding.label for finding in findings if finding.stated]
                masks = self.masker.masks(self.model, self.collator, row, seen.plan, stated)
                told += told_of_masks(masks, written.report, find_chest(seen.native, seen.places))
        elif self.masker:
            told.append("There are no masks: pictures do not tell where they lie.")
        return ScanReport(
            name=name,
            text=written.report,
            line=written.line or cue,
            prompt_metadata=list(lines),
            line_set_by=None if not line else f"operating point {point.name}" if point else "given findings",
            findings=findings,
            sentences=sentences_of(written.report, [finding.label for finding in findings if finding.doubtful]),
            slices=seen.places,
            seconds=seconds,
            model=self.name,
            version=self.version,
            calibration=self.confidence.measured if self.confidence else None,
            images=row["images"],
            native=seen.native,
            instances=seen.instances,
            masks=masks,
            cut=written.cut,
            told=[*self.told, *told],
            unread=unread,
            trained_on=self.domain and self.domain.in_words,
            unlike=unlike,
            forced=bool(unlike) and self.domain.refuses,
        )

    def ask(
        self,
        scan: str | Path | Volume | SeenScan,
        questions: str | Sequence[str],
        *,
        report: str | ScanReport | None = None,
        dialogue: bool = False,
        name: str = "scan",
        series: int | None = None,
        metadata: Mapping[str, int | str] | None = None,
        max_new_tokens: int = 96,
        force: bool = False,
    ) -> ScanAnswers:
        """
        Asks a model that was trained on questions (`task="vqa"` or `"own_questions"`) about a scan, at temperature 0.
        The scan is read once. What the training did not have is told: a question in other words, or after a report.

        Args:
            scan, name, series, metadata, force:
                See [`report`].
            questions (`str` or `Sequence[str]`):
                One or several questions. The training of `task="vqa"` has those of
                [`~ct_rate_pairs.tasks.vqa_wording`]. The end of such a question, which says what form the answer must
                have ("Answer yes or no."), may be left out and is then added.
            report (`str` or [`ScanReport`], *optional*):
                A report of the scan. The questions are then asked after it, as further turns of the same dialogue.
            dialogue (`bool`, *optional*, defaults to `False`):
                Whether the questions are turns of one dialogue, so that each sees the questions and answers before it.
                By default, each question is asked as if it were the only one.
            max_new_tokens (`int`, *optional*, defaults to `96`):
                Maximum length of an answer in tokens. A cut answer is told.

        Returns:
            [`~ct_rate_pairs.hub.reporting.asking.ScanAnswers`]: the answers.

        Raises:
            `VolumeError`: if the scan cannot be read, or is not a chest CT in HU; see [`report`] for a scan that is
                unlike those of the training.
            `ValueError`: for an empty question or report; for metadata as in [`report`].
            [`~ct_rate_pairs.trainer.row_settings.RowSettingsError`]: if the model was not trained on questions.

        Example:

        ```python
        answers = reporter.ask("scan.nii.gz", ["Is there a lung nodule in this chest CT?", "How large is it?"])
        print([answer.text for answer in answers.answers], answers.told)
        ```
        """
        self.check_task(TASKS, "answer questions")
        if isinstance(report, ScanReport):
            report = self.below_line(report.text, report.line)
        if report is not None and is_missing(report):
            raise ValueError("The report is empty: leave it out, to ask about the scan alone.")
        known = read_questions(questions, self.language)
        lines = metadata_lines(given_metadata(metadata or {}, self.metadata), self.metadata, self.language)
        seconds: dict[str, float] = {}
        with clock(seconds, "reading"):
            seen, unlike = self.see(scan, series, force)
        asked = {"dialogue": dialogue, "max_new_tokens": max_new_tokens}
        with clock(seconds, "answering"):
            answers = write_answers(self, self.row(seen), known, report=report, lines=lines, **asked)
        told = [*self.told, *seen.told, *self.lacking(lines), *self.without_effect(force)]
        return ScanAnswers(
            name=name,
            answers=answers,
            report=report,
            seconds=seconds,
            model=self.name,
            version=self.version,
            told=told + doubts(self, answers, unlike, after_report=report is not None, **asked),
            prompt_metadata=list(lines),
        )

    def probabilities(
        self, way: str, row: dict, written: Written, logits: np.ndarray | None
    ) -> Sequence[float | None]:
        """
        The calibrated probability of each label, by a way of [`~ct_rate_pairs.hub.reporting.confidence`]: from the
        sentences of a report, or from the `logits` of its findings line, which are computed if they are not given.
        """
        if way == "sentences":
            return self.confidence.probabilities(self.model, self.collator, row, written.text, written.with_line)
        if self.confidence.line is None:
            return NOT_KNOWN
        if logits is None:
            logits = line_logits(self.model, self.collator, [row], [written.line])[0]
        return NOT_KNOWN if np.isnan(logits).any() else self.confidence.line.at("f1").probabilities(logits).tolist()

    def locate(
        self, scan: str | Path | Volume | SeenScan, sentence: str, *, series: int | None = None, force: bool = False
    ) -> LocatedSentence:
        """
        Where a scan shows what a sentence states, by the mask head of the model. The rule labeler reads the finding,
        [`~ct_rate_pairs.reports.places.places`] reads its side and lobes, and an atlas tells which part of the slices
        these cover. The language model does not run.

        Args:
            scan, series, force:
                See [`report`].
            sentence (`str`):
                A sentence in English or Chinese that states at least one finding, such as `"nodule in the left lower
                lobe"`.

        Returns:
            [`~ct_rate_pairs.hub.reporting.locating.LocatedSentence`]: the mask, and a score that is lower for a
            sentence which is not true of the scan.

        Raises:
            `VolumeError`: see [`report`]; for pictures, too, which do not tell where they lie.
            `ValueError`: if the model has no mask head, or if the sentence states nothing that the head knows.

        Example:

        ```python
        found = reporter.locate("scan.nii.gz", "Nodule in the left lower lobe.")
        print(found.score, found.slices, found.told)
        found.save("nodule.nii.gz")  # shown on top of scan.nii.gz
        ```
        """
        check_masker(self.masker)
        read = read_sentence(sentence, self.masker)
        seen, unlike = self.see(scan, series, force)
        if seen.plan is None:
            raise VolumeError("Pictures do not tell where they lie, so a sentence has no place on them.")
        shares = self.masker.shares(self.model, self.collator, self.row(seen), read)
        chest = find_chest(seen.native, seen.places)
        told = [*seen.told, *([f"{UNLIKE} {in_short(unlike)}."] if unlike else [])]
        return locate_findings(sentence, read, shares, self.masker, chest, seen.plan, told)

    def below_line(self, text: str, line: str | None) -> str:
        """A report below its findings line, as the model wrote it. A line that stood in the prompt is left out."""
        return f"{line}\n{text}" if line and not self.takes_findings else text

    def deciding_point(self, operating_point: str | float | None = None) -> str:
        """The name of the operating point that [`report`] takes; `"none"` if the model decides."""
        point = choose_point(self.confidence, operating_point)
        return point.name if point else "none"

    @property
    def has_line(self) -> bool:
        """Whether the model was trained to open its reports with a findings line."""
        return self.findings_line != "none"

    @property
    def writes_reports(self) -> bool:
        """Whether the model was trained to write reports, or this is not known."""
        return not self.tasks or "report" in self.tasks

    @property
    def answers_questions(self) -> bool:
        """Whether the model was trained on questions, or this is not known."""
        return not self.tasks or bool(set(TASKS) & set(self.tasks))

    def check_task(self, tasks: Sequence[str], what: str) -> None:
        """Raises a `RowSettingsError` if the model was trained on none of some tasks, which teach it `what`."""
        if self.tasks and not set(tasks) & set(self.tasks):
            raise RowSettingsError(
                f"{self.name or 'The model'} was trained on {' and '.join(self.tasks)}, and not to {what}. Take a "
                f"model of the task {' or '.join(tasks)}, or measure this one by `ct-rate-pairs evaluate-task`."
            )

    def lacking(self, lines: Mapping[str, str]) -> list[str]:
        """That a prompt lacks lines which those of the training nearly always had, in words; else none."""
        missing = [name for name in self.metadata if name not in lines]
        return [LACKS_LINES.format(names=", ".join(missing))] if missing and not self.may_lack_lines else []

    def without_effect(self, force: bool) -> list[str]:
        """That `force` changes nothing for this model, in words; else none."""
        refuses = self.domain is not None and self.domain.refuses
        return ["force has no effect: this model refuses no scan."] if force and not refuses else []

    def prompt(self, lines: Mapping[str, str]) -> list[dict]:
        """The turn of the user, with these [`~ct_rate_pairs.reports.prompt_lines`] ahead of the request."""
        return [{"role": "user", "content": put_before(self.question, lines, self.language)}]

    def read(self, scan: str | Path | Volume | SeenScan, series: int | None = None) -> dict:
        """The row of a scan, with `images`, `slice_mm` and `prompt`. `volume` is always `"scan"`."""
        return self.row(see(scan, self.volume_settings, series))

    def see(
        self, scan: str | Path | Volume, series: int | None = None, force: bool = False
    ) -> tuple[SeenScan, list[str]]:
        """
        A scan as the model sees it, and how it differs from the scans of the training, in words.

        Raises:
            `VolumeError`, [`~ct_rate_pairs.hub.reporting.domain.UnlikeScanError`]: see [`report`].
        """
        seen = see(scan, self.volume_settings, series)
        unlike = self.domain.unlike(seen.measures) if self.domain else []
        if unlike and self.domain.refuses and not force:
            raise UnlikeScanError(self.domain.refusal(unlike))
        return seen, unlike

    def row(self, seen: SeenScan) -> dict:
        """As [`read`], of a scan that is read already."""
        # The name of the volume seeds the noise of the evidence. One name for all scans makes it independent of paths.
        return {
            "volume": "scan", "images": seen.images, "slice_mm": seen.slice_mm, "prompt": self.prompt({})
        }  # fmt: skip


def warn(name: str, unlike: Sequence[str], unread: str | None, met_limit: int | None) -> None:
    """Warns of what makes a report doubtful as a whole."""
    if unlike:
        logger.warning("%s is unlike the scans that the model was trained on: %s.", name, in_short(unlike))
    if unread:
        logger.warning("%s: %s That no finding is stated says nothing about the scan.", name, unread)
    if met_limit is not None:
        logger.warning("The report of %s met its limit of %d tokens. %s", name, met_limit, CUT)
