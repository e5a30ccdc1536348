"""
Ways in which a reference report, a path or a token gets into a file of a run by accident. Each is refused.

The reports here are made up.
"""

import json
import random
import string
import struct
import unicodedata
import zlib
from pathlib import Path

import pytest
from helpers.finished_run import PNG
from helpers.shares import mostly_slow

from ct_rate_pairs.hub.guard import ForbiddenContentError, publishable_files
from ct_rate_pairs.hub.references import REFERENCES, keep_reference_hashes
from ct_rate_pairs.reports.findings_line import write_line


FINDINGS = (
    "Trachea and both main bronchi are open. A tracheostomy cannula ends 31 mm above the carina. The left "
    "atrium is wide, and a pacemaker with two leads lies below the right clavicle. In the apex of the left "
    "lower lobe, a lobulated mass of 42 x 37 mm with a cavity reaches the pleura, and the sixth rib behind it "
    "is eroded over 3 cm. Two satellite nodules of 6 and 9 mm lie above it. In the middle lobe, a band of "
    "atelectasis follows the minor fissure. The liver has a cyst of 18 mm in segment four; both adrenal glands "
    "are slender. The eighth thoracic vertebra has lost a third of its height, with a smooth upper plate."
)
IMPRESSION = (
    "Cavitating mass of the left lower lobe with erosion of the sixth rib: biopsy is advised. Old fracture of T8."
)
REPORT = f"Findings: {FINDINGS}\nImpression: {IMPRESSION}"
OTHERS = [
    f"The heart is of normal size. {at} of the {lobe} lobe, a {kind} nodule of {size} mm is seen near a vessel, "
    f"which a control after {size} months should show {change}. No effusion, no enlarged lymph "
    "node, and no fracture of a rib."
    for at, lobe, kind, size, change in (
        ("At the base", "right lower", "calcified", 4, "without any growth"),
        ("In the apex", "left upper", "part-solid", 7, "smaller than today"),
        ("In the tip", "right middle", "spiculated", 12, "together with a PET"),
        ("At the hilum", "left lower", "ground-glass", 9, "after a treatment with antibiotics"),
        ("In the centre", "right upper", "cavitating", 15, "unless a bronchoscopy tells more"),
    )
]
WORDS, SENTENCES = FINDINGS.split(), FINDINGS.replace(". ", ".\n").split("\n")
RNG = random.Random(0)
LONG = ["".join(RNG.choices(string.ascii_lowercase, k=8)) for _ in range(400)]  # the words of a report of its own
VOLUMES = [f"valid_{number}_a_1.nii.gz" for number in range(1, 9)]
HIDDEN = "\u200b"  # zero width


def rows(*reports: str) -> str:
    return "".join(
        json.dumps({"volume": v, "report": r}) + "\n" for v, r in zip(VOLUMES[: len(reports)], reports, strict=True)
    )


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(kind: bytes, content: bytes) -> bytes:
    return PNG[:33] + chunk(kind, content) + PNG[33:]


def safetensors_with(header: str) -> bytes:
    return len(header.encode()).to_bytes(8, "little") + header.encode()


def cells(texts: list[str]) -> str:
    return "".join(f"| {number} | {text} | 0.5 |\n" for number, text in enumerate(texts, 1))


