"""The RadBERT labeler on a tiny checkpoint of the same format: keys, pooled output, 512 tokens, threshold."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from ct_rate_pairs.eval import label_reports
from ct_rate_pairs.eval.scoring.radbert import load_radbert, radbert_probabilities


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
