"""
Whether a text is a report that the rule labeler can read. Two kinds of text are none, but state no finding, and so
would look like the report of a healthy chest: a missing report ("N/A"), and a report in a language that the labeler
does not read. It reads English, and Chinese in simplified letters. This file is also shipped beside the `evaluate`
scripts.

Terse English ("Emphysema.", "s/p CABG") must never be taken for another language. So a text counts as foreign only if
there is evidence: letters of another script, or words of another language. A longer text in which hardly any word is
English is foreign, too.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache


def _without_marks(text: str) -> str:
    """The text without accents and vowel signs. Korean syllables are taken apart into their letters."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


# What stands in tables in the place of a text, in lower case and without accents, blanks and punctuation: "N/A" is
# "na", "Not given." is "notgiven". "#NAME?" is what a spreadsheet makes of a text that begins with "-". Several may
# follow each other, one per section.
_TEXT = (
    r"(?:(?:the|this|a|any|ct|chest|radiology|radiologists?|final|formal|official|written|signed|full)*"
    r"(?:reports?|reporting|texts?|dictations?|transcri(?:pt|ption)s?|interpretations?|data|values?|content|"
    r"impressions?|conclusions?|information|documentation))"
)
_STUDY = r"(?:(?:the|this|ct|chest|imaging)*(?:stud(?:y|ies)|scans?|exam(?:ination)?s?|procedures?|imaging|ct))"
_WRITTEN = (
    r"(?:available|given|written|provided|supplied|specified|stated|recorded|entered|dictated|transcribed|typed|"
    r"signed(?:off)?|finali[sz]ed|uploaded|attached|received|issued|released|ready|reported|complete[d]?)"
)
_OPEN = (
    r"(?:pending|awaiting|awaited|outstanding|inprogress|inpreparation|missing|tofollow|unavailable|incomplete|lost|empty|"
    r"aborted|blank|deleted|cancell?ed|withheld|redacted|removed|un(?:reported|dictated|signed|transcribed|read))"
)
_MARK = re.compile(
    r"(?:nan?|nat|n[dkprs]|(?<!x)xx+(?!x)|\d+|name|value|ref|div0|num|error|null?|nil|none|undefined|unk(?:nown)?|"
    r"true|false|unspecified|tb[acd]|tobe(?:determined|announced|confirmed|advised|dictated|reported|completed|added)|"
    r"draft|placeholder|anonymi[sz]ed|todo|ditto|idem|test|dummy|loremipsum|nondiagnostic|"
    r"(?:thereis|thereare)?(?:no|nil|not|none|without)(?:yet)?"
    rf"(?:{_TEXT}|{_WRITTEN}|applicable|documented|performed|interpreted|read|found|done)"
    rf"(?:is|was|were|hasbeen)?(?:yet|{_WRITTEN}|found|made)?|"
    rf"no(?:findings?|results?){_WRITTEN}|noresults?|no{_STUDY}|dictated(?:but)?not(?:yet)?(?:read|reviewed|signed|edited)|"
    r"(?:reported|read|interpreted)(?:elsewhere|outside|externally|verbally|separately)|"
    rf"(?:images?|{_STUDY})?for(?:comparison|storage|reference)(?:purposes)?only|"
    r"(?:the|this)?patient(?:didnot(?:attend|come|show)|refused|noshow)|noshow|didnotattend|"
    rf"(?:{_TEXT}|findings?|results?|{_STUDY})?(?:is|are|was|were|has|have|been|still)*(?:yet)?"
    rf"(?:not(?:yet)?(?:been)?(?:yet)?(?:{_WRITTEN}|found|done|made|performed|interpreted|read)|{_OPEN})"
    rf"(?:{_TEXT}|(?:radiology|radiologist)?(?:review|read|signature|dictation|approval|verification))?"
    r"(?:(?:at|for)(?:this|the)(?:time|moment|study|scan|exam(?:ination)?|patient)|atpresent|currently|now|here)?|"
    r"(?:please)?(?:see|referto|(?:same)?as(?:per|in)?|same)(?:the|in)?"
    r"(?:(?:previous|prior|earlier|last|old|separate|attached|other|original|full|final|scanned|above|below|paper|pacs|ris|chart|notes?)+(?:mentioned)?"
    rf"(?:{_TEXT}|study|scan|exam(?:ination)?)?|report|dictation|addend(?:um|a)|"
    r"comments?|body|letter|findings?|impressions?|conclusions?)(?:ofreport)?|(?:in|on)(?:pacs|ris|paper|chart)|"
    # Turkish, the language that CT-RATE's reports were translated from
    r"rapor(?:u|lar|lari)?(?:suz|yok(?:tur)?|(?:hazir|mevcut)degil(?:dir)?|bekleniyor|beklemede|eksik|"
    r"(?:veril|yazil|giril|hazirlan|cik|bulun)m\w{1,10}|bulunam\w{1,10})|raporsuz(?:dur)?|raporlanm\w{1,10}|"
    r"yok(?:tur)?|(?:veril|belirtil|giril|yazil)m[ae](?:di|mis(?:tir)?)|mevcutdegil(?:dir)?|bilinmiyor|bos|"
    # German, French, Spanish, Portuguese, Italian
    r"ka|keineangaben?|keinbericht|(?:kein)?befund(?:stehtaus|ausstehend|fehlt|folgt)|"
    r"nicht(?:angegeben|verfugbar|vorhanden|befundet)|entfallt|"
    r"nondisponible|nonrenseigne|nonfourni|(?:pasde|aucun)(?:compte)?(?:rapport|rendu)|neant|"
    r"nodisponible|noinformado|noespecificado|noaplica|sin(?:informe|datos|reporte)|"
    r"nao(?:disponivel|informado|seaplica)|sem(?:laudo|dados)|non(?:disponibile|fornito)|nessunreferto"
    + "|"
    + _without_marks(
        # Russian
        "нет(?:данных|описания|заключения)?|не(?:указано|описано|заполнено)|без(?:описания|заключения)|отсутствует|"
        # Chinese and Japanese. "所見なし" and "未见异常" are reports.
        "无|無|空|(?:无|無|没有|沒有|未|待|暂无|暫無)(?:报告|報告|数据|數據|資料|资料)|暂无|暫無|未提供|未填写|未填寫|未检查|"
        "报告未出|(?:报告)?(?:未|待)(?:出|写|录入|书写|描述|给出|记录|审核|完成)(?:报告)?|报告(?:缺失|未完成|未提交|待审)|无(?:记录|内容|描述|文字)|(?:详|詳)?(?:见|見)(?:原|前|纸质|附)?(?:报告|報告)|同(?:上|前次?报告)|略|不详|不詳|不适用|不適用|未知|缺失|暂缺|待定|"
        "なし|(?:記載|該当|報告|報告書|データ|読影)(?:なし|無し|無)|未(?:記載|入力|読影)|読影(?:待ち|中)|不明|"
        # Korean. "소견 없음" is a report.
        "없음|(?:판독|판독문|보고서?|결과|정보|자료|기록|해당|해당사항)(?:이|가)?없음|미(?:판독|작성|입력|기재)|"
        "판독(?:대기|대기중|중|전)|알수없음|"
        # Arabic, Persian, Hebrew. "אין ממצאים" is a report.
        "لايوجد(?:تقرير|بيانات)?|غير(?:متوفر|متاح|محدد|معروف|موجود)|بدون(?:تقرير|گزارش)?|(?:گزارش)?ندارد|"
        "(?:אין|ללא)(?:דוח|מידע|נתונים|תוצאות|פענוח)?|לא(?:זמין|קיים|רלוונטי|ידוע|נמסר|פוענח)|חסר|טרםפוענח"
    )
    + ")"
)
# A note about the report in the place of the report ("Images only, no report", "Report withheld for privacy", "Informe
# pendiente") has words of `_NOTE`, and none of `_CLINICAL`. Without accents, in lower case.
_NOTE = re.compile(
    r"\b(?:reports?|reported|reporting|images?|pdf|files?|attach\w*|dictat\w*|transcri\w*|texts?|documents?|"
    r"documentation|results?|pending|awaited|unavailable|withheld|privacy|confidential\w*|redacted|errors?|upload\w*|"
    r"archived?|pacs|ris|links?|placeholder|radiologists?|signatures?|released|informes?|reporte|resultados?|laudos?|"
    r"referto|referti|rapports?|compte[- ]rendus?|befunde?|ergebniss?e?|bericht\w*|verslag|opisu?|wyniku?|raportu?|"
    r"utlatande|svar|beskrivelse|lausunto\w*|nalezu?|zprava|lelet|nalaz|izvid|rapor\w{0,9}|sonuc\w*|hasil|laporan)\b"
)
# Beginnings of words, at the end some of other languages.
_CLINICAL = re.compile(
    r"\b(?:abnormal|abdom|absces|absen|acute|active|aden|adren|air|alveol|aneurysm|aort|apic|apex|arter|artifact|"
    r"artefact|aspirat|ate?lec|ather|atroph|axill|basal|before|benign|bilateral|biops|bleb|bone|breast|breath|bronch|"
    r"bull|cabg|calc|cancer|carcin|cardi|carina|cathet|cavit|cec|chest|chole|chronic|clear|clip|collap|collection|"
    r"compar|congest|consol|contrast|control|coron|correlat|covid|cyst|decreas|dens|degener|device|diaphrag|differ|"
    r"dilat|diseas|disc|dissect|drain|ectas|edema|eff?us|emb|emph|empy|enlarg|esoph|evaluat|evident|fat|fibr|finding|fluid|"
    r"follow[- ]?ups?\b|fractur|gas|gastr|gland|gg[no]|glass|goit|granul|ground|healthy|heart|hemo|hepat|hern|hiat|"
    r"hil[aiu]|honeyc|hydro|hyper|hypo|implant|improv|increas|infarct|infect|infilt|inflam|inters|intra|kerley|"
    r"kidney|lap\b|large|left|lesion|limited|lingul|lipo|liver|lob[ae]|lower|lung|lymph|malig|mass|medias|metas|"
    r"[mc]m\b|mitral|mosaic|motion|mucus|nad\b|neck|negativ|neopl|new\b|nodal|node|nodul|normal|obstruct|observed|"
    r"opac|organ|osteo|pacem|pancrea|parench|pathol|pericar|perib|picc|plaque|pleur|pneum|polyp|port\b|positiv|"
    r"progres|prostat|pulm|radiother|recommend|regress|renal|resect|residual|resol|reticul|ribs?\b|right|sarcoid|"
    r"scar|scler|scoli|seen|segment|sequel|sept|severe|shadow|sinus|situs|size|skelet|small|soft|spine|spinal|spleen|"
    r"splen|spond|stabl|steato|stenos|stent|stern|stomach|suboptim|surg|swell|symptom|thick|thora|thromb|thyr|tissue|"
    r"trache|trauma|tree|tub|tumou?r|uip|ulcer|unchanged|unremark|upper|vascul|vein|ven[ao]|ventric|vertebr|vessel|"
    r"viral|wall|wnl|worse|no (?:\w+ )?change|akciger|bron[ks]|cora[cz]|coeur|cuore|derrame|emfi|enfi|epanch|erguss|"
    r"herz|jant|kalp|kardi|keuh|knot|konsol|leber|limf|linf|longen|oplucn|paru|pluc|polmon|pou?mon|plaman|plic|serc|"
    r"srd|tora)|\d ?[mc]m\b"
)
# Around a mark may stand the headings of its sections, and tags and entities of a web page.
_FRAME = re.compile(
    r"\b(?:findings?|impressions?|conclusions?|reports?)\s*:|</?\w+ ?/?>|&\w+;|"
    r"(?:影像|检查|CT)?(?:所见|表现|描述)[:：]|(?:诊断|影像)?(?:印象|意见|结论|提示|诊断)[:：]",
    re.IGNORECASE,
)
# Letters. The longest report of CT-RATE has about 6,000. What is longer by far is no report, but the loop of a model,
# or a file that was pasted into one cell.
LONGEST_REPORT = 100_000
_LONGEST = 200  # characters; a longer text with letters is more than marks

