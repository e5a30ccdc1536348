"""
The sheet of a report: each slice in the windows of a chest CT, framed where a finding rests on it, and the findings.

The sheet is put together of blocks, below and beside each other. A block is an image, and a text is one, too, as wide
as its column allows. So nothing is ever written over something else, however many findings and however long a name.
"""

import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from ct_rate_pairs.eval.figures.style import chinese_fonts
from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.shown_text import for_terminal
from ct_rate_pairs.volumes.native_slices import GREY
from ct_rate_pairs.volumes.slice_places import SlicePlace
from ct_rate_pairs.whole_files import whole_file

from .outlines import Line
from .scan_report import WHY_DOUBTFUL, Finding, ScanReport


LEAST_WIDTH = 360  # pixels of a slice: smaller ones are enlarged, so that their captions have room
MOST_PIXELS = 50_000_000  # of all slices together: more of them are drawn smaller, which is told
PANEL, GAP, FRAME = 640, 12, 5  # width of the findings, room between blocks, width of a frame, in pixels
BLACK, WHITE, FAINT, DARK = (0, 0, 0), (240, 240, 240), (165, 165, 165), (60, 60, 60)
EVIDENCE, WARNING = (255, 160, 50), (255, 210, 80)
# Of the outlines of findings, one after the other: light enough to be seen on a CT, and told apart by most readers.
COLOURS = (EVIDENCE, (86, 200, 255), (120, 230, 120), (255, 120, 190), (240, 230, 80), (180, 150, 255), (255, 100, 80))
BODY, TITLE = 22, 30  # sizes of letters in pixels
OUTLINE, OF_MASK = 2, 1  # width of the outline of patches and of a mask, in pixels
THIN = "Thin outlines: where the mask head shows a finding, as coarse as it reads the slices."
PNG_LEVEL = 3  # of slices it gives about the bytes of 6, the default, in half the time
LEAST_SCALE = 2.0  # nats that are drawn in full colour at least, so that weak evidence looks weak
CHINESE = "[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]"  # letters between which a line may end


def save_sheet(report: ScanReport, path: str | Path) -> None:
    """
    Writes the sheet of a report as a PNG file.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report. Only its name, its warnings and the names of labels are drawn from its texts.
        path (`str` or `Path`):
            File to write.
    """
    with whole_file(path) as part:
        draw_sheet(report).save(part, format="PNG", compress_level=PNG_LEVEL)


def draw_sheet(report: ScanReport) -> Image.Image:
    """The sheet of a report, RGB: the slices on the left, and the findings on the right."""
    slices, shrunk = slices_block(report)
    below = beside([slices, findings_block(report)])
    return framed(stack([heading_block(report, shrunk, below.width), below]), BLACK, GAP)


def heading_block(report: ScanReport, shrunk: float, width: int) -> Image.Image:
    """What must be known before the slices are looked at."""
    warnings = report.warnings
    if shrunk < 1:
        warnings.append(f"So many slices are drawn at {shrunk:.0%} of their resolution. report.html has all of it.")
    return stack(
        [
            written(f"Chest CT report: {report.name}", width, TITLE, bold=True),
            written(NOTICE, width, color=FAINT),
            *(written(f"Warning: {warning}", width, color=WARNING) for warning in warnings),
        ]
    )


def slices_block(report: ScanReport) -> tuple[Image.Image, float]:
    """The slices from the top, some beside each other, and the share of their resolution that is left."""
    native = report.native
    width, height = native.size
    pixels = width * height * len(report.slices) * len(native.windows)
    scale = max(1, math.ceil(LEAST_WIDTH / width))  # whole, so that each pixel is as large as the next
    scale = min(scale, max(math.sqrt(MOST_PIXELS / pixels), LEAST_WIDTH / width))
    size = round(width * scale), round(height * scale)
    square = max(1, round(math.sqrt(len(report.slices) * height / (width * len(native.windows)))))
    # About as many as make the whole a square, and such that the last row is as full as can be.
    columns = min(range(max(1, square - 1), square + 2), key=lambda count: (-len(report.slices) % count, -count))
    images = {window: native.images(window) for window in native.windows}
    cells = []
    for index in range(len(report.slices)):
        tiles = {window: of_window[index].resize(size) for window, of_window in images.items()}
        cells.append(slice_block(report, index, tiles))
    rows = []
    for start in range(0, len(cells), columns):
        row = range(start, min(start + columns, len(cells)))
        height = max(cells[index].height for index in row)
        rows.append(
            beside(
                [framed(cells[index], EVIDENCE if resting(report, index) else DARK, FRAME, height) for index in row]
            )
        )
    return stack(rows), scale


