"""What is no report at all, and what is a report in another language."""

import pandas as pd
import pytest
from helpers.paths import ROOT

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import (
    check_given,
    check_language,
    check_mostly_read,
    foreign_language,
    is_missing,
)
from ct_rate_pairs.reports.sentence_spans import split_sentences


# 800 real reports with manual labels, which may not be shipped with the project.
DEV_REPORTS = ROOT.parent / "shared" / "data" / "report_labels_dev.csv"

MARKS = [
    *("", " ", "\n\t", "\xa0", "\u200b", "-", "--", "—", ".", "...", "?", "*", "[ ]"),
    *(
        "None",
        "NONE.",
        "nan",
        "NaN",
        "null",
        "NULL",
        "nil",
        "N/A",
        "n/a.",
        "N.A.",
        "#N/A",
        "#NAME?",
        "#VALUE!",
        "<NA>",
        "undefined",
    ),
    *("Not given.", "not given", "NOT GIVEN ", "Not Given..", "[Not given]", "not-given", "NOT_GIVEN", "None given"),
    *("No report.", "no report available", "Report not available.", "Report pending", "No report yet", "No data"),
    *("not available", "Unavailable", "not provided", "Not reported", "not specified", "unknown", "(blank)", "TBD"),
    *("Dictation pending", "Missing report", "See previous report", "As above.", "Awaiting report", "No dictation"),
    *("nil report", "Unreported", "Undictated", "Unsigned", "Not performed", "Non-diagnostic", "Not dictated yet"),
    *("Not Available - see PACS", "No findings recorded", "[REDACTED]", "xxx", "0", "#ERROR!", "n/d", "draft"),
    *("Report has not been signed.", "Transcription in progress", "Please refer to the attached report.", "See above"),
    *("Awaiting radiologist review", "Not interpreted", "Reporting outstanding.", "Final report to follow"),
    *("Raporsuz", "Rapor bulunmamaktadır", "Rapor mevcut değil", "Rapor bekleniyor.", "Raporlanmamış"),
    *("Yok", "YOK.", "Verilmedi", "VERİLMEDİ.", "Belirtilmemiş", "Rapor yok", "Bilinmiyor"),
    *("Study not performed.", "CT not performed", "Scan aborted", "Exam cancelled", "Imaging not done", "No study."),
    *("See addendum.", "See body of report", "Same as above", "Same as previous report", "Reported elsewhere."),
    *("Report not available at this time", "Results pending", "No results", "Findings not available.", "N/K", "unk"),
    *(
        "No findings reported",
        "To be determined",
        "Dictated but not read",
        "Exam for comparison only",
        "True",
        "FALSE",
    ),
    # What has no word is no report.
    *(r"\N", "N", "-1", "1", "12345", "3.14", "2024-01-05", "12:30", "١٢٣", "-99", "1.0", "404 Not Found"),
    *(
        "無報告",
        "該当なし",
        "読影待ち",
        "待报告",
        "보고서 없음",
        "해당 없음",
        "미판독",
        "لا يوجد تقرير",
        "غير متوفر",
        "گزارش ندارد",
    ),
    *("אין דו״ח", "לא זמין", "не описано", "нет заключения", "Отсутствует"),
    # Notes about the report, in the place of the report.
    *("Null report", "Report will follow", "Report unavailable due to technical error", "Images only, no report"),
    *("See attached PDF", "Report withheld for privacy", "Informe pendiente", "compte rendu non disponible"),
    *("brak opisu", "Awaiting dictation by Dr Miller", "Report not released", "Upload error", "Laudo em anexo"),
    *("Text deleted for confidentiality", "Please contact the radiologist", "Bericht folgt", "Raport w toku"),
    *("Document corrupted", "Results on request", "Geen verslag beschikbaar", "Ergebnis folgt", "Svar följer"),
    *("keine Angabe", "k.A.", "non disponible", "no disponible", "não informado", "нет", "нет данных", "无", "未提供"),
    *(
        "Not given. Not given.",
        "Findings: Not given.\nImpression: Not given.",
        "FINDINGS: - IMPRESSION: -",
        "<p>&nbsp;</p>",
        "<br/>N/A",
    ),
]
REPORTS = [
    *("Normal.", "Unremarkable.", "Negative.", "Clear.", "Stable.", "No change.", "No finding.", "No findings."),
    *("No nodule.", "None of the nodules is enlarged.", "No abnormality was found.", "NAD", "5 mm", "Unknown nodule."),
    *(
        "No results of infection.",
        "No findings suggestive of COVID.",
        "Device removed.",
        "Not seen.",
        "No change since prior.",
    ),
    *(
        "As before.",
        "Nodule, see above.",
        "Nondiagnostic study, effusion.",
        "Cleared.",
        "Complete resolution.",
        "10 mm",
    ),
    *(
        "CT normal",
        "Negative study",
        "No scan evidence of nodule",
        "Report: effusion",
        "False positive nodule",
        "GGO 5",
    ),
    *("Report: normal", "Images show a mass.", "No report of trauma; lungs clear.", "Limited images."),
    *("As reported before, stable", "Reported nodule not seen", "Images: no finding", "Negative results."),
    *("Mediastinal lymphadenopathies", "Pneumonias, fibroses, stenoses, metastases"),
    *("Findings: Normal. Impression: Not given.", "No data on the kidneys. Emphysema.", "Not enlarged."),
]