# Common words of English reports. Words that other languages share ("in", "no", "normal", "pleural") say nothing.
_ENGLISH_WORDS = (
    "the of and are were not with without there to both by from has have had been which that this these those its be "
    "or any other than but seen noted observed detected present absent suggest suggesting suggestive consistent "
    "compatible likely unlikely possible probable due into within along between through compared prior previous since "
    "new old known stable unchanged mild moderate severe small large minimal slight marked right left upper lower "
    "middle lung lungs lobes heart size chest airway airways wall rib ribs bone bones spine findings impression clear "
    "enlarged thickened effusion effusions emphysema cardiomegaly lymphadenopathy adenopathy opacity opacities ground "
    "glass node nodes nodules pulmonary coronary artery arteries vessel vessels aortic esophagus stomach kidney "
    "kidneys liver gland glands gallbladder spleen breast axilla axillary fluid disease change changes increase "
    "decrease post status appear appears catheter tube line port clips stent pacemaker mass masses cyst cysts "
    "fracture fractures pneumonia edema fibrosis mosaic attenuation sequela sequelae band bands bulla bullae bleb "
    "blebs collapse device devices bypass graft grafts surgery surgical follow up scan scans exam study image images "
    "patient"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_ENGLISH_ENDING = re.compile(r"\w{2,}(?:ing|ness|ally|ously|ed|ary|ity|ous|opathy|megaly|ecta(?:sis|ses|tic)|ght|ogy)")

# For each language its common words, and pieces of words (`^` and `$` are the ends of a word), all without accents.
# Left out is what English reports use too, also as an abbreviation ("sol", "sag", "la", "des") or in "et al".
_WORDS = {
    "Turkish": (
        "ile bir bu yok veya olan olarak icin gore iki olup normaldir dogal acik sagda solda akciger kalp plevral "
        "nodul lenf damar boyut kemik kontrol sonuc degil toraks mozaik",
        r"^akciger|^plevra(?!l)|efuzyon|^nodulu$|^nodul(?:ler|de|un)|konsolidasyon|[ae]mfizem|atelektazi|bronsektazi|"
        r"kalsif|^izlen|^saptan|^gorul|^gozlen|^dikkat|^mevcut|^degerlendir|^parankim|^loblar|^lobu(?:nda|nun)$|"
        r"yogunlug|buzlu|kardiyo|^bulgu|(?:mis|mus)(?:tir|tur)$|m[ae]ktadir$|mektedir$|"
        r"(?:ler|lar)(?:de|da|in|inde|inda|den|dan|i)$",
    ),
    "German": (
        "und der das dem den ein eine einer eines einem einen ist sind ins mit nicht kein keine keinen keiner ohne "
        "auf bei von vom zur zum auch nach sowie rechts links rechte linke rechten linken rechter linker beide beiden "
        "beider lunge hinweis zeichen leber regelrecht altersentsprechend emphysem stauung raumforderung pneumonie "
        "zustand kardiomegalie",
        r"erguss|lappen|knoten|verkalk|verdicht|auffallig|rundherd|konsolidier|milchglas|^lungen|^herz|beidseit|"
        r"nachweis|vergrosser|entzund|^befund|\wgross$|narbe|hernie$|ierung(?:en)?$|lich(?:e[nrms]?)?$|keit(?:en)?$",
    ),
    "French": (
        "le les du un une sont sans avec dans pas aux sur sous ou aucun aucune deux droit droite gauche bronches "
        "coeur taille normale lobaire moyen verre depoli nodulaire pneumopathie examen anomalie",
        r"epanchement|^poumon|^emphyseme|^cardiomegalie$|^atelectasie|ganglionnaire|^pulmonaire|^opacites?$|"
        r"^parenchym(?:e|ateux)$|(?:super|infer)ieure?s?$|aires$|^coronaire|^epaiss|eux$|[^r]euses?$|^adenopathie$",
    ),
    "Spanish": (
        "el los las una con sin que por es sus ambos ambas vidrio deslustrado leve tamano dentro limites hallazgos "
        "corazon lobulo ausencia evidencia torax estudio hiato",
        r"^derrame|^nodulos?$|^enfisema|^cardiomegalia|^pulmon(?:es|ar|ares)?$|izquierd|^derech|^bronquie|"
        r"^atelectasias?$|[aucn]cion(?:es)?$|^adenopatias?$|idad(?:es)?$|miento$|^pequen",
    ),
    "Portuguese": (
        "dos das sem um uma nao achados lobo vidro fosco sinais coracao exame",
        r"^derrame|^nodulos?$|^pulm(?:ao|oes)$|esquerd|^direit|coes$|cao$|^bronquie|^linfonod|^enfisema|"
        r"^cardiomegalia",
    ),
    "Italian": (
        "il gli della delle dei degli nel nella nei con senza una sono alla di cuore reperti assenza",
        r"versamento|^polmon|^sinistr[oaie]$|^destr[oaie]$|^linfonod|^ispess|zion[ei]$|^nodul[oi]$|^enfisema|^addens|^ernia$|^iatale$",
    ),
    "Dutch": (
        "het een van zonder geen niet bij rechts rechter linker beide longen hart vergroot",
        r"kwab|pleuravocht|afwijking|lymfekl|aanwijz|hartgroott|emfyseem",
    ),
    "Polish": (
        "nie bez oraz sie jest plyn prawej prawym lewej lewym serce serca zmian zmiany widoczne",
        r"^pluc[aou]?$|^oplucn|^guzk|^guzek|oskrzel|^stwierdz|^rozedm|^wezl",
    ),
    "Swedish, Danish or Norwegian": (
        "och og utan uden uten inga ingen ikke inte hoger hoyre hojre vanster venstre begge",
        r"^lung(?:or|er|erne|ene|orna)$|^pleurav[ae]|^hjart|^hjert|fort[ae]tning|forstor|emfysem$|ef?fusjon|^herni$",
    ),
    "Indonesian or Malay": (
        "tidak tak dan pada kedua kanan kiri tampak dengan dari terdapat",
        r"^paru|^efusi$|^jantung",
    ),
    "Romanian": ("fara lichid stang stanga drept dreapta noduli este", r"^plaman|^revars"),
    "Czech or Slovak": ("bez je jsou vlevo vpravo srdce uzliny loziska nejsou", r"^plic|vypot"),
    "Croatian, Serbian or Bosnian": ("nema nisu nije uredan uredno obostrano", r"izljev|^izliv$|^pluc(?:a|ima|n\w+)$"),
    "Slovenian": ("obojestransko brez", r"izliv[aiuo]?m?$|^plevral(?:ni|nega|nem)$|^plju[c]"),
    "Hungarian": ("nem egy jobb oldali folyadek", r"^tudo|lathato|^mellka"),
    "Finnish": ("ei ja oikea vasen nestetta", r"^keuhko|^imusolm"),
}
_LANGUAGES = {name: (frozenset(words.split()), re.compile(pieces)) for name, (words, pieces) in _WORDS.items()}
# What English never spells so: Greek words with "k", "f" or "z", and their endings in other languages.
_SPELT_ABROAD = re.compile(
    r"^kardio|^konsolid|^emfi[sz]|^enfi[sz]|^atelekt(?!asis)|^atelett?asi[ae]|^bron[ks]i|^pnevm|^plevr|^hidrotora|"
    r"^pneumotora|^kal[csz]|^fibroz|fibrosi$|^efuzi|^ezofag|^limf|^lymf|^pankrea|"
    r"e[kt]t?a[sz]ij?[aeo]?$|megali[aeo]?$|opatij?[aeio]?$|trofij?[ae]?$|ektasen$|"
    r"(?:path|troph|plas|megal|ektom|graph|embol|pneumon)ien?$|"
    r"(?:steno|s[ck]lero|fibro|thrombo|ne[ck]ro|metasta|[cz]irrho|sar[ck]oido|tuber[ck]ulo|s[ck]olio|sili[ck]o)sen?$"
)
# Letters that tell a language. Any other accent only tells that the word is not English.
_LETTERS = {
    **{"Turkish": "ğşı", "German": "äß", "French": "èëù", "Spanish": "ñ", "Portuguese": "ãõ", "Polish": "łąęśżź"},
    **{"Czech or Slovak": "ěřů", "Hungarian": "őű", "Romanian": "ățș"},
}
_NAMES = ("behçet", "sjögren", "ménière", "röntgen", "schönlein", "löfgren", "waldenström", "guérin", "naïve", "café")
_PERSON = re.compile(r"\b(?:Dr|Prof|Mr|Mrs|Ms)\b\.?(?: [A-Z]\.| [A-ZÀ-Þ][^\W\d_]+(?:[-'’][^\W\d_]+)*){1,3}")
# A script, as the Unicode names of its letters begin -> the language that is mostly written in it.
_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "THAI": "Thai"}
_DENSE = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")  # scripts in which a letter says as much as several Latin ones

