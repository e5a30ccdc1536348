"""
What two texts of a scan's record tell before the scan is read: the clinical information tells of an earlier operation,
and the technique of a contrast agent. In English and Chinese.

The report is never asked: it tells what its reader has seen. These rules were tested on own sentences only.
"""

import re


SURGERIES = ("told", "not_told")
CONTRASTS = ("none", "given", "arterial", "venous", "late")

_OPERATION = (
    r"(?:\bsurger(?:y|ies)\b|\bsurgically\b|\boperat(?:ed|ions?)\b|\bpost-?\s?(?:op|surg)\w*|\bcabg\b|\bbypass\w*"
    r"|\b\w{3,20}(?:ec|os|o)tom(?:y|ies)\b|\bresect(?:ed|ions?)\b|\bexci(?:sed|sions?)\b|\btransplant\w*|\bamputat\w+"
    r"|\bvalve replacement|\bprosthetic valve)"
)
_CHINESE_OPERATION = "(?:手术|切除|移植|搭桥|置换术|造瘘|根治术|成形术)"
_DONE = re.compile(rf"{_OPERATION}|{_CHINESE_OPERATION}|术后", re.IGNORECASE)
# An operation that is denied or still to come, and a clinic's name.
_NOT_DONE = re.compile(
    r"\b(?:no|not|never|without|denie[sd])\b"
    rf"(?:(?!\b(?:after|since|following)\b)[^.;,]){{0,40}}?{_OPERATION}"
    r"|\bpre-?\s?(?:op|surg)\w*"
    r"|\b(?:planned|planning|scheduled|candidate|awaiting|before|prior to|evaluat\w+ for|needs|fit for)\b"
    rf"[^.;,]{{0,30}}?{_OPERATION}"
    rf"|{_OPERATION} (?:(?:is|was) )?(?:planned|scheduled|recommended|clinic|department|outpatient|ward|consult)"
    rf"|(?:无|否认|未|没有|拟|计划|准备|等待)[^，。；、]{{0,12}}?{_CHINESE_OPERATION}|术前|手术(?:评估|指征)",
    re.IGNORECASE,
)

_AGENT = r"(?:contrast|enhance(?:d|ment)|ivcm|ivkm)"
_WAY = r"(?:(?:iv|i\.v\.|intravenous|any|the use of|use of|administration of)[\s-]*){0,3}"
_NOT_GIVEN = re.compile(
    rf"\b(?:without|no|not|non|un|before|pre)[\s-]*{_WAY}{_AGENT}\w*"
    rf"|\b{_AGENT}[^.;,]{{0,30}}? (?:was|were) not \w+"
    r"|平扫|(?:未|无|非|不)(?:注射|使用|应用|用|做|行)?(?:静脉)?(?:增强|对比剂|造影剂)",
    re.IGNORECASE,
)
_NOT_IN_A_VEIN = re.compile(r"\boral contrast\w*|口服(?:对比剂|造影剂)", re.IGNORECASE)
_PHASES = {
    "arterial": re.compile(r"\barterial\b|angiogra|\bcta\b|\bctpa\b|动脉期|血管造影|血管成像", re.IGNORECASE),
    "venous": re.compile(r"\b(?:venous|portal)\b|静脉期|门脉期", re.IGNORECASE),
    "late": re.compile(r"\b(?:late|delayed)[\s-](?:phase|images|scan)|延迟期", re.IGNORECASE),
}
_GIVEN = re.compile(rf"\b(?:post-?)?{_AGENT}|增强|对比剂|造影剂", re.IGNORECASE)


def read_surgery(clinical_information: str) -> str:
    """
    Whether a clinical information tells of an earlier operation: one of `SURGERIES`. An operation that is denied or
    planned is not told.
    """
    return "told" if _DONE.search(_NOT_DONE.sub(" ", clinical_information)) else "not_told"


def read_contrast(technique: str) -> str | None:
    """
    The contrast agent that a technique tells of: one of `CONTRASTS`, or `None` if it tells nothing. Of a scan in
    several phases, it is `"given"`.
    """
    left = _NOT_GIVEN.sub(" ", _NOT_IN_A_VEIN.sub(" ", technique))
    phases = [phase for phase, words in _PHASES.items() if words.search(left)]
    if len(phases) == 1:
        return phases[0]
    if phases or _GIVEN.search(left):
        return "given"
    return "none" if _NOT_GIVEN.search(technique) else None
