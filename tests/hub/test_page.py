"""`report.html` in Chromium: from a file, without a network, by mouse and by keys, on a desktop and on a phone."""

import base64
import io
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from helpers.chromium import needs_chromium, opened, started
from helpers.scan_reports import full_report, grey_pictures, with_patches
from helpers.tiny_reader import STATED, save_nifti
from PIL import Image

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting.page import format_page
from ct_rate_pairs.reports.labels import LABELS


HOSTILE = "</title></script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} \x1b[2J\u202e&amp;"
SHOWN = ".slice.shown"

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(reader_dir, tmp_path_factory):
    """Emphysema rests on slices 1 and 2, and pleural effusion on slices 5 and 6."""
    scan = save_nifti(tmp_path_factory.mktemp("page") / "scan.nii.gz", (1, 0, 1))
    return load_reporter(reader_dir, device="cpu").report(scan, name="case 7")


@pytest.fixture
def open_page(browser, tmp_path):
    def open_report(report, **options):
        (tmp_path / "report.html").write_text(format_page(report), encoding="utf-8")
        return opened(browser, tmp_path / "report.html", **options)

    return open_report


def number(page) -> int:
    """The slice that is shown."""
    (shown,) = page.locator(SHOWN).all()
    return int(shown.get_attribute("id").removeprefix("slice-"))


def pixels(page) -> np.ndarray:
    """The image that is seen, as it is in the page."""
    (image,) = (image for image in page.locator(f"{SHOWN} img").all() if image.is_visible())
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image.get_attribute("src").split(",")[1]))))


def test_the_page_opens_offline_and_tells_what_the_report_tells(open_page, report):
    told = replace(report, told=["the scan: a warning."], cut=True, unread="It is in another language.")
    with open_page(told) as page:
        seen = page.locator("body").inner_text()
        assert "Chest CT report: case 7" in seen and "Not a medical device." in seen
        assert "It is in another language." in seen and "limit of tokens" in seen and "the scan: a warning." in seen
        assert page.locator(".text").inner_text() == report.text
        stated = [finding for finding in report.findings if finding.stated]
        for finding, shown in zip(stated, page.locator(".finding").all(), strict=True):
            text = " ".join(shown.inner_text().split())
            assert finding.label in text and finding.percent in text
            assert f"slices {' '.join(map(str, finding.slices))}" in text
        page.get_by_text("Findings it does not state").click()
        assert page.locator("details tbody tr").count() == len(LABELS) - len(stated)


def test_a_click_on_a_sentence_shows_the_slices_that_it_rests_on_one_after_the_other(open_page, report):
    emphysema, effusion = (finding for finding in report.findings if finding.sentence in (STATED[0], STATED[2]))
    with open_page(report) as page:
        for finding in (effusion, emphysema):
            sentence = page.locator(".text").get_by_text(finding.sentence)
            for rests in (*finding.slices, finding.slices[0]):
                sentence.click()
                assert number(page) == rests and f"Slice {rests} is shown" in page.get_by_role("status").inner_text()
            framed = [n for n in range(1, 7) if "rests" in page.locator(f"#slice-{n}").get_attribute("class").split()]
            assert framed == sorted(finding.slices)
        page.locator(".finding").get_by_text("Pleural effusion").click()
        assert number(page) == effusion.slices[0]
        page.locator(".finding.chosen .rests-on").get_by_text(str(effusion.slices[1]), exact=True).click()
        assert number(page) == effusion.slices[1]
        heights = [
            cell.evaluate("cell => parseFloat(cell.style.height)") for cell in page.locator(".strip span").all()
        ]
        assert {n + 1 for n in np.argsort(heights)[-2:]} == set(effusion.slices)
        page.keyboard.press("Escape")
        assert page.locator(".slice.rests").count() == 4