_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
# Letters of the labeler's words whose simplified form is another letter, and their simplified forms. 両 is Japanese.
_TRADITIONAL = re.compile(
    "[氣腫結節積張擴實變葉側雙兩両見無顯動脈鈣縱膿體檢質條狀紋圍間纖維斷層陳舊壓臟髒導靜鬆膽腎頸緣邊徵]"
)
_SIMPLIFIED = re.compile("[气肿结节积张扩实变叶侧双两见无显动脉钙纵脓体检质条状纹围间纤维断层陈旧压脏导静胆肾颈缘边]")
_LATIN_LETTER = re.compile("[A-Za-z]")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÿ]+")
# What stands in Chinese sentences as it is: abbreviations in capitals, units, and names
_ABBREVIATION = re.compile(
    r"[A-Z]{1,6}s?|[a-z]{1,2}|[a-z][A-Z]{2,4}s?|mAs|kVp|Img?|Ser?|img|ser?|Kerley|Fleischner|Bochdalek|Morgagni|Lung|Covid|Swan|Ganz"
)
_BRACKETS = re.compile(r"\([^()]*\)|\[[^][]*\]")
_SAYS_NO = re.compile(
    r"\b(?:no|not|without|resolved|gone|absent|old|prior|previous|removed)\b|[未无没不]", re.IGNORECASE
)
_SENTENCE = re.compile(r"[。;!?\n]|\.\s")

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_FEW = 8  # words; a shorter text may consist of names of findings alone
_UNKNOWN = "a language other than English"


