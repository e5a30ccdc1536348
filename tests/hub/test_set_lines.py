"""A findings line gives probabilities. An operating point or a reader's findings set it, and the report follows."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_reader import INDICES, save_nifti, stating, write_report

from ct_rate_pairs.eval.scoring.operating_points import thresholds_at
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.publish import publish
from ct_rate_pairs.hub.references import keep_reference_hashes
from ct_rate_pairs.hub.report import main
from ct_rate_pairs.hub.reporting.confidence import calibration_of_lines, load_confidence
from ct_rate_pairs.hub.reporting.files import format_report, marked_text
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.hub.reporting.text_findings import disagreements
from ct_rate_pairs.reports.findings_line import write_line
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer.generation import Written


pytestmark = pytest.mark.slow  # the fixture trains a model of its own

SHOWN = (1, 0, 1)
FEW = 0.05  # an operating point: a sensitivity


@pytest.fixture(scope="module")
def reporter(line_reader_dir):
    return load_reporter(line_reader_dir, device="cpu")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return save_nifti(tmp_path_factory.mktemp("scan") / "scan.nii.gz", SHOWN)


@pytest.fixture
def measured_dir(line_reader_dir, tmp_path):
    """The model as a run that was measured at an operating point, which states nearly nothing."""
    folder = shutil.copytree(line_reader_dir, tmp_path / "measured")
    confidence = load_confidence(str(folder))
    replace(confidence, line=replace(confidence.line, operating_point=FEW)).save(folder)
    return folder


def line_of(shown):
    return write_line(stating(shown), "names")


def test_both_ways_are_measured_and_the_better_one_is_used(line_reader_dir):
    confidence = load_confidence(str(line_reader_dir))
    ways = confidence.measured["ways"]
    assert set(ways) == {"line", "sentences"} and confidence.measured["unknown"] == 0
    assert confidence.way == min(ways, key=lambda way: ways[way]["brier"])
    assert ways["line"]["auroc"] > 0.8 and ways["line"]["brier_ratio"] < 1
    assert all(way["seconds"] > 0 for way in ways.values())
    assert ways[confidence.way]["brier"] == pytest.approx(confidence.measured["calibrated"]["brier"])
    held_out = confidence.line.held_out
    assert all(len(p) == 16 and p == sorted(p) for p in held_out.values())
    assert len({tuple(thresholds_at(s, held_out)) for s in (0.3, 0.99)}) == 2


def test_a_confidence_of_an_earlier_release_is_one_of_sentences(line_reader_dir, tmp_path):
    content = json.loads((line_reader_dir / "confidence.json").read_text())
    old = {name: content[name] for name in ("openings", "temperature", "bias", "measured")}
    for name in ("ways", "unknown"):
        del old["measured"][name]
    (tmp_path / "confidence.json").write_text(json.dumps(old))
    confidence = load_confidence(str(tmp_path))
    assert (confidence.way, confidence.line) == ("sentences", None)
    assert calibration_of_lines(str(tmp_path)) == (None, None)
    assert calibration_of_lines(str(tmp_path), operating_point="none") == (None, None)
    with pytest.raises(ValueError, match="has no calibration of its findings lines"):
        calibration_of_lines(str(tmp_path), operating_point="f1")


def test_a_report_is_written_for_the_findings_that_a_reader_gives(reporter, scan):
    for shown, names in (((0, 1, 0), ["Cardiomegaly"]), ((0, 0, 0), [])):
        report = reporter.report(scan, findings=names)
        assert (report.line, report.text, report.line_set_by) == (
            line_of(shown),
            write_report(shown),
            "given findings",
        )
        assert report.told == []
    own = reporter.report(scan)
    assert (own.line, own.text, own.line_set_by) == (line_of(SHOWN), write_report(SHOWN), None)


def test_a_reader_names_sides_to_a_model_whose_line_has_them(reporter, scan):
    own = reporter.settings | {"findings_line": "sides"}
    sided = Reporter(reporter.model, reporter.collator, row_settings=own, confidence=reporter.confidence)
    report = sided.report(scan, findings=["Lung nodule left", "Cardiomegaly"], max_new_tokens=20)
    nodule = LABELS.index("Lung nodule")
    labels = [int(label in ("Lung nodule", "Cardiomegaly")) for label in LABELS]
    assert report.line == write_line(labels, "sides", sides={nodule: "left"})
    with pytest.raises(ValueError, match="names a side, and this model was not trained to read one"):
        reporter.report(scan, findings=["Lung nodule left"])


def test_a_side_that_the_text_does_not_follow_is_told():
    labels = [int(label == "Lung nodule") for label in LABELS]
    line = write_line(labels, "sides", sides={LABELS.index("Lung nodule"): "left"})
    texts = ("A nodule is observed in the left lung.", "A nodule is observed in the right lung.")
    same, other = (disagreements(line, Written(text, False)) for text in texts)
    assert same == [] and other == ["The text has another side than its findings line: Lung nodule."]


def test_what_a_reader_gives_is_no_statement_of_the_model_and_may_be_doubtful(reporter, scan):
    report = reporter.report(scan, findings=["Cardiomegaly"])
    heart = report.findings[INDICES[1]]
    assert heart.stated and heart.confidence < 0.4 and heart.doubtful
    assert report.findings[INDICES[0]].confidence > 0.6  # shown, and not given
    markdown = format_report(report)
    assert "(doubtful)" in markdown and "> - The report was written below a findings line" in markdown
    (sentence,) = [sentence for sentence in report.sentences if sentence.doubtful]
    assert report.text[sentence.start : sentence.end] == heart.sentence and sentence.states == ["Cardiomegaly"]
    assert f"{heart.sentence} **[doubtful: Cardiomegaly {heart.percent}]**" in markdown  # in the text itself
    assert re.sub(r" \*\*\[.*?\]\*\*", "", marked_text(report)) == report.text  # nothing else changes
    assert report.to_dict()["sentences"][report.sentences.index(sentence)]["doubtful"] == ["Cardiomegaly"]
    own = reporter.report(scan)
    assert not any(finding.doubtful for finding in own.findings) and "(doubtful)" not in format_report(own)


def test_whatever_set_the_line_a_stated_finding_is_doubtful_if_its_confidence_is_below_a_half(reporter, scan):
    for point in ("none", "f1", 0.95, 0.999):
        report = reporter.report(scan, operating_point=point)
        for finding in report.findings:
            assert finding.doubtful == (finding.stated and finding.confidence < 0.5), (point, finding.label)
    doubtful = [finding for finding in report.findings if finding.doubtful]
    assert doubtful  # at a sensitivity of 0.999, even improbable findings are stated
    markdown = format_report(report)
    for finding in doubtful:
        assert f"| {finding.label} | {finding.percent} (doubtful) |" in re.sub(" +", " ", markdown)
    assert "Doubtful: stated, although its confidence is below 50%." in markdown


def test_an_operating_point_decides_the_line_and_the_text_follows(reporter, scan):
    few, many = (reporter.report(scan, operating_point=point) for point in (0.05, 0.999))
    stated = [sum(finding.stated for finding in report.findings) for report in (few, many)]
    assert stated[0] <= stated[1] and few.line_set_by == "operating point 0.05"
    f1 = reporter.report(scan, operating_point="f1")
    point = reporter.confidence.operating_point("f1")
    decided = np.array([finding.confidence for finding in f1.findings]) >= point.thresholds
    assert f1.line == write_line(decided.astype(int).tolist(), "names")
    assert f1.text == write_report(tuple(decided[INDICES].astype(int).tolist()))


def test_a_model_that_was_published_reports_at_the_operating_point_at_which_it_was_measured(hub, measured_dir, scan):
    (measured_dir / "README.md").write_text("---\ntags: [phantom]\n---\n# A reader\n")
    keep_reference_hashes(measured_dir, ["A nodule in the left lung."], phantom=True)
    publish(measured_dir, "alice/reader", dtype="float32")
    reporter = load_reporter("alice/reader", device="cpu")
    point, default = reporter.confidence.operating_point(FEW), reporter.report(scan)
    decided = np.array([finding.confidence for finding in default.findings]) >= point.thresholds
    assert default.line == write_line(decided.astype(int).tolist(), "names") != line_of(SHOWN)
    assert default.line_set_by == "operating point 0.05" and "operating point 0.05" in format_report(default)
    own = reporter.report(scan, operating_point="none")
    assert (own.line, own.line_set_by) == (line_of(SHOWN), None)
    given = reporter.report(scan, findings=["Cardiomegaly"])
    assert (given.line, given.line_set_by) == (line_of((0, 1, 0)), "given findings")
    assert reporter.deciding_point("f1") == "f1"


def test_an_evaluation_takes_the_operating_point_of_the_training_unless_another_is_given(measured_dir):
    line, point = calibration_of_lines(str(measured_dir))
    assert point.name == "0.05" and (point.thresholds == line.at(FEW).thresholds).all()
    assert calibration_of_lines(str(measured_dir), operating_point="f1")[1].name == "f1"
    assert calibration_of_lines(str(measured_dir), operating_point="none")[1] is None


def test_without_an_operating_point_in_its_file_the_model_decides(measured_dir):
    content = json.loads((measured_dir / "confidence.json").read_text())
    content["line"]["operating_point"] = "most"
    (measured_dir / "confidence.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="operating_point"):
        load_confidence(str(measured_dir))
    del content["line"]["operating_point"]  # as in files of earlier releases
    (measured_dir / "confidence.json").write_text(json.dumps(content))
    line, point = calibration_of_lines(str(measured_dir))
    assert line is not None and point is None


def test_the_command_reports_at_the_operating_point_of_the_model(measured_dir, scan, tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    shutil.copy(scan, tmp_path / "scans")
    model = ("--model_name_or_path", str(measured_dir), "--device", "cpu", "--max_new_tokens", "60")
    batch = (str(tmp_path / "scans"), *model, "--output_dir", str(tmp_path / "many"))
    for options, again in (((), False), (("--operating_point", "0.05"), True)):  # by name, it is the same report
        assert main([*batch, *options]) == 0
        assert ("finished before" in capsys.readouterr().out) == again
    told = json.loads((tmp_path / "many" / "scan-001" / "report.json").read_text())
    assert (told["operating_point"], told["line_set_by"]) == ("0.05", "operating point 0.05")
    for options, decided in (((), "0.05"), (("--operating_point", "none"), "none"), (("--findings", "none"), None)):
        assert main([str(scan), *model, "--output_dir", str(tmp_path / "one"), *options]) == 0
        told = json.loads((tmp_path / "one" / "report.json").read_text())
        assert told["operating_point"] == decided
        by = {"0.05": "operating point 0.05", "none": None, None: "given findings"}
        assert told["line_set_by"] == by[decided]


def test_a_malformed_line_has_no_probabilities_and_sets_nothing(reporter, scan):
    report = reporter.report(scan, operating_point="f1", max_new_tokens=1)
    assert {finding.confidence for finding in report.findings} == {None} and report.line_set_by is None
    told = " ".join(report.told)
    assert "wrote no sound findings line, so no operating point holds" in told and "No confidence is known" in told
    assert "None is known for this scan" in format_report(report)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operating_point": "f1", "findings": []}, "both tell what sets the findings line"),
        ({"operating_point": "none", "findings": []}, "both tell what sets the findings line"),
        ({"findings": ["Cardiomegly"]}, "none of the 18 labels .is Cardiomegaly meant"),
        ({"findings": "Cardiomegaly"}, "give a list of labels"),
        ({"operating_point": 1.2}, "give f1, or a sensitivity"),
    ],
)
def test_what_cannot_set_a_line_is_refused_before_the_scan_is_read(reporter, options, message):
    with pytest.raises(ValueError, match=message):
        reporter.report("no scan.nii.gz", **options)


def test_a_model_without_lines_or_without_their_probabilities_is_not_told_what_to_state(reader_dir, reporter):
    without_lines = load_reporter(reader_dir, device="cpu")
    with pytest.raises(ValueError, match="was not trained to write one"):
        without_lines.report("scan.nii.gz", findings=[])
    with pytest.raises(ValueError, match="has no calibration of its findings lines"):
        without_lines.report("scan.nii.gz", operating_point="f1")
    with pytest.raises(ValueError, match="has no confidence.json"):
        Reporter(reporter.model, reporter.collator).report("scan.nii.gz", operating_point="f1")


def test_the_command_takes_findings_and_a_batch_an_operating_point(line_reader_dir, scan, tmp_path, capsys):
    model = ("--model_name_or_path", str(line_reader_dir), "--device", "cpu", "--max_new_tokens", "60")
    assert main([str(scan), *model, "--output_dir", str(tmp_path / "one"), "--findings", "Cardiomegaly"]) == 0
    told = json.loads((tmp_path / "one" / "report.json").read_text())
    assert told["text"] == write_report((0, 1, 0)) and told["findings_given"] == ["Cardiomegaly"]
    assert "Stated, and doubtful by their confidence: Cardiomegaly." in capsys.readouterr().out
    (tmp_path / "scans").mkdir()
    shutil.copy(scan, tmp_path / "scans")
    batch = (str(tmp_path / "scans"), *model, "--output_dir", str(tmp_path / "many"))
    for point, name, again in (("f1", "scan-001", False), ("f1", "scan-001", True), ("0.99", "scan-002", False)):
        assert main([*batch, "--operating_point", point]) == 0
        assert ("finished before" in capsys.readouterr().out) == again
        assert json.loads((tmp_path / "many" / name / "report.json").read_text())["operating_point"] == point
    with pytest.raises(SystemExit):
        main([*batch, "--findings", "none"])
