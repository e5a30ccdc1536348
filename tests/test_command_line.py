"""`ct-rate-pairs`: one spelling of options, configs from anywhere, light help, and errors that are their message."""

import json
import logging
import os
import subprocess
import sys

import pytest
import yaml
from helpers import programs
from helpers.paths import ROOT

from ct_rate_pairs.__main__ import COMMANDS, main
from ct_rate_pairs.command_line import CommandParser, add_options, read_config, run
from ct_rate_pairs.recipes import evaluate_reports, sft_neg
from ct_rate_pairs.recipes.arguments import TaskArguments
from ct_rate_pairs.recipes.recipe_parser import CONFIGS, RecipeParser, find_config
from ct_rate_pairs.volumes.settings import VolumeSettings, volume_options


OF_TRAINER = ("train", "grpo", "train-matcher")  # these show the options of Trainer, which needs torch

# In one process: what each command says to `--help` and to a mistyped option, and whether torch was imported for it.
ASK_ALL = """
import contextlib, io, json, sys
from ct_rate_pairs.__main__ import COMMANDS, main
told = {}
for name in COMMANDS:
    if name in sys.argv[1:]:
        continue
    for words in (["--help"], ["--ouptut_dir", "x"]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([name, *words])
            except SystemExit as end:
                code = end.code
        told[f"{name} {words[0]}"] = code, out.getvalue(), err.getvalue(), "torch" in sys.modules
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    command = [sys.executable, "-c", ASK_ALL, *OF_TRAINER]
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert not list(folder.iterdir())
    return json.loads(done.stdout)


LIGHT = [name for name in COMMANDS if name not in OF_TRAINER]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", LIGHT)
def test_help_teaches_before_torch_is_imported(told, name):
    code, out, err, torch = told[f"{name} --help"]
    assert code == 0 and not err and not torch
    assert f"ct-rate-pairs {name}" in out and "--debug" in out


@pytest.mark.parametrize("name", LIGHT)
def test_a_mistyped_option_ends_in_one_message_before_torch_is_imported(told, name):
    code, out, err, torch = told[f"{name} --ouptut_dir"]
    assert code == 2 and not out and not torch
    message, hint = err.splitlines()
    assert message.startswith("error: ") and hint == f"See ct-rate-pairs {name} --help."


def test_the_nearest_option_is_named(capsys):
    with pytest.raises(SystemExit) as end:
        main(["phantom", "--ouptut_dir", "x", "--scans", "1"])
    assert end.value.code == 2
    assert "there is no option --ouptut_dir: is --output_dir meant?" in capsys.readouterr().err


def test_a_command_that_is_none_is_told_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["trian"])
    assert end.value.code == 2 and "'train'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([])
    told = capsys.readouterr().out
    assert end.value.code == 0 and all(name in told for name in COMMANDS)


@pytest.mark.parametrize("spelling", ["--max_new_tokens", "--max-new-tokens"])
@pytest.mark.parametrize("join", [" ", "="])
def test_dashes_and_underscores_are_the_same(spelling, join):
    parser = RecipeParser([evaluate_reports.EvaluationArguments], "evaluate", "")
    (args,) = parser.parse(f"{spelling}{join}7".split(" "))
    assert args.max_new_tokens == 7
    plain = CommandParser()
    plain.add_argument("--max_new_tokens", type=int)
    assert plain.parse_args(f"{spelling}{join}7".split(" ")).max_new_tokens == 7


def test_a_value_that_looks_like_an_option_s_dashes_stays_as_it_is():
    plain = CommandParser()
    plain.add_argument("--name")
    assert plain.parse_args(["--name=case-7-b"]).name == "case-7-b"
    assert plain.parse_args(["--name", "-7"]).name == "-7"


def test_old_names_are_taken_and_told_as_old(tmp_path, capsys):
    parser = RecipeParser([evaluate_reports.EvaluationArguments], "evaluate", "")
    (args,) = parser.parse(["--model", "m", "--out", "o", "--scans", "3", "--batch-size", "2"])
    assert (args.model_name_or_path, args.output_dir, args.max_eval_samples) == ("m", "o", 3)
    assert args.per_device_eval_batch_size == 2
    assert "--model is an old name of --model_name_or_path" in capsys.readouterr().err
    config = tmp_path / "old.yaml"
    config.write_text("model: m\nscans: 4\n")
    (args,) = parser.parse(["--config", str(config)])
    assert args.max_eval_samples == 4
    assert "--scans is an old name of --max_eval_samples" in capsys.readouterr().err


def test_configs_are_found_from_anywhere_by_name_and_by_their_path_in_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("phantom", "phantom.yaml", "recipes/configs/phantom.yaml"):
        assert find_config(name) == CONFIGS / "phantom.yaml"
    (tmp_path / "phantom").write_text("seed: 1\n")  # a file of that name goes first
    assert read_config(find_config("phantom")) == {"seed": 1}
    with pytest.raises(FileNotFoundError, match=r"no config phantm .*meant.* Give a file, or one of .*phantom"):
        find_config("phantm")
    (tmp_path / "phantom.log").write_text("")  # near, too, but the user hardly means it
    with pytest.raises(FileNotFoundError, match=r"no config phantm \(is phantom meant\?\)"):
        find_config("phantm")
    with pytest.raises(FileNotFoundError):
        find_config("elsewhere/phantom.yaml")


def test_a_config_overrides_its_base_and_the_command_line_both(tmp_path):
    (tmp_path / "first.yaml").write_text("num_slices: 4\nprompt: zh\ntarget: findings\n")
    (tmp_path / "second.yaml").write_text("base: first.yaml\nnum_slices: 5\nprompt: en\n")
    parser = RecipeParser([TaskArguments], "x", "")
    (args,) = parser.parse(["--config", str(tmp_path / "second.yaml"), "--num_slices", "6"])
    assert (args.num_slices, args.prompt, args.target) == (6, "en", "findings")


@pytest.mark.parametrize("name", ["vqa", "matching", "errors", "mixture", "own_questions"])
def test_a_task_s_config_says_only_what_differs_from_the_phantom_s(name):
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert content["base"] == "phantom_heter.yaml" and len(content) <= 7
    base = read_config(CONFIGS / "phantom_heter.yaml")
    assert all(base.get(key) != value for key, value in content.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("num_slcies: 4\n", "there is no option --num_slcies: is --num_slices meant?"),
        ("- a\n", "option: value"),
        ("a: [", "not YAML"),
        ("num_slices: [1, 2]", "the option num_slices cannot be [1, 2]"),
        ("num_slices: 2001-01-01", "the option num_slices cannot be datetime.date"),
        ("num_slices: .inf", "the option num_slices cannot be inf"),
        ("num_slices: true", "the option num_slices cannot be True"),
        ("prompt: {a: 1}", "the option prompt cannot be {'a': 1}"),
        ("prompt: !!binary aGk=", "the option prompt cannot be b'hi'"),
        ("task: x", "the option task cannot be 'x'. It is one of "),
        ("task: [vqa]", "the option task cannot be ['vqa']"),
    ],
)
def test_a_config_that_is_wrong_is_named(tmp_path, capsys, content, message):
    config = tmp_path / "wrong.yaml"
    config.write_text(content)
    parser = RecipeParser([TaskArguments], "x", "")
    with pytest.raises(SystemExit) as end:
        run(parser.parse, ["--config", str(config)])
    told = capsys.readouterr().err
    assert end.value.code == 2 and message in told and "wrong.yaml" in told


THREE = ((-1225, 1025), (-135, 215), (0, 80))


def test_spacings_are_read_from_words():
    (args,) = RecipeParser([TaskArguments], "x", "").parse(["--spacing", "1", "2", "3"])
    assert args.spacing == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "yaml", "window"),
    [
        ("rgb", "rgb", "rgb"),
        ("-1000 200", "[-1000, 200]", (-1000, 200)),
        ("-1000 200", "-1000 200", (-1000, 200)),
        ("-1000 200", "-1000,200", (-1000, 200)),
        ("-1225 1025 -135 215 0 80", "[-1225, 1025, -135, 215, 0, 80]", THREE),
        ("-1225 1025 -135 215 0.0 8e1", "[[-1225, 1025], [-135, 215], [0, 80]]", THREE),
    ],
)
def test_a_window_is_the_same_on_every_command_line_and_in_a_config(tmp_path, words, yaml, window):
    parser = RecipeParser([TaskArguments], "x", "")
    assert parser.parse(["--window", *words.split()])[0].window == window
    (tmp_path / "c.yaml").write_text(f"window: {yaml}\n")
    assert parser.parse(["--config", str(tmp_path / "c.yaml")])[0].window == window
    options = CommandParser("x")
    add_options(options, VolumeSettings)  # as `show`, `prepare` and `partners` have them
    assert volume_options(vars(options.parse_args(["--window", *words.split()]))) == {"window": window}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--window=-1000,400"],
        ["--window", "-1000,400"],
        ["--window", "-1000, 400"],
        ["--window", "-1000", "400"],
        ["--window=-1000", "400"],
        ["--window=-1000 400"],
        ["--window", "(-1000, 400)"],
        ["--window", "[-1000;400]"],
        ["--window", "-1000.0,+4e2", "--num_slices", "5"],
    ],
)
def test_two_numbers_may_be_spelt_with_commas_brackets_or_an_equals_sign(arguments):
    assert RecipeParser([TaskArguments], "x", "").parse(arguments)[0].window == (-1000, 400)
    options = CommandParser("x")
    add_options(options, VolumeSettings)
    assert volume_options(vars(options.parse_args(arguments)))["window"] == (-1000, 400)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--window=-1225,1025,-135,215,0,80"],
        ["--window", "-1225,1025", "-135,215", "0,80"],
        ["--window", "(-1225, 1025)", "(-135, 215)", "(0, 80)"],
        ["--window=[[-1225, 1025], [-135, 215], [0, 80]]"],
        ["--window=-1225,1025", "-135,215", "0,80"],
    ],
)
def test_three_windows_may_be_spelt_so_too(arguments):
    assert RecipeParser([TaskArguments], "x", "").parse(arguments)[0].window == THREE


def test_other_options_of_several_numbers_are_spelt_so_too_and_texts_stay_whole():
    (args,) = RecipeParser([TaskArguments], "x", "").parse(
        ["--spacing=1,2,3", "--z_range", "0,.5", "--data_dir", "1,2"]
    )
    assert (args.spacing, args.z_range, args.data_dir) == ([1, 2, 3], [0, 0.5], "1,2")


@pytest.mark.parametrize(
    ("words", "yaml"),
    [
        *(("bone", "bone"), ("5", "5"), ("1 2 3", "[1, 2, 3]"), ("1 2 3 4", "[[1, 2], [3, 4]]"), ("2 1", "[2, 1]")),
        *(("1 2 3 4 5 6 7", "[1, 2, 3, 4, 5, 6, 7]"), ("low high", "[[1, 2], [3]]"), ("1 2 3 4 5 x", "[1, x]")),
    ],
)
def test_other_windows_are_refused_before_anything_is_read(tmp_path, words, yaml):
    parser = RecipeParser([TaskArguments], "x", "")
    (tmp_path / "c.yaml").write_text(f"window: {yaml}\n")
    for arguments in (["--window", *words.split()], ["--config", str(tmp_path / "c.yaml")]):
        with pytest.raises(ValueError, match="window=.*'rgb', a pair .*or three pairs"):
            parser.parse(arguments)


def raising(error):
    def command(argv):
        raise error

    return command


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, ImportError, FloatingPointError])
def test_what_the_user_can_mend_ends_in_its_message_alone(capsys, kind):
    error = kind("mend this")
    error.add_note("and thus")
    with pytest.raises(SystemExit) as end:
        run(raising(error), [])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: mend this\nand thus\n"
    for argv in (["--debug"], ["--debug", "phantom"], ["show", "--debug", "folder"]):
        with pytest.raises(kind):
            run(raising(error), argv)


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), [])


def test_trainer_s_own_option_debug_is_left_to_it():
    seen = []
    with pytest.raises(SystemExit):
        run(seen.extend, ["--debug", "underflow_overflow", "--seed", "1"])
    assert seen == ["--debug", "underflow_overflow", "--seed", "1"]


def test_bad_input_is_found_before_a_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", raising(AssertionError("loaded")))
    for argv, message in (
        (["report", "nothing.nii", "--model_name_or_path", str(tmp_path), "--output_dir", "o"], "no such file"),
        (["evaluate"], "Give either --model_name_or_path"),
        (["evaluate", "--predictions", "none.jsonl"], "There is no file none.jsonl"),
        (["evaluate", "--model_name_or_path", "a/b", "--num_slices", "ten"], "invalid int value"),
        (["evaluate", "--model_name_or_path", "./nowhere"], "There is no folder ./nowhere"),
        (["evaluate", "--model_name_or_path", "m", "--min_label_distance", "99"], "min_label_distance"),
        (["evaluate", "--model_name_or_path", "m", "--negative", "hetr"], "invalid choice"),
        (["table", "a", "b", "c"], "There is no file a. Give the folder"),
        (["evaluate-task", "--task", "vqa"], "Give --model_name_or_path"),
        (["evaluate-task", "--task", "captions"], "invalid choice"),
        (["compare", "--first", "a", "--second", "b"], "There is no file or folder a."),
        (["train", "--config", "phantom", "--data_dir", "nowhere"], "There is no folder nowhere."),
        (["train", "--config", "phantom", "--model_name_or_path", "./nowhere"], "There is no folder ./nowhere."),
        (["show", "nowhere"], "There is no folder nowhere."),
        (["prepare", "--output_dir", "o", "--data_dir", "nowhere"], "There is no folder nowhere."),
        (["train", "--config", "phantom_heter", "--negative", "none"], "--beta 0"),
        (["publish", "nowhere", "a/b"], "There is no folder nowhere."),
    ):
        with pytest.raises(SystemExit) as end:
            run(main, argv)
        told = capsys.readouterr().err
        assert end.value.code == 2 and message in told and "Traceback" not in told, argv


@pytest.mark.parametrize("model", ["./nowhere", "."])
def test_report_tells_a_missing_model_before_torch_is_imported(tmp_path, model):
    (tmp_path / "scan.nii").touch()
    words = ["report", "scan.nii", "--model_name_or_path", model, "--output_dir", "out"]
    code = f"""
