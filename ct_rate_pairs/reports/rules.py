"""
The rule labeler: which of the 18 labels a report states. It reads each sentence alone, and negations by clause. This
file reads English, and hands sentences in Chinese letters to [`~ct_rate_pairs.reports.chinese_rules`].

A label is stated if one of its terms (`terms.TERMS`) stands outside the reach of all negations. A possible finding
("may be compatible with", "?") counts as stated, as in CT-RATE's own labels. An unchanged finding counts too.
"""

import re
from bisect import bisect_left
from functools import lru_cache

from .chinese_rules import label_sentence as label_chinese_sentence
from .labels import LABELS
from .plain_sentences import EARLIER, FULL_WIDTH, REMAINS, mark_rest, write_plainly
from .readable import is_chinese
from .sentence_spans import RECURRED, split_sentences
from .terms import STEMS, TERMS


# "Indication: effusion" is a question and states nothing. In "Heart: enlarged", the heading is the subject.
INDICATION = re.compile(
    r"(?:(?:(?:past )?(?:clinical|medical|family) )?"
    r"(?:indication|history|information|question|anamnesis|request|referral)|"
    r"clinical (?:detail|data|background)|pmh|reason for (?:the )?\w+|technique|protocol|comparison)s?:"
)
HEADING = re.compile(r"^(?!(?:no|nothing) (?:new|acute|other|else|more|changed?|significant):)([a-z]+(?: [a-z]+)?): ")
# In "Lymph nodes: no adenopathy", the heading is no finding.
HEADING_OF_DENIAL = re.compile(
    r"^(?:[a-z]+ )?(?:nodes|nodules|effusions|devices|tubes|lines): (?=(?:no|none|not|without)\b)|"
    r"^(?:[a-z]+ )?(?:effusions?|fluid): (?=[^,:]*, no (?:residual|remaining|further)\b)"
)
GONE = "gone|resolved|disappeared|vanished|regressed|cleared"
VERB = re.compile(
    rf"\b(?:is|are|was|were|has|have|had|not|can|cannot|could|persists?|remains?|{GONE}|(?:de|in)creased$)\b"
)
SUBJECTLESS = re.compile(
    rf"(?:(?:is|are|was|were|has|have|not|which|that|{GONE}|(?:all|both|each) of (?:which|them|these))\b|"
    r"none (?:of (?:which|them|these) )?(?:(?:is|are|was|were) )?(?:\w+ly )?"
    r"(?:enlarged|patholog|exceed|larger|greater))"
)
PLACE = re.compile(r" (?:in|of) ")
# "Lymph nodes, none enlarged" is one item of a list.
ITEM_END = re.compile(r",(?! (?:not|none|non|normal|likely|probably|possibly|within|physiologic\w*)\b)| and | or ")
PRONOUN = re.compile(r"(?:it|they) (?:is|are|was|were|has|have|had|could)\b")
BREAK = re.compile(
    r"(?P<strong>,?\s(?:(?:but(?! none | not (?:\w+ly )?enlarged)|however|although|though|while|whereas|yet)\s"
    r"|(?:(?<=\([-+]\)\s)|(?<=\([-+]\),\s))(?:and\s)?"  # after a sign
    r"|(?=[2-9]\)\s(?!and |or )))"  # before a number in a list
    r"|:\s)"
    r"|\s*,(?!(?<=\d,)\d)\s*(?:(?:and|or)\s)?|\s(?:and|or)\s"
)
# Beginnings of a new statement after a denial and a comma, as in "no effusion, a nodule in the lingula". A list under
# one negation is different: it continues with nouns without an article, or has an "or" before its verb.
STATEMENT = re.compile(
    r"(?:an?|the|there|this|these|with|\d+|one|two|three|several|multiple|numerous|few|some|trace|minimal|mild|slight|"
    r"small|moderate|known|stable|unchanged|persistent|residual|new|now|only|just|merely|simply|positive for)\b"
    r"(?!(?:(?! (?:is|are|was|were) ).)* n?or )|[^,]*\(\+\)|"
    # "No masses, centrilobular emphysema": which, where or how much of it, unless it "was not detected" or has an "or"
    r"(?:bi\w*(?:lateral|basilar|basal|apical)|(?:bi)?basilar|basal|apical|dependent|right|left|upper|lower|"
    r"(?:right|left)-sided|(?:centri|pan|peri)lobular|paraseptal|(?:sub)?segmental|lobar|linear|band-?like|plate-?like|"
    r"discoid|passive|compressive|scattered|diffuse|widespread|extensive|patchy|peripheral|confluent|severe|marked|"
    r"advanced|subtle|faint|tiny|large|huge|massive|calcified|calcific|dense|heavy|coarse|round|irregular|healed|chronic|old|degenerative|enlarged)\b"
    r"(?!.* n?or |[^,]* (?:is|are|was|were)\b)|"
    rf"(?!.* n?or )[^,]+ (?:enlarged|stable|unchanged|persists?|remains?|larger|smaller|in place|in situ|{RECURRED})$"
)
# "No x, y is seen" and "no w or x, y is seen": if y belonged to the list, it would have an "or" before it, so y is
# present. But CT-RATE's "no x, y was detected" denies both.
LIST_OF_DENIAL = re.compile(r"(?:there (?:is|are) )?(?:no|without|neither)\b")
END_OF_ITEM = re.compile(r",\s*(?:and )?$")
OR = re.compile(r"\bn?or\b")
SECOND_IS_SEEN = re.compile(r"[^,]*\b(?:is|are) (?:seen|noted|present|visible|evident)\b")

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