def foreign_language(text: str) -> str | None:
    """
    The language of a text that is not in English, as a guess, such as `"German"`, `"Chinese"`, `"the Cyrillic script"`
    or `"a language other than English"`. `None` for English, and for a text that may be English.
    """
    text = unicodedata.normalize("NFKC", text)  # composes accents, and takes ligatures apart
    if script := _foreign_script(text):
        return script
    words = _WORD.findall(_PERSON.sub(" ", text))
    if not text.isupper():
        words = [word for word in words if not (word.isupper() and len(word) <= 5)]  # abbreviations
    kinds = Counter(kind for word in words for kind in _kinds(word.lower()))
    english, foreign = kinds.pop("English", 0), kinds.pop("foreign", 0)
    if foreign > english or (foreign > 1 and foreign > english / 4):
        return kinds.most_common(1)[0][0] if kinds else _UNKNOWN
    return _UNKNOWN if len(words) >= _FEW and english < len(words) / 12 else None


@lru_cache(maxsize=1 << 16)
def _kinds(word: str) -> tuple[str, ...]:
    """`"English"`, or `"foreign"` and the languages that a lower-case word belongs to; empty if it may be either."""
    if word in _ENGLISH:
        return ("English",)
    plain = _without_accents(word)
    languages = [
        name
        for name, (words, pieces) in _LANGUAGES.items()
        if plain in words or pieces.search(plain) or any(letter in word for letter in _LETTERS.get(name, ""))
    ]
    if languages or _SPELT_ABROAD.search(plain) or (plain != word and word not in _NAMES):
        return ("foreign", *languages)
    return ("English",) if _ENGLISH_ENDING.fullmatch(word) else ()


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    decomposed = unicodedata.normalize("NFKD", word.replace("ı", "i").replace("ß", "ss").replace("ł", "l"))
    return "".join(letter for letter in decomposed.replace("ø", "o") if not unicodedata.combining(letter))


