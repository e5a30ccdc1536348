"""What prompts tell of a scan comes from its record, and in training alone some of it is left out, reproducibly."""

import json
import pickle
import shutil

import pandas as pd
import pytest
from datasets import interleave_datasets, load_dataset
from datasets.distributed import split_dataset_by_node
from helpers.own_scans import own_rows, write_table
from helpers.tree import SPACING, write_tree
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ct_rate_pairs import LABELS
from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.prompt_lines import METADATA
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.sources import open_source


ASKED = "Write the findings and the impression of this chest CT."
DROPS = {"prompt_metadata": METADATA, "prompt_dropout": 0.4}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A tree whose every scan has a record of its own; the first has nothing but its age and sex."""
    root = write_tree(tmp_path_factory.mktemp("recorded"))
    for file in sorted(root.glob("dataset/radiology_text_reports/*.csv")):
        table = pd.read_csv(file)
        table["ClinicalInformation_EN"] = ["Not given.", *(f"Operated, case {i}." for i in range(1, len(table)))]
        table["Technique_EN"] = [None, *["Without contrast."] * (len(table) - 1)]
        table.to_csv(file, index=False)
    for file in sorted(root.glob("dataset/metadata/*_metadata.csv")):
        table = pd.read_csv(file)
        table["Manufacturer"], table["ManufacturerModelName"] = "Maker", [None, *["Model"] * (len(table) - 1)]
        table.loc[0, "Manufacturer"] = None
        table.to_csv(file, index=False)
    return root


def load(tree, split="train", **options):
    options = {"spacing": SPACING, "validation_size": 0.0, **options}
    return load_dataset("ct_rate_pairs", data_dir=str(tree), split=split, **options)


def prompt_of(row) -> str:
    return row["prompt"][0]["content"]


def prompts_of(rows) -> dict[str, str]:
    return {row["volume"]: prompt_of(row) for row in rows}


def make_reader(tree, **options) -> RowReader:
    options = {"data_dir": str(tree), "spacing": SPACING, "validation_size": 0.3, **options}
    return RowReader(CTRatePairsConfig(**options), open_source(str(tree), spacing=SPACING))


@pytest.mark.slow
def test_each_row_has_its_record_and_each_prompt_tells_what_was_asked_for(recorded):
    rows = load(recorded, "test", prompt_metadata=METADATA)
    first, second = rows.with_format(None)["prompt"][:2]
    assert first[0]["content"] == f"Age: 36, Sex: F.\n{ASKED}"
    assert second[0]["content"].splitlines() == [
        "Age: 36, Sex: F.",
        "Clinical information: Operated, case 1.",
        "Technique: Without contrast.",
        "Contrast: none.",
        "Earlier surgery: mentioned.",
        "Device: Maker Model.",
        ASKED,
    ]
    known = rows.with_format(None).select_columns(["clinical_information", "technique", "device"])
    assert known[0] == {"clinical_information": None, "technique": None, "device": None}
    assert known[1]["technique"] == "Without contrast." and known[1]["device"] == "Maker Model"
    few = load(recorded, "test", prompt_metadata=["device", "sex"], prompt="zh")
    assert prompt_of(few[1]).splitlines()[:2] == ["性别：女。", "设备：Maker Model。"]
    assert prompts_of(load(recorded, "test", prompt_metadata=["sex", "age"])) == prompts_of(
        load(recorded, "test", prompt_metadata=True)
    )
    assert prompt_of(load(recorded, "test")[1]) == ASKED


def test_a_report_that_tells_of_surgery_is_not_asked(recorded, own_tree):
    file = own_tree / "dataset/radiology_text_reports/train_reports.csv"
    table = pd.read_csv(file)
    table["Findings_EN"] = "Operated: right upper lobectomy with contrast."
    table.to_csv(file, index=False)
    told = prompt_of(load(own_tree, prompt_metadata=("surgery", "contrast"))[0])
    assert told == f"Contrast: none.\nEarlier surgery: not mentioned.\n{ASKED}"


@pytest.mark.slow
def test_other_splits_and_other_draws_are_as_without_dropout(recorded):
    whole, drops = (make_reader(recorded, **options) for options in ({"prompt_metadata": METADATA}, DROPS))
    for split in ("validation", "test"):
        for epoch in range(3):
            rows = range(len(whole.tables[split]))
            told = [[reader.texts(split, i, 0, epoch) for i in rows] for reader in (whole, drops)]
            assert told[0] == told[1] and told[0]
    heter = [load(recorded, negative="heter", **options) for options in ({}, DROPS)]
    assert heter[0]["negative_volume"][:] == heter[1]["negative_volume"][:]


@pytest.fixture(scope="module")
def readers(recorded):
    """A reader, its copy as in a spawned worker, and one whose prompts tell less."""
    reader = make_reader(recorded, **DROPS)
    few = make_reader(recorded, prompt_metadata=("device",), prompt_dropout=DROPS["prompt_dropout"])
    return reader, pickle.loads(pickle.dumps(reader)), few


@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 2**62), order=st.permutations(range(6)))
def test_what_is_left_out_depends_on_seed_epoch_and_volume_alone(readers, seed, epoch, order):
    """So it is the same for any number of workers and ranks, and after a restart."""
    reader, other, few = readers
    for one in readers:
        one.config.seed = seed
    other.set_epoch(epoch % 100)

    def prompts(of, rows) -> dict[int, str]:
        """The prompts of some rows, read in their order."""
        return {i: prompt_of(of.texts("train", i, 0, epoch)) for i in rows}

    told, less = prompts(reader, range(6)), prompts(few, order)
    assert prompts(other, order) == told
    assert all(("Device: Maker Model." in told[i]) == ("Device: Maker Model." in less[i]) for i in order)


@pytest.mark.slow
def test_epochs_draw_anew_in_streams_maps_workers_and_ranks(recorded):
    rows, streamed = (load(recorded, streaming=streaming, **DROPS) for streaming in (False, True))
    assert prompts_of(rows) == prompts_of(streamed)
    epochs = []
    for epoch in (0, 1, 2, 1):
        reader_of(rows).set_epoch(epoch)
        epochs.append(prompts_of(rows))
        assert prompts_of(DataLoader(rows, batch_size=None, num_workers=2)) == epochs[-1]
    reader_of(rows).set_epoch(0)
    assert epochs[1] == epochs[3] and len({tuple(sorted(epoch.items())) for epoch in epochs}) == 3
    assert len({prompt for epoch in epochs for prompt in epoch.values()}) > 5

    def stream():
        dataset = load(recorded, streaming=True, **DROPS).shuffle(seed=5, buffer_size=1)
        dataset.set_epoch(1)
        return dataset

    whole = prompts_of(stream())
    assert whole != epochs[0]
    assert prompts_of(DataLoader(stream(), batch_size=None, num_workers=3)) == whole
    parts = []
    for rank in range(2):
        part = split_dataset_by_node(stream(), rank, 2, strategy="shards")
        part.set_epoch(1)
        parts.append(prompts_of(part))
    assert parts[0] | parts[1] == whole
    dataset, taken = stream(), {}
    for row in dataset:
        taken |= prompts_of([row])
        if len(taken) == 5:
            break
    again = stream()
    again.load_state_dict(dataset.state_dict())
    assert taken | prompts_of(again) == whole
    both = interleave_datasets([load(recorded, **DROPS, streaming=True, task=task) for task in ("report", "vqa")])
    assert all(prompt_of(row) for row in both)


@pytest.mark.slow
def test_findings_are_cues_in_training_prompts_of_reports_alone(recorded):
    options = {"prompt_findings": True, "prompt_dropout": 0.5}
    rows, held_out = (load(recorded, split, **options) for split in ("train", "test"))
    cues = [prompt_of(row).splitlines()[:-1] for row in rows]
    assert [] in cues and any(cues)
    for row, cue in zip(rows, cues, strict=True):
        names = "; ".join(label for label, there in zip(LABELS, row["labels"], strict=True) if there)
        assert cue in ([], [f"Abnormalities: {names or 'none'}."])
    assert set(prompts_of(held_out).values()) == {ASKED}
    vqa = load(recorded, task="vqa", **options)
    assert not any("Abnormalities:" in prompt_of(row) for row in vqa)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prompt_dropout": 0.3}, "prompt_dropout=0.3 has no effect"),
        ({"prompt_metadata": True, "prompt_dropout": 1.0}, "prompt_dropout 1.0: choose 0 or more, and below 1"),
        ({"prompt_findings": True}, "needs prompt_dropout"),
        ({"prompt_findings": True, "prompt_dropout": 0.5, "findings_line": "names"}, "exclude each other"),
        ({"prompt_metadata": ["ages"]}, "prompt_metadata has 'ages'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        CTRatePairsConfig(**options)


@pytest.mark.slow
def test_what_no_scan_has_is_refused_with_the_remedy(tree, own_tree, tmp_path):
    with pytest.raises(ValueError, match="asks for 'device', which .* tells of none of its scans. Leave 'device' out"):
        load(tree, prompt_metadata=("device",))
    file = own_tree / "dataset/radiology_text_reports/train_reports.csv"
    pd.read_csv(file).drop(columns="Technique_EN").to_csv(file, index=False)
    assert "Technique: Non-contrast." in prompt_of(load(own_tree, "test", prompt_metadata=("technique",))[0])


@pytest.mark.slow
def test_a_prepared_copy_keeps_the_record_and_one_of_an_earlier_release_is_refused(tree, copy, tmp_path):
    options = {"prompt_metadata": ("clinical_information", "contrast")}
    assert prompts_of(load(copy, **options)) == prompts_of(load(tree, **options))
    old = shutil.copytree(copy, tmp_path / "old")
    provenance = json.loads((old / "prepared.json").read_text())
    del provenance["metadata"]
    (old / "prepared.json").write_text(json.dumps(provenance))
    assert len(load(old)) == len(load(copy))
    with pytest.raises(ValueError, match="a release that kept no 'contrast' or 'technique'.*Prepare the copy again"):
        load(old, prompt_metadata=("contrast",))


@pytest.mark.slow
def test_a_table_of_ones_own_tells_what_its_columns_say(tmp_path):
    rows = [row | {"contrast": "90 ml, arterial"} for row in own_rows(tmp_path, 6)]
    table = write_table(tmp_path / "cohort.csv", rows)
    prompts = list(prompts_of(load(table, prompt_metadata=("clinical_information", "contrast", "surgery"))).values())
    assert prompts[0].splitlines()[:-1] == ["Contrast: 90 ml, arterial."]
    assert prompts[1].splitlines()[:-1] == [
        "Clinical information: Cough.",
        "Contrast: 90 ml, arterial.",
        "Earlier surgery: not mentioned.",
    ]
    with pytest.raises(ValueError, match="Give the table a column 'device'"):
        load(table, prompt_metadata=("device",))
