"""
Sentences in plain form, before the rule labeler reads them: contractions in full, signs in the place of answers, ticks
and crosses, and statements in the place of words that only point back to a finding.
"""

import re

from .sentence_spans import REST_REMAINS


CONTRACTION = re.compile(r"\b(?:(ca)|(\w+))n['’]t\b")
# An answer behind a finding becomes a sign: "effusion: none" and "effusion - absent" are "effusion (-)".
ANSWER = re.compile(
    r"(?:[:?] ?\(? ?| ?= ?| [-–—] \(? ?| ?\( ?| (?=(?:-{1,3}|\+{1,3})(?:ve)?(?:$|,))| (?=[-+]ve)| (?=[yn](?:$|,)))(?:"
    r"(?P<no>(?:no|none|nil|not|absent|neg|negative|normal|unremarkable|n|无|無|zero|0(?!,\d)|[-–−]{1,3}|[-–−]ve)"
    r"(?: (?:in )?size| \w+ly enlarged| (?:seen|noted|identified|detected|visible|present|observed|enlarged))?)"
    r"|(?:y|yes|positive|pos|present|\+{1,3}|\+ve))(?: ?\)|(?=$|,))"
)
# "（＋）", as Chinese keyboards write "(+)"
FULL_WIDTH = {0xFF01 + place: 0x21 + place for place in range(94)} | {0xFF1A: ": ", 0xFF0C: ", "}
SIGN_OF_LIST = re.compile(r"(?:^|(?<= ))([-+])ve for\b")  # "+ve for consolidation, -ve for effusion"
BRACKETS = re.compile(r" ?\[([-+])\]")
SLASH = re.compile(  # "effusion - / nodule +", "effusion: n / nodule: y"
    r"(?<= [-+]) / |(?<=\([-+]\)) ?/ ?|(?<=[:=-] [yn]) ?[/|] ?| ?(?: /|\|) (?=[a-z][a-z ]{2,40}[:=])"
)
# Ticks, crosses and boxes. A lone "×" or "ø" is a sign at the end of an item only: "5 × 3 mm" is a size.
TICK = re.compile(r" ?(?:[✓✔✅√☑☒]\ufe0f?|\[[x✓✔√]\]) ?")
CROSS = re.compile(
    r" ?(?:[✗✘❌☐]\ufe0f?|\[ ?\]|(?:^|(?<=, ))[ø∅](?= ?[a-z])"
    r"|(?<= )[×ø∅](?=$|[,/]| \w+ [✓×√ø])) ?"
)
SIGN_OF_ITEM = re.compile(r"(?:^|(?<=[ ,]))([-+]) ?(?=[a-z])")  # "+ effusion, - nodule"; "- nodule" alone is a bullet
SIGN_FIRST = re.compile(r"(\([-+]\)) ?([^,(]*[^,( ])")  # "(-) effusion, (+) nodule"
EARLIER = r"(?:previous|prior|old|earlier|former|preceding)"
# "The coronary arteries show no calcification, unlike the aorta" states a calcification of the aorta.
CONTRAST = re.compile(
    rf"\bno ([^,]{{1,80}}?)((?: (?:in|of|on) [^,]{{1,80}})?),? (?:in contrast to|unlike) "
    rf"(?!(?:the |his |her )?(?:{EARLIER}|last|ct|scan|study|exam)\b)"
)
# "There was no effusion before, but now there is" states the effusion.
NOW = re.compile(
    rf"\b(?:no|not any|without) ([^,]{{1,80}}?)"
    rf"(?: (?:(?:on|in|at) (?:the |his |her )?{EARLIER}[^,]{{0,80}}|previously|before))?,?"
    r"(?: but| and| however| yet)? (?:there (?:is|are)(?: now)?|now there (?:is|are)|(?:is|are) now)"
    r"(?: (?:an? )?(?:\w+ )?(?:ones?|some|present|seen|visible))?$"
)
# "Effusion was drained; a small amount remains", "resolved except for a small residual": nothing is denied.
REST = re.compile(
    rf"(?:[.;,] ?| (?=but|and|although|though|yet|while|whereas|which|that)){REST_REMAINS}|"
    r",? (?:except(?: for)?|apart from|aside from|other than|save for|but for|besides|beyond|with the exception of) "
    r"(?:(?:that|those) (?=(?:in|on|at|near|along) )|(?:an? |some |the )?(?:(?!pleur|pericard)\w+ ){0,2}?"
    r"(?:residuals?|residue|remnants?|remainder|rest|focus|bit|trace|amount|ones?)\b"
    r"(?=$|[,.;]| (?:in|on|at|near|along)\b))|"
    r",? (?:except|other than|save|apart from) (?=(?:in|on|at|near|along) )|,? but (?:one|two|three|a few)(?=$|[,.;])"
)
REST_WORD = re.compile(
    r"(?:one|two|three|four|five|several|many|multiple|except|save|apart|aside|other than|but for|besid|beyond|amount|"
    r"resid|remn|remain|rest|some|foc|bit|little|few|component|portion|trace|fluid|recur|accumul|return|appear|occur|"
    r"relaps|form|develop|back)"
)
REMAINS = "(remains)"


def write_plainly(sentence: str) -> str:
    """A lower-case sentence with contractions in full, and with signs in the place of answers."""
    if "n't" in sentence or "n’t" in sentence:
        sentence = CONTRACTION.sub(lambda mark: "cannot" if mark[1] else f"{mark[2]} not", sentence)
    if "[" in sentence or not sentence.isascii():
        sentence = CROSS.sub(" (-) ", TICK.sub(" (+) ", sentence)).strip()
    if "+" in sentence or "-" in sentence:
        sentence = SIGN_OF_LIST.sub(lambda sign: "positive for" if sign[1] == "+" else "negative for", sentence)
        sentence = BRACKETS.sub(r" (\1)", sentence)
        if sentence.startswith("+") or (sentence.startswith("-") and " +" in sentence):
            sentence = SIGN_OF_ITEM.sub(r"(\1) ", sentence)
    if "/" in sentence or "|" in sentence:
        sentence = SLASH.sub(", ", sentence)
    if sentence.endswith((" y", " n")) or any(sign in sentence for sign in ":=(+–—?") or " -" in sentence:
        sentence = ANSWER.sub(lambda answer: " (-)" if answer["no"] else " (+)", sentence)
    if sentence.lstrip().startswith(("(-)", "(+)")):
        sentence = SIGN_FIRST.sub(r"\2 \1", sentence)
    if " unlike " in sentence or "contrast to" in sentence:
        sentence = CONTRAST.sub(r"no \1\2, but there is \1 in ", sentence)
    if " now" in sentence:
        sentence = NOW.sub(r"now \1", sentence)
    return sentence


def mark_rest(sentence: str) -> str:
    """The sentence with the sign `REMAINS` behind a finding of which something is said to remain."""
    return REST.sub(f" {REMAINS}", sentence) if REST_WORD.search(sentence) else sentence