def denies(piece: str) -> bool:
    """Whether a piece of a sentence contains a negation."""
    return bool(NO.search(piece) or NOT_SEEN.search(piece))


def is_denied_list(begun: str) -> bool:
    """Whether a clause up to a comma is "no x," or "no w or x,", to which the next item cannot belong."""
    head, comma = LIST_OF_DENIAL.match(begun), END_OF_ITEM.search(begun)
    if not (head and comma):
        return False
    *earlier, last = begun[head.end() : comma.start()].split(",")
    return not earlier or OR.search(last) is not None


def goes_on(piece: str, sentence: str) -> bool:
    """Whether a piece has the subject of the one before: ", was seen" or, in a comparison, ", it was not seen"."""
    return bool(SUBJECTLESS.match(piece) or (PRONOUN.match(piece) and re.search(EARLIER, sentence)))


def split_clauses(sentence: str) -> list[str]:
    """
    Splits a lower-case sentence into clauses.

    A comma, "and" or "or" ends a clause only if both sides have their own verb: "a, b and c were not observed" is one
    clause, "a is open and b was not detected" is two. "But" and similar words always end a clause. A comma also ends a
    clause before "no" or "without", and between a denial and a new statement.
    """
    # Pieces are (start, end) in the sentence. A clause is the text from its first piece to its last piece.
    clauses, clause, waiting, start, strong, comma, has_verb = [], [], [], 0, False, False, False
    for mark in [*BREAK.finditer(sentence), None]:
        end = mark.start() if mark else len(sentence)
        piece = sentence[start:end]
        piece_has_verb = bool(VERB.search(piece))
        if (
            strong
            or (clause and NO.match(piece))
            or (comma and STATEMENT.match(sentence, start) and denies(sentence[clause[0][0] : start]))
            or (comma and SECOND_IS_SEEN.match(piece) and is_denied_list(sentence[clause[0][0] : start]))
        ):
            clauses.append(clause + waiting)
            clause, waiting, has_verb = [(start, end)], [], piece_has_verb
        elif not has_verb or (not waiting and goes_on(piece, sentence)):
            clause.append((start, end))
            has_verb = has_verb or piece_has_verb
        elif piece_has_verb:
            # In "x is seen, y and z were not", y waits for its verb. A piece that names a place is complete without.
            complete = [i + 1 for i, (left, right) in enumerate(waiting) if PLACE.search(sentence, left, right)]
            cut = complete[-1] if complete else 0
            clauses.append(clause + waiting[:cut])
            clause, waiting = [*waiting[cut:], (start, end)], []
        else:
            waiting.append((start, end))
        if mark:
            start, strong, comma = mark.end(), mark["strong"] is not None, "," in mark[0]
    clauses.append(clause + waiting)
    return [text for clause in clauses if (text := sentence[clause[0][0] : clause[-1][1]].strip(" ,"))]


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


