"""Reports in the files that the scripts of other models write, each written here as its script writes it."""

import csv
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.eval.predictions.formats import volume_of
from ct_rate_pairs.eval.predictions.store import read_cut, read_lines, read_predictions


REPORTS = {
    "valid_1_a_1.nii.gz": 'Findings: No "effusion".\nImpression: Normal.',
    "valid_2_b_3.nii.gz": "Findings: A nodule, 4 mm, it's new.",
}


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def ct_chat(path):
    """`llava/serve/ctchat_validation_llama.py`: all questions about an image, the answers with their end mark."""
    content = [
        {
            "image": f"{volume.removesuffix('.nii.gz')}.npz",
            "conversations_out": [
                {"question": "<image>\nIs there an effusion?<short_answer>", "answer": "No<|eot_id|>"},
                {"question": "<image>\nWrite the report.<report_generation>", "answer": f"{report}<|eot_id|>"},
            ],
        }
        for volume, report in REPORTS.items()
    ]
    path.write_text(json.dumps(content, indent=4))


def m3d(path):
    """`Bench/eval/eval_caption.py`, on the texts of an export: the VolumeNames."""
    rows = [["<im_patch>Describe it.", volume, report, 0.1, 0.2, 0.3, 0.4] for volume, report in REPORTS.items()]
    write_csv(path, [["Question", "Ground Truth", "pred", "bleu", "rouge1", "meteor", "bert_f1"], *rows])


def radfm(path):
    """`src/test.py`, on the list of an export: batches of one, so lists of one text."""
    rows = [
        [["Please caption it."], [f"Finding: {volume}Impression: "], [report], ["radiocaption_dataset"]]
        for volume, report in REPORTS.items()
    ]
    write_csv(path, [["Question", "Ground Truth", "Pred", "belong_to"], *rows])


def ct2rep(path):
    """The script of docs/other_models.md: the name of the file that CT2Rep's loader gives, and the report."""
    write_csv(path, [[f"{volume.removesuffix('.nii.gz')}.npz", report] for volume, report in REPORTS.items()])


def vlm3d_flat(path):
    named = [{"input_image_name": volume[:-7], "report": report} for volume, report in REPORTS.items()]
    path.write_text(json.dumps(named))


def vlm3d_wrapped(path):
    """`ct_challenges/reportgen_example_docker/predict.py` of forithmus/VLM3D-Dockers at a9459009."""
    named = [{"input_image_name": volume[:-7], "report": report} for volume, report in REPORTS.items()]
    value = {"name": "Generated reports", "version": "1.0", "generated_reports": named}
    path.write_text(json.dumps([{"outputs": [{"value": value}]}]))


def mapping(path):
    path.write_text(json.dumps(REPORTS))


def table(path):
    write_csv(path, [["VolumeName", "generated_report"], *REPORTS.items()])


def lines(path):
    rows = [{"VolumeName": volume, "report": report} for volume, report in REPORTS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


FILES = [
    (ct_chat, "json"),
    (m3d, "csv"),
    (radfm, "csv"),
    (ct2rep, "csv"),
    (vlm3d_flat, "json"),
    (vlm3d_wrapped, "json"),
    (mapping, "json"),
    (table, "csv"),
    (lines, "jsonl"),
]


@pytest.mark.parametrize(("write", "ending"), FILES, ids=lambda value: getattr(value, "__name__", value))
def test_reports_are_joined_by_volume_name(tmp_path, write, ending):
    path = tmp_path / f"theirs.{ending}"
    write(path)
    assert read_predictions(path) == REPORTS
    assert read_cut(path) == {} and read_lines(path) == {}


def test_names_of_files_are_volume_names():
    names = ["valid_1_a_1", "valid_1_a_1.npz", "x/valid_1_a_1.nii_embedded.npz", "valid_1_a_1.mha"]
    assert {volume_of(name) for name in names} == {"valid_1_a_1.nii.gz"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "Question,Ground Truth,pred\nq,A nodule.,r\n", "entry 1 needs texts for the volume"),
        ("a.csv", "VolumeName,score\nvalid_1_a_1,3\n", "entry 1 needs texts for the volume"),
        ("a.csv", b"VolumeName,report\nv,\xff\n", "a.csv is no CSV file in UTF-8"),
        ("a.csv", 'VolumeName,report\nv,"' + "a" * 200_000 + '"\n', "field larger than field limit"),
        ("a.json", '[{"image": "v", "conversations_out": 3}]', "entry 1: conversations_out is no list"),
        (
            "a.json",
            '[{"image": "v", "conversations_out": [{"question": "<report_generation>", "answer": 3}]}]',
            "entry 1 needs texts for the volume",
        ),
        ("a.csv", "VolumeName,report\nv,a\nv.nii.gz,b\n", "entry 2 is a second report for v.nii.gz"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_predictions(tmp_path / name)


def test_a_report_that_only_looks_like_a_list_stays_as_it_is(tmp_path):
    report = "['" + "(" * 10_000 + "']['"
    write_csv(tmp_path / "a.csv", [["VolumeName", "report"], ["v", report + "']"]])
    assert read_predictions(tmp_path / "a.csv") == {"v.nii.gz": report + "']"}


@settings(max_examples=60)
@given(
    st.sampled_from(["csv", "json", "jsonl"]),
    st.one_of(
        st.binary(max_size=60),
        st.text(
            st.sampled_from("[\"',\n]valid_1_a:{}image conversations_out report pred Ground Truth"), max_size=60
        ).map(str.encode),
    ),
)
def test_any_bytes_are_reports_or_refused_by_file(ending, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"theirs.{ending}")
        path.write_bytes(content)
        try:
            found = read_predictions(path)
        except ValueError as error:
            assert f"theirs.{ending}" in str(error)
        else:
            assert all(isinstance(report, str) for report in found.values())
