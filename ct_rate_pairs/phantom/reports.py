"""
Reports in the style of CT-RATE: a fixed order of regions, sentences that most reports share, and an impression. Their
words, in each language, are in [`~ct_rate_pairs.phantom.english_words`] and
[`~ct_rate_pairs.phantom.chinese_words`], under the same names.
"""

import re
import zlib

from ct_rate_pairs.reports.labels import LABELS

from . import chinese_words, english_words
from .findings import Finding


WORDS = {"en": english_words, "zh": chinese_words}
NOT_GIVEN_SHARE = 0.03
READERS = 5  # radiologists who dictate the reports; for each sentence, one of them prefers the second wording
LUNG_LABELS = (
    *("Lung nodule", "Lung opacity", "Consolidation", "Atelectasis", "Emphysema", "Bronchiectasis"),
    *("Peribronchial thickening", "Interlobular septal thickening", "Pulmonary fibrotic sequela"),
    "Mosaic attenuation pattern",
)


def where(finding: Finding, language: str = "en") -> str:
    """Side and lobe of a finding in words, such as "the right lung upper lobe" or "the lower lobes of both lungs"."""
    if language == "zh":
        return f"{chinese_words.SIDES[finding.side]}肺{chinese_words.LOBES[finding.lobe]}"
    if finding.side == "both":
        return f"the {finding.lobe} lobes of both lungs" if finding.lobe else "both lungs"
    return f"the {finding.side} lung {finding.lobe} lobe" if finding.lobe else f"the {finding.side} lung"


def write_report(rng, findings: dict[str, Finding], language: str = "en") -> tuple[str, str]:
    """
    Write the report of one scan.

    Args:
        rng (`np.random.Generator`):
            The report's own random stream. It chooses the radiologist, and so the wordings.
        findings (`dict[str, Finding]`):
            The findings of the scan by label, with their sides, lobes and sizes.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`.

    Returns:
        `tuple[str, str]`: the findings section and the impression. A few impressions are `Not given.`.
    """
    words, space = WORDS[language], " " if language == "en" else ""
    reader = int(rng.integers(READERS))

    def say(wordings) -> str:
        return _say(wordings, reader)

    def state(label) -> str:
        return _state(findings[label], reader, language)

    def state_or(label, negative) -> list[str]:
        return [state(label) if label in findings else say(negative)]

    parts = [say(words.AIRWAYS), say(words.VESSELS)]
    parts += state_or("Cardiomegaly", words.HEART)
    parts += [say(words.AORTA)]
    parts += [
        state(label)
        for label in ("Arterial wall calcification", "Coronary artery wall calcification", "Medical material")
        if label in findings
    ]
    parts += state_or("Pericardial effusion", words.PERICARDIUM)
    parts += state_or("Hiatal hernia", words.OESOPHAGUS)
    parts += state_or("Lymphadenopathy", words.NODES)
    in_lung = [label for label in LUNG_LABELS if label in findings]
    parts += [say(words.LUNG if in_lung else words.CLEAR_LUNG), *(state(label) for label in in_lung)]
    parts += state_or("Pleural effusion", words.PLEURA)
    parts += [say(words.ABDOMEN), say(words.BONES)]

    summed = [fill(words.IMPRESSIONS[label], findings[label], language) for label in LABELS if label in findings]
    impression = space.join(summed)
    if not impression:
        impression = say(words.CLEAR_IMPRESSION)
    if rng.random() < NOT_GIVEN_SHARE:
        impression = words.NOT_GIVEN
    return space.join(parts), impression


def stated(rng, findings: dict[str, Finding], language: str = "en") -> dict[str, str]:
    """The sentence of [`write_report`] that states each finding, by label. The arguments are the same."""
    reader = int(rng.integers(READERS))
    return {label: _state(finding, reader, language) for label, finding in findings.items()}


def _say(wordings: tuple[str, str], reader: int) -> str:
    # Radiologists have habits: a hash of the sentence decides which of them uses its second wording.
    return wordings[zlib.crc32(wordings[0].encode()) % READERS == reader]


def _state(finding: Finding, reader: int, language: str) -> str:
    words = WORDS[language]
    several = finding.label == "Lung nodule" and finding.detail == "several"
    return fill(_say(words.SEVERAL_NODULES if several else words.POSITIVE[finding.label], reader), finding, language)


def fill(wording: str, finding: Finding, language: str = "en") -> str:
    """A sentence with the finding's place, size and details filled in."""
    one_side = finding.side in ("right", "left")
    if language == "zh":
        side = chinese_words.SIDES[finding.side]
        detail = "、".join(chinese_words.DETAILS[word] for word in re.split(", | and ", finding.detail) if word)
        placed = {"side": f"{side}侧胸壁" if one_side else "", "pleura": f"{side}侧"}
    else:
        detail = finding.detail
        placed = {
            "side": f" on the {finding.side} chest wall" if one_side else "",
            "pleura": "on both sides" if finding.side == "both" else f"on the {finding.side} side",
        }
    of_finding = {"where": where(finding, language), "size": finding.size}
    return wording.format(**of_finding, detail=detail, Detail=detail.capitalize(), **placed)