def test_another_window_shows_other_pixels_and_those_of_the_scan(open_page, report):
    with open_page(report) as page:
        views = []
        expected = {name: report.native.images(name) for name in ("lung", "mediastinum")}
        for name, images in (expected | {"the model's view": report.images}).items():
            page.get_by_label(name, exact=True).check()
            np.testing.assert_array_equal(pixels(page), np.asarray(images[number(page) - 1]))
            views.append(page.locator(f"{SHOWN} .picture").screenshot())
            assert page.locator(f"{SHOWN} .mark.window:visible").inner_text().startswith(name)
        assert len(set(views)) == 3


def test_keys_and_the_wheel_scroll_through_the_slices(open_page, report):
    with open_page(report) as page:
        assert number(page) == 3
        for key, expected in (("ArrowRight", 4), ("ArrowLeft", 3)):
            page.keyboard.press(key)
            assert number(page) == expected
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "viewer"
        for key, expected in (("End", 6), ("ArrowDown", 6), ("ArrowUp", 5), ("Home", 1), ("ArrowUp", 1)):
            page.keyboard.press(key)
            assert number(page) == expected
        page.keyboard.press("2")
        assert page.locator("input[value=mediastinum]").is_checked()
        page.keyboard.press("Tab")  # to the windows, where the arrows choose one
        page.keyboard.press("Tab")  # to the outlines
        page.keyboard.press("Tab")  # to the slider
        page.keyboard.press("ArrowRight")
        assert number(page) == 2
        page.locator(".slices").hover()
        page.mouse.wheel(0, 100)
        page.wait_for_selector("#slice-3.shown")


def test_the_outline_of_a_finding_lies_over_its_patch_and_can_be_turned_off(open_page, report):
    with open_page(with_patches(report, patch=(1, 2))) as page:
        page.locator(".finding").get_by_text("Pleural effusion").click()
        outline = page.locator(f"{SHOWN} .outlines path:visible").bounding_box()
        picture = page.locator(f"{SHOWN} .outlines").bounding_box()
        shares = [(outline[axis] - picture[axis]) / picture[side] for axis, side in (("x", "width"), ("y", "height"))]
        shares += [outline[side] / picture[side] for side in ("width", "height")]
        np.testing.assert_allclose(shares, [0.5, 0.25, 0.25, 0.25], atol=0.02)
        page.locator(".finding").get_by_text("Emphysema").click()
        assert page.locator(".outlines path:not(.other)").count() == 1
        page.keyboard.press("Escape")
        assert page.locator(".outlines path:not(.other)").count() == 2
        page.get_by_label("outlines", exact=True).uncheck()
        assert page.locator(".outlines:visible").count() == 0


def test_every_sentence_can_be_reached_and_followed_by_keys(open_page, report):
    with open_page(report) as page:
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            if "sentence" in page.evaluate("document.activeElement.className"):
                page.keyboard.press("Enter")
                reached.append((page.evaluate("document.activeElement.textContent"), number(page)))
        slices = {finding.sentence: finding.slices[0] for finding in report.findings if finding.stated}
        assert dict(reached) == slices


def test_markup_in_any_text_stays_text(open_page, report):
    text = f"{STATED[0]} {HOSTILE}\n{STATED[2]}"
    findings = [replace(finding, sentence=HOSTILE) if finding.stated else finding for finding in report.findings]
    hostile = replace(
        report, name=HOSTILE, text=text, findings=findings, told=[HOSTILE], unread=HOSTILE, model=HOSTILE, line=HOSTILE
    )
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    with open_page(hostile) as page:
        assert page.title() == f"Chest CT report: {shown}"
        for place in ("h1", ".warnings", ".text"):
            assert shown in page.locator(place).text_content()
        assert page.evaluate("document.scripts.length") == 1
        assert page.evaluate("[...document.images].every(image => image.src.startsWith('data:image/png;'))")