def _foreign_script(text: str) -> str | None:
    """The language or script of a text that is not written in Latin letters for the most part, else `None`."""
    if text.isascii():
        return None
    latin, scripts = 0, Counter()
    for letter in filter(str.isalpha, text):
        name = unicodedata.name(letter, "UNKNOWN")
        if letter.isascii() or "LATIN" in name:
            latin += 1
        else:
            scripts[name.split()[0]] += 1
    weight = sum(number * (3 if script in _DENSE else 1) for script, number in scripts.items())
    if weight < (3 if latin else 2) or weight <= latin / 4:  # such as µm, or a Chinese word in brackets
        return None
    # A Japanese text has Chinese characters, too.
    script = next((kana for kana in ("HIRAGANA", "KATAKANA") if kana in scripts), scripts.most_common(1)[0][0])
    return _SCRIPTS.get(script, f"the {script.capitalize()} script")


def is_chinese(text: str) -> bool:
    """Whether a sentence is to be read as Chinese: it has two Chinese letters, and not many Latin letters beside."""
    letters = len(_CHINESE.findall(text))
    return letters > 1 and 3 * letters > len(_LATIN_LETTER.findall(text)) / 4


def name_of_rules(texts: Iterable[str]) -> str:
    """
    Name of the rule labeler in results: `"rules"`, or `"rules_zh"` if a text is Chinese, because its Chinese rules
    were not validated on real reports.
    """
    return "rules_zh" if any(is_chinese(text) for text in texts) else "rules"


