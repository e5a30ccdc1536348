"""BLEU, ROUGE-L, METEOR and BERTScore: by hand, against pycocoevalcap itself, and pinned under each recipe."""

import math
import re
import shutil
import sys
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge, my_lcs
from sacrebleu.metrics import BLEU
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ct_rate_pairs.eval import text_scores
from ct_rate_pairs.eval.metrics.text_metrics import common_subsequence_length, meteor_score, prepare, rouge_l
from ct_rate_pairs.reports.readable import is_missing


# Case, line breaks, stray spaces, quotes, underscores, an end token, decimals and an empty report.
PREDICTIONS = [
    'Heart size is "normal" .\nNo pleural_effusion was detected.<|eot_id|>',
    "There is a 5.5 mm nodule in the right upper lobe . Emphysema is observed.",
    "",
    "Mosaic attenuation pattern  is seen in both lungs; consolidation is not observed in the lung parenchyma.",
]
REFERENCES = [
    "Heart size is normal. No pleural effusion was detected .",
    'There is a 5 mm "nonspecific" nodule in the left upper lobe.\nEmphysema is observed in both lungs.',
    "Trachea and both main bronchi are open .",
    "There is a mosaic attenuation pattern in both lungs . Consolidation was not observed in the lung parenchyma.",
]
# Printed once by pycocoevalcap 1.2 over the texts of [`challenge_texts`] and [`lower_texts`].
GOLDEN = {
    "vlm3d": {
        "bleu1": 0.5033177937806745,
        "bleu2": 0.4123916678888929,
        "bleu3": 0.3161695039246868,
        "bleu4": 0.22241916974671833,
        "rouge_l": 0.4679067320866394,
    },
    "lower": {
        "bleu1": 0.6245586358985271,
        "bleu2": 0.5116247079213037,
        "bleu3": 0.4181966221996184,
        "bleu4": 0.31793440497588643,
        "rouge_l": 0.5345565210252174,
    },
}
# What VLM3D's evaluation replaces, in its order.
STOPS = ((" . ", "."), (" .", "."))
REPLACED = {
    "generated": (("\n", ""), ("<|eot_id|>", ""), ('"', ""), ("_", ""), *STOPS),
    "reference": (("\n", ""), *STOPS),
}

texts = st.text('aB .\n"_,', max_size=30)
words = st.lists(st.sampled_from("abcd"), max_size=40)


def challenge_texts(reports: list[str], side: str) -> list[str]:
    return [reduce(lambda text, pair: text.replace(*pair), REPLACED[side], report) for report in reports]


def lower_texts(reports: list[str]) -> list[str]:
    return [" ".join(re.findall(r"\d+[.,]\d+\w*|\w+|[^\w\s]", text.lower())) for text in reports]


def by_pycocoevalcap(predictions: list[str], references: list[str]) -> dict[str, float]:
    generated, expected = ({i: [text] for i, text in enumerate(side)} for side in (predictions, references))
    bleu, _ = Bleu(4).compute_score(expected, generated, verbose=0)
    return {
        **{f"bleu{n}": score for n, score in enumerate(bleu, 1)},
        "rouge_l": Rouge().compute_score(expected, generated)[0],
    }


