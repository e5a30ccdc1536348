"""Quotes of reference reports are found by fingerprints, and the reports cannot be read from these."""

import json
import random
import shutil

import pandas as pd
import pytest
from datasets import load_dataset
from helpers.paths import ROOT
from helpers.phantom_reports import chinese_cohort

from ct_rate_pairs.hub import references as module
from ct_rate_pairs.hub.references import (
    CHINESE,
    REFERENCES,
    STRETCH,
    WINDOW,
    References,
    keep_reference_hashes,
    keep_references,
    letters_of,
    read_references,
)
from ct_rate_pairs.json_files import JSONFileError
from ct_rate_pairs.reports.sentence_spans import split_sentences


RNG = random.Random(0)
ENOUGH = STRETCH + WINDOW - 1


def letters(count: int) -> str:
    return "".join(RNG.choices("abcdefghijklmnopqrstuvwxy", k=count))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 100, 256, 2**20])
def test_as_many_letters_as_promised_are_found_wherever_they_stand(monkeypatch, at_once):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    for _ in range(50):
        report, before, after = letters(600), letters(RNG.randrange(700)), letters(RNG.randrange(700))
        known, start = References.of([[report]]), RNG.randrange(600 - ENOUGH)
        assert known.quoted_in(before + report[start : start + ENOUGH] + after)
        assert not known.quoted_in(f"{before}z{report[start : start + STRETCH - 1]}z{after}")
        assert known.shared_with(report) == (own := len(known.rare), own, own)


@pytest.mark.parametrize("text", ["", "abc", "1234 . - _" * 100, "a" * (STRETCH - 1)])
def test_a_text_with_too_few_letters_is_no_quote(text):
    assert not References.of([[letters(200)], ["Normal."]]).quoted_in(text)
    assert References.of([["Normal."], [letters(200)]]).has("NORMAL!")


def test_letters_are_the_same_however_a_text_is_written():
    plain = letters_of("Findings: No effusion in 2 lobes.")
    assert plain == "noeffusioninlobes"
    for text in (
        "NO\u00a0EFFUSION,\nin lobes",
        "n\u00f3 ef\u00adfu\u200bsion <b>in</b>&nbsp;lob\\n es",
        "\uff2eo%20e\ufb00usion in lobes",
    ):
        assert letters_of(text) == plain


def test_what_several_reports_have_is_not_rare_and_what_one_scan_repeats_is():
    template, own = letters(200), letters(200)
    known = References.of([[template, letters(200)], [letters(200), template], [own], [own]])
    assert known.shared_with(template)[0] == 0 and known.quoted_in(template)
    assert known.shared_with(own)[0] == known.shared_with(own)[1] > 0


def test_a_report_stands_in_one_stretch_however_long_the_text_and_a_text_that_goes_round_counts_once():
    template, report = letters(200), letters(700)
    known = References.of([[report[:350], template, report[350:]], [template]])
    whole = report[:350] + template + report[350:]
    rare, own, stretch = known.shared_with(letters(9_000) + whole + letters(9_000))
    assert 50 < rare == stretch < own / 20
    gap = letters(99)
    halves = known.shared_with(report[:350] + gap + report[350:])[2]
    assert stretch / 3 < halves < stretch * 2 / 3
    assert known.shared_with((report[:350] + gap) * 9)[2] == known.shared_with(report[:350] + gap)[2]


def test_samples_add_their_references_and_make_no_template_rare(tmp_path):
    template, more = letters(300), letters(300)
    keep_reference_hashes(tmp_path, [template + letters(99), template + letters(99)])
    (tmp_path / "samples").mkdir()
    for step, text in enumerate((template, more)):
        sample = f"## v\n\n### Reference\n\n{text}\n\n### Generated (cut at 8 tokens)\n\n{letters(300)}\n"
        (tmp_path / "samples" / f"step-{step}.md").write_text(sample)
    known = read_references(tmp_path)
    assert known.quoted_in(more) and known.shared_with(more)[0] and not known.shared_with(template)[0]


