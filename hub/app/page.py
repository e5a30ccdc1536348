"""The page: a scan goes in, its report streams out, findings can be ticked, and questions asked."""

import atexit
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.hub.notice import NOTICE_MARKDOWN
from ct_rate_pairs.hub.reporting.asking import example_question
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.phantom.cohort import plan_cohort, write_scan
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.shown_text import for_markdown


os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, and at each launch

import gradio as gr

from .callbacks import DECIDES, MODELS, Callbacks, Opened, close, show


FORMATS = [".gz", ".nii", ".mha", ".zip"]
LARGEST = "2gb"  # of a file
WAITING = 16  # visitors who wait for the model; more are told to come again
KEPT = 3600  # seconds that a scan of a visitor who has gone is kept in memory
EXAMPLES = 3
MOST_LINES = 200  # of a report: a box that scrolls would hide its end
FORMS = "NIfTI (.nii.gz, .nii), MetaImage (.mha), or DICOM as .zip."
FONTS = ["system-ui", "sans-serif"]  # a font of Google would tell Google of each visitor
CSS = """
#slice figure div { position: relative; background: black; border-radius: 6px; overflow: hidden; }
#slice .evidence div { outline: 3px solid #d55e00; }
#slice img { width: 100%; max-height: 60vh; object-fit: contain; }
#slice span { position: absolute; top: 50%; color: white; padding: 0 8px; }
#slice span + span { right: 0; }
#slice figcaption { padding-top: 6px; font-size: 0.85em; }
#findings .wrap { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 4px 12px; }
footer { display: none !important; }
"""