def surroundings(clause: str, mark: re.Match) -> str:
    """The words about the finding at `mark`: the clause or, in a list without a verb, the finding's own item."""
    if VERB.search(clause):
        return clause
    before = [end.end() for end in ITEM_END.finditer(clause, 0, mark.start())]
    return clause[before[-1] if before else 0 : mark.end()] + ITEM_END.split(clause[mark.end() :], maxsplit=1)[0]


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
DENIAL = -1
# Every stem with the index of its label, and for each label its terms as compiled (pattern, also, unless).
_STEMS = [(stem, index) for index, label in enumerate(LABELS) for stem in STEMS[label].split()]
_STEMS += [(stem, DENIAL) for stem in DENIALS.split()]
_TERMS = [[tuple(re.compile(part) if part else None for part in term) for term in TERMS[label]] for label in LABELS]


@lru_cache(maxsize=1 << 16)
def hinted_by(word: str) -> frozenset[int]:
    """
    Indices of the labels that a sentence with this word may state, and `DENIAL` if it may deny something. Cached,
    because reports use few words.
    """
    word = f"^{word.strip('.,:()')}$"
    return frozenset(index for stem, index in _STEMS if stem in word)


@lru_cache(maxsize=1 << 16)
def label_sentence(sentence: str) -> tuple[int, ...]:
    """Indices of the labels that one sentence states. Cached, because most sentences occur many times."""
    if not sentence.isascii() and is_chinese(sentence):
        return label_chinese_sentence(sentence)
    words = (sentence if sentence.isascii() else sentence.translate(FULL_WIDTH)).lower().split()
    hinted = frozenset().union(*map(hinted_by, words))
    labels = hinted - {DENIAL}
    if not labels:
        return ()
    sentence = write_plainly(" ".join(words))
    if ":" in sentence:
        if INDICATION.match(sentence):
            return ()
        sentence = HEADING.sub(r"\1 ", HEADING_OF_DENIAL.sub("", sentence))
    found = [(index, *term) for index in labels for term in _TERMS[index] if term[0].search(sentence)]
    if not found:
        return ()
    may_deny = DENIAL in hinted or "(-)" in sentence
    if may_deny:
        sentence = mark_rest(sentence)
    stated = set()
    for clause in split_clauses(sentence):
        spans: list[tuple[int, int]] | None = None
        for index, pattern, also, unless in found:
            if index in stated or not (marks := list(pattern.finditer(clause))):
                continue
            if spans is None:
                spans = negated_spans(clause) if may_deny and REMAINS not in clause else []
            # A group in a pattern marks the finding itself, if the pattern begins with the organ.
            marks = [mark for mark in marks if outside(mark.start(mark.lastindex or 0), spans)]
            if not marks or (also and not any(outside(mark.start(), spans) for mark in also.finditer(clause))):
                continue
            if not unless or not all(unless.search(surroundings(clause, mark)) for mark in marks):
                stated.add(index)
    return tuple(sorted(stated))


def label_report(text: str) -> list[int]:
    """
    The 18 labels of one report, in the order of `LABELS`.

    Args:
        text (`str`):
            Findings, impression or both. An empty text states no label.

    Returns:
        `list[int]`: 18 zeros and ones.
    """
    labels = [0] * len(LABELS)
    for sentence in split_sentences(text):
        for index in label_sentence(sentence):
            labels[index] = 1
    return labels
