"""
Which part of an English clause denies its findings: "no effusion", "effusion was not seen", "a nodule rather than a
scar". This file is also shipped beside the `evaluate` scripts.
"""

import re
from bisect import bisect_left

from .plain_sentences import EARLIER
from .sentence_spans import RECURRED


SEEN = (
    r"observed|detected|seen|present|found|identified|noted|distinguished|visuali[sz]ed|available|encountered|evident|"
    r"demonstrated|noticed|selected|determined|revealed|watched|depicted|shown|monitored|in question|included|visible|"
    r"apparent|appreciated|recogni[sz]ed|documented|reported|exist|a feature|in place|in situ|"
    r"discerned|perceived|delineated|confirmed|verified|made out|"
    r"(?:demonstr|detect|distinguish|identifi|notice|observ|perceiv|recogni[sz]|visuali[sz]|appreci)able|"
    r"discern[ai]ble|perceptible"
)
REMOVABLE = (
    r"(?:tubes?|catheters?|lines?|drains?|ports?|picc|pacemaker|filters?|stents?|cannulae?|leads?|wires?|devices?)"
)
DEVICE = rf"(?:{REMOVABLE}|pacers?|stenting|sternotomy|prosthes[ie]s|clips|sutures|screws|icd|grafts?)\b"
# "No pneumothorax after placement of a chest tube" denies no tube.
BESIDE_DEVICE = re.compile(
    r"(?= (?:after|following|despite|status post|s/p|post|around|adjacent to|next to|along|surrounding|"
    r"in(?= the [\w-]+$)|"
    r"with(?=.* in (?:place|situ|position))) "
    rf"(?!.*\b(?:remov|withdraw|extract|explant|retriev))(?:[\w-]+ ){{0,4}}?{DEVICE})"
)
AGAINST = r"(?:argu\w+|sp(?:eak|oke)\w*|militat\w+|evidence|points?|counts?|go(?:es)?|weigh\w*) (?:\w+ )?against"
# Words after "unlikely" that show that it denies the words before it.
BESIDE = r" (?:in|on|at|given|due|based|because|considering)\b"
# Negations that reach forward, to the end of their clause. "Section no: 5" is a number.
NO = re.compile(
    rf"\b(?:unlikely(?!{BESIDE})|less likely(?! than)|"
    r"(?<!section )(?<!series )(?<!image )no|without|w/o|nil|neither|nor|nothing|zero|"
    r"little (?:to (?:suggest|indicate)|(?:evidence|suggestion) (?:of|for))|none (?=on|in|at|elsewhere)|"
    r"not (?:a single|one|any|a trace of)|never (?:had|showed|developed)|absence of|absent (?:in|on|at)|"
    r"free of|free from|"
    r"clear of|lack of|lacks?(?! of)|devoid of|(?:neg|negative|unremarkable) for|"
    r"non-?(?:visuali[sz]ed|(?:visuali[sz]ation|detection) of)|"
    r"(?<=^)cleared(?! by)|denie[sd]|denying|"
    r"(?:resolution|clearing|clearance|disappearance|resorption|(?:total|complete) regression) of|"
    r"(?:removal|withdrawal|retrieval|explantation) of|"
    r"(?:wedge|sublobar|surgical) (?:resection|excision) of"
    r"(?!.* (?:recommend|plann|consider|suggest|advis|schedul))|"
    r"rather than|instead of|as opposed to|favou?r\w* (?:[\w-]+ ){0,6}?(?P<over>over)|"
    r"low (?:likelihood|probability|suspicion) (?:of|for)|"
    r"(?:evaluate|evaluation|assess|assessment|search|look) for|rul(?:e|es|ing) out|r/o|to (?:exclude|look for)|"
    r"exclud(?:es?|ing)|exclusion of|"
    r"(?:fail(?:s|ed|ure)?|unable) to "
    r"(?:show|demonstrate|reveal|identify|detect|find|see|visuali[sz]e|confirm|reproduce|depict|display)|"
    r"not (?:show|have|contain|demonstrate|reveal|include|exhibit|suggest|indicate|support|favou?r|represent|"
    r"identify|detect|depict|see|find|display|disclose)|"
    r"not (?:\w+ ){0,2}(?:(?:consistent|compatible|in keeping) with|(?:suggestive|indicative|in favou?r|diagnostic|"
    r"typical|characteristic|representative|suspicious|worrisome|concerning|convincing) (?:of|for))|"
    rf"{AGAINST}|"
    r"(?:not |un)(?:accompanied by|associated with)|"
    rf"(?P<thought>despite(?! (?:(?:the|an?) )?(?:[\w-]+ )?{DEVICE})"
    r"(?: (?:the )?(?:absence|lack|resolution|removal) of)?|if(?! any\b| [\w ]{1,30}persist)|"
    r"(?:post|after|following|interval|successful) "
    r"(?:drainage|evacuation|thora(?:co)?centesis|resection|excision) (?:of|for)|"
    r"(?<=^)(?:drained|evacuated|removed|withdrawn|retrieved|explanted)(?! (?:by|from|in|to|into|via|with|\d))|"
    r"in case of|in the event of|(?<=^)should|history of|h/o|"
    r"risk (?:of|for)|predisposed to))\b"
)
# A denial of what is only thought of, or was there once, ends at a comma or a verb: "if a nodule develops", "a history
# of emphysema".
THOUGHT_END = re.compile(r",|(?<!there) (?:is|are|was|were|has|have|had|with|who|now) ")
# Prefixes and endings deny the word that they belong to: "non-enlarged", "undilated", "effusion-less".
NON = re.compile(r"\b(?:(?:non[- ]?|un-?)\w{4,}|\w{3,}-?less\b)")
# Negations that reach no further than the word that they deny: in "the nodule is not enlarged", the nodule is present.
# The pattern begins with plain letters, because `re` searches for these quickly.
NOT = re.compile(
    r"not (?<=\bnot )"
    r"(?:(?!only)\w+ly |be |been |appear |seem |look |to |found |measured |very |an? |any ){0,4}(?!only)\w+"
)
# The finding may be there, but the scan is too poor to tell.
TOO_POOR = (
    r" (?:because|due|owing|given|as|since|on account)\b.*\b(?:motion|arti?efacts?|breath|respirat|noise|lack of)"
)
# What is done with a device or a fluid. "Withdrawn by 2 cm" and "drained and smaller" leave it in place.
TAKEN_AWAY = (
    r"(?:removed|resected|excised|withdrawn|retrieved|explanted|extracted|discontinued|decannulated|"
    r"drained|evacuated|aspirated|tapped|(?:taken|pulled) out|pulled)\b"
    r"(?! (?:by(?! (?:\w+centesis|surgery|vats|needle|tube|chest tube|catheter))|"
    r"back|to|into|through|via|\d|slightly|partially))"
    r"(?!.*\b(?:residual|remain|persist|still|replac|exchang|tip))"
)
# What befalls the fluid leaves the fluid there. The drain that was in it is gone.
TAKEN = rf"{TAKEN_AWAY}(?!.*\b(?:decreas|reduc|smaller|minimal|trace|{RECURRED}|recurr|re-?accumul))"
UNSEEN = (
    r"invisible|indiscernible|imperceptible|inapparent|un(?:seen|detected|recogni[sz]ed|"
    r"(?:detect|identifi|notice|observ|recogni[sz])able)"
)
NOT_ONLY_EARLIER = rf"(?! (?:{EARLIER}ly|before\b|(?:in|on|at) (?:the |his |her |their )?{EARLIER}))"
# Negations that reach over their whole clause. Those in the group `before` only reach over the words before them
# ("malignancy is unlikely in this nodule"). One `\b` stands before all words, because each `\b` costs time.
NOT_SEEN = re.compile(
    r"\b(?:"
    r"(?:not|cannot|never|neither|no longer|no more|none(?: (?:is|are|was|were))?) "
    r"(?:been |(?:to )?be |(?:significant|obvious|definite|readi)ly |clearly (?!delineated))?"
    rf"(?:re-)?(?:{SEEN})\b{NOT_ONLY_EARLIER}"
    rf"|(?:is|are|was|were|be|been|becomes?|became) (?:(?:now|completely|entirely|totally) )?(?:{UNSEEN})\b"
    rf"{NOT_ONLY_EARLIER}"
    r"|(?:resolved|disappeared|vanished|completely regressed|re-?expanded|re-?aerated|"
    r"(?:is|are|was|were|has|have) (?:all |now )?(?:gone|normali[sz]ed)|no longer there|"
    r"score (?:of [^,\d]* )?(?:(?:is|was|of) )?(?:zero|0(?![.,]?\d)))\b(?! (?:almost|nearly|partial|part|large|most))"
    rf"|none of [^,]* (?:persists?|remains?|(?:is|are|was|were) (?:still )?(?:{SEEN}))\b"
    r"|(?:not|fail(?:s|ed) to) (?:recur(?:red)?|re-?accumulated?|reappear(?:ed)?|developed?)"
    r"(?=$|,| (?:in|on|at|since|after|so)\b)"
    rf"|absent\b(?! (?:(?:in|on|at) (?:the )?{EARLIER}|before|previously|earlier))"
    r"|(?:is|are|was|were|been|appears?|looks?) (?:completely |quite )?(?:in |of |within )?(?:a |the )?"
    r"(?:ruled out|excluded|normal|natural|preserved|unremarkable)\b"
    rf"|(?:is|are|was|were|been) (?:(?!part|incomplete|large|near|most)\w+ly |now |already |since )?{TAKEN}"
    r"|(?:is|are|was|were|been) (?:\w+ly )?repaired\b(?!.* recur)"
    r"|(?:can|could) be (?:\w+ly )?(?:excluded|ruled out)\b"
    rf"|(?:cannot|can not|could not) be (?:excluded|ruled out)(?={TOO_POOR})"
    rf"|(?P<before>(?:unlikely|improbable)(?=$|{BESIDE})|(?:is|are|was|were|seems?|considered|thought) less likely|"
    r"(?<!be )(?<!ly )ruled out(?=$|,)|(?<=(?:as|ve|ad|ly) )cleared\b|gone(?=,)|"
    r"(?:cleared|excluded|gone)(?=$| (?:after|since|following|from|on|now)\b)|"
    r"not (?:\w+ly )?(?:favou?red|likely|suspected|considered)\b|"
    r"(?:may|might|could) (?:be|have been) (?:missed|overlooked|obscured|hidden)|"
    r"(?:cannot|can not|could not) be (?:assessed|evaluated|judged)\b(?! \w+ly)|"
    rf"{REMOVABLE} {TAKEN_AWAY}|(?:effusions?|fluid|nodules?|nodes?|hernia) {TAKEN}|{REMOVABLE} out(?=$|,)|"
    r"removal\b(?! of))"
    r")"
    rf"| - no \w+(?: \w+)? (?:is|are|was|were) (?:{SEEN})\b"  # "effusion - no thickening was detected" denies both
    r"|\b(?:total|complete) (?:regression|resolution|disappearance|clearing)(?! of)\b"
    # About the earlier scan only, unlike "there are nodules, also seen in the previous examination".
    rf"|^(?:in|on) (?:the |his |her )?{EARLIER} [^,]*, there (?:is|are|was|were)\b(?=[^,]*$)"
    rf"|^there (?:is|are|was|were)\b(?=(?:(?! (?:that|which|also|not|{SEEN})\b)[^,])*"
    rf" (?:in|on) (?:the |his |her )?{EARLIER} \w+(?: of the patient)?(?: \(.*\))?$)"
    r"|\bregressed (?:completely|totally)\b|\b(?:is|are|was|were) not$|\(-\)|-free\b"
)
# What can befall a device. "No fracture of the lead" and "no stent thrombosis" tell of a device that is there.
PROBLEM = (
    r"(?:displacement|migration|disloca\w+|dislodg\w+|fracture|break\w*|kink\w*|(?:mal|mis)position\w*|loosening|"
    r"complication|dehiscence|dysfunction|failure|occlusion|discontinuity|(?:re-?)?stenosis|thrombosis|infection)s?"
)
# A denied change, as in "no interval improvement in the effusion": what did not change is there.
CHANGE = (
    r"(?:changes?(?! of (?:emphysema|fibrosis|bronchiectasis))|differences?|progress(?:ion)?|regression|contrast|"
    r"improvement|worsening|deterioration|growth|"
    r"shrinkage|resolution|resorption|clearing|clearance|disappearance|response|evolution|alteration|"
    r"(?:interval|further) (?:enlargement|increase|decrease|reduction)(?! (?:of|in) (?:the )?(?:heart|cardi))|"
    r"(?:decrease|reduction)s? (?:of|in)|"
    r"enlargement (?:of|in) (?:(?:the|this|that|known|\d\S*|mm|cm|right|left|upper|lower|lobe|lung|pulmonary) ){0,6}"
    r"(?:nodule|effusion|consolid)|"
    r"increases? (?:of|in) (?:(?:the|any|right|left|bilateral|known|pleural|pericardial) ){0,3}"
    r"(?:effusion|fluid|nodul|consolid|emphysem|atelect|bronchiect|lymph|adenop|opacit|ground))"
)
QUALITY = (
    r"(?:(?:(?:evidence|signs?|suggestion) of |any|an?|obvious|clear|other|pathological|iv|oral|intravenous|"
    r"significant|remarkable|statistically|clinically|marked|major|interval|size|dimensional|volume|appreciable|"
    r"substantial|tangible|measurable|detectable|discernible|meaningful|rapid|"
    r"definite|apparent|further|real|relevant|notable|visible|considerable|complete|spontaneous|new) ?"
    r"){0,4}"
)
# These look like negations, but the finding is present: it is unchanged, shrinking, not distinguished from another, or
# denied twice.
NOT_A_NEGATION = re.compile(
    r"\b(?:"
    rf"(?:no|without|lack of|absence of|not (?:show|demonstrate|reveal)) {QUALITY}{CHANGE}"
    r"|no (?:\w+ )?(?:increase|decrease|reduction)s?(?!.* (?:heart|cardi))(?: \w+){0,3} "
    r"(?:sizes?|numbers?|dimensions?)"
    rf"|(?:no|without) {QUALITY}{PROBLEM} (?:of|in|with|at) (?:[\w-]+ ){{0,3}}?{DEVICE}"
    rf"|(?:no|without) {QUALITY}(?:[\w-]+ )?{DEVICE}(?:-related)? {PROBLEM}"
    rf"|{PROBLEM} (?:of|in|with|at) (?:[\w-]+ ){{0,3}}?{DEVICE} (?:is|are|was|were) not"
    rf"|nor {QUALITY}{CHANGE}"
    r"|(?:not|never) fail(?:s|ed)? to"
    rf"|neither {CHANGE} nor {CHANGE}"
    r"|(?:improvement|worsening|resolution|progression|regression|growth|clearing|clearance|resorption|disappearance)"
    r"(?: (?:of|in) [^,]*?)? (?:is|was|has been|remains) (?:not|(?:still |only |\w+ly )?(?:incomplete|partial))"
    r"|(?:no|not) (?:more|less|fewer) than"
    r"|lack of (?:\w+ )?(?:contrast|material)"
    rf"|(?:no|not|nothing|neither|without) (?:\w+ ){{0,2}}{AGAINST}"
    r"|(?:can)?not (?:\w+ ){0,2}(?:distinguish(?:ed|able)|delineated|discern(?:ed|ible)|separa(?:ted|ble)|"
    r"differentiated) from|cannot be distinguished"
    r"|(?:(?:failed|failure of|unsuccessful|attempted|delayed|slow|poor|insufficient|inadequate|incomplete) "
    r"(?:\w+ ){0,2}|non-?)(?:resolution|clearing|clearance|disappearance|regression|resorption|removal|"
    r"withdrawal|retrieval|explantation|drainage|evacuation|resection|excision)"
    rf"|(?:can)?not (?:be |been )?(?:\w+ )?(?:excluded?|ruled? out|{TAKEN}|resolved|disappeared|cleared)(?!{TOO_POOR})"
    r"|(?:difficult|hard|impossible|unable|not (?:possible|able|sufficient)) to (?:\w+ly )?(?:exclude|rule out)"
    r"|no way to (?:exclude|rule out)"
    r"|(?:partial(?:ly)?|partly|almost|near(?:ly)?|incomplete(?:ly)?|large(?:ly)?|mostly|significant|marked|some)"
    r"(?:[- ](?:complete(?:ly)?|total|interval))* "
    r"(?:resolved|disappeared|regressed|removed|cleared|drained|evacuated|resolution|regression|clearing|clearance|"
    r"disappearance)"
    rf"|one of (?:the )?(?:two|three|several|\d) [^,]*{TAKEN}"
    r"|none of [^,]* (?:has|have|is|are) (?:\w+ly )?(?:resolved|disappeared|cleared|regressed|gone)"
    r"|no (?:\w+ )?(?:evidence|signs?|indication|suggestion) that (?:the|this|these|either|any of the) [^,]{1,60} "
    r"(?:has|have) (?:been )?\w+(?:ed|wn|nk|en)"
    r"|non-?resolved"
    r"|(?:evaluate|evaluation|assess|assessment) for (?:any |interval )*(?:change|growth|progress|stabil)\w*"
    r"|(?:ensure|document|confirm|verify|until|await|for|monitor|assess) (?:\w+ ){0,2}"
    r"(?:resolution|clearing|clearance|disappearance)"
    r"|not (?:\w+ )?(?:without|free (?:of|from)|clear of|devoid of|negative for)"
    r"|(?:no|neither|not (?:an?|any|one|a single)) (?:\w+ ){1,3}(?:without|free (?:of|from)|clear of|devoid of)"
    r"|(?:(?:can)?not (?:true|certain|correct|possible to say|be said|say)|(?:wrong|false|untrue)(?: to say)?) that "
    r"(?:there (?:is|are) )?no"
    r"|absence of [^,]* (?:cannot|can not|could not) be (?:\w+ly )?(?:confirmed|proven|established|assured)"
    r")\b"
)
EXCEPTION = re.compile(
    r"\b(?:other than|except(?:ing|ed)?(?: for)?|with the exception of|apart from|aside from|"
    r"besides|beyond|barring|save(?: for)?|"
    r"with (?:persist\w+|residual|(?:improv|worsen|decreas|increas)\w+))\b"
    r"(?! (?:this|these|that|those|the above))"
)
EXCEPTION_END = re.compile(r",| (?:the (?:study|scan|ct|exam\w*|lungs?|chest|thorax|rest)|no|there (?:is|are)) ")
# "No cavitation in the nodule" and "no evidence of growth of the nodule" state the nodule: what is denied ends at `of`
# or `in`. Lymph nodes, septa and the heart are no findings: "no enlargement of the heart" states nothing.
LINK = re.compile(
    rf" (?:(?:(?:is|are|was|were) (?:{SEEN}) )?(in|within|inside|into|from|by|between|around|about|through)|"
    r"(to (?:suggest|indicate|support))|of|for|(?:due |secondary |adjacent |next )?to) "
)
# Nouns whose "of" leads on to what is denied: "no sign of", "no area of", "no development of", "no placement of".
LEADS_ON = re.compile(
    r"\b(?:none|any|either|neither|one|all|both|suspicious|concerning|worrisome|suggestive|indicative|diagnostic|"
    r"typical|characteristic|specific|representative|reminiscent|"
    r"evidence|signs?|indications?|indicators?|suggestions?|suspicions?|hints?|findings?|features?|stigmata|"
    r"possibility|probability|likelihood|chance|risk|concern|proof|question|diagnosis|criteria|symptoms?|history|"
    r"pictures?|images?|appearances?|patterns?|areas?|focus|foci|zones?|patch(?:es)?|regions?|sites?|spots?|groups?|"
    r"clusters?|numbers?|amounts?|volumes?|quantit(?:y|ies)|degrees?|traces?|kinds?|types?|forms?|sorts?|cases?|"
    r"rims?|halos?|rings?|bands?|streaks?|islands?|layers?|pockets?|residu\w+|remnants?|collections?|(?:re-?)?accumulations?|retention|changes|background|episodes?|bouts?|need|use|requirement|development|formation|"
    r"(?:re)?occurrence|recurrence|emergence|onset|presence|existence|relapse|manifestations?|visuali[sz]ation|"
    r"detection|placement|insertion|implantation|"
    r"\w*nodules?|nodes?|lesions?|mass(?:es)?|\w*opacit(?:y|ies)|densit(?:y|ies)|infiltrat\w+|attenuation)$"
)
FINDING = re.compile(
    r"\b(?:(?:micro)?nodul|effusion|(?:pleural|pericardial) (?:fluid|liquid)|consolidat|emphysem|bull(?:a|ous)|bleb|"
    r"atelec|collapse|bronchi\w{0,3}ecta|lymphaden|adenopath|laps?\b|opaci[tf]|ground[- ]?glass|ggos?\b|fibro(?:s|t)|"
    r"scar|sequel|mosaic|(?:hiat\w*|sliding) herni|cardiomegal|septal thick|peribronchial thick|calcified|"
    rf"(?:coronary|aortic|arterial|wall) calcif|(?:hydro|hemo|haemo)(?:thorax|pericard)|empyema|implants?\b|{DEVICE})"
)
LIST = re.compile(r",| (?:and|or) ")
PHRASE_END = re.compile(r",| (?:and|or|nor|with|that|is|are|was|were|has|have|had|consistent|compatible|suggest\w+) ")
# The name of what is denied may be a list: "no cavitation or calcification in the nodule".
NAME_END = re.compile(
    rf" (?:but|with|without|which|that|(?:is|are|was|were) (?!(?:{SEEN}) in\b)|has|have|had|as|than|except|like|"
    r"suggest\w+|(?:\w+ing|\w+able|\w+ed|similar|equal|equivalent) to|despite|after|following|before|during|"
    r"since|due(?! to)|because|when|where|if|while|beside|consistent|compatible|"
    r"in (?:the )?(?:form|favou?r|terms|sense|nature|shape|keeping|line|style)) "
)
# Every negation above holds one of these strings within one word, so most sentences need not be searched for it. `$`
# is the end of a word, `^` its beginning.
DENIALS = (
    "absen aerat against aspirat assess cannul case$ centesis clear deni deny despite devoid disappear discontinu "
    "drain earlier either evacuat evaluat event$ excis exclud exclus expand explant extract fail favo former free$ "
    "gone h/o hidden history if$ improbab instead lack less$ look low$ missed n't natural neg never nil$ no$ none$ "
    "nor$ normal not n’t obscured old$ opposed out$ overlook preced predispos preserv previous prior pulled r/o "
    "rather regress remov resect resol resorp retriev risk rul search should taken tapped unable unaccomp unassoc "
    "unlikely unremark vanish visuali w/o withdraw without zero repair score little -ve trace$ non ^un imperceptib "
    "inapparent indiscern invisib"
)