def make_page(reporter: Reporter, examples: Sequence[Path] = (), server=None) -> gr.Blocks:
    """
    The page of a model. It shows what the model was trained for.

    Args:
        reporter ([`~ct_rate_pairs.hub.reporting.reporter.Reporter`]):
            The model.
        examples (`Sequence[Path]`, *optional*):
            Scans that a visitor can choose: phantoms.
        server ([`~ct_rate_pairs.hub.pacs.server.DicomWebServer`], *optional*):
            A PACS from which a visitor can take a study.

    Returns:
        [`~gradio.Blocks`]: the page.
    """
    call = Callbacks(reporter, server)
    writes, answers = reporter.writes_reports, reporter.answers_questions
    takes_findings = reporter.takes_findings or reporter.has_line
    with gr.Blocks(title="Chest CT report", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        opened = gr.State(None, time_to_live=KEPT)
        model = f"Model {for_markdown(reporter.name)}, version {for_markdown(reporter.version)}"
        gr.Markdown(f"# Chest CT report\n{model}\n\n{NOTICE_MARKDOWN}")
        with gr.Row():
            with gr.Column(scale=2):
                upload, study, buttons = scan_fields(examples, bool(server))
                with gr.Accordion("Options", open=False):
                    point, series, known = option_fields(reporter, bool(server))
                write = gr.Button("Write the report", variant="primary", interactive=False, visible=writes)
                number = gr.Slider(1, 2, value=1, step=1, label="Slice", visible=False)
                window = gr.Radio([MODELS], value=MODELS, label="Window", visible=False)
                picture = gr.HTML(elem_id="slice")
            with gr.Column(scale=3):
                notes = gr.Markdown(elem_id="notes")
                text = gr.Textbox(
                    label="Report", lines=6, max_lines=MOST_LINES, buttons=["copy"], visible=writes, elem_id="report"
                )
                findings = gr.CheckboxGroup(
                    list(LABELS),
                    label="Findings: tick or untick, and the report is written anew" if takes_findings else "Findings",
                    interactive=takes_findings,
                    visible=False,
                    elem_id="findings",
                )
                made = gr.Markdown(elem_id="made")
                with gr.Column(visible=False) as asking:
                    turns = gr.Chatbot(label="Questions", height=260, render_markdown=False, buttons=["copy_all"])
                    example = f"Such as: {example_question(reporter.language)}"
                    question = gr.Textbox(label="Question", placeholder=example, submit_btn=True)
                    after = gr.Checkbox(label="Ask after the report", value=False, visible=writes)

        # One scan is read, reported or asked about at a time. Nobody calls the page but the page.
        work = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

        def begin(scan: Opened | None) -> list:
            """The page of a scan that was read just now, or of none."""
            there = scan is not None
            slices = len(scan.seen.places) if there else 2
            middle = max(1, slices // 2)
            windows = [*(scan.seen.native.windows if there else ()), MODELS]
            return [
                gr.update(maximum=slices, value=middle, visible=there),
                gr.update(choices=windows, value=windows[0], visible=there),
                show(scan, windows[0], middle),
                gr.update(interactive=there),
                call.notes_of_scan(scan.seen) if there else "",
                "",
                gr.update(choices=list(LABELS), value=[], visible=there and writes),
                "",
                gr.update(visible=there and answers),
                [],
            ]

        writing = []
        for event, ticked in ((write.click, gr.State(None)), (findings.input, findings)):
            written = event(
                call.write,
                [opened, window, number, point, ticked, *known],
                [notes, text, findings, made, opened, picture],
                trigger_mode="always_last",
                show_progress_on=[text],
                **work,
            )
            written.success(show, [opened, window, number], picture, **quick)
            writing.append(written)
        shown = [number, window, picture, write, notes, text, findings, made, asking, turns]
        starts = [
            (upload.upload, call.open_upload, [upload, series]),
            (study.submit, call.open_study, [study, series]),
        ]
        for button, path in zip(buttons, examples, strict=True):
            starts.append((button.click, lambda given, path=path: call.open(path, given), [series]))
        for event, opens, given in starts:
            # Nothing of the scan before is left beside the name of the new one, and no report of it comes later.
            event(lambda before: [close(before), *begin(None)], opened, [opened, *shown], cancels=writing, **quick)
            read = event(opens, given, opened, **work)
            read.success(lambda scan: [None, *begin(scan)], opened, [upload, *shown], **quick)
            read.failure(lambda: [None, None, *begin(None)], None, [opened, upload, *shown], **quick)
        for event in (number.change, window.change):
            event(show, [opened, window, number], picture, **quick)
        question.submit(call.ask, [opened, question, after, turns, *known], [turns, question], **work)
    return page


def scan_fields(examples: Sequence[Path], has_server: bool) -> tuple[gr.File, gr.Textbox, list[gr.Button]]:
    """Where a scan is given: a file, a study in the PACS, and a button for each example."""
    upload = gr.File(label="Chest CT", file_types=FORMATS, height=150)
    study = gr.Textbox(label="Or a study in the PACS: its StudyInstanceUID", submit_btn=True, visible=has_server)
    gr.Markdown(FORMS + " Or an example, made by software:" * bool(examples))
    with gr.Row():
        buttons = [gr.Button(f"Phantom {number}", size="sm", min_width=80) for number, _ in enumerate(examples, 1)]
    return upload, study, buttons


def option_fields(
    reporter: Reporter, has_server: bool
) -> tuple[gr.Dropdown, gr.Textbox, list[gr.components.Component]]:
    """The operating point, the series, and what is known of the patient, as far as the model can use them."""
    default = reporter.deciding_point()
    point = gr.Dropdown(
        [DECIDES, "f1", "0.95", "0.9", "0.8"],
        value=DECIDES if default == "none" else default,
        label="Operating point: f1, or the share of findings to find",
        info=None if default == "none" else f"The model was measured at {default}.",
        allow_custom_value=True,
        visible=reporter.writes_reports and bool(reporter.confidence and reporter.confidence.line),
    )
    # No `gr.Number`: an empty one gives 0 once it is seen.
    series = gr.Textbox(
        label="DICOM series, if there are several: its number" + " (of a study in the PACS: its UID)" * has_server,
        max_length=70 if has_server else 4,  # UID:NUMBER
    )
    return point, series, [metadata_field(name) for name in reporter.metadata]


def metadata_field(name: str) -> gr.components.Component:
    """Where a visitor fills in what is known of the patient."""
    label = name.replace("_", " ").capitalize()
    if name == "age":
        return gr.Textbox(label="Age in years", max_length=3)
    if name == "sex":
        return gr.Radio(["F", "M"], label=label)
    return gr.Textbox(label=label)


def write_examples(folder: Path) -> list[Path]:
    """Writes phantoms of the official validation set to a folder, and returns their files."""
    files = []
    for plan in plan_cohort(EXAMPLES, split=1, reconstructions=0):
        write_scan(plan, folder, 0, (84, 56, 40), (4.5, 4.5, 6.5))
        files += folder.rglob(plan.name(1))
    return files


def serve(
    reporter: Reporter, host: str | None = None, port: int | None = None, server=None, *, block: bool = True
) -> gr.Blocks:
    """
    Serves the page of a model until the process ends. Uploads go to a temporary folder, and each is deleted as soon as
    it is read.

    Args:
        reporter ([`~ct_rate_pairs.hub.reporting.reporter.Reporter`]):
            The model.
        host (`str`, *optional*), port (`int`, *optional*):
            Address to serve at. By default that of the environment (`GRADIO_SERVER_NAME`, as a Space sets it), and
            else 127.0.0.1 and the first free port from 7860.
        server ([`~ct_rate_pairs.hub.pacs.server.DicomWebServer`], *optional*):
            A PACS from which visitors can take studies.
        block (`bool`, *optional*, defaults to `True`):
            Whether to wait until the process is interrupted.

    Returns:
        [`~gradio.Blocks`]: the page, whose `local_url` is its address.
    """
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    os.environ["GRADIO_TEMP_DIR"] = f"{folder.name}/uploads"
    page = make_page(reporter, write_examples(Path(folder.name, "phantoms")), server)
    page.queue(max_size=WAITING, api_open=False)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        max_file_size=LARGEST,
        footer_links=[],
        ssr_mode=False,
        theme=gr.themes.Soft(font=FONTS, font_mono=["monospace"]),
        css=CSS,
        prevent_thread_lock=True,
        quiet=True,
    )
    print(f"The page is at {page.local_url}", flush=True)
    if block:
        page.block_thread()
    return page