def recipe_texts(recipe: str) -> tuple[list[str], list[str]]:
    if recipe == "lower":
        return lower_texts(PREDICTIONS), lower_texts(REFERENCES)
    return challenge_texts(PREDICTIONS, "generated"), challenge_texts(REFERENCES, "reference")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A BERT of random weights; its tokenizer sets no `model_max_length`."""
    folder = tmp_path_factory.mktemp("encoder")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    seen = sorted({word for text in (*PREDICTIONS, *REFERENCES) for word in re.findall(r"\w+|[^\w\s]", text)})
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(marks + seen)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40}
    BertModel(BertConfig(vocab_size=len(marks) + len(seen), num_hidden_layers=2, **size)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("recipe", GOLDEN)
def test_golden_numbers_of_each_recipe(recipe):
    result = text_scores(PREDICTIONS, REFERENCES, recipe)
    direct = by_pycocoevalcap(*recipe_texts(recipe))
    for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
        assert result[name] == pytest.approx(direct[name], abs=1e-12)
        assert result[name] == pytest.approx(GOLDEN[recipe][name], abs=1e-9)
    assert result["recipe"] == recipe
    assert result["meteor"] is result["bertscore_f1"] is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")
def test_meteor_is_that_of_pycocoevalcap():
    generated, expected = ({i: [text] for i, text in enumerate(side)} for side in recipe_texts("vlm3d"))
    direct, _ = Meteor().compute_score(expected, generated)
    result = text_scores(PREDICTIONS, REFERENCES, "vlm3d", meteor=True, ci=0.95)
    assert result["meteor"] == pytest.approx(direct, abs=1e-12)
    assert result["meteor"] == pytest.approx(0.29007823592542453, abs=1e-9)
    low, high = result["meteor_ci"]
    assert 0 <= low < result["meteor"] < high <= 1


def test_meteor_of_equal_and_of_foreign_texts():
    # what METEOR prints for "heart is normal" on both sides, and for an empty report
    equal = np.array([3, 3, 1, 1, 2, 2, 1, 1, *[0] * 12, 1, 3, 3])
    empty = np.array([0, 5, 0, 3, *[0] * 19])
    assert meteor_score(np.stack([equal, empty])).tolist() == [1, 0]


def test_meteor_without_java_names_the_remedy(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="install one .* or pass `meteor=False`"):
        text_scores(["ab"], ["ab"], meteor=True)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(texts, texts.filter(lambda text: not is_missing(text))), min_size=1, max_size=5))
def test_vlm3d_is_the_challenge_on_any_text(pairs):
    predictions, references = map(list, zip(*pairs, strict=True))
    cleaned = challenge_texts(predictions, "generated"), challenge_texts(references, "reference")
    assert prepare(predictions, references, "vlm3d") == cleaned
    result, direct = text_scores(predictions, references, "vlm3d"), by_pycocoevalcap(*cleaned)
    for name, value in direct.items():
        assert result[name] == pytest.approx(value, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(words, words)
@example([], ["a"])
@example(["a"] * 70, ["a", "b"] * 70)
def test_common_subsequence_is_as_long_as_by_the_table(first, second):
    assert common_subsequence_length(first, second) == my_lcs(first, second)
    assert rouge_l(" ".join(first), " ".join(second)) == Rouge().calc_score([" ".join(first)], [" ".join(second)])


def test_bleu_and_rouge_by_hand():
    result = text_scores(["The heart is large."], ["the heart is normal ."])
    assert result["bleu1"] == pytest.approx(4 / 5)
    assert result["bleu2"] == pytest.approx(math.sqrt(4 / 5 * 2 / 4))
    assert result["rouge_l"] == pytest.approx(4 / 5)
    assert result["recipe"] == "lower"
    short = text_scores(["the heart"], ["the heart is normal ."])
    assert short["bleu1"] == pytest.approx(math.exp(1 - 5 / 2))  # the brevity penalty
    assert short["rouge_l"] == pytest.approx((1 + 1.44) * 1 * 0.4 / (0.4 + 1.44 * 1))


def test_recipes_differ_on_one_text():
    by_recipe = [text_scores(["NO EFFUSION."], ["No effusion ."], recipe)["bleu1"] for recipe in ("lower", "vlm3d")]
    assert by_recipe == pytest.approx([1, 0])


@pytest.mark.parametrize("recipe", GOLDEN)
def test_scores_of_equal_and_empty_reports(recipe):
    reports = ["No pleural effusion, 5.5 mm nodule in the lingula.", "Heart size is normal."]
    keys = ("bleu1", "bleu4", "rouge_l")
    assert [text_scores(reports, reports, recipe)[key] for key in keys] == pytest.approx([1, 1, 1])
    assert [text_scores(["", "\n"], reports, recipe)[key] for key in keys] == pytest.approx([0, 0, 0])
    half = text_scores(["", reports[1]], reports, recipe)
    assert half["rouge_l"] == pytest.approx(0.5)
    assert 0 < half["bleu1"] < 1


def test_empty_predictions_are_counted():
    reports = ["Heart size is normal.", "There is emphysema.", "No effusion."]
    assert text_scores(reports, reports)["empty_predictions"] == 0
    result = text_scores(["", None, "No effusion."], reports)
    assert result["empty_predictions"] == 2
    assert result["rouge_l"] == pytest.approx(1 / 3)


def test_words_of_other_languages_are_compared_as_well():
    german = ["Kleiner Pleuraerguss rechts.", "Herz nicht vergrößert."]
    assert text_scores(german, german)["bleu4"] == pytest.approx(1)
    assert text_scores(["Herz vergrößert."], ["Herz nicht vergrößert."])["bleu1"] == pytest.approx(math.exp(1 - 4 / 3))


def test_a_script_without_spaces_is_split_into_letters_or_refused():
    truth, guess = "右肺上叶结节，边界清楚。CT显示5.5mm", "右肺上叶结节。"
    with pytest.warns(UserWarning, match="row 0 has no spaces between its words: each letter"):
        result = text_scores([guess], [truth])
    assert result["bleu1"] == pytest.approx(math.exp(1 - 16 / 7))  # 16 tokens: 12 letters, two marks, "ct", "5.5mm"
    with pytest.raises(ValueError, match="`references` row 0 has no spaces.*Use `recipe='lower'`"):
        text_scores([guess], [truth], recipe="vlm3d")
    spaced = text_scores(["右肺 结节 。"], ["右肺 上叶 结节 。"], recipe="vlm3d")
    assert spaced["bleu1"] == pytest.approx(math.exp(1 - 4 / 3))
    assert text_scores([guess], ["A nodule in the right upper lobe."], recipe="vlm3d")["bleu1"] == pytest.approx(0)


def test_zh_is_sacrebleu_s_chinese():
    truths = ["右肺上叶结节，大小约5.5mm，边界清楚。", "双侧胸腔未见积液。心影大小正常，主动脉壁钙化。"]
    guesses = ["右肺下叶结节，大小约5.5mm。", "双侧胸腔积液。心影大小正常，主动脉壁钙化。"]
    result = text_scores(guesses, truths, "zh")
    expected = BLEU(tokenize="zh", smooth_method="none").corpus_score(guesses, [truths])
    assert result["bleu4"] == pytest.approx(expected.score / 100)
    assert result["recipe"] == "zh"
    # ROUGE-L of the first, by hand: of 17 and 12 tokens, 11 are common and in order.
    assert text_scores(guesses[:1], truths[:1], "zh")["rouge_l"] == pytest.approx(
        (1 + 1.44) * (11 / 12) * (11 / 17) / (11 / 17 + 1.44 * 11 / 12)
    )


def test_meteor_is_refused_for_other_languages():
    with pytest.raises(ValueError, match="METEOR is for English, but `references` row 0 seems to be in German"):
        text_scores(["a"], ["Kleiner Pleuraerguss rechts."], meteor=True)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="row 1 is no report: ' '"):
        text_scores(["ab", "b"], ["ab", " "])
    for missing in ("\n", None, "Not given.", "-"):
        with pytest.raises(ValueError, match="row 0 is no report"):
            text_scores(["a"], [missing], recipe="vlm3d")
    with pytest.raises(ValueError, match="2 predictions for 1 references"):
        text_scores(["ab", "b"], ["ab"])
    with pytest.raises(
        ValueError, match="Unknown recipe 'vlm'; choose `recipe='lower'`, `recipe='vlm3d'` or `recipe='zh'`"
    ):
        text_scores(["ab"], ["ab"], recipe="vlm")
    with pytest.raises(ValueError, match="empty"):
        text_scores([], [])


def test_bertscore_of_a_local_encoder(encoder):
    result = text_scores(PREDICTIONS, REFERENCES, "vlm3d", bertscore_model=encoder, ci=0.95)
    assert result["bertscore_hash"].startswith(f"{encoder}_L2_no-idf")
    low, high = result["bertscore_f1_ci"]
    assert 0 <= low < result["bertscore_f1"] < high <= 1
    same = text_scores(REFERENCES, REFERENCES, "lower", bertscore_model=encoder)
    assert same["bertscore_f1"] == pytest.approx(1, abs=1e-5)


def test_bertscore_by_hand(encoder):
    """Greedy matching by cosine: a word's best match is among all tokens of the other side."""
    model, tokenizer = BertModel.from_pretrained(encoder).eval(), PreTrainedTokenizerFast.from_pretrained(encoder)
    prediction, reference = "Heart size is normal", "Emphysema is observed in both lungs"
    with torch.no_grad():
        vectors = [
            torch.nn.functional.normalize(model(**tokenizer(text, return_tensors="pt"))[0][0], dim=-1)
            for text in (prediction, reference)
        ]
    similarity = vectors[0] @ vectors[1].T  # [tokens of the prediction, tokens of the reference]
    precision, recall = (similarity.amax(dim=axis)[1:-1].mean().item() for axis in (1, 0))
    result = text_scores([prediction], [reference], "vlm3d", bertscore_model=encoder)
    assert result["bertscore_f1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)


def test_bertscore_of_empty_and_long_reports(encoder):
    reports = ["Heart size is normal ."] * 2
    whole = text_scores(reports, reports, bertscore_model=encoder)["bertscore_f1"]
    half = text_scores(["", reports[0]], reports, bertscore_model=encoder)["bertscore_f1"]
    assert half == pytest.approx(whole / 2, abs=1e-6)
    assert text_scores(["", " \n"], reports, bertscore_model=encoder)["bertscore_f1"] == 0
    # longer than the 40 positions that the encoder has
    long = text_scores(["lungs " * 100], ["lungs " * 90], bertscore_model=encoder)["bertscore_f1"]
    assert long == pytest.approx(1, abs=1e-5)


def test_bertscore_layer_is_chosen(encoder):
    first, last = (
        text_scores(PREDICTIONS, REFERENCES, bertscore_model=encoder, bertscore_layer=layer) for layer in (1, None)
    )
    assert "_L1_" in first["bertscore_hash"]
    assert first["bertscore_f1"] != last["bertscore_f1"]


@pytest.mark.parametrize(
    ("module", "options", "extra"),
    [
        ("pycocoevalcap.meteor", {"meteor": True}, "meteor"),
        ("bert_score", {"bertscore_model": "any"}, "bertscore"),
        ("sacrebleu.tokenizers.tokenizer_zh", {"recipe": "zh"}, "zh"),
    ],
)
def test_a_metric_without_its_package_names_the_extra(monkeypatch, module, options, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'ct-rate-pairs\[{extra}\]'"):
        text_scores(PREDICTIONS, REFERENCES, **options)
    assert text_scores(PREDICTIONS, REFERENCES)["bleu1"] > 0
