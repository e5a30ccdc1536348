"""The page in a browser: a scan goes in, its report and findings come out; and what stays of a scan: nothing."""

import os
import re
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from helpers.chromium import needs_chromium, started
from helpers.dicom_series import PLANTED, slices, write
from helpers.tiny_reader import AFFINE, SETTINGS, list_findings, make_voxels, save_nifti, write_report

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.app import page as module
from ct_rate_pairs.hub.app.callbacks import DECIDES, Callbacks, Opened, choices_of, show
from ct_rate_pairs.hub.app.page import make_page, option_fields, serve
from ct_rate_pairs.hub.reporting import reporter as reporter_module
from ct_rate_pairs.hub.reporting.domain import Domain
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.hub.reporting.seen import see
from ct_rate_pairs.reports.labels import LABELS


pytestmark = pytest.mark.slow
SHOWN = (1, 0, 1)


@pytest.fixture(scope="module")
def talker(talker_dir):
    return load_reporter(talker_dir, device="cpu")


@pytest.fixture(scope="module")
def served(talker):
    """The page of a model that reports and answers."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    page = serve(talker, block=False)
    yield page
    page.close()
    os.environ.pop("GRADIO_TEMP_DIR")
    assert before is None


@pytest.fixture(scope="module")
def browser():
    with started() as opened:
        yield opened


@pytest.fixture
def visit(browser, served):
    """The page in a tab of the browser, of the width of a desk's screen; and what the tab has asked for."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(60_000)
    tab.asked = []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(served.local_url)
    tab.get_by_role("button", name="Write the report").wait_for()
    yield tab
    tab.close()


def give(tab, path: Path) -> None:
    tab.locator("input[type=file]").first.set_input_files(path)


def write_the_report(tab) -> None:
    tab.locator("#slice img").wait_for()
    tab.get_by_role("button", name="Write the report").click()
    tab.get_by_text("Time: writing").wait_for()


def report_of(tab) -> str:
    return tab.locator("#report textarea").input_value()


def ticked(tab) -> list[str]:
    return [box.get_attribute("name") for box in tab.locator("#findings input:checked").all()]


@needs_chromium
def test_a_scan_goes_in_and_report_findings_and_slices_come_out(visit, tmp_path):
    with zipfile.ZipFile(tmp_path / "DOE_JANE.zip", "w") as archive:
        for file in write(tmp_path / "series", slices(make_voxels(SHOWN), AFFINE)).iterdir():
            archive.write(file, f"DOE_JANE/{file.name}")
    visit.get_by_text("Options").click()
    give(visit, tmp_path / "DOE_JANE.zip")
    write_the_report(visit)
    assert report_of(visit) == write_report(SHOWN)
    assert ticked(visit) == ["Emphysema", "Pleural effusion"]
    emphysema = visit.locator("#findings label", has_text="Emphysema").inner_text()
    assert re.fullmatch(r"Emphysema · \d\d%( · slices? \d(, \d)*)?", emphysema)
    assert visit.locator("#findings label").count() == 18
    caption, image = visit.locator("#slice figcaption"), visit.locator("#slice img")
    assert caption.inner_text().startswith("Slice 3 of 6: table")
    before = image.get_attribute("src")
    visit.get_by_label("number input for Slice").fill("1")
    visit.get_by_text("Slice 1 of 6").wait_for()
    first = image.get_attribute("src")
    assert first != before
    visit.get_by_label("mediastinum").check()
    visit.wait_for_function("first => document.querySelector('#slice img').src != first", arg=first)
    assert visit.locator("#slice span").all_inner_texts() == ["R", "L"]
    # Nothing of the scan is left, nothing tells whose it is, and no other server knows of the visit.
    uploads = Path(os.environ["GRADIO_TEMP_DIR"])
    assert not [file for file in uploads.rglob("*") if file.is_file() and file.stat().st_size]
    shown = visit.content()
    assert not [word for word in PLANTED if word in shown]
    assert {re.match(r"\w+://[^/:]+|data:|blob:", url)[0] for url in visit.asked} <= {
        "http://127.0.0.1",
        "data:",
        "blob:",
    }


@needs_chromium
def test_ticking_a_finding_writes_the_report_anew(visit, tmp_path):
    give(visit, save_nifti(tmp_path / "scan.nii.gz", SHOWN))
    write_the_report(visit)
    visit.locator("#findings label", has_text="Cardiomegaly").click()
    visit.get_by_text("set by given findings").wait_for()
    assert report_of(visit) == write_report((1, 1, 1)) and "Cardiomegaly" in ticked(visit)
    visit.locator("#findings label", has_text="Emphysema").click()
    visit.wait_for_function(
        "text => document.querySelector('#report textarea').value == text", arg=write_report((0, 1, 1))
    )


