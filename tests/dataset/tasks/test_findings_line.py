"""`findings_line`: the completion of a report opens with its labels; nothing else changes."""

import pandas as pd
import pytest
from datasets import load_dataset
from helpers.tree import SPACING, STEMS, write_tree

from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.findings_line import form_of, open_text, sides_of, write_line
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.trainer.row_settings import has_findings_line, settings_of_dataset


def load(tree, **options):
    return load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", spacing=SPACING, **options)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", ["names", "yes_no"])
def test_the_completion_opens_with_the_labels_of_the_row(tree, kind, language):
    plain, opened = (load(tree, prompt=language, **more) for more in ({}, {"findings_line": kind}))
    streamed = load(tree, prompt=language, findings_line=kind, streaming=True)
    for row, twin, without in zip(opened, streamed, plain, strict=True):
        text = row["completion"][0]["content"]
        assert text == f"{write_line(row['labels'], kind, language)}\n{without['completion'][0]['content']}"
        assert open_text(text).labels == tuple(row["labels"])
        assert row["prompt"] == without["prompt"] and twin["completion"] == row["completion"]


@pytest.mark.parametrize("target", ["findings+impression", "impression"])
def test_the_line_has_the_sides_of_the_whole_report(phantom, target):
    plain, opened = (load(phantom, target=target, **more) for more in ({}, {"findings_line": "sides"}))
    whole = {row["volume"]: row["completion"][0]["content"] for row in load(phantom).with_format(None)}
    found = 0
    for row, without in zip(opened.with_format(None), plain.with_format(None), strict=True):
        line, _, report = row["completion"][0]["content"].partition("\n")
        assert report == without["completion"][0]["content"] and open_text(line).labels == tuple(row["labels"])
        placed = places(whole[row["volume"]])
        assert sides_of(line) == {i: place.side for i, place in placed.items() if row["labels"][i]}
        found += len(sides_of(line))
    assert found


def test_a_chinese_report_gives_its_line_the_sides(tmp_path):
    report = "右肺上叶见结节。左侧胸腔积液。心脏增大。双肺见肺气肿。"
    tree, stated = write_tree(tmp_path), label_report(report)
    for short, long in STEMS:
        labels = tree / f"dataset/multi_abnormality_labels/{short}_predicted_labels.csv"
        pd.read_csv(labels).assign(**dict(zip(LABELS, stated, strict=True))).to_csv(labels, index=False)
        reports = tree / f"dataset/radiology_text_reports/{long}_reports.csv"
        pd.read_csv(reports).assign(Findings_EN=report).to_csv(reports, index=False)
    for row in load(tree, prompt="zh", findings_line="sides", target="findings").with_format(None):
        line, _, text = row["completion"][0]["content"].partition("\n")
        assert text == report and form_of(line) == ("sides", "zh") and open_text(line).labels == tuple(stated)
        sides = {LABELS[i]: side for i, side in sides_of(line).items()}
        assert sides == {"Lung nodule": "right", "Pleural effusion": "left", "Emphysema": "both"}
        assert "；心脏增大是；" in line and "；肺结节右；" in line and "；胸腔积液左；" in line


@pytest.mark.parametrize("task", ["vqa", "matching"])
def test_other_tasks_have_none_and_say_so(tree, task, caplog):
    plain, opened = (load(tree, task=task, **more) for more in ({}, {"findings_line": "names"}))
    (told,) = [message for message in caplog.messages if "no effect" in message]
    assert told == f"findings_line='names' has no effect with task='{task}': only the task 'report' uses it."
    assert plain.with_format(None)["completion"][:] == opened.with_format(None)["completion"][:]


def test_the_settings_of_a_model_know_it(tree):
    assert settings_of_dataset(load(tree, findings_line="yes_no")).content()["findings_line"] == "yes_no"
    assert reader_of(load(tree)).config.findings_line == "none"
    assert has_findings_line(load(tree, findings_line="yes_no"))
    assert has_findings_line(load(tree, findings_line="yes_no", streaming=True))
    assert not has_findings_line(load(tree)) and not has_findings_line([{"completion": []}])


def test_another_kind_is_refused_with_those_there_are(tree):
    with pytest.raises(ValueError, match=r"findings_line.*none.*names.*yes_no"):
        load(tree, findings_line="all")