# Terse English of all kinds: single findings, abbreviations, names, Latin.
TERSE = [
    *(f"{label}." for label in LABELS),
    *LABELS,
    *(
        "Ateletasis",
        "Ectasia",
        "Bronchial ectasia",
        "Cardiomegaly, atelectases, adenopathies",
        "Nephropathy",
        "Efusion",
    ),
    *("Emphysema", "Cardiomegaly", "Honeycombing.", "Bullae", "GGO", "UIP.", "IPF", "LAP", "Hilar LAP.", "Atheroma"),
    *(
        "s/p CABG",
        "s/p CABG, LIMA-LAD",
        "PICC in SVC.",
        "ETT 3 cm above carina",
        "DES in LAD",
        "GGN RUL 5 mm",
        "No LAP",
    ),
    *("Consolidation RLL.", "Tree-in-bud.", "Kerley B lines", "Schmorl nodes", "Pectus excavatum", "Situs inversus"),
    *(
        "Behçet's disease",
        "Sjögren",
        "Röntgen",
        "Dr. José Núñez informed.",
        "Discussed with Prof. Jürgen Großmann.",
        "Café-au-lait spots.",
        "de novo lesion",
        "en bloc resection",
        "et al",
        "per se",
        "Ao calcification",
    ),
    *("Bilateral pleural effusions.", "Subsegmental atelectasis bilateral lower lobes", "Thorax normal", "Normal CT"),
    *("Pneumonia?", "Covid-19 pneumonia", "Hepatic steatosis", "Cholelithiasis", "Osteophytes", "µm 5 cm², 3 × 4 mm"),
    "Emphysema, bullae, honeycombing, bronchiectasis, fibrosis, atelectasis, consolidation, nodules, cardiomegaly",
]
FOREIGN = {
    "Turkish": [
        "Sağ akciğer üst lobda nodül izlendi.",
        "Sol akcigerde konsolidasyon mevcut.",
        "PLEVRAL EFÜZYON YOK.",
        "Emfizem",
    ],
    "German": ["Kein Nachweis eines Pleuraergusses.", "Konsolidierung.", "Herz normal groß.", "KEIN PLEURAERGUSS."],
    "French": ["Épanchement pleural droit.", "Pas de nodule pulmonaire.", "Calcifications coronaires."],
    "Spanish": ["Derrame pleural derecho.", "Sin hallazgos patológicos.", "Nódulo pulmonar en el lóbulo superior."],
    "Portuguese": ["Derrame pleural à direita.", "Nódulo no pulmão esquerdo.", "Exame normal."],
    "Italian": ["Versamento pleurico destro.", "Assenza di noduli polmonari.", "Ernia iatale"],
    "Dutch": ["Geen pleuravocht.", "Hart niet vergroot."],
    "Swedish, Danish or Norwegian": ["Lungemfysem", "Pleuraeffusjon", "Hiatal herni"],
    "Polish": ["Płyn w prawej jamie opłucnej.", "Bez zmian ogniskowych."],
    "Chinese": ["右肺上叶结节。", "右肺 nodule 5 mm"],
    "Japanese": ["両側胸水を認める。"],
    "Korean": ["흉수 없음."],
    "the Cyrillic script": ["Плевральный выпот справа."],
    "the Arabic script": ["انصباب جنبي أيمن"],
    "the Devanagari script": ["नहीं"],
    "Thai": ["ไม่"],
    "the Greek script": ["Πλευριτική συλλογή δεξιά."],
    "Croatian, Serbian or Bosnian": ["Nema izljeva."],
    "Slovenian": ["Ni plevralnega izliva."],
    "a language other than English": [
        *(
            "Atelettasia",
            "Kardiomegali",
            "Ateletasia",
            "Kardiomegalia",
            "Bronchiektasie",
            "Konsolidasi",
            "Limfadenopati",
        ),
        *("Pneumotoraks", "Hepatomegalie", "Bronchiektasen", "Lymphadenopathie", "Fibrose", "Metastasen"),
        "Mapafu yote mawili ni safi na hakuna dalili za ugonjwa wa moyo.",
    ],
}