def denies(piece: str) -> bool:
    """Whether a piece of a sentence contains a negation."""
    return bool(NO.search(piece) or NOT_SEEN.search(piece))


def outside(place: int, spans: list[tuple[int, int]]) -> bool:
    """Whether a position in the clause lies in none of the spans."""
    return not any(start <= place < end for start, end in spans)


def forward_reach(mark: re.Match, clause: str, devices: list[int], link: int | None) -> tuple[int, int]:
    """
    The span that a negation of `NO` reaches over. `devices`: where `BESIDE_DEVICE` begins, in order. `link`: what
    `link_to_finding` says of the negation.
    """
    if mark["thought"] and (end := THOUGHT_END.search(clause, mark.end())):
        return mark.start(), end.start()
    if link:
        return mark.start(), link
    if later := devices[bisect_left(devices, mark.end()) :]:
        return mark.start(), later[0]
    return mark.start("over") if mark["over"] else mark.start(), len(clause)


def link_to_finding(clause: str, start: int) -> int | None:
    """Where `of` or `in` leads from what is denied from `start` on to a finding that is there, if this is so."""
    phrase = NAME_END.split(clause[start : start + 150], maxsplit=1)[0]
    name = 0
    for link in LINK.finditer(phrase):
        if link[2] or (not link[1] and LEADS_ON.search(phrase, name, link.start())):
            name = link.end()
        elif link.start() > name and FINDING.search(PHRASE_END.split(phrase[link.end() :], maxsplit=1)[0]):
            return start + link.start()
        else:
            return None
    return None


