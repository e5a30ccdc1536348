"""
Each block of the documents runs as printed, at small sizes, or says why it does not run here. Each public name has a
docstring.

A `python` block is executed. A `bash` block is run in this process, line by line. A line may be a command
`ct-rate-pairs`, a recipe behind `accelerate launch`, or `make`, whose commands are only listed. A block that follows
`<!-- not run here: REASON -->` is not run, but the options of its commands must exist.
"""

import inspect
import re
import runpy
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import evaluate  # noqa: F401 (chooses its cache when it is imported, and not that of the Hub on loopback)
import pytest
from accelerate.commands.launch import launch_command_parser
from helpers.paths import ROOT
from helpers.prepare import use_a_thread
from helpers.writable_hub import WRITE, Repo, WritableHub

from ct_rate_pairs.__main__ import COMMANDS
from ct_rate_pairs.__main__ import main as ct_rate_pairs
from ct_rate_pairs.command_line import CommandParser
from ct_rate_pairs.phantom import write_cohort
from ct_rate_pairs.recipes.recipe_parser import RecipeParser
from ct_rate_pairs.sources.hub import REPO_ID


COHORT = "runs/phantom_cohort"
SPACING = ["--spacing", "4.5", "4.5", "6.5"]
# What a reader would put in, and what stands there in the tests: the phantom has CT-RATE's layout.
STANDS_FOR = {"/path/to/CT-RATE": COHORT, "DIR": COHORT, "USER": "alice"}
# Options that make a command short. They come last, so they override the printed ones.
TRAIN = ["--max_steps", "1", "--max_eval_samples", "2", "--max_new_tokens", "4", "--confidence_scans", "0"]
TRAIN += ["--per_device_train_batch_size", "1", "--operating_point", "none"]
SHORT = {
    "phantom": ["--scans", "4", "--valid_scans", "2", "--workers", "1", "--output_dir", "phantom"],
    "prepare": ["--workers", "1", *SPACING],
    "train": TRAIN,
    "train-matcher": ["--max_steps", "1"],
    "grpo": [
        *("--max_steps", "1", "--max_completion_length", "4", "--num_generations", "2", "--logging_steps", "1"),
        *("--max_eval_samples", "2", "--max_new_tokens", "4", "--confidence_scans", "0", "--operating_point", "none"),
    ],
    "evaluate": ["--max_eval_samples", "2", "--max_new_tokens", "4", "--looking_scans", "2"],
    "evaluate-task": ["--max_new_tokens", "4"],
}
# The paper's run without its weights of 7 billion parameters, and on the phantom in the place of CT-RATE.
PAPER = [*TRAIN, "--model_name_or_path", "tiny", "--data_dir", COHORT, *SPACING, "--eval_strategy", "no"]
PAPER += ["--load_best_model_at_end", "false", "--dataloader_num_workers", "0", "--bf16", "false"]
RECIPES = {module.rsplit(".", 1)[-1]: name for name, (module, _) in COMMANDS.items() if ".recipes." in module}
REASON = re.compile(r"<!-- not run here: (.+) -->")


@dataclass
class Block:
    """A block of code in a document; `reason` is why it is not run."""

    language: str
    text: str
    place: str
    reason: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a `bash` block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def read_blocks(path: Path) -> list[Block]:
    lines, found = path.read_text().splitlines(), []
    numbered = enumerate(lines)
    for number, line in numbered:
        if line.strip().startswith("```"):
            told = next((one for one in reversed(lines[:number]) if one.strip()), "")
            reason = REASON.fullmatch(told.strip())
            body = []
            for _, inner in numbered:
                if inner.strip() == "```":
                    break
                body.append(inner.removeprefix(line[: len(line) - len(line.lstrip())]))
            place = f"{path.relative_to(ROOT)}:{number + 1}"
            found.append(Block(line.strip()[3:], "\n".join(body), place, reason and reason[1]))
    return found


DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): read_blocks(path)
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
BLOCKS = [block for blocks in DOCUMENTS.values() for block in blocks]
RUN = {name: [one for one in blocks if one.language in ("python", "bash")] for name, blocks in DOCUMENTS.items()}
RUN = {name: blocks for name, blocks in RUN.items() if any(not block.reason for block in blocks)}


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """The command of `ct-rate-pairs` that the words of a line start, and its arguments."""
    program, *rest = words
    if program == "accelerate":
        launched = launch_command_parser().parse_args(rest[1:])
        script, arguments = launched.training_script, launched.training_script_args
        assert launched.module or (ROOT / script).is_file()
        assert launched.config_file is None or (ROOT / launched.config_file).is_file()
        return RECIPES[script.rsplit(".", 1)[-1] if launched.module else Path(script).stem], arguments
    assert program == "ct-rate-pairs"
    return rest[0], rest[1:]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Path:
    """A folder with what the documents speak of: the recipes, a cohort, runs, a scan, and a file of predictions."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_cohort(Path(COHORT), 40, valid_scans=4, workers=1, reconstructions=0.0, masks=True)
        masks = ["--masks", f"{COHORT}/masks", "--mask_loss_weight", "1"]
        ct_rate_pairs(["train", "--config", "phantom_heter", *TRAIN, *masks, "--output_dir", "runs/phantom"])
    for name in ("masks", "heter", "origin", "gauss", "vqa", "matching", "errors"):
        shutil.copytree(folder / "runs/phantom", folder / "runs" / name)
    shutil.copy(folder / "runs/phantom/generated_reports.json", folder / "theirs.json")
    shutil.copy(next((folder / COHORT / "dataset/valid_fixed").rglob("*.nii.gz")), folder / "scan.nii.gz")
    return folder


@pytest.fixture(scope="session")
def hub(workshop):
    """A Hub on loopback with CT-RATE, which is the phantom here, and a released model."""
    server = WritableHub()
    rate = server.repos["datasets", REPO_ID] = Repo(REPO_ID, "datasets", private=False, sdk=None)
    files = (path for path in (workshop / COHORT).rglob("*") if path.is_file())
    rate.commit("main", {path.relative_to(workshop / COHORT).as_posix(): path.read_bytes() for path in files}, "all")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workshop)
        server.connect(patch, WRITE, workshop / "hf")
        ct_rate_pairs(["publish", "runs/phantom", "alice/model"])
    yield server
    server.stop()


@pytest.fixture
def here(workshop, hub, monkeypatch):
    """The workshop as the folder that a reader is in, logged in to the Hub."""
    monkeypatch.chdir(workshop)
    use_a_thread(monkeypatch)
    hub.connect(monkeypatch, WRITE, workshop / "hf")


def run_command(words: list[str]) -> None:
    words = [re.sub(r"\b(DIR|USER)\b|/path/to/CT-RATE", lambda found: STANDS_FOR[found[0]], word) for word in words]
    if words[0] == "make":
        listed = ["make", "--dry-run", "--directory", str(ROOT), *words[1:]]
        subprocess.run(listed, check=True, capture_output=True)
    elif words[:2] == ["python", "benchmarks"]:
        runpy.run_path(words[1])
    else:
        name, arguments = command_of(words)
        if name == "train" and "--config" not in arguments:
            arguments = [*arguments, *PAPER]
        elif "--predictions" not in arguments:
            arguments = [*arguments, *SHORT.get(name, [])]
        if name == "phantom":
            shutil.rmtree("phantom", ignore_errors=True)
        assert not ct_rate_pairs([name, *arguments])


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN)
def test_blocks_run_as_printed(document, here):
    names: dict = {}
    for block in RUN[document]:
        if block.reason:
            continue
        print(block.place)
        if block.language == "python":
            code = block.text.replace("/path/to/CT-RATE", COHORT).replace("USER", "alice")
            exec(compile(code, block.place, "exec"), names)
        else:
            for words in block.commands:
                run_command(words)


class Parsed(Exception):
    """The arguments of a command were understood."""


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.reason and one.language == "bash"], ids=lambda one: one.place
)
def test_the_options_of_a_command_that_is_not_run_exist(block, monkeypatch):
    def stop_after(parse):
        def parse_only(*args, **kwargs):
            parse(*args, **kwargs)
            raise Parsed

        return parse_only

    monkeypatch.setattr(RecipeParser, "parse", stop_after(RecipeParser.parse))
    monkeypatch.setattr(CommandParser, "parse_args", stop_after(CommandParser.parse_args))
    for words in block.commands:
        if words[0] in ("accelerate", "ct-rate-pairs"):
            name, arguments = command_of(words)
            arguments = ["1" if word in ("i", "n") else word for word in arguments]
            with pytest.raises(Parsed):
                import_module(COMMANDS[name][0]).main(arguments)


def test_every_block_of_commands_is_marked_as_such():
    for block in BLOCKS:
        assert block.language in ("python", "bash", "yaml", ""), block.place
        first = block.text.split(maxsplit=1)[0].rsplit("/", 1)[-1]
        is_command = first in ("ct-rate-pairs", "accelerate", "python", "make", "pip", "hf", "git")
        assert block.language == "bash" if is_command else block.language != "bash", block.place


def test_the_literal_uses_stand_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert "import ct_rate_pairs" in text and 'load_dataset("ct_rate_pairs", negative="heter")' in text
    assert 'evaluate.load("ct_coverage")' in text and "accelerate launch recipes/sft_neg.py" in text
    assert 'load_reporter("USER/model").report("scan.nii.gz")' in text and "A phantom is not a patient." in text


def test_the_chinese_readme_has_the_same_code():
    def code(path: str) -> list[str]:
        return [re.sub(r" *#.*", "", one.text) for one in read_blocks(ROOT / path)]

    assert code("README.zh.md") == code("README.md")


def test_the_demo_takes_as_long_in_every_document():
    told = [
        re.search(pattern, (ROOT / name).read_text())[1]
        for name, pattern in (
            ("README.md", r"`make demo` printed .*?([\d.]+) minutes"),
            ("README.zh.md", r"`make demo` 打印.*?([\d.]+) 分钟"),
            ("CONTRIBUTING.md", r"make demo .*?([\d.]+) minutes"),
        )
    ]
    assert len(set(told)) == 1, told


def test_no_document_names_what_a_reader_does_not_have():
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        assert not re.search(r"\.\./shared|DESIGN|LAYOUT\.md|\b[0-9a-f]{16,}\b", text), path
        for target, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", re.sub(r"(?s)```.*?```", "", text)):
            linked = path.parent / target
            assert linked.exists(), f"{path.name}: {target}"
            if anchor and "." not in anchor:  # with a dot it is a name in the reference, which mkdocs checks
                titles = re.findall(r"^#+ (.*)", linked.read_text(), re.MULTILINE)
                slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
                assert anchor in slugs, f"{path.name}: {target}#{anchor}"
        if path.name == "CHANGELOG.md":  # it names what there was
            continue
        for named in re.findall(
            r"`((?:ct_rate_pairs|trainer|eval|hub|recipes|tests|benchmarks|docs)/[\w/.]*\w)`", text
        ):
            assert (ROOT / named).exists(), f"{path.name}: {named}"


def modules() -> list[str]:
    """The modules of the product by name, without the scripts that `evaluate` runs."""
    found = []
    for folder in ("ct_rate_pairs", "trainer", "eval", "hub", "recipes"):
        for path in (ROOT / folder).rglob("*.py"):
            if (path.parent / "__init__.py").is_file():
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(parts if folder == "ct_rate_pairs" else ("ct_rate_pairs", *parts))
                found.append(name.removesuffix(".__init__"))
    return sorted(found)


def is_documented(thing) -> bool:
    """Whether it has a docstring. That of an overridden method counts, and those that Python writes do not."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else inspect.getdoc(thing)
    return bool(text) and not text.startswith(f"{getattr(thing, '__name__', '')}(")