@needs_chromium
def test_a_question_is_answered_and_asked_after_the_report(visit, tmp_path):
    give(visit, save_nifti(tmp_path / "scan.nii.gz", SHOWN))
    question = visit.get_by_label("Question", exact=True)
    question.fill("What is abnormal in this scan?")
    question.press("Enter")
    visit.get_by_text(list_findings(SHOWN), exact=True).wait_for()
    assert visit.get_by_text("Answer with a list, or none.").count() == 1 and question.input_value() == ""
    write_the_report(visit)
    visit.get_by_label("Ask after the report").check()
    question.fill("List the abnormalities in this chest CT.")
    question.press("Enter")
    visit.get_by_text("never trained on questions after a report").wait_for()


@needs_chromium
def test_a_phantom_can_be_tried_and_a_scan_reported_on_a_phone(browser, served, tmp_path):
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.set_default_timeout(60_000)
    tab.goto(served.local_url)
    tab.get_by_role("button", name="Phantom 2").click()
    phantom = tab.locator("#slice img").get_attribute("src")
    give(tab, save_nifti(tmp_path / "scan.nii.gz", SHOWN))
    # While the scan is read, the phantom's slice stands there, or none.
    another = "before => ![before, undefined].includes(document.querySelector('#slice img')?.src)"
    tab.wait_for_function(another, arg=phantom)
    write_the_report(tab)
    assert report_of(tab) == write_report(SHOWN)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()


@needs_chromium
def test_a_bad_file_is_told_in_words_and_no_earlier_report_stays(visit, tmp_path):
    give(visit, save_nifti(tmp_path / "scan.nii.gz", SHOWN))
    write_the_report(visit)
    (tmp_path / "DOE_JANE.nii.gz").write_bytes(b"DOE JANE")
    give(visit, tmp_path / "DOE_JANE.nii.gz")
    visit.get_by_text("This scan cannot be read: not a NIfTI file").wait_for()
    visit.locator("#slice img").wait_for(state="detached")
    assert report_of(visit) == "" and visit.get_by_role("button", name="Write the report").is_disabled()
    shown = visit.content()
    assert "DOE" not in shown and str(tmp_path) not in shown and os.environ["GRADIO_TEMP_DIR"] not in shown