def unread_language(text: str) -> str | None:
    """
    The language of a text that the rule labeler cannot read; `None` for English, for Chinese in simplified letters,
    and for a text of sentences in both. Words of another language within a Chinese sentence are not read, so such a
    sentence is none that the labeler reads, unless they are abbreviations ("CT", "GGO") or a gloss in brackets. The
    same goes for Chinese words in an English sentence.
    """
    if not _CHINESE.search(text):
        return foreign_language(text)
    text = unicodedata.normalize("NFKC", text)
    language = foreign_language(text)
    if language not in (None, "Chinese"):
        return language
    traditional = len(_TRADITIONAL.findall(text))
    if traditional > 1 or (traditional and not _SIMPLIFIED.search(text)):
        return "Chinese in traditional letters"
    others = []
    plain = _BRACKETS.sub(lambda gloss: gloss[0] if _SAYS_NO.search(gloss[0]) else " ", _FRAME.sub(" ", text))
    for sentence in _SENTENCE.split(plain):
        letters = len(_CHINESE.findall(sentence))
        words = [word for word in _LATIN_WORD.findall(sentence) if not _ABBREVIATION.fullmatch(word)]
        if letters and words and not (letters == 1 and sentence.rstrip().endswith(("无", "無"))):  # "effusion: 无"
            return "Chinese with words of another language in one sentence"
        if not letters:
            others.append(sentence)
    return foreign_language(". ".join(others))


