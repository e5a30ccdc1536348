"""`load_dataset("ct_rate_pairs", task=...)`: the tasks keep the row's contract, on demand and streamed."""

from collections import Counter

import pandas as pd
import pytest
from datasets import interleave_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError
from helpers.tree import SPACING, write_telling_tree, write_tree
from torch.utils.data import DataLoader

from ct_rate_pairs import LABELS
from ct_rate_pairs.pair_column import tell_stored
from ct_rate_pairs.readable_rows import ReadableRows, is_readable
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.trainer.row_settings import row_settings


COMMON = {
    *("volume", "images", "negative_images", "negative_volume", "label_distance", "prompt", "completion", "labels"),
    *("slice_mm", "age", "sex", "clinical_information", "technique", "device"),
}
OWN = {
    "vqa": {"question_number", "question_type", "answer_type", "label", "proof"},
    "matching": {"options", "correct"},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_telling_tree(tmp_path_factory.mktemp("tasks"))


def load(tree, task, negative="heter", split="train", **options):
    options = {"spacing": SPACING, "validation_size": 0.0, **options}
    return load_dataset("ct_rate_pairs", task=task, negative=negative, data_dir=str(tree), split=split, **options)


def labels_of(tree, volume) -> dict[str, int]:
    labels = pd.read_csv(tree / "dataset/multi_abnormality_labels/train_predicted_labels.csv").set_index("VolumeName")
    return labels.loc[volume].to_dict()


def without_images(row) -> dict:
    return {column: value for column, value in row.items() if "images" not in column}


def digest(row) -> tuple:
    noise = b"".join(image.tobytes() for image in row["negative_images"])
    return row["volume"], row["prompt"][0]["content"], row["completion"][0]["content"], row["negative_volume"], noise


@pytest.mark.slow_but_first
@pytest.mark.parametrize("negative", ["none", "gauss", "heter", "hard"])
@pytest.mark.parametrize("task", ["vqa", "matching"])
def test_rows_keep_the_contract_and_streaming_yields_the_same(tree, task, negative):
    rows, streamed = (load(tree, task, negative, streaming=streaming) for streaming in (False, True))
    assert len(rows) == {"vqa": 64, "matching": 16}[task]
    assert set(streamed.features) == COMMON | OWN[task]
    for row, twin in zip(rows, streamed, strict=True):
        assert set(row) == COMMON | OWN[task] and without_images(row) == without_images(twin)
        assert [turn["role"] for turn in row["prompt"] + row["completion"]] == ["user", "assistant"]
        assert len(row["negative_images"]) == (0 if negative == "none" else len(row["images"]))
        assert bool(row["negative_volume"]) == (negative in ("heter", "hard"))
        assert digest(row) == digest(twin)


@pytest.mark.slow
@pytest.mark.parametrize("negative", ["heter", "hard"])
@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_the_partner_answers_the_question_otherwise(tree, negative, sampling):
    rows = load(tree, "vqa", negative, partner_sampling=sampling)
    kinds = Counter()
    for row in rows:
        own, partner = labels_of(tree, row["volume"]), labels_of(tree, row["negative_volume"])
        assert row["label_distance"] == sum(own[label] != partner[label] for label in LABELS) > 0
        kinds[row["question_type"]] += 1
        if row["question_type"] == "presence":
            assert own[row["label"]] != partner[row["label"]]
            assert row["completion"][0]["content"] == ("Yes" if own[row["label"]] else "No")
        elif row["question_type"] == "abnormalities":
            assert own != partner
        else:  # both say where, and not the same
            assert own[row["label"]] == partner[row["label"]] == 1
    assert kinds["presence"] and kinds["side"] and kinds["location"]


def test_questions_of_one_volume_have_partners_and_noise_of_their_own(tree):
    heter, gauss = (load(tree, "vqa", negative)[:4] for negative in ("heter", "gauss"))
    assert len(set(heter["volume"])) == 1 and len(set(heter["negative_volume"])) > 1
    assert len({b"".join(i.tobytes() for i in images) for images in gauss["negative_images"]}) == 4


def test_the_partner_of_a_choice_has_another_text(tree):
    rows = load(tree, "matching", options="keywords")
    own = {row["volume"]: row["options"][row["correct"]] for row in rows}
    assert all(own[row["negative_volume"]] != own[row["volume"]] for row in rows)


@pytest.mark.parametrize("task", ["vqa", "matching"])
@pytest.mark.slow
def test_epochs_ask_anew_in_training_and_the_same_of_held_out_rows(tree, task):
    for split in ("train", "test"):
        rows = load(tree, task, "none", split=split)
        indexed = rows["prompt"][:]
        epochs = []
        for epoch in (0, 1, 0, 1):
            reader_of(rows).set_epoch(epoch)
            epochs.append([without_images(row) for row in rows])
        assert epochs[0] == epochs[2] and epochs[1] == epochs[3]
        assert [row["prompt"] for row in epochs[0]] == indexed
        changed = sum(a["prompt"] != b["prompt"] for a, b in zip(*epochs[:2], strict=True))
        assert changed > len(rows) / 2 if split == "train" else changed == 0
        assert [row["volume"] for row in epochs[0]] == [row["volume"] for row in epochs[1]]
        streamed = load(tree, task, "none", split=split, streaming=True).shuffle(seed=1, buffer_size=1)
        prompts = []
        for epoch in (0, 1):
            streamed.set_epoch(epoch)
            prompts.append({(row["volume"], row["prompt"][0]["content"]) for row in streamed})
        assert (prompts[0] == prompts[1]) == (split == "test")


@pytest.mark.slow
def test_a_text_that_map_changes_stays_beside_the_texts_of_its_question(tree, caplog):
    tell_stored.cache_clear()
    rows = load(tree, "vqa", "none")
    first = [without_images(row) for row in rows]
    changed = rows.map(
        lambda row: {"prompt": [{"role": "user", "content": row["prompt"][0]["content"] + " Be brief."}]}
    )
    looked_at = rows.map(lambda row: {"asked": row["prompt"][0]["content"], "kind": row["question_type"]})
    reader_of(rows).set_epoch(3)
    for row, own, twin, anew in zip(changed, first, looked_at, rows, strict=True):
        assert row["prompt"][0]["content"] == own["prompt"][0]["content"] + " Be brief."
        assert all(row[name] == own[name] for name in own if name != "prompt")
        assert without_images(twin).items() >= without_images(anew).items()
    reader_of(rows).set_epoch(0)
    assert "'prompt'" in caplog.text and "with_transform" in caplog.text


@pytest.mark.parametrize("task", ["vqa", "matching"])
@pytest.mark.slow
def test_workers_and_a_restart_change_nothing(tree, task):
    def stream():
        dataset = load(tree, task, "gauss", streaming=True).shuffle(seed=5, buffer_size=1)
        dataset.set_epoch(1)
        return dataset

    dataset, rows = stream(), []
    for i, row in enumerate(dataset):
        rows.append(digest(row))
        if i == 6:
            state = dataset.state_dict()
    assert len(set(rows)) == len(rows)
    again = stream()
    again.load_state_dict(state)
    assert [digest(row) for row in again] == rows[7:]
    loader = DataLoader(stream(), batch_size=None, num_workers=3)
    assert {digest(row) for row in loader} == set(rows)


@pytest.mark.slow
def test_chinese_and_the_patient_ahead_of_the_question(tree):
    for task in ("vqa", "matching"):
        row = load(tree, task, "none", prompt="zh", prompt_metadata=True)[0]
        assert row["prompt"][0]["content"].startswith("年龄：36 岁，性别：女。\n")
    assert {row["completion"][0]["content"] for row in load(tree, "vqa", "none", prompt="zh")} >= {"是", "否"}
    prompt = load(tree, "matching", "none", prompt_metadata=True)[0]["prompt"][0]["content"]
    assert prompt.startswith("Age: 36, Sex: F.\nWhich of these texts")


@pytest.mark.slow_but_first
@pytest.mark.parametrize("options", ["full", "impression", "keywords"])
def test_options_are_what_was_asked_for(tree, options):
    rows = load(tree, "matching", "none", split="test", options=options, num_false=2)
    reports = load(tree, "report", "none", split="test").with_format(None)
    reports = {row["volume"]: row["completion"][0]["content"] for row in reports}
    assert len(rows) == (15 if options == "impression" else 16)  # scan 0 has no impression
    for row in rows:
        text, report = row["options"][row["correct"]], reports[row["volume"]]
        assert len(row["options"]) == 3 and row["completion"][0]["content"] == "ABC"[row["correct"]]
        if options == "keywords":
            assert text == ", ".join(name for name, there in zip(LABELS, label_report(report), strict=True) if there)
        else:
            assert text == (report if options == "full" else report.split("Impression: ")[1])


def test_a_dialogue_is_turns_that_end_with_the_question_and_examples_are_in_the_first(tree):
    rows = load(tree, "vqa", "none", steps=True, num_shots=1, question_types=("side",), prompt_metadata=True)
    row = next(iter(rows))
    assert [turn["role"] for turn in row["prompt"]] == ["user", "assistant", "user"]
    first, answer, question = (turn["content"] for turn in row["prompt"])
    assert first.startswith("Age: ") and "Examples from other patients" in first and "This scan: " in first
    assert answer == "Yes" and question.endswith("Answer right, left or both.")
    settings = row_settings(reader_of(rows))
    assert settings["steps"] is True and settings["num_shots"] == 1


@pytest.mark.slow
def test_tasks_can_be_mixed(tree):
    streams = [load(tree, task, "gauss", streaming=True) for task in ("report", "vqa", "matching")]
    mixed = list(interleave_datasets(streams, probabilities=[0.4, 0.3, 0.3], seed=0).take(20))
    kinds = Counter(bool(row.get("options")) + 2 * bool(row.get("question_type")) for row in mixed)
    assert len(kinds) == 3 and all(row["images"] and row["completion"] for row in mixed)


def error_of(tree, **options) -> str:
    with pytest.raises((ValueError, DatasetGenerationError)) as caught:
        load(tree, **options)
    return f"{caught.value} {caught.value.__cause__}"


def test_bad_options_are_refused_with_the_choices(tree):
    assert "'report', 'vqa', 'matching'" in error_of(tree, task="captioning")
    assert "'full', 'impression', 'keywords'" in error_of(tree, task="matching", options="summary")
    assert "'random', 'hard'" in error_of(tree, task="matching", difficulty="easy")
    assert "'presence', 'side'" in error_of(tree, task="vqa", question_types=("shape",))
    assert "num_false=0: choose a whole number, 1 to 9" in error_of(tree, task="matching", num_false=0)
    assert "questions_per_volume=2.5" in error_of(tree, task="vqa", questions_per_volume=2.5)
    assert "steps=True has no effect" in error_of(tree, task="vqa", steps=True, question_types=("presence",))
    assert "num_shots=17" in error_of(tree, task="vqa", num_shots=17)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("options", [{"task": "errors"}, {"task": "matching", "options": "keywords"}])
def test_a_task_that_reads_findings_from_reports_refuses_other_languages(tmp_path, options, caplog):
    write_tree(tmp_path)
    for file in tmp_path.glob("dataset/radiology_text_reports/*.csv"):
        german = [f"Kein Pleuraerguss. Rundherd im rechten Oberlappen, {size} mm." for size in range(12)]
        pd.read_csv(file).assign(Findings_EN=german, Impressions_EN="Kein Erguss.").to_csv(file, index=False)
    with pytest.raises(ValueError, match="reports.* seems? to be in German"):
        load_dataset("ct_rate_pairs", data_dir=str(tmp_path), validation_size=0.0, spacing=SPACING, **options)
    load_dataset("ct_rate_pairs", data_dir=str(tmp_path), validation_size=0.0, spacing=SPACING, task="vqa")
    assert "seem to be in German. Sides and lobes are read from English and Chinese only" in caplog.text


def test_a_cohort_too_small_to_choose_among_says_so(tmp_path):
    small = write_tree(tmp_path, scans=3)
    assert "smaller `num_false`" in error_of(small, task="matching")
    assert len(load(small, "matching", "none", num_false=2)) == 3


@pytest.mark.slow
def test_a_bad_volume_has_no_slices_and_is_no_partner(tmp_path):
    own = write_tree(tmp_path)
    bad = next(own.glob("dataset/train_fixed/*/*/train_5_a_1.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:500])
    for task in ("vqa", "matching"):
        rows = load(own, task, "heter", on_error="skip", min_label_distance=1)
        unreadable = {row["volume"] for row in rows if not is_readable(row)}
        assert unreadable == {"train_5_a_1.nii.gz"} != {row["negative_volume"] for row in rows}
        assert "train_5_a_1.nii.gz" not in {row["negative_volume"] for row in ReadableRows(rows)}
        assert len(list(ReadableRows(rows))) == len(rows)