def test_the_file_holds_no_text_and_each_run_has_other_hashes(tmp_path):
    report = "A nodule of the left lobe with a spiculated margin and a tail to the pleura, seen in two planes and new."
    for run in ("a", "b"):
        keep_reference_hashes(tmp_path / run, [(report, None, "Not given.")])
    one, other = (json.loads((tmp_path / run / REFERENCES).read_text()) for run in ("a", "b"))
    assert one["rare"] and one["rare"] != other["rare"] and one["whole"] != other["whole"]
    assert not any(word in json.dumps(one) for word in ("nodule", "pleura", "spiculated"))
    assert read_references(tmp_path / "a").has(report)


@pytest.mark.parametrize("references", [[], [""], ["Not given.", ("-", None)]])
def test_a_record_of_no_report_is_refused(tmp_path, references):
    with pytest.raises(ValueError, match="There is no reference report"):
        keep_reference_hashes(tmp_path, references)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["findings", "impression"])
def test_the_reports_of_all_splits_are_kept_with_all_sections_and_the_cohort_tells_a_phantom(tree, tmp_path, target):
    copy = shutil.copytree(tree, tmp_path / "copy")
    (copy / "phantom.json").unlink(missing_ok=True)
    for data, phantom in ((copy, False), (tree, (tree / "phantom.json").exists())):
        train = load_dataset("ct_rate_pairs", data_dir=str(data), split="train", target=target)
        keep_references(tmp_path / "run", train)
        assert read_references(tmp_path / "run").phantom == phantom
    keep_references(tmp_path / "run", load_dataset("ct_rate_pairs", data_dir=str(copy), split="train", target=target))
    known = read_references(tmp_path / "run")
    for name in ("findings", "impression"):
        for rows in load_dataset("ct_rate_pairs", data_dir=str(copy), target=name).values():
            assert all(known.has(turns[0]["content"]) for turns in rows["completion"])


def test_a_chinese_character_counts_as_the_letters_that_say_as_much():
    report = "".join(chr(0x4E00 + RNG.randrange(3000)) for _ in range(200))
    known, quote = References.of([[report]]), -(-ENOUGH // CHINESE)
    for start in range(0, 200 - quote, 7):
        assert known.quoted_in(f"备注：{report[start : start + quote]}。")
        assert not known.quoted_in(f"备注：{report[start : start + STRETCH // CHINESE - 1]}。")
    assert letters_of("见 6 mm 结节。") == "见" * CHINESE + "mm" + "结" * CHINESE + "节" * CHINESE


def test_a_sentence_of_a_chinese_report_is_found_and_other_chinese_texts_are_not():
    reports = chinese_cohort(60).reports
    known = References.of([report] for report in reports)
    sentences = {sentence for report in reports for sentence in split_sentences(report)}
    long = [sentence for sentence in sentences if len(letters_of(sentence)) >= ENOUGH]
    assert len(long) >= 10 and all(map(known.quoted_in, long))
    assert not known.quoted_in((ROOT / "README.zh.md").read_text("utf-8"))


def test_hashes_that_weigh_characters_otherwise_are_refused(tmp_path):
    keep_reference_hashes(tmp_path, ["右肺上叶见结节，边界清楚，较前增大，建议随访复查，余肺未见异常。"])
    file = tmp_path / REFERENCES
    kept = json.loads(file.read_text())
    assert kept.pop("chinese") == CHINESE
    file.write_text(json.dumps(kept))
    with pytest.raises(JSONFileError, match="of another version of ct-rate-pairs: write it anew"):
        read_references(tmp_path)


def test_clinical_information_is_kept_too(own_tree, tmp_path):
    file, text = own_tree / "dataset/radiology_text_reports/train_reports.csv", letters(200)
    table = pd.read_csv(file)
    table.loc[3, "ClinicalInformation_EN"] = text
    table.to_csv(file, index=False)
    keep_references(tmp_path, load_dataset("ct_rate_pairs", data_dir=str(own_tree), split="train"))
    assert read_references(tmp_path).quoted_in(f"The model said: {text[50:150]}")