def is_missing(text: object) -> bool:
    """
    Whether a text is missing: `None`, the NaN of an empty cell, a text without words ("", "-", "12345", "n"), or a
    mark that stands for a missing text ("Not given.", "N/A", "null", "No report.", "Yok"), whatever its case and
    punctuation, or a short note about the report ("Images only, report will follow"). "Normal." and "No finding." are
    reports.
    """
    if not isinstance(text, str):
        return True
    if len(text) > _LONGEST:
        return not any(map(str.isalpha, text))
    plain = _without_marks(_FRAME.sub(" ", text).casefold()).replace("ı", "i")
    letters = "".join(filter(str.isalnum, plain))
    if sum(map(str.isalpha, letters)) < 2 or _are_marks(letters):
        return True
    return bool(_NOTE.search(plain)) and not _CLINICAL.search(plain) and not _foreign_script(text)


def _are_marks(letters: str) -> bool:
    """
    Whether a text is made of marks alone. Each place is visited once, because marks can be told apart in many ways:
    trying all of them would take time that doubles with each mark.
    """
    ends = {0}  # places that marks lead to
    for start in range(len(letters)):
        if start in ends and _MARK.match(letters, start):
            ends.update(end for end in range(start + 1, len(letters) + 1) if _MARK.fullmatch(letters, start, end))
    return len(letters) in ends