def negated_spans(clause: str) -> list[tuple[int, int]]:
    """The spans `(start, end)` of a lower-case clause in which findings are denied."""
    forward, whole = (list(pattern.finditer(clause)) for pattern in (NO, NOT_SEEN))
    word = [mark for pattern in (NOT, NON) for mark in pattern.finditer(clause)]
    if not (forward or word or whole):
        return []
    links = [None if mark["thought"] else link_to_finding(clause, mark.end()) for mark in forward]
    # "No evidence of resolution of the nodule" denies twice.
    known = [
        (mark.start() + 1, comma if (comma := clause.find(",", mark.end(), link)) > 0 else link)
        for mark, link in zip(forward, links, strict=True)
        if link
    ]
    known += [mark.span() for mark in NOT_A_NEGATION.finditer(clause)]
    free = [mark.start() for mark in EXCEPTION.finditer(clause)]
    devices = [mark.start() for mark in BESIDE_DEVICE.finditer(clause)] if forward else []
    # "Apart from a nodule, the lungs are normal": the exception ends at the comma.
    end = EXCEPTION_END.search(clause) if 0 in free else None
    first, last = end.start() + 1 if end else 0, len(clause)
    # "Cavitation in the nodule was not seen" states the nodule, too.
    about = link_to_finding(clause, first) if whole and not LIST.search(clause, 0, whole[0].start()) else None
    reaches = [
        *((mark, *forward_reach(mark, clause, devices, link)) for mark, link in zip(forward, links, strict=True)),
        *((mark, *mark.span()) for mark in word),
        *((mark, first, mark.end() if mark["before"] else about or last) for mark in whole),
    ]
    return [
        (start, min([end, *(place for place in free if place > start)]))
        for mark, start, end in reaches
        if outside(mark.start(), known)
    ]
