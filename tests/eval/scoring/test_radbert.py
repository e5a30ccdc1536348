"""The RadBERT labeler on a tiny checkpoint of the same format: keys, pooled output, 512 tokens, threshold."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

import ct_rate_pairs
from ct_rate_pairs.eval import label_reports
from ct_rate_pairs.eval.scoring.radbert import OFFICIAL_ORDER, load_radbert, order_of, radbert_probabilities
from ct_rate_pairs.reports.labels import LABELS


WORDS = ["lungs", "are", "clear", "nodule", "effusion", "in", "the", "right", "left", "lobe", "no", "small", "seen"]
WORDS += ["heart", "enlarged"]
REPORTS = ["nodule seen in the right lobe", "lungs are clear", "heart enlarged no effusion in the left lobe", "small"]


def write_encoder(folder: Path) -> RobertaConfig:
    """Tokenizer and `config.json`: RoBERTa's special tokens and positions, one token a word."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    config.save_pretrained(folder)
    return config


def make_state(config: RobertaConfig) -> dict[str, torch.Tensor]:
    """A state dict with the keys of CT-CLIP's checkpoint, the old buffer among them."""
    torch.manual_seed(0)
    state = {f"model.{key}": value for key, value in RobertaModel(config).state_dict().items()}
    state["model.embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    state["classifier.weight"], state["classifier.bias"] = torch.randn(18, 16), torch.randn(18)
    return state


def expected_probabilities(report: str, config: RobertaConfig, state: dict[str, torch.Tensor]) -> np.ndarray:
    """`sigmoid(W tanh(P h_0 + p) + b)`, of one report alone and without padding, from the state dict."""
    encoder = RobertaModel(config, add_pooling_layer=False).eval()
    pooled = ("pooler", "position_ids")
    encoder.load_state_dict(
        {k[6:]: v for k, v in state.items() if k.startswith("model.") and not any(name in k for name in pooled)}
    )
    tokens = [0, *(4 + WORDS.index(word) for word in report.split()[:510]), 2]
    with torch.no_grad():
        first = encoder(torch.tensor([tokens])).last_hidden_state[0, 0]
        pooler_weight, pooler_bias = state["model.pooler.dense.weight"], state["model.pooler.dense.bias"]
        pooled_output = torch.tanh(pooler_weight @ first + pooler_bias)
        logits = state["classifier.weight"] @ pooled_output + state["classifier.bias"]
        return (1 / (1 + torch.exp(-logits))).numpy()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("radbert")
    config = write_encoder(folder)
    state = make_state(config)
    torch.save(state, folder / "RadBertClassifier.pth")
    return folder, config, state


def test_probabilities_are_a_hand_computed_forward_in_batches_of_unequal_reports(checkpoint):
    folder, config, state = checkpoint
    model, tokenizer = load_radbert(str(folder))
    probabilities = radbert_probabilities(REPORTS, model, tokenizer, batch_size=3)
    expected = np.stack([expected_probabilities(report, config, state) for report in REPORTS])
    assert probabilities.shape == (4, 18)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_labels_are_set_from_one_half_and_an_empty_report_states_nothing(checkpoint):
    folder, config, state = checkpoint
    with pytest.warns(UserWarning, match="the first in row 4"):
        labels = label_reports([*REPORTS, " "], f"radbert:{folder}")
    expected = np.stack([expected_probabilities(report, config, state) for report in REPORTS]) >= 0.5
    assert labels.dtype == np.int8
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(labels, [*expected, [False] * 18])
    assert label_reports([], f"radbert:{folder}").shape == (0, 18)


def test_reports_are_cut_at_512_tokens(checkpoint):
    folder, config, state = checkpoint
    long = " ".join(["nodule"] * 510)
    loaded = load_radbert(str(folder))
    probabilities = radbert_probabilities([long, long + " effusion" * 300], *loaded)
    np.testing.assert_allclose(probabilities[0], probabilities[1], atol=1e-6)
    np.testing.assert_allclose(probabilities[0], expected_probabilities(long, config, state), atol=1e-6)


@pytest.mark.parametrize("place", ["folder of safetensors", "file", "encoder elsewhere"])
def test_weights_and_encoder_may_lie_in_one_folder_or_two(checkpoint, tmp_path, place):
    folder, _, state = checkpoint
    expected = radbert_probabilities(REPORTS, *load_radbert(str(folder)))
    if place == "folder of safetensors":
        write_encoder(tmp_path)
        save_file(state, tmp_path / "model.safetensors")
        loaded = load_radbert(str(tmp_path))
    elif place == "file":
        loaded = load_radbert(str(folder / "RadBertClassifier.pth"))
    else:
        torch.save(state, tmp_path / "RadBertClassifier.pth")
        loaded = load_radbert(str(tmp_path), encoder=str(folder))
    np.testing.assert_allclose(radbert_probabilities(REPORTS, *loaded), expected, atol=1e-6)


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_checkpoint_of_another_format_names_its_keys(tmp_path, change):
    state = make_state(write_encoder(tmp_path))
    if change == "missing":
        del state["model.pooler.dense.weight"]
    else:
        state["classifier.out_proj.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "RadBertClassifier.pth")
    with pytest.raises(RuntimeError, match="pooler.dense.weight" if change == "missing" else "out_proj"):
        label_reports(REPORTS, f"radbert:{tmp_path}")


def save_in_the_form_of_transformers(checkpoint, folder: Path, names: list[str]) -> None:
    """The same classifier as RadEval ships it, with its outputs in the order of `names`."""
    _, config, state = checkpoint
    write_encoder(folder)
    named = RobertaConfig(**config.to_dict() | {"id2label": dict(enumerate(names)), "num_labels": len(names)})
    model = RobertaForSequenceClassification(named)
    rows = [LABELS.index(name.replace("_", " ").capitalize()) for name in names]
    head = {
        "classifier.dense.weight": state["model.pooler.dense.weight"],
        "classifier.dense.bias": state["model.pooler.dense.bias"],
        "classifier.out_proj.weight": state["classifier.weight"][rows],
        "classifier.out_proj.bias": state["classifier.bias"][rows],
    }
    encoder = {
        key.replace("model.", "roberta.", 1): value
        for key, value in state.items()
        if key.startswith("model.") and "pooler" not in key and "position_ids" not in key
    }
    model.load_state_dict(encoder | head)
    model.save_pretrained(folder)


SHUFFLED = [LABELS[i] for i in np.random.default_rng(0).permutation(len(LABELS))]


@pytest.mark.parametrize("names", [list(LABELS), SHUFFLED, [name.upper().replace(" ", "_") for name in SHUFFLED]])
@pytest.mark.parametrize("as_file", [False, True])
def test_both_forms_give_the_same_labels_whatever_the_order_of_the_outputs(checkpoint, tmp_path, names, as_file):
    save_in_the_form_of_transformers(checkpoint, tmp_path, names)
    where = tmp_path / "model.safetensors" if as_file else tmp_path
    long = " ".join(["nodule effusion"] * 400)
    expected = radbert_probabilities([*REPORTS, long], *load_radbert(str(checkpoint[0])))
    np.testing.assert_allclose(radbert_probabilities([*REPORTS, long], *load_radbert(str(where))), expected, atol=1e-6)
    texts = [*REPORTS, long, " "]
    labels = label_reports(texts, f"radbert:{where}")
    np.testing.assert_array_equal(labels, label_reports(texts, f"radbert:{checkpoint[0]}"))
    assert labels.any() and not labels[-1].any()


def test_outputs_with_other_names_are_refused(checkpoint, tmp_path):
    for number, (change, told) in enumerate(
        [
            ({0: "Support devices"}, "names Support devices, and lacks Medical material"),
            ({3: "Cardiomegaly"}, "names no other label, and lacks Pericardial effusion"),
            ({i: f"LABEL_{i}" for i in range(18)}, "have no names.*copy of IAMJB/RadBERT-CT"),
            ({i: f"LABEL_{i}" for i in range(17)}, "names LABEL_0, LABEL_1, LABEL_2, and lacks Medical material"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_in_the_form_of_transformers(checkpoint, folder, list(LABELS))
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] |= {str(i): name for i, name in change.items()}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=f"{told}.*id2label"):
            label_reports(REPORTS, f"radbert:{folder}")


def test_another_number_of_outputs_is_refused():
    with pytest.raises(ValueError, match="its 14 outputs are not the 18 labels"):
        order_of(dict(enumerate(LABELS[:14])), "a/b")
    with pytest.raises(ValueError, match="names No finding"):
        order_of(dict(enumerate([*LABELS, "No finding"])), "a/b")


@pytest.mark.parametrize("numbers", [range(1, 19), [*range(17), 18], [-1, *range(1, 18)]])
def test_outputs_that_are_not_numbered_from_0_without_a_gap_are_refused_with_the_remedy(numbers):
    with pytest.raises(ValueError, match="a/b: id2label .* 0 to 17, .*number the names from 0"):
        order_of(dict(zip(numbers, LABELS, strict=True)), "a/b")


def test_the_order_of_radeval_s_repository_is_known_without_names():
    unnamed = {i: f"LABEL_{i}" for i in range(18)}
    assert order_of(unnamed, OFFICIAL_ORDER[0]) == list(range(18))
    assert order_of(dict(enumerate(SHUFFLED)), OFFICIAL_ORDER[0]) == [SHUFFLED.index(label) for label in LABELS]
    with pytest.raises(ValueError, match="id2label"):
        order_of(unnamed, "someone/copy")


def test_a_copy_without_names_works_after_the_remedy_and_from_the_hub_s_cache(checkpoint, tmp_path):
    cached = tmp_path / "models--IAMJB--RadBERT-CT" / "snapshots" / "0123"
    for folder in (tmp_path / "copy", cached):
        folder.mkdir(parents=True)
        save_in_the_form_of_transformers(checkpoint, folder, list(LABELS))
        config = json.loads((folder / "config.json").read_text())
        del config["id2label"]
        (folder / "config.json").write_text(json.dumps(config | {"num_labels": 18}))
    expected = label_reports(REPORTS, f"radbert:{checkpoint[0]}")
    np.testing.assert_array_equal(label_reports(REPORTS, f"radbert:{cached}"), expected)
    copy = tmp_path / "copy"
    with pytest.raises(ValueError, match="have no names") as refused:
        label_reports(REPORTS, f"radbert:{copy}")
    remedy = str(refused.value).rpartition("config.json: ")[2].replace("FOLDER", repr(str(copy)))
    exec(remedy, {"AutoConfig": AutoConfig, "ct_rate_pairs": ct_rate_pairs})
    np.testing.assert_array_equal(label_reports(REPORTS, f"radbert:{copy}"), expected)


def test_without_architectures_the_weights_tell_the_form(checkpoint, tmp_path):
    save_in_the_form_of_transformers(checkpoint, tmp_path, SHUFFLED)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = label_reports(REPORTS, f"radbert:{checkpoint[0]}")
    np.testing.assert_array_equal(label_reports(REPORTS, f"radbert:{tmp_path}"), expected)


def test_the_file_that_is_named_is_the_one_that_is_read(checkpoint, tmp_path):
    save_in_the_form_of_transformers(checkpoint, tmp_path, list(LABELS))
    head = {name: checkpoint[2][name].roll(1, 0) for name in ("classifier.weight", "classifier.bias")}
    other = checkpoint[2] | head
    torch.save(other, tmp_path / "RadBertClassifier.pth")
    labels = label_reports(REPORTS, f"radbert:{tmp_path / 'RadBertClassifier.pth'}")
    np.testing.assert_array_equal(labels, np.roll(label_reports(REPORTS, f"radbert:{tmp_path}"), 1, axis=1))
    (tmp_path / "model.safetensors").rename(tmp_path / "old.safetensors")
    with pytest.raises(ValueError, match="only from a file called model.safetensors"):
        label_reports(REPORTS, f"radbert:{tmp_path / 'old.safetensors'}")


@pytest.mark.parametrize("form", ["CT-CLIP's", "that of transformers"])
@pytest.mark.parametrize("left", ["nothing", "its config", "a vocabulary without merges", "too few tokens"])
def test_a_place_without_the_whole_tokenizer_is_refused(checkpoint, tmp_path, form, left):
    save_in_the_form_of_transformers(checkpoint, tmp_path, list(LABELS))
    if form == "CT-CLIP's":
        (tmp_path / "model.safetensors").unlink()
        write_encoder(tmp_path)
        torch.save(checkpoint[2], tmp_path / "RadBertClassifier.pth")
    tokens = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").unlink()
    if left != "its config":
        (tmp_path / "tokenizer_config.json").unlink()
    if left == "a vocabulary without merges":
        (tmp_path / "vocab.json").write_text(json.dumps(tokens["model"]["vocab"]))
    if left == "too few tokens":
        kept = {word: i for word, i in tokens["model"]["vocab"].items() if i < 6}
        tokens["model"]["vocab"] = kept
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokens))
    told = "knows [5-9] tokens, but the encoder 19" if left == "too few tokens" else "holds no tokenizer.*same labels"
    with pytest.raises((OSError, ValueError), match=told):
        label_reports(REPORTS, f"radbert:{tmp_path}")


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_do_not_belong_to_the_classifier_are_refused(checkpoint, tmp_path, change):
    save_in_the_form_of_transformers(checkpoint, tmp_path, list(LABELS))
    state = load_file(tmp_path / "model.safetensors")
    if change == "missing":
        del state["classifier.dense.weight"]
    else:
        state["classifier.third.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(RuntimeError, match=f"{change}_keys: classifier"):
        label_reports(REPORTS, f"radbert:{tmp_path}")


def test_a_folder_without_weights_names_the_files_it_looked_for(tmp_path):
    write_encoder(tmp_path)
    with pytest.raises(OSError, match=r"model.safetensors nor RadBertClassifier.pth"):
        label_reports(REPORTS, f"radbert:{tmp_path}")


class Code:
    """A pickle that would run a function."""

    def __reduce__(self):
        return print, ("run",)


def test_a_checkpoint_runs_no_code(tmp_path, capsys):
    write_encoder(tmp_path)
    torch.save(Code(), tmp_path / "RadBertClassifier.pth")
    with pytest.raises(pickle.UnpicklingError):
        label_reports(REPORTS, f"radbert:{tmp_path}")
    assert capsys.readouterr().out == ""