def resting(report: ScanReport, index: int) -> list[Finding]:
    """The findings that rest on a slice."""
    return [finding for finding in report.findings if report.slices[index].number in finding.slices]


def masked(report: ScanReport, index: int) -> list[Finding]:
    """The findings whose masks are on a slice."""
    number = report.slices[index].number
    return [finding for finding in report.findings if report.masks and number in report.masks.slices(finding.label)]


def slice_block(report: ScanReport, index: int, tiles: dict[str, Image.Image]) -> Image.Image:
    """
    One slice in each window, with its number above it, and its place and the findings that rest on it, or whose masks
    are on it, below.
    """
    place, columns = report.slices[index], []
    for window, image in tiles.items():
        caption = f"slice {place.number}, {place.mm:.0f} mm below the first" + (
            "" if window == GREY else f", {window}"
        )
        tile = image.convert("RGB")
        for finding in resting(report, index):
            if finding.patches:
                draw_outline(tile, finding.patches.outline(place.number), colour_of(report, finding), OUTLINE)
        for finding in masked(report, index):
            outline = report.masks.outline(finding.label, place.number)
            draw_outline(tile, outline, colour_of(report, finding), OF_MASK)
        if window != GREY:
            mark_sides(tile)
        columns.append(stack([written(caption, tile.width, bold=True), tile]))
    shown = beside(columns)
    below = [written(place_told(place), shown.width, color=FAINT)]
    for finding in resting(report, index):
        told = f"rests here: {marked(finding)}"
        below.append(written(told, shown.width, color=colour_of(report, finding), bold=True))
    for finding in masked(report, index):
        below.append(written(f"mask: {finding.label}", shown.width, color=colour_of(report, finding)))
    return stack([shown, *below])


def draw_outline(image: Image.Image, lines: Sequence[Line], colour: tuple[int, int, int], width: int) -> None:
    """Draws lines, which are given in shares of the width and the height of a slice."""
    draw, sides = ImageDraw.Draw(image), image.size * 2
    for line in lines:
        ends = [min(round(share * side), side - 1) for share, side in zip(line, sides, strict=True)]
        draw.line(ends, colour, width)


def colour_of(report: ScanReport, finding: Finding) -> tuple[int, int, int]:
    """The colour in which a finding is outlined on slices and named below them."""
    has_mask = report.masks.shown if report.masks else {}
    outlined = [other.label for other in report.findings if other.slices or other.label in has_mask]
    return COLOURS[outlined.index(finding.label) % len(COLOURS)]


def mark_sides(image: Image.Image) -> None:
    """Writes R on the patient's right and L on the left, which are on the other side of the image."""
    font, middle = font_of(BODY + 5, bold=True), image.height // 2
    outlined = {"fill": WHITE, "font": font, "stroke_width": 2, "stroke_fill": BLACK}
    draw = ImageDraw.Draw(image)
    draw.text((6, middle), "R", anchor="lm", **outlined)
    draw.text((image.width - 6, middle), "L", anchor="rm", **outlined)


def findings_block(report: ScanReport) -> Image.Image:
    """The stated findings with confidence, slices and evidence, and below them the other findings."""
    stated = [finding for finding in report.findings if finding.stated]
    others = [finding for finding in report.findings if not finding.stated]
    scale = evidence_scale(report)
    blocks = [written("Findings that the report states", PANEL, TITLE, bold=True)]
    for finding in stated:
        rests = slices_told(finding) if finding.slices else "no slice stands out"
        sure = f"confidence {finding.percent}, " if finding.percent else ""
        blocks += [
            written(marked(finding), PANEL, color=WARNING if finding.doubtful else WHITE, bold=True),
            written(sure + rests, PANEL),
            evidence_strip(finding, scale),
            Image.new("RGB", (PANEL, GAP)),
        ]
    if stated:
        told = f"Strips: how much a finding rests on slices 1 to {len(report.slices)}, from black to orange. "
        told += f"Orange: {full_evidence(scale)}."
        if any(finding.patches for finding in stated):
            told += " Outlines on the slices: patches with more than half of the highest evidence of their finding."
        if report.masks and report.masks.shown:
            told += f" {THIN}"
        blocks.append(written(told, PANEL, color=FAINT))
        if any(finding.doubtful for finding in stated):
            blocks.append(written(WHY_DOUBTFUL, PANEL, color=WARNING))
    else:
        blocks.append(written("None of the 18.", PANEL))
    if others:
        blocks += [Image.new("RGB", (PANEL, GAP)), written("Findings that it does not state", PANEL, TITLE, bold=True)]
        if others[0].percent:
            blocks.append(written("with the confidence that they are there", PANEL, color=FAINT))
    for finding in sorted(others, key=lambda finding: -(finding.confidence or 0.0)):
        sure = f": {finding.percent}" if finding.percent else ""
        blocks.append(written(finding.label + sure, PANEL, color=FAINT))
    return stack(blocks)