import sys
from ct_rate_pairs.__main__ import main
try:
    main({words})
except OSError as error:
    print(error, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    told = {"./nowhere": "There is no folder ./nowhere", ".": ". holds no model"}[model]
    assert done.stdout.startswith(told) and done.stdout.endswith(" False\n")


@pytest.mark.slow
def test_under_accelerate_the_recipe_s_own_words_are_its_message_alone(tmp_path):
    command = ["-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "1", "--cpu"]
    recipe = str(ROOT / "recipes/sft_neg.py")
    done = programs.run(*command, recipe, "--config", "phantom", "--data_dir", "nowhere", cwd=tmp_path)
    assert done.returncode != 0
    ours = done.stderr[: done.stderr.index("Traceback")]  # what follows is the launcher's, on the exit code
    assert "error: " in ours and "There is no folder nowhere." in ours
    assert "returned non-zero exit status 2" in done.stderr and 'recipes/sft_neg.py", line' not in done.stderr


def test_what_an_error_quotes_does_not_reach_the_terminal_raw(capsys):
    with pytest.raises(SystemExit):
        run(raising(ValueError("the series is called \x1b[2J\u202eevil\rnormal")), [])
    assert capsys.readouterr().err == "error: the series is called \\x1b[2J\\u202eevil\\rnormal\n"


def test_what_a_log_message_quotes_does_not_reach_the_terminal_raw(caplog, monkeypatch):
    monkeypatch.setattr(logging, "_logRecordFactory", logging.getLogRecordFactory())  # put back afterwards
    with pytest.raises(SystemExit):
        run(lambda _: logging.getLogger("of.any.library").warning("%s is left out.\nThe end", "\x1b[2Jscan\u202e"), [])
    assert caplog.messages == ["\\x1b[2Jscan\\u202e is left out.\nThe end"]


def test_the_recipe_runs_bare_as_the_paper_s_heterogeneous_run():
    recipe_args, args, model_args = sft_neg.parse([])
    assert recipe_args.negative == "heter" and args.beta == 0.1 and "7B" in model_args.model_name_or_path


def test_a_name_that_is_no_text_is_printed_by_escapes():
    """A name of a file may be any bytes. The command has done its work by then, and must not end with an error."""
    code = "from ct_rate_pairs.command_line import run; run(lambda argv: print(argv[0], '\u00b1'))"
    command = [sys.executable, "-c", code, os.fsdecode(b"out\xff")]
    for encoding, printed in (("utf-8", "out\\udcff \u00b1"), ("ascii", "out\\udcff \\xb1")):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
        assert done.stdout.decode().strip() == printed
