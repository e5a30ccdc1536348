"""Reads the answer of an endpoint: the report in it, or the reason why it holds no report."""

import re
from typing import NamedTuple

from ct_rate_pairs.reports.readable import LONGEST_REPORT
from ct_rate_pairs.trainer.chat_template import without_thought

from .endpoint import without_key
from .endpoint_client import Reply, json_of, quoted


# What servers say of an answer that met `max_tokens` before its end.
CUT_REASONS = ("length", "max_tokens", "MAX_TOKENS", "max_output_tokens")
# A refusal in words. Taken for a report, a refusal would state no finding and score as the report of a normal scan.
REFUSAL = re.compile(
    r"[\W_]*(?:(?:i[’']m|i am) (?:\w+ ){0,2}sorry|sorry\b|(?:i|my) apolog|i regret|unfortunately,? (?:i|as)\b|"
    r"as an ai\b|(?:i am|i[’']m) (?:un|not )able|i (?:can(?:no|[’'])t|won[’']t be able|(?:do not|don[’']t) have the)|"
    r"抱歉|很抱歉|对不起|我(?:无法|不能)|作为(?:一个|一名)?(?:人工智能|ai))",
    re.IGNORECASE,
)


class Answer(NamedTuple):
    """A report, or in `failure` the reason why there is no report."""

    report: str
    failure: str = ""  # "refusal", "content_filter", "length", "thinking", "empty", "malformed" or "unanswered"
    detail: str = ""
    answered_by: str = ""  # the model and the version of its server, as the answer names them
    system_fingerprint: str = ""

    @property
    def served(self) -> dict[str, str]:
        """What a line of a file of reports tells of the server."""
        told = {"answered_by": self.answered_by, "system_fingerprint": self.system_fingerprint}
        return {name: value for name, value in told.items() if value}


def read_answer(reply: Reply) -> Answer:
    """The report in a successful answer, or the reason why it holds no report."""
    try:
        answered = json_of(reply)
        choice = answered["choices"][0]
        message = choice["message"]
        content, refusal, reason = message.get("content") or "", message.get("refusal"), choice.get("finish_reason")
        if isinstance(content, list):  # of parts, among which a thought may be
            content = "".join(part["text"] for part in content if part["type"] == "text")
        text = without_key(content.strip())
        text.encode()  # an answer may hold halves of characters, which no file takes
    except (LookupError, TypeError, AttributeError, UnicodeEncodeError):
        return Answer("", "malformed", quoted(reply.text))
    if refusal:
        return Answer("", "refusal", quoted(str(refusal)))
    if reason in (*CUT_REASONS, "content_filter"):
        return Answer("", "length" if reason in CUT_REASONS else reason, quoted(text))
    if len(text) > LONGEST_REPORT:
        return Answer("", "malformed", f"{len(text):,} letters, more than a report has: {quoted(text)}")
    report = without_thought(text)
    if not report or not re.search(r"\w", report):  # such as unseen characters alone
        return Answer("", "thinking" if report is None else "empty", quoted(text or f"finish_reason {reason}"))
    names = {"answered_by": answered.get("model"), "system_fingerprint": answered.get("system_fingerprint")}
    names = {key: quoted(name) for key, name in names.items() if isinstance(name, str)}
    return Answer("", "refusal", quoted(report)) if REFUSAL.match(report) else Answer(report, **names)