def evidence_scale(report: ScanReport) -> float:
    """The evidence that is shown in full, in nats: the highest of all, so that findings can be compared."""
    return max([LEAST_SCALE, *(max(finding.evidence) for finding in report.findings if finding.stated)])


def place_told(place: SlicePlace) -> str:
    """Where a slice lies; and of which planes it is made, if these are more than the two nearest ones."""
    outside = ", outside the lungs" if place.in_lungs is False else ""
    made = f"; the model saw planes {place.first} to {place.last}" if place.last - place.first > 1 else ""
    return f"{place}{outside}{made}"


def slices_told(finding: Finding) -> str:
    """The slices that a finding rests on, those with most evidence first."""
    return f"slice{'s' * (len(finding.slices) > 1)} {', '.join(map(str, finding.slices))}"


def full_evidence(scale: float) -> str:
    """What an evidence of `scale` nats means."""
    return (
        f"with noise in the place of the slice, the finding is {math.exp(scale):,.0f} times less likely to be stated"
    )


def marked(finding: Finding) -> str:
    """The label of a finding, and whether it is doubtful."""
    return finding.label + " (doubtful)" * bool(finding.doubtful)


def evidence_strip(finding: Finding, scale: float) -> Image.Image:
    """One cell for each slice, the more orange the more the finding rests on it. Frames mark the slices named."""
    strip = Image.new("RGB", (PANEL, 22))
    draw = ImageDraw.Draw(strip)
    count = len(finding.evidence)
    for index, nats in enumerate(finding.evidence):
        share = min(max(nats, 0.0) / scale, 1.0)
        color = tuple(round(share * channel) for channel in EVIDENCE)
        left, right = PANEL * index // count, PANEL * (index + 1) // count
        frame = WHITE if index + 1 in finding.slices else DARK
        draw.rectangle((left, 0, max(right - 2, left), 21), fill=color, outline=frame)
    return strip


def stack(blocks: Sequence[Image.Image]) -> Image.Image:
    """Blocks below each other."""
    height = sum(block.height for block in blocks) + GAP // 2 * (len(blocks) - 1)
    whole, top = Image.new("RGB", (max(block.width for block in blocks), height)), 0
    for block in blocks:
        whole.paste(block, (0, top))
        top += block.height + GAP // 2
    return whole


def beside(blocks: Sequence[Image.Image]) -> Image.Image:
    """Blocks beside each other."""
    width = sum(block.width for block in blocks) + GAP * (len(blocks) - 1)
    whole, left = Image.new("RGB", (width, max(block.height for block in blocks))), 0
    for block in blocks:
        whole.paste(block, (left, 0))
        left += block.width + GAP
    return whole


def framed(block: Image.Image, color: tuple[int, int, int], width: int, height: int = 0) -> Image.Image:
    """A block in a frame, and with room below it if it is not as high as `height`."""
    inside = block.width, max(block.height, height)
    whole = Image.new("RGB", (inside[0] + 2 * width, inside[1] + 2 * width), color)
    whole.paste(BLACK, (width, width, width + inside[0], width + inside[1]))
    whole.paste(block, (width, width))
    return whole


def written(
    text: str, width: int, size: int = BODY, color: tuple[int, int, int] = WHITE, bold: bool = False
) -> Image.Image:
    """A text as a block of the given width, in as many lines as it needs."""
    font = font_of(size, bold, is_chinese=bool(re.search(CHINESE, text)))
    lines, height = lines_of(for_terminal(text), font, width), round(size * 1.3)
    block = Image.new("RGB", (width, height * len(lines)))
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, number * height + height // 2), line, color, font, anchor="lm")
    return block


def lines_of(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Breaks a text into lines no wider than `width`: between words and Chinese letters, or within a longer word."""
    lines = [""]
    for word in re.findall(rf"\s+|{CHINESE}|(?:(?!{CHINESE})\S)+", text):
        for part in [word] if font.getlength(word) <= width else word:
            if font.getlength(lines[-1] + part.strip()) > width:
                lines.append("")
            lines[-1] += part if part.strip() else " " * bool(lines[-1])
    return [line.rstrip() for line in lines]


@cache
def font_of(size: int, bold: bool = False, is_chinese: bool = False) -> ImageFont.FreeTypeFont:
    """The font of a text; for Chinese one that this machine has, if it has any."""
    if is_chinese and chinese_fonts():
        return ImageFont.truetype(font_manager.findfont(chinese_fonts()[0]), size)
    return ImageFont.truetype(Path(matplotlib.get_data_path(), f"fonts/ttf/DejaVuSans{'-Bold' * bold}.ttf"), size)