@pytest.mark.parametrize("mark", [*MARKS, None, float("nan"), pd.NA])
def test_a_mark_of_a_missing_text_is_no_report(mark):
    assert is_missing(mark)


@pytest.mark.parametrize("text", [*REPORTS, *TERSE])
def test_a_short_report_is_not_missing(text):
    assert not is_missing(text)


@pytest.mark.parametrize("text", ["소견 없음", "所見なし", "未见异常", "אין ממצאים", "нет изменений"])
def test_no_finding_in_another_script_is_a_foreign_report_and_not_missing(text):
    assert not is_missing(text)
    assert foreign_language(text)


def test_a_long_row_of_the_same_mark_before_something_else_is_decided_at_once():
    for mark in ("x", "0", "No report. ", "Not available. "):
        assert is_missing(mark * 3) and not is_missing((mark * 100)[:150] + "5 mm")


@pytest.mark.parametrize("text", [*TERSE, *REPORTS])
def test_terse_english_is_not_taken_for_another_language(text):
    assert foreign_language(text) is None


@pytest.mark.parametrize(
    ("language", "text"), [(language, text) for language in FOREIGN for text in FOREIGN[language]]
)
def test_another_language_is_named(language, text):
    assert foreign_language(text) == language


def test_a_report_with_a_part_in_another_language_is_foreign_but_a_name_or_a_word_is_not():
    english = (
        "There is a 5 mm nodule in the right upper lobe. No pleural effusion was detected. The heart is enlarged."
    )
    assert foreign_language(f"{english} Sağ akciğerde konsolidasyon izlendi. Plevral efüzyon saptanmadı.") == "Turkish"
    assert foreign_language(f"{english} Rosenmüller fossa is normal.") is None
    assert foreign_language(f"{english} (结节)") is None


def test_messages_name_the_row_and_the_remedy():
    with pytest.raises(ValueError, match=r"`references` row 2 is no report: 'N/A'.*leave the row out"):
        check_given(["Normal.", "No nodule.", "N/A"])
    check_given(["Normal."])
    with pytest.raises(ValueError, match=r"`predictions` row 1 seems to be in German.*Pass the 18 labels.*`labeler=`"):
        check_language(["Normal.", "Kein Pleuraerguss."], "predictions")
    check_language(TERSE, "predictions")


def test_few_texts_in_another_language_do_no_harm_but_most_are_refused():
    check_mostly_read(["Emphysema.", "Normal.", "Kein Pleuraerguss."], "texts")
    check_mostly_read([], "texts")
    with pytest.raises(ValueError, match="`texts` row 1 seems to be in German"):
        check_mostly_read(["Emphysema.", "Kein Pleuraerguss.", "Herz nicht vergrößert."], "texts")


@pytest.mark.skipif(not DEV_REPORTS.exists(), reason=f"{DEV_REPORTS} is not here: CT-RATE's licence keeps it out")
def test_no_real_report_nor_any_of_its_sentences_is_foreign():
    texts = pd.read_csv(DEV_REPORTS)["report_text"]
    assert [text for text in texts if foreign_language(text) or is_missing(text)] == []
    assert [sentence for text in texts for sentence in split_sentences(text) if foreign_language(sentence)] == []
