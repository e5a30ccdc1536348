"""What is told of the patient, and a reader's findings, reach the prompt of a model that was trained with them."""

import json
import shutil

import pytest
from helpers.tiny_reader import SETTINGS, save_nifti

from ct_rate_pairs.hub.report import main
from ct_rate_pairs.hub.reporting import reporter as module
from ct_rate_pairs.hub.reporting.files import format_report, report_key
from ct_rate_pairs.hub.reporting.patient import given_metadata
from ct_rate_pairs.hub.reporting.reporter import Reporter


NAMES = ["age", "sex", "clinical_information", "contrast"]
TOLD = {"age": 63, "sex": "F", "clinical_information": "Cough of JANE DOE.", "technique": "After IV contrast."}
LINES = ["Age: 63, Sex: F.", "Clinical information: Cough of JANE DOE.", "Contrast: given."]


@pytest.fixture
def asked(monkeypatch):
    """The prompts that models were asked with, and what stood ahead of their reports."""
    prompts, openings, write = [], [], module.write_batch

    def write_batch(model, collator, rows, **options):
        prompts.extend(row["prompt"][0]["content"] for row in rows)
        openings.append(options.get("openings"))
        return write(model, collator, rows, **options)

    monkeypatch.setattr(module, "write_batch", write_batch)
    return prompts, openings


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return save_nifti(tmp_path_factory.mktemp("scan") / "scan.nii.gz", (1, 0, 1))


def make_reporter(reader, **settings) -> Reporter:
    return Reporter(*reader, SETTINGS | settings)


@pytest.mark.slow
def test_what_is_told_stands_in_the_prompt_and_only_its_names_in_the_report(reader, scan, asked):
    reporter = make_reporter(reader, prompt_metadata=NAMES)
    report = reporter.report(scan, metadata=TOLD, max_new_tokens=4)
    assert asked[0][0].splitlines() == [*LINES, "Write the findings of this chest CT."]
    assert report.prompt_metadata == NAMES and "training told" not in " ".join(report.told)
    written = json.dumps(report.to_dict() | report_key(scan, None, 4, metadata=TOLD)) + format_report(report)
    assert "JANE" not in written and "63" not in format_report(report)
    assert "Its prompt told the model age, sex, clinical information, contrast." in format_report(report)


@pytest.mark.slow
@pytest.mark.parametrize(("dropout", "told"), [(0.0, True), (0.3, False)])
def test_what_is_not_given_is_told_unless_the_model_has_learnt_to_do_without(reader, scan, asked, dropout, told):
    reporter = make_reporter(reader, prompt_metadata=NAMES, prompt_dropout=dropout)
    report = reporter.report(scan, metadata={"age": 63}, max_new_tokens=4)
    assert asked[0][0].splitlines()[0] == "Age: 63." and report.prompt_metadata == ["age"]
    assert ("told sex, clinical_information, contrast" in " ".join(report.told)) == told


@pytest.mark.slow
def test_findings_are_named_in_the_prompt_of_a_model_that_was_trained_so(reader, scan, asked):
    reporter = make_reporter(reader, prompt_findings=True, prompt_dropout=0.5)
    report = reporter.report(scan, findings=["Cardiomegaly"], max_new_tokens=40)
    assert asked[0][0].splitlines()[0] == "Abnormalities: Cardiomegaly." and asked[1] == [None]
    assert (report.line, report.line_set_by) == ("Abnormalities: Cardiomegaly.", "given findings")
    assert any("does not state what its findings line does: Cardiomegaly" in told for told in report.told)
    own = reporter.report(scan, max_new_tokens=4)
    assert asked[0][1] == "Write the findings of this chest CT." and own.line is None and own.line_set_by is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"device": "x y"},
            "'device', which has no effect: .* tells age, sex, clinical_information, contrast, techniq",
        ),
        ({"age": "63"}, "age='63': give whole years, 0 to 122"),
        ({"age": 140}, "age=140: give whole years"),
        ({"age": True}, "age=True: give whole years"),
        ({"sex": "female"}, "sex='female': give 'M' or 'F'"),
        ({"clinical_information": "Not given."}, "clinical_information='Not given.': give a text"),
        ({"clinical_information": 3}, "clinical_information=3: give a text"),
    ],
)
def test_values_that_are_none_or_have_no_effect_are_refused(values, told):
    with pytest.raises(ValueError, match=told):
        given_metadata(values, NAMES)


def test_a_model_whose_prompts_tell_nothing_is_told_nothing():
    with pytest.raises(ValueError, match="the prompt of this model tells nothing of the patient"):
        given_metadata({"age": 3}, ())


@pytest.mark.parametrize("words", [["age"], ["age=3", "age=4"]])
def test_words_that_are_no_values_end_the_command(tmp_path, words):
    for name in ("scan.nii", "config.json"):
        (tmp_path / name).write_text("{}")
    command = [
        str(tmp_path / "scan.nii"),
        "--model_name_or_path",
        str(tmp_path),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    with pytest.raises(ValueError, match="give each name once, as NAME=VALUE"):
        main([*command, "--metadata", *words])


@pytest.mark.slow
def test_the_command_passes_the_values_on(reader_dir, tmp_path, asked):
    model = shutil.copytree(reader_dir, tmp_path / "model")
    (model / "row_settings.json").write_text(json.dumps(SETTINGS | {"prompt_metadata": NAMES}))
    place = save_nifti(tmp_path / "scan.nii.gz", (1, 0, 1))
    words = ["age=63", "sex=F", "clinical_information=Cough of JANE DOE.", "technique=After IV contrast."]
    out = tmp_path / "out"
    main([str(place), "--model_name_or_path", str(model), "--output_dir", str(out), "--max_new_tokens", "4",
          "--metadata", *words])  # fmt: skip
    assert asked[0][0].splitlines()[:-1] == LINES
    told = json.loads((out / "report.json").read_text())
    assert told["metadata_given"] == sorted(TOLD) and told["prompt_metadata"] == NAMES
    assert "JANE" not in (out / "report.json").read_text() + (out / "report.md").read_text()