def test_public_names_are_documented():
    missing = []
    for name in modules():
        module = import_module(name)
        missing += [] if module.__doc__ else [name]
        for public, thing in vars(module).items():
            ours = getattr(thing, "__module__", None) == name and (inspect.isclass(thing) or inspect.isroutine(thing))
            # A command's module docstring is the command's help. Pydantic adds classes such as `RootModel[int]`.
            if ours and public.isidentifier() and not public.startswith("_") and public != "main":
                missing += [] if is_documented(thing) else [f"{name}.{public}"]
                members = dict(vars(thing)) if inspect.isclass(thing) else {}
                fields = members.get("__dataclass_fields__", {})  # the class tells of these
                for member in members.keys() - fields.keys():
                    value = members[member]
                    is_method = inspect.isroutine(value) or isinstance(value, property)
                    if not member.startswith("_") and is_method and not is_documented(getattr(thing, member)):
                        missing.append(f"{name}.{public}.{member}")
    assert not missing, missing


def test_the_reference_shows_every_module():
    pages = [path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md")]
    shown = {name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    # Commands are told of by their help, and the packages that only gather names by the modules of these names.
    hidden = re.compile(r"__main__|\.recipes")
    expected = {
        name
        for name in modules()
        if not hidden.search(name)
        and any(getattr(thing, "__module__", None) == name for thing in vars(import_module(name)).values())
    }
    assert shown >= expected, expected - shown
    assert shown <= set(modules()), shown - set(modules())