@needs_chromium
def test_a_file_that_is_too_large_is_refused(browser, talker, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", "2kb")
    monkeypatch.setattr(module, "EXAMPLES", 0)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    page = serve(talker, block=False)
    tab = browser.new_page()
    tab.goto(page.local_url)
    give(tab, save_nifti(tmp_path / "scan.nii.gz", SHOWN))
    tab.get_by_text("exceed the maximum allowed size of 2.0 Kb").wait_for(timeout=60_000)
    assert tab.locator("#slice img").count() == 0
    tab.close()
    page.close()


def test_the_page_is_for_this_machine_alone_and_tells_nobody_of_it(served):
    import gradio.analytics

    assert served.local_url.startswith("http://127.0.0.1:") and served.share_url is None
    assert not gradio.analytics.analytics_enabled() and not served.analytics_enabled
    assert served.max_file_size == 2 * 2**30 and not served.api_open
    assert {dependency.api_visibility for dependency in served.fns.values()} == {"private"}
    assert {dependency.concurrency_limit for dependency in served.fns.values() if dependency.queue is not False} == {1}


def test_the_text_streams(talker, tmp_path):
    opened = Opened(see(save_nifti(tmp_path / "scan.nii.gz", SHOWN), talker.volume_settings))
    opened.report = "an earlier one"
    parts = Callbacks(talker).write(opened, "lung", 1, DECIDES, None)
    notes, text, choices, made, _, picture = next(parts)
    # Nothing of an earlier report is left beside a new one.
    assert (notes, text, made, opened.report) == ("Writing …", "", "", None) and 'class=""' in picture
    assert choices["choices"] == list(LABELS)
    *parts, measuring, last = parts
    texts = [part[1] for part in parts]
    assert len(texts) > 5 and last[1] == write_report(SHOWN) and texts[-1].strip() == last[1]
    assert measuring[0].startswith("Measuring which slices") and last[0].startswith("- The model was trained on")
    assert "" in texts and opened.report.text == last[1]
    assert not any("Abnormalities" in text for text in texts)  # the line of findings
    with pytest.raises(gr.Error, match="write the report first"):
        Callbacks(talker).ask(Opened(opened.seen), "What is abnormal in this scan?", True, [])


def test_what_is_ready_after_another_scan_was_given_is_not_shown(talker, tmp_path):
    call = Callbacks(talker)
    opened = Opened(see(save_nifti(tmp_path / "scan.nii.gz", SHOWN), talker.volume_settings))
    parts = call.write(opened, "lung", 1, DECIDES, None)
    next(parts)
    opened.closed = True
    assert list(parts) == []
    assert call.ask(opened, "Is there emphysema in this chest CT?", False, []) == (gr.skip(), gr.skip())


@needs_chromium
def test_a_new_scan_leaves_nothing_of_the_report_before_it(visit, tmp_path, monkeypatch):
    give(visit, save_nifti(tmp_path / "first.nii.gz", SHOWN))
    write_the_report(visit)
    assert report_of(visit) and ticked(visit)
    slow, reads = threading.Event(), reporter_module.see
    monkeypatch.setattr(reporter_module, "see", lambda *given: slow.wait(30) and reads(*given))
    give(visit, save_nifti(tmp_path / "second.nii.gz", SHOWN))
    visit.wait_for_function("() => !document.querySelector('#report textarea').value")
    assert not visit.locator("#slice img").count() and not visit.locator("#findings input:checked").count()
    slow.set()
    visit.locator("#slice img").wait_for()
    assert report_of(visit) == ""


def test_a_finding_and_its_slices_name_each_other(reader_dir, tmp_path):
    reporter = load_reporter(reader_dir, device="cpu")
    seen = see(save_nifti(tmp_path / "scan.nii.gz", SHOWN), reporter.volume_settings)
    opened = Opened(seen, reporter.report(seen))
    told = {label: text for text, label in choices_of(opened.report)}
    assert len(told) == 18 and re.fullmatch(r"Emphysema · \d\d% · slices? [12](, [12])?", told["Emphysema"])
    assert re.fullmatch(r"Cardiomegaly · (< 1|\d+)%", told["Cardiomegaly"])
    number = int(told["Emphysema"][-1])
    assert "Rests on it: Emphysema</figcaption>" in show(opened, "lung", number) and show(None, "lung", 1) == ""


def visible(page) -> dict[str, bool]:
    shown = [block for block in page.blocks.values() if isinstance(block, gr.components.Component)]
    return {block.label or block.value: block.visible for block in shown}


def test_a_scan_that_is_unlike_those_of_the_training_is_told_and_refused_by_a_model_of_phantoms(reader, tmp_path):
    scan = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    limits = {"width of the slices (mm)": {"low": 0.0, "high": 1.0}}
    own = Callbacks(Reporter(*reader, SETTINGS, domain=Domain("own", limits, 100, 0.01)))
    opened = own.open(scan, None)
    assert "unlike those of the training: width of the slices" in own.notes_of_scan(opened.seen)
    *_, (notes, *_) = own.write(opened, "lung", 1, DECIDES, None)
    assert "unlike those of the training" in notes and "trained on scans of those who trained it" in notes
    with pytest.raises(gr.Error, match="Take a model that was trained on patients.") as error:
        Callbacks(Reporter(*reader, SETTINGS, domain=Domain("phantom", limits, 100, 0.01))).open(scan, None)
    assert "force" not in str(error.value)


def test_one_of_several_series_is_chosen_by_its_number(talker, tmp_path):
    folder = write(tmp_path / "DOE", slices(make_voxels((0, 1, 0)), AFFINE))
    write(folder, slices(make_voxels(SHOWN), AFFINE, series=2))
    call = Callbacks(talker)
    for series, told in (
        ("", r"choose .*“DICOM series” N|“DICOM series”"),
        ("two", "by its number, from 1"),
        ("0", "from 1"),
    ):
        with pytest.raises(gr.Error, match=told) as error:
            call.open(folder, series)
        assert "DOE" not in str(error.value)
    second = call.open(folder, " 2 ")
    assert (second.seen.pixels == see(folder, talker.volume_settings, 2).pixels).all()


def test_a_report_is_written_at_the_operating_point_of_the_model_unless_a_visitor_chooses(talker, tmp_path):
    confidence = replace(talker.confidence, line=replace(talker.confidence.line, operating_point=0.05))
    measured = Reporter(talker.model, talker.collator, talker.settings, confidence)
    with gr.Blocks():
        chosen, default = (option_fields(reporter, False)[0] for reporter in (talker, measured))
    assert (chosen.value, default.value) == (DECIDES, "0.05") and "measured at 0.05" in default.info
    call = Callbacks(measured)
    opened = Opened(see(save_nifti(tmp_path / "scan.nii.gz", SHOWN), talker.volume_settings))
    for point, ticked, by in (
        (default.value, None, "operating point 0.05"),
        (DECIDES, None, None),
        (default.value, ["Cardiomegaly"], "given findings"),
    ):
        list(call.write(opened, "lung", 1, point, ticked))
        assert opened.report.line_set_by == by


def test_the_page_shows_what_the_model_was_trained_for(talker, reader, tmp_path):
    volume = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    both = visible(make_page(talker))
    assert both["Report"] and both["Operating point: f1, or the share of findings to find"]
    asks = Reporter(*reader, SETTINGS | {"prompt_metadata": True}, tasks=["vqa"])
    shown = visible(make_page(asks))
    assert not shown["Report"] and not shown["Write the report"] and shown["Age in years"] and shown["Sex"]
    assert Callbacks(asks).metadata(["63", None]) == {"age": 63} and Callbacks(asks).metadata(["", ""]) == {}
    with pytest.raises(gr.Error, match="age='old': give whole years"):
        Callbacks(asks).ask(Opened(see(volume, asks.volume_settings)), "What?", False, [], "old", None)
    reports = Reporter(*reader, SETTINGS, tasks=["report"])
    (findings,) = [block for block in make_page(reports).blocks.values() if block.elem_id == "findings"]
    assert findings.interactive is False  # no findings line can be set