def check_length(text: str, where: str = "The text") -> None:
    """Raises a `ValueError` if a text is too long for a report. `where` names the text."""
    if len(text) > LONGEST_REPORT:
        raise ValueError(
            f"{where} has {len(text):,} letters, and is no report: the longest of CT-RATE has about 6,000, and up to "
            f"{LONGEST_REPORT:,} are read. Shorten the text, or leave it out."
        )


def check_lengths(texts: Sequence[str | None], what: str) -> None:
    """Raises a `ValueError` that names the first text that is too long for a report. `what` names the texts."""
    for row, text in enumerate(texts):
        check_length(text or "", f"`{what}` row {row}")


def check_given(references: Sequence[str | None]) -> None:
    """Raises a `ValueError` that names the first missing reference report."""
    for row, text in enumerate(references):
        if is_missing(text):
            raise ValueError(
                f"`references` row {row} is no report: {text!r}. What is missing cannot be scored, and is no normal "
                "report: leave the row out together with its prediction."
            )


def check_language(texts: Sequence[str], what: str) -> None:
    """Raises a `ValueError` that names the first text that the rules cannot read. `what` names the texts."""
    for row, text in enumerate(texts):
        if language := unread_language(text):
            raise ValueError(
                f"`{what}` row {row} seems to be in {language}. The labeler 'rules' reads English and Chinese only: "
                "it would find nothing there and take the report for a normal one. Pass the 18 labels of each report "
                "in the place of its text, or an English translation. `label_reports` takes another `labeler=`; "
                "`ct_report_text` compares words in any language."
            )


def main_language(texts: Sequence[str], language_of: Callable[[str], str | None] = foreign_language) -> str | None:
    """
    The language of most of the texts, if it is another than English. With `language_of=unread_language`: if it is one
    that the rules do not read. Of many texts, some 1,000 are read.
    """
    some = list(texts[:: max(1, len(texts) // 1000)])
    foreign = Counter(filter(None, map(language_of, some)))
    return foreign.most_common(1)[0][0] if 2 * foreign.total() > len(some) else None


def check_mostly_read(texts: Sequence[str], what: str) -> None:
    """Raises a `ValueError` if the rules cannot read most of the texts. A few such texts do no harm."""
    if main_language(texts, unread_language):
        check_language(texts, what)