LINES = [" ".join(WORDS[at : at + 12]) for at in range(0, len(WORDS), 12)]
CARD = {
    "as it is": REPORT,
    "a word more": f"{REPORT} Unchanged.",
    "a word before": f"Normal. {REPORT}",
    "a word in the middle": FINDINGS.replace("In the middle lobe", "Moreover, in the middle lobe"),
    "without its headings": f"{FINDINGS} {IMPRESSION}",
    "with other headings": f"**FINDINGS** {FINDINGS}\n\n**IMPRESSION** {IMPRESSION}",
    "its impression alone": IMPRESSION,
    "one sentence": SENTENCES[3],
    "the middle of a sentence": FINDINGS[200:320],
    "in capitals": REPORT.upper(),
    "with other sizes": REPORT.replace("42 x 37", "12 x 9").replace("18", "5"),
    "with decimal commas and no full stops": FINDINGS.replace(".", "").replace("31 mm", "31,0 mm"),
    "wide letters": "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in REPORT),
    "with no-break spaces": REPORT.replace(" ", "\u00a0"),
    "with thin and ideographic spaces": REPORT.replace(" ", "\u2009\u3000"),
    "with soft hyphens": "\u00ad".join(REPORT),
    "with a zero-width space after each word": REPORT.replace(" ", f" {HIDDEN}"),
    "with zero-width spaces as spaces": REPORT.replace(" ", HIDDEN),
    "with marks of direction": "\u202a" + REPORT.replace(" ", " \u2066") + "\u202c",
    "decomposed, with accents": unicodedata.normalize("NFD", REPORT.replace("e", "é")),
    "with ligatures": REPORT.replace("fi", "\ufb01").replace("fl", "\ufb02"),
    "with curly quotes and dashes": f"“{REPORT.replace(', ', ' — ').replace('x', '×')}”",
    "with HTML escapes": "".join(f"&#{ord(c)};" if c in "aeiou" else c for c in REPORT),
    "escaped twice": "&amp;nbsp;".join(WORDS),
    "escapes with soft hyphens": "\u00ad".join(REPORT.replace(" ", "&nbsp;")),
    "escapes in wide letters": "\uff06\uff03\uff13\uff12\uff1b".join(WORDS),
    "RTF": REPORT.replace(", ", ",\\par\n"),
    "with entities and tags": REPORT.replace(" ", "&nbsp;").replace(".", ".<br/>"),
    "each word marked": " ".join(f"<b>{word}</b>" for word in WORDS),
    "each word in Markdown": " ".join(f"**{word}**" for word in WORDS),
    "each sentence a list item": "\n".join(f"{number}. {text}" for number, text in enumerate(SENTENCES, 1)),
    "each sentence a row of a table": cells(SENTENCES),
    "each word a row of a table": cells(WORDS),
    "quoted in an e-mail": "\n".join(f"> {line}" for line in LINES),
    "hyphenated at the ends of lines": "\n".join(f"{FINDINGS[at : at + 60]}-" for at in range(0, 600, 60)),
    "in a comment": f"<!-- {REPORT} -->",
    "in a block of code": f'```python\nreport = """{REPORT}"""\n```',
    "as JSON in a block": f"```json\n{json.dumps({'reference': REPORT}, ensure_ascii=True)}\n```",
    "a cell of a notebook": json.dumps({"cells": [{"source": [f"{text}\n" for text in SENTENCES]}]}, indent=1),
    "a row of CSV": f'volume,text\nvalid_1,"{REPORT}",1\n',
    "words with tabs": "\t".join(WORDS),
    "in an address": f"https://example.org/?q={REPORT.replace(' ', '%20')}",
    "in colours of a terminal": " ".join(f"\x1b[1;31m{word}\x1b[0m" for word in WORDS),
    "tokens of bytes": "Ġ".join(WORDS).replace(".Ġ", ".Ċ"),
    "tokens of SentencePiece": "▁".join(WORDS),
    "commands of LaTeX": " ".join(f"\\textbf{{{word}}}" for word in WORDS),
    "RTF with commands": " ".join(f"{{\\b {word}\\fs24 }}" for word in WORDS),
    "escapes of JSON": "".join(f"\\u{ord(char):04x}" for char in REPORT),
    "escapes of Python": "".join(f"\\x{ord(char):02x}" for char in REPORT),
    "escaped three times": "&amp;amp;nbsp;".join(WORDS),
    "no-break spaces of another encoding": REPORT.replace(" ", "\xa0").encode().decode("cp1252"),
    "with tags that have many attributes": f"<span style='{'color: red; ' * 30}'>".join(WORDS),
    "in the attributes of tags": "".join(f'<p title="{REPORT[at : at + 150]}">' for at in range(0, len(REPORT), 150)),
    "a Windows file": REPORT.replace(". ", ".\r\n"),
    "after a long card": "No text of a report is here. " * 40_000 + REPORT,
}
YAML = {
    "folded over lines": "text: >\n" + "".join(f"  {line}\n" for line in LINES),
    "a literal block": "text: |\n" + "".join(f"  {line}\n" for line in LINES),
    "a list of words": "".join(f"- {json.dumps(word)}\n" for word in WORDS),
    "in a comment": f"a: 1  # {FINDINGS}\n",
    "with escapes": 'text: "' + "".join(f"\\x{ord(char):02x}" for char in FINDINGS) + '"\n',
    "a name twice": f"text: {json.dumps(FINDINGS)}\ntext: none\n",
}
PARTS = [FINDINGS[at : at + 90] for at in range(0, len(FINDINGS), 90)]
JSON = {
    "a value": {"model": {"worst": REPORT[:290]}},
    "a name": {"worst": {FINDINGS[:280]: 0.5}},
    "names in order": dict.fromkeys(WORDS, 0),
    "parts under several names": {f"part_{number}": part for number, part in enumerate(PARTS)},
    "words as items": {"words": WORDS},
    "words in records": {"words": [{"word": word, "score": 0.5, "note": "seen"} for word in WORDS]},
    "words with numbers between": [item for number, word in enumerate(WORDS) for item in (number, word)],
    "letters as items": list(FINDINGS),
    "nested": {"a": {"b": [[["c", {"d": PARTS}]]]}},
    "JSON in a text": {"note": json.dumps(PARTS[:2])},
}
FILES = {
    **{f"card: {name}": ("README.md", f"# A card\n\n{text}\n") for name, text in CARD.items()},
    **{f"card's metadata: {name}": ("README.md", f"---\n{text}---\n# A card\n") for name, text in YAML.items()},
    **{f"YAML: {name}": (".eval_results/ct_rate.yaml", text) for name, text in YAML.items()},
    "card's metadata after a mark of its encoding": ("README.md", f"\ufeff---\n{YAML['with escapes']}---\n# A card\n"),
    **{f"results: {name}": ("results.json", json.dumps(value)) for name, value in JSON.items()},
    "results: escaped letters": (
        "results.json",
        '{"a": "' + "".join(f"\\u{ord(char):04x}" for char in FINDINGS[:250]) + '"}',
    ),
    "results: a name twice": (
        "results.json",
        json.dumps({"text": 1})[:-1] + f', "note": "{PARTS[1]}", "note": "none"}}',
    ),
    "settings of the model": ("config.json", json.dumps({"note": FINDINGS})),
    "a special token": ("special_tokens_map.json", json.dumps({"pad_token": FINDINGS})),
    "a vocabulary": ("tokenizer.json", json.dumps({"added_tokens": [{"content": FINDINGS}]})),
    "a line of merges": ("merges.txt", FINDINGS),
    "a vocabulary in bytes, with soft hyphens": ("tokenizer.model", b"\x0a\xff" + "\u00ad".join(FINDINGS).encode()),
    "a text in a figure in UTF-8": ("figures/labels.png", png_with(b"tEXt", b"C\0" + "\u00ad".join(REPORT).encode())),
    "a vocabulary in bytes": ("tokenizer.model", b"\x0a\xff" + FINDINGS.encode() + b"\x00"),
    "a chat template": ("chat_template.jinja", f"{{# {REPORT} #}}"),
    "a chat template in JSON": ("chat_template.json", json.dumps({"chat_template": f"{{# {REPORT} #}}"})),
    "an example in the prompt of a tokenizer": ("tokenizer_config.json", json.dumps({"chat_template": REPORT})),
    "a text in a figure": ("figures/labels.png", png_with(b"tEXt", b"Comment\0" + REPORT.encode())),
    "a packed text in a figure": ("figures/labels.png", png_with(b"zTXt", b"a\0\0" + zlib.compress(REPORT.encode()))),
    "an international text in a figure": ("figures/labels.png", png_with(b"iTXt", b"a\0\0\0\0\0" + REPORT.encode())),
    "after the end of a figure": ("figures/labels.png", PNG + REPORT.encode()),
    "in the weights' metadata": (
        "model.safetensors",
        safetensors_with(json.dumps({"__metadata__": {"note": REPORT}})),
    ),
    "a packed card": ("tokenizer.model", b"\x1f\x8b\x08" + bytes(20)),
    "predictions: all references": ("predictions.jsonl", rows(REPORT, *OTHERS)),
    "predictions: a word more": ("predictions.jsonl", rows(*(f"{text} Unchanged." for text in (REPORT, *OTHERS)))),
    "predictions: without headings": ("predictions.jsonl", rows(FINDINGS, *OTHERS)),
    "predictions: the impression alone": ("predictions.jsonl", rows(IMPRESSION)),
    "predictions: one of many": ("predictions.jsonl", rows(*["No nodule is seen."] * 7, f"{REPORT} Unchanged.")),
    "predictions: an example before the report": ("predictions.jsonl", rows(f"Example: {REPORT} Answer: Normal.")),
    "predictions: in capitals": ("predictions.jsonl", rows(*["Normal."] * 5, f"Old. {FINDINGS.upper()}")),
    "predictions: a name twice": (
        "predictions.jsonl",
        f'{{"volume": "{VOLUMES[0]}", "report": {json.dumps(REPORT)}, "report": "Normal."}}\n',
    ),
    "predictions: a field more": (
        "predictions.jsonl",
        json.dumps({"volume": VOLUMES[0], "report": "Normal.", "reference": REPORT}) + "\n",
    ),
    "predictions: in the place of the findings line": (
        "predictions.jsonl",
        json.dumps({"volume": VOLUMES[0], "line": f"Abnormalities: {FINDINGS}", "report": "Normal."}) + "\n",
    ),
    "predictions: after a long report": ("predictions.jsonl", rows(f"{' '.join(LONG)} {REPORT}")),
    "predictions: in the middle of a long report": (
        "predictions.jsonl",
        rows(*["Normal."] * 4, f"{' '.join(LONG[:200])} {FINDINGS.lower()} {' '.join(LONG[200:])}"),
    ),
    "predictions: before each of eight long reports": (
        "predictions.jsonl",
        rows(*(f"{report} {' '.join(LONG[at:])}" for at, report in enumerate([FINDINGS, *OTHERS, REPORT, REPORT]))),
    ),
    "predictions: as the line of a long report": (
        "predictions.jsonl",
        json.dumps({"volume": VOLUMES[0], "line": REPORT, "report": " ".join(LONG)}) + "\n",
    ),
    "predictions: from the line to a long report": (
        "predictions.jsonl",
        json.dumps({"volume": VOLUMES[0], "line": FINDINGS[:250], "report": f"{FINDINGS[250:]} {' '.join(LONG)}"}),
    ),
    "predictions: the name of a person": ("predictions.jsonl", rows("Normal.").replace("valid_1", "smith_1")),
    "predictions: a date as a number": ("predictions.jsonl", rows("Normal.").replace("valid_1", "valid_19640312")),
    "predictions: cut short": ("predictions.jsonl", rows("Normal.", "Normal.")[:-9]),
}
PATHS = {
    **{
        root: ("README.md", f"It was trained at {root}ann/runs/heter on one GPU.")
        for root in (
            *(
                "/home/",
                "/Users/",
                "/root/",
                "/mnt/",
                "/mnt/c/",
                "/data/",
                "/data2/",
                "/scratch/",
                "/media/",
                "/gpfs/",
            ),
            *("/Volumes/", "/nfs/", "/lustre/", "/workspace/", "/tmp/", "/HOME/", "/storage/", "/projects/"),
            *(
                "file:///",
                "file://server/",
                "C:\\",
                "d:/",
                "d:\\runs\\",
                "\\\\server\\share\\",
                "$HOME/",
                "%USERPROFILE%\\",
            ),
            *("/gpfs7/home/", "C:\\Users\\", "file:/"),
        )
    },
    **{
        root: ("README.md", f"Its scans lie in {root}ann/ct there.")
        for root in (
            *("/homes/", "/raid/", "/ssd2/", "/nvme0n1/", "/disk1/", "/nas/", "/cephfs/", "/weka/", "/hpc/", "/proj/"),
            *("/dev/shm/", "/run/media/", "/cygdrive/c/", "/afs/", "/lscratch/", "/mount/", "/research/", "/groups/"),
            *("\\\\?\\UNC\\srv\\share\\", "\\\\?\\C:\\", "%252Fhome%252F", "sftp://nas/"),
        )
    },
    "after a colon": ("README.md", "output_dir:/scratch/ann"),
    "as a flag": ("README.md", "--output_dir=/scratch/ann"),
    "in quotes": ("README.md", "output_dir='/mnt/ann'"),
    "in brackets": ("README.md", "[log](/data/ann/log.txt)"),
    "with wide slashes": ("README.md", "\uff0fhome\uff0fann"),
    "with soft hyphens": ("README.md", "/ho\u00adme/a\u00adnn"),
    "with escapes of addresses": ("README.md", "vscode://file?%2Fhome%2Fann%2Fx"),
    "with entities": ("README.md", "&#47;home&#47;ann"),
    "in metadata": ("README.md", "---\nsource: /data/ann\n---\n"),
    "in a report": ("predictions.jsonl", rows("See /mnt/ann/report.txt")),
    "in a figure": ("figures/losses.png", png_with(b"tEXt", b"Source\0/scratch/ann")),
    "in the weights' metadata": ("model.safetensors", safetensors_with('{"__metadata__": {"from": "/data/ann"}}')),
    "in settings, anywhere": ("training_config.json", '{"data": "/unusual/place"}'),
    "in settings, relative": ("training_config.json", '{"data": "../place/x"}'),
    "a home of any user": ("README.md", "Trained from ~/ct/jane_doe."),
    "a share with slashes": ("README.md", "Its scans are in //server/share/jane/ct."),
    "an address of a share": ("README.md", "smb://server/jane"),
    "in settings, at the root": ("training_config.json", '{"data_dir": "/ct"}'),
    "in settings, at the root with a blank": ("training_config.json", '{"data_dir": "/My Data/"}'),
    "in settings, as a flag": ("training_config.json", '{"command": "train --data_dir=/ct --beta 0"}'),
    "in results for the Hub, at the root": (".eval_results/ct_rate.yaml", "- source: /ct\n"),
    "in settings, at the root of a drive": ("training_config.json", json.dumps({"data_dir": "d:\\ct"})),
    "in settings, a share with slashes": ("training_config.json", '{"data_dir": "//server/share/jane/ct"}'),
    "in settings, a share of a named server": ("training_config.json", '{"data_dir": "//nas.clinic.local/ct"}'),
    "in settings, a home": ("training_config.json", '{"data_dir": "~/ct/jane_doe"}'),
    "in settings, a home of another user": ("training_config.json", '{"data_dir": "~jane/ct"}'),
    "in settings, below a variable": ("training_config.json", '{"data_dir": "$SCRATCH/jane"}'),
    "in settings, a share": ("training_config.json", json.dumps({"data": "\\\\nas\\ct"})),
    "in results for the Hub": (".eval_results/ct_rate.yaml", "source: /unusual/place/x\n"),
    "in the name of an entry": ("results.json", '{"/mnt/ann/run": 0.5}'),
}
TOKEN = "hf_" + "aB3" * 8
TOKENS = {
    "as it is": ("README.md", TOKEN),
    "with soft hyphens": ("README.md", "\u00ad".join(TOKEN)),
    "wide letters": ("README.md", "".join(chr(ord(c) + 0xFEE0) for c in TOKEN)),
    "of the web": ("README.md", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefgh"),
    "in an address": ("README.md", f"https://user:{TOKEN}@huggingface.co"),
    "in a figure": ("figures/losses.png", png_with(b"tEXt", b"by\0" + TOKEN.encode())),
    "in a vocabulary": ("tokenizer.model", TOKEN.encode()),
    "the name of an entry": ("results.json", json.dumps({TOKEN: 1})),
    "the first of a name twice": ("results.json", f'{{"a": "{TOKEN}", "a": 1}}'),
    "over two lines": ("README.md", "custom.tok\nen.value"),
    "of a login in the browser": ("README.md", "hf_oauth_" + "aB3" * 8),
    "as Markdown escapes it": ("README.md", TOKEN.replace("_", "\\_")),
    "of AWS for a while": ("README.md", "ASIA" + "AB3D" * 4),
    "of GitLab": ("README.md", "glpat-" + "aB3x" * 5),
    "of Slack": ("training_config.json", json.dumps({"hook": "xoxb-" + "1234-" * 5})),
    "of Google": ("README.md", "AIza" + "aB3-x" * 7),
    "of npm": ("README.md", "npm_" + "aB3x" * 9),
    "a private key": ("README.md", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"),
    "a header": ("README.md", "Authorization: Bearer " + "aB3x" * 8),
    "a password in an address": ("README.md", "git clone https://ann:sesame@example.org/x"),
    "a variable of the environment": ("README.md", "export WANDB_API_KEY=" + "0a1b2c3d4e" * 4),
    "a setting": ("README.md", "aws_secret_access_key = " + "aB3x" * 10),
    "a setting in YAML": (".eval_results/ct_rate.yaml", "source: 'password: " + "aB3x" * 5 + "'\n"),
}
UID = "1.2.840.113619.2.55.3.604688119.868.1234"
IDENTIFIERS = {
    "a UID": ("README.md", f"Its worst report is that of {UID}."),
    "a UID of a UUID": ("results.json", json.dumps({"worst": f"2.25.{'12' * 18}"})),
    "a UID in a report": ("predictions.jsonl", rows(f"Study {UID}: normal.")),
    "an attribute": ("README.md", "- PatientName: Doe^Jane"),
    "an attribute in a table": ("README.md", "| `PatientID` | 4711 |"),
    "an attribute as a name": ("results.json", json.dumps({"PatientID": "4711"})),
    "an attribute in words": ("README.md", "Patient's Name = Doe^Jane"),
    "a number of a study": (".eval_results/ct_rate.yaml", "AccessionNumber: 4711\n"),
    "an attribute in a figure": ("figures/losses.png", png_with(b"tEXt", b"C\0StudyInstanceUID: 1.2")),
}
TABLES = {
    "other case": ("README.md", "| volumename | findings_en |\n"),
    "in wide letters": ("README.md", "Ｆｉｎｄｉｎｇｓ＿ＥＮ"),
    "a table in any case": ("tables/all.csv", "VOLUMENAME,FINDINGS_EN\n"),
}
ACCIDENTS = {
    **{f"report: {name}": accident for name, accident in FILES.items()},
    **{f"path: {name}": accident for name, accident in PATHS.items()},
    **{f"token: {name}": accident for name, accident in TOKENS.items()},
    **{f"identifier: {name}": accident for name, accident in IDENTIFIERS.items()},
    **{f"table: {name}": accident for name, accident in TABLES.items()},
}


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> str:
    """Hashes of the reports."""
    folder = tmp_path_factory.mktemp("record")
    keep_reference_hashes(folder, [(FINDINGS, IMPRESSION), *OTHERS])
    return (folder / REFERENCES).read_text()


def write(folder: Path, record: str, file: str, content: str | bytes) -> None:
    (folder / REFERENCES).write_text(record)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("accident", mostly_slow(ACCIDENTS))
def test_an_accident_is_refused_by_the_name_of_its_file(tmp_path, record, accident):
    file, content = ACCIDENTS[accident]
    write(tmp_path, record, file, content)
    with pytest.raises(ForbiddenContentError) as refused:
        publishable_files(tmp_path, token="custom.token.value")
    assert f"- {file}" in str(refused.value)
    assert TOKEN not in str(refused.value) and not any(part in str(refused.value) for part in PARTS)


INNOCENT = {
    "a card in its own words": (
        "README.md",
        "# A model\n\nIt writes the findings and the impression of a chest CT.\n",
    ),
    "addresses": ("README.md", "See https://example.org/data/ann/x, http://a.b/mnt/c/d and [data](docs/data/x.md)."),
    "fractions and units": ("README.md", "Coverage/precision 0.5/0.6, 3 mm/s, and/or, n/a, T/N, A:B."),
    "an address of any scheme, and a comment": ("README.md", "//cdn.example.org/a/b x//y ~1/3 of 1 // 2 or s3://a/b"),
    "tokens of a model": ("special_tokens_map.json", '{"additional_special_tokens": ["/nothink", "</s>", "[/INST]"]}'),
    "units and names in settings": ("results.json", '{"a": "m/s", "b": "org/model", "c": "</s>", "d": "/", "e": "~"}'),
    "an escape with too long a number": ("README.md", f"&#{'9' * 5000}; &#{'0' * 5000}65;"),
    "words about DICOM": (
        "README.md",
        "It never writes the PatientName. Transfer syntax 1.2.840.10008.1.2.4.90, version 1.2.3.4.5.",
    ),
    "words about keys": (
        "README.md",
        "Set OPENAI_API_KEY=... or api_key: none. A password is never asked for, secret=x.",
    ),
    "tokens that are named like keys": ("tokenizer.json", '{"a": ["password", "getElementsByTagName", "api_key"]}'),
    "commands and colours": ("README.md", "\\textbf{A} \\b \x1b[31mred\x1b[0m \\u12 \\ud800 \\UFFFFFFFF Ġa"),
    "a formula": ("README.md", "Let $f:\\mathbb{R}\\to\\mathbb{R}$ be $a \\\\ b$."),
    "a relative path": ("README.md", "python recipes/data/x.py --output_dir runs/data/x"),
    "escapes of a template": ("chat_template.jinja", "{{ 'Q:\\nA:\\n' }}{{ '\\\\n' }}"),
    "a figure of Matplotlib": (
        "figures/losses.png",
        png_with(b"tEXt", b"Software\0Matplotlib, https://matplotlib.org/"),
    ),
    "a common sentence": ("README.md", "It often writes: trachea and both main bronchi are open."),
    "generated reports": ("predictions.jsonl", rows(*["The heart is of normal size. No effusion, no nodule."] * 8)),
    "a template that several references have": (
        "predictions.jsonl",
        rows("A mass is seen. No effusion, no enlarged lymph node, and no fracture of a rib. The rest is normal."),
    ),
    "a findings line of each form": (
        "predictions.jsonl",
        "".join(
            json.dumps({"volume": v, "line": write_line([1] * 18, form), "report": "Normal."}) + "\n"
            for v, form in zip(VOLUMES, ("names", "yes_no"), strict=False)
        ),
    ),
    "a findings line": (
        "predictions.jsonl",
        json.dumps(
            {"volume": VOLUMES[0], "line": write_line([0, 1] * 9, "yes_no"), "report": "Normal.", "cut": False}
        ),
    ),
    "no prediction yet": ("predictions.jsonl", ""),
    "an empty card": ("README.md", ""),
}


@pytest.mark.parametrize("case", INNOCENT)
def test_what_only_looks_alike_may_be_published(tmp_path, record, case):
    file, content = INNOCENT[case]
    write(tmp_path, record, file, content)
    assert publishable_files(tmp_path) == [file]


@pytest.mark.parametrize("tags", ["phantom", "[phantom, synthetic]", "PHANTOM"])
def test_no_tag_of_a_card_switches_the_guard_off(tmp_path, record, tags):
    write(tmp_path, record, "README.md", f"---\ntags: {tags}\nlicense: apache-2.0\n---\n{REPORT}\n")
    with pytest.raises(ForbiddenContentError, match="README.md: quotes a reference report"):
        publishable_files(tmp_path)


def test_slices_are_published_of_the_phantom_alone(tmp_path, record):
    write(tmp_path, record, "figures/reports.png", PNG)
    assert publishable_files(tmp_path) == []
    keep_reference_hashes(tmp_path, [REPORT], phantom=True)
    (tmp_path / "README.md").write_text(REPORT)
    assert publishable_files(tmp_path) == ["README.md", "figures/reports.png"]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (None, "reference_hashes.json is missing"),
        ("", "reference_hashes.json is not JSON"),
        ('{"reports": [], "quotes": []}', "the field phantom is not as it must be"),
        ("[]", "the content is not as it must be"),
        ({"phantom": "yes"}, "the field phantom"),
        ({"key": "ab"}, "the field key"),
        ({"stretch": 32}, "of another version"),
        ({"rare": "AAAA"}, "the field rare is damaged"),
        ({"other": "?"}, "the field other is damaged"),
        ({"whole": ""}, "knows no reference report"),
        ({"more": 1}, "the field more"),
    ],
)
def test_without_a_sound_record_of_the_references_nothing_goes_up(tmp_path, record, written, told):
    (tmp_path / "README.md").write_text("# A card\n")
    if written is not None:
        text = written if isinstance(written, str) else json.dumps(json.loads(record) | written)
        (tmp_path / REFERENCES).write_text(text)
    with pytest.raises(ForbiddenContentError) as refused:
        publishable_files(tmp_path)
    assert told in str(refused.value) and "keep_references(" in str(refused.value)