def test_even_markup_that_got_into_the_page_could_neither_run_nor_load(browser, report, tmp_path):
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    injected = (
        f"<script>window.ran = 1</script><script src='{address}/a.js'></script><img src='{address}/b.png' "
        f"onerror='window.ran = 2'><link rel=stylesheet href='{address}/c.css'><iframe src='{address}/d'></iframe>"
        "<style>body { opacity: 0 }</style>"
    )
    path = tmp_path / "injected.html"
    path.write_text(format_page(report).replace("</header>", f"{injected}</header>"))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.ran") is None and page.evaluate("getComputedStyle(document.body).opacity") == "1"
    assert number(page) == 3  # the page's own script runs
    page.close()
    server.shutdown()
    assert asked == []


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_wider_than_the_screen_and_nothing_lies_over_the_text(open_page, report, width):
    full = full_report(report, slices=40, stated=18, name="scan_" + "x" * 200)
    with open_page(full, width=width, height=800) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator(".text a").last.click()
        picture = page.locator(f"{SHOWN} .picture").bounding_box()
        sentence = page.locator(".text a").last.bounding_box()
        assert picture["y"] >= 0 and picture["y"] + picture["height"] <= 800  # it is seen beside the sentence
        apart = sentence["x"] >= picture["x"] + picture["width"] or sentence["y"] >= picture["y"] + picture["height"]
        assert apart
        marks = [mark.bounding_box() for mark in page.locator(f"{SHOWN} .mark:visible").all()]
        across = sorted(marks, key=lambda box: box["x"])
        top = [box for box in across if box["y"] < picture["y"] + 30]
        assert len(marks) == 4 and top[0]["x"] + top[0]["width"] <= top[1]["x"]


def test_without_scripts_all_slices_are_there(open_page, report):
    with open_page(report, java_script_enabled=False) as page:
        assert all(figure.is_visible() for figure in page.locator(".slice").all())
        assert page.locator(".slice img:visible").count() == len(report.slices)
        assert page.locator(".controls:visible").count() == 0


def test_a_dark_screen_gets_a_dark_page(open_page, report):
    backgrounds = []
    for scheme in ("light", "dark"):
        with open_page(report, color_scheme=scheme) as page:
            backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    light, dark = ([int(value) for value in color[4:-1].split(",")] for color in backgrounds)
    assert min(light) > 240 and max(dark) < 40


@pytest.mark.parametrize(
    "text",
    [
        "影像所见：两肺见肺气肿。 心影不大。左侧胸腔积液。\n诊断印象：肺气肿。",
        f" {STATED[0]}\n\nFindings: x;{STATED[2]}",
        "",
    ],
)
def test_no_letter_of_a_text_is_lost_in_any_language(open_page, report, text):
    with open_page(replace(report, text=text)) as page:
        assert page.locator(".text").text_content() == text
        assert page.locator(".text").get_attribute("lang") == ("zh" if "肺" in text else "en")
        assert page.locator(".sentence").count() == (3 if "肺" in text else 2 if text else 0)


def test_a_doubtful_finding_is_marked_where_it_is_read(open_page, report):
    findings = [replace(finding, doubtful=finding.label == "Emphysema") for finding in report.findings]
    with open_page(replace(report, findings=findings)) as page:
        assert page.locator(".sentence.doubtful").inner_text() == STATED[0]
        assert page.locator(".finding.doubtful .label").inner_text() == "Emphysema"
        assert "Doubtful: stated, although its confidence is below 50%." in page.locator("body").inner_text()


def test_pictures_have_no_sides_and_no_windows_but_their_own(open_page, report):
    with open_page(grey_pictures(report)) as page:
        assert page.locator(".mark.right").count() == 0
        windows = page.locator("fieldset label:has([name=window])").all()
        assert [label.inner_text() for label in windows] == ["grey", "the model's view"]
        assert "which side of these pictures" in page.locator(".warnings").inner_text()
        np.testing.assert_array_equal(pixels(page), np.asarray(report.native.images("lung")[number(page) - 1]))


def test_a_report_without_findings_and_without_confidence_is_a_page_too(open_page, report):
    findings = [
        replace(f, stated=False, confidence=None, sentence=None, evidence=None, slices=[], doubtful=None)
        for f in report.findings
    ]
    with open_page(replace(report, text="The lungs are clear.", findings=findings, calibration=None)) as page:
        assert "None of the 18." in page.locator("body").inner_text()
        assert page.locator(".text a").count() == 0 and page.locator(".slice.rests").count() == 0
        page.keyboard.press("ArrowRight")
        assert number(page) == 4
