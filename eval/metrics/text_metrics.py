"""
Word overlap of generated and reference reports under a named recipe.

A recipe fixes the treatment of case and punctuation. BLEU-1 of the same texts can be .51 under one recipe and .63
under the other.
"""

import re
import shutil
import subprocess
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .bootstrap import divide, estimate
from .readable import check_given, check_lengths, foreign_language, is_missing


RECIPES = ("lower", "vlm3d", "zh")

# Letters of scripts without spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
UNSPACED = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
    "\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
# A number with decimals keeps its unit ("5.5mm" is one token). Any other punctuation mark is a token of its own, and
# so is a letter of these scripts.
TOKEN = re.compile(rf"\d+[.,]\d+[^\W{UNSPACED}]*|[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def tokenize_lower(text: str) -> str:
    """
    The recipe `"lower"`: lower case, punctuation split from words, tokens joined by single spaces. In a script without
    spaces between words, such as Chinese, each letter is a token.
    """
    return " ".join(TOKEN.findall(text.lower()))


def clean_vlm3d(text: str, generated: bool) -> str:
    """
    The recipe `"vlm3d"`, as the VLM3D challenge prepares texts.

    Case and punctuation stay. The space before a full stop is removed, and so are line breaks, without a space in
    their place: the two words around a line break are joined. A generated report also loses `<|eot_id|>`, quotes and
    underscores.
    """
    for mark in ("\n", "<|eot_id|>", '"', "_") if generated else ("\n",):
        text = text.replace(mark, "")
    return text.replace(" . ", ".").replace(" .", ".")


def tokenize_zh(texts: Sequence[str]) -> list[str]:
    """
    The recipe `"zh"`: sacrebleu's tokenizer `zh`, tokens joined by single spaces. Each Chinese letter is a token, and
    the rest is split as in WMT's `mteval-v13a`. Case stays.
    """
    try:
        from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ImportError("`recipe='zh'` needs sacrebleu: pip install 'ct-rate-pairs[zh]'.") from None
    tokenize = TokenizerZh()
    return [tokenize(text) for text in texts]


def prepare(
    predictions: Sequence[str], references: Sequence[str], recipe: str = "lower"
) -> tuple[list[str], list[str]]:
    """
    Checks the reports of both sides, and prepares them as the recipe says.

    Raises:
        `ValueError`: for an unknown recipe, no reports, unequal numbers of reports, a missing reference, a text that
            is too long for a report, or a reference without spaces between words under `"vlm3d"`.
    """
    if recipe not in RECIPES:
        raise ValueError(f"Unknown recipe {recipe!r}; choose `recipe='lower'`, `recipe='vlm3d'` or `recipe='zh'`.")
    if len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} references: pass one prediction per reference, in "
            "the same order."
        )
    if len(references) == 0:
        raise ValueError("`references` is empty: there is no report to score.")
    check_given(references)
    predictions = [text if isinstance(text, str) else "" for text in predictions]
    check_lengths(references, "references")
    check_lengths(predictions, "predictions")
    if recipe == "zh":
        return tokenize_zh(predictions), tokenize_zh(references)
    _check_spaces(references, recipe)
    if recipe == "lower":
        return [tokenize_lower(text) for text in predictions], [tokenize_lower(text) for text in references]
    hypotheses = [clean_vlm3d(text, generated=True) for text in predictions]
    return hypotheses, [clean_vlm3d(text, generated=False) for text in references]


def _check_spaces(references: Sequence[str], recipe: str) -> None:
    """Tells how references without spaces between words are split; refuses them if the recipe cannot split them."""
    for row, text in enumerate(references):
        letters = [len(re.findall(f"[{UNSPACED}]", word)) for word in text.split()]
        if sum(letters) <= 3 * np.count_nonzero(letters):  # spaces between the words, or no such script
            continue
        if recipe == "vlm3d":
            raise ValueError(
                f"`references` row {row} has no spaces between its words, and `recipe='vlm3d'` splits words at white "
                "space. Use `recipe='lower'`, or for Chinese `recipe='zh'`: both take each letter of such a script as "
                "a word. Or put spaces between the words."
            )
        warnings.warn(
            f"`references` row {row} has no spaces between its words: each letter of such a script counts as a word. "
            "Compare the numbers with those of other programs by letter only. For Chinese, `recipe='zh'` is that of "
            "sacrebleu.",
            stacklevel=4,
        )
        return


def text_scores(
    predictions: Sequence[str],
    references: Sequence[str],
    recipe: str = "lower",
    *,
    meteor: bool = False,
    bertscore_model: str | None = None,
    bertscore_layer: int | None = None,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict[str, float | str | list | None]:
    """
    BLEU-1 to BLEU-4, ROUGE-L, METEOR and BERTScore of generated reports.

    BLEU and METEOR are computed over the whole corpus; ROUGE-L (beta 1.2) and BERTScore are means over the reports.
    BLEU, ROUGE-L and METEOR equal the values of pycocoevalcap.

    Args:
        predictions (`Sequence[str]`):
            Generated reports. An empty report scores 0 in ROUGE-L and BERTScore. In BLEU and METEOR, the words of its
            reference still count, which lowers the scores. `None` is an empty report.
        references (`Sequence[str]`):
            Reference reports, one per prediction. None may be missing.
        recipe (`str`, *optional*, defaults to `"lower"`):
            How the texts are prepared for all scores. `"lower"`: lower case, punctuation split from words
            ([`tokenize_lower`]). `"vlm3d"`: as in the VLM3D challenge ([`clean_vlm3d`]), words split at white space.
            `"zh"`: as sacrebleu splits Chinese ([`tokenize_zh`]), which needs sacrebleu.
        meteor (`bool`, *optional*, defaults to `False`):
            Whether to compute METEOR. METEOR needs pycocoevalcap and Java, and takes most of a minute for 1,564
            reports.
        bertscore_model (`str`, *optional*):
            Encoder for BERTScore: a name on the Hub or a local folder. By default BERTScore is not computed.
        bertscore_layer (`int`, *optional*):
            Layer of the encoder. Defaults to the layer that bert-score has tuned for a model of this name, and to the
            last layer for any other model. For a local copy, pass the layer to get published numbers.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `bleu1`, `bleu2`, `bleu3`, `bleu4`, `rouge_l` and `meteor`, in [0, 1]; `bertscore_f1`, in [-1, 1],
        not rescaled; `recipe`; `empty_predictions`, the number of predictions that hold no text. `meteor` and
        `bertscore_f1` are `None` unless requested. With `ci` also the interval of each computed number. With BERTScore
        also `bertscore_hash`, bert-score's name of the setting (model, layer, versions).

    Raises:
        `ValueError`: for an unknown recipe, no reports, unequal numbers of reports, a missing reference, a text that
            is too long for a report, a reference without spaces between words under `"vlm3d"`, or METEOR of a
            reference that is not in English.
        `FileNotFoundError`: for `meteor=True` without Java.
        `ImportError`: for METEOR without pycocoevalcap, for BERTScore without bert-score, and for `"zh"` without
            sacrebleu.
    """
    statistics, named = text_statistics(
        *prepare(predictions, references, recipe),
        meteor=meteor,
        bertscore_model=bertscore_model,
        bertscore_layer=bertscore_layer,
    )
    asked = estimate(statistics, overlap_scores, volumes, ci)
    told = {"recipe": recipe, "empty_predictions": sum(map(is_missing, predictions))}
    return {"meteor": None, "bertscore_f1": None, **told, **named, **asked}


def text_statistics(
    hypotheses: Sequence[str],
    truths: Sequence[str],
    *,
    meteor: bool = False,
    bertscore_model: str | None = None,
    bertscore_layer: int | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Statistics of each prepared report, whose sums [`overlap_scores`] takes; and `bertscore_hash` with BERTScore."""
    statistics, named = overlap_statistics(hypotheses, truths), {}
    if meteor:
        statistics["meteor"] = meteor_statistics(hypotheses, truths)
    if bertscore_model is not None:
        statistics["bertscore"], named["bertscore_hash"] = bertscore_f1(
            hypotheses, truths, bertscore_model, bertscore_layer
        )
    return statistics, named


def overlap_statistics(hypotheses: Sequence[str], truths: Sequence[str]) -> dict[str, np.ndarray]:
    """
    Statistics of each prepared report. BLEU and ROUGE-L are functions of their sums over the reports.

    Returns:
        `dict[str, np.ndarray]`: `matches` (n-grams of the report that the reference contains) and `guesses` (all
        n-grams of the report), for n = 1 to 4, of shape `[N, 4]`; `generated` and `expected` (lengths of report and
        reference in words), `rouge_l` and `reports` (ones), of shape `[N]`.
    """
    words, expected = [text.split() for text in hypotheses], [text.split() for text in truths]
    generated = np.array([len(row) for row in words])
    return {
        "matches": np.array([ngram_matches(*row) for row in zip(words, expected, strict=True)]),
        "guesses": np.maximum(generated[:, None] - np.arange(4), 0),
        "generated": generated,
        "expected": np.array([len(row) for row in expected]),
        "rouge_l": np.array([rouge_l(text, truth) for text, truth in zip(hypotheses, truths, strict=True)]),
        "reports": np.ones(len(words)),
    }


def ngram_matches(words: Sequence[str], expected: Sequence[str]) -> list[int]:
    """Number of n-grams that `words` shares with `expected`, for n = 1 to 4; each counts at most as often as there."""
    found = []
    for n in range(1, 5):
        here, there = (Counter(zip(*(side[k:] for k in range(n)), strict=False)) for side in (words, expected))
        found.append((here & there).total())
    return found


def overlap_scores(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The numbers of [`text_scores`], computed from the sums of the statistics; leading axes are kept."""
    # The same small constants as in pycocoevalcap avoid a division by 0.
    precision = (sums["matches"] + 1e-15) / (sums["guesses"] + 1e-9)  # [..., 4]
    length = (sums["generated"] + 1e-15) / (sums["expected"] + 1e-9)  # [...]
    brevity = np.exp(np.minimum(0, 1 - 1 / length))
    scores = {
        f"bleu{n}": brevity * np.prod(precision[..., :n], axis=-1) ** (1 / n)
        for n in range(1, precision.shape[-1] + 1)
    }
    scores["rouge_l"] = sums["rouge_l"] / sums["reports"]
    if "meteor" in sums:
        scores["meteor"] = meteor_score(sums["meteor"])
    if "bertscore" in sums:
        scores["bertscore_f1"] = sums["bertscore"] / sums["reports"]
    return scores


def rouge_l(text: str, truth: str) -> float:
    """ROUGE-L of one report, bit for bit as in pycocoevalcap: words split at single spaces, F with beta 1.2."""
    words, expected = text.split(" "), truth.split(" ")
    common = common_subsequence_length(words, expected)
    precision, recall = common / len(words), common / len(expected)
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision) if common else 0.0


def common_subsequence_length(first: Sequence[str], second: Sequence[str]) -> int:
    """
    Length of the longest common subsequence.

    Each row of the table is held as the bits of one integer (Hyyrö, "Bit-parallel LCS-length computation revisited",
    2004). This is about a hundred times faster than computing cell by cell.
    """
    first, second = sorted((first, second), key=len)  # the shorter one in bits: a long text takes short integers
    places = defaultdict(int)
    for i, word in enumerate(first):
        places[word] |= 1 << i
    full = (1 << len(first)) - 1
    row = full  # bit i is 0 if the length grows by one at word i
    for word in second:
        found = row & places[word]
        row = ((row + found) | (row - found)) & full
    return len(first) - row.bit_count()


def meteor_statistics(hypotheses: Sequence[str], truths: Sequence[str]) -> np.ndarray:
    """
    METEOR's counts for each report, float `[N, 23]`, from `meteor-1.5.jar` of pycocoevalcap and with its settings.

    The columns, each pair for the generated and the reference report: words (2); function words (2); for each of four
    stages (exact, stem, synonym, paraphrase) matched content words (2) and matched function words (2); chunks (1); all
    matched words (2). Without Java, a `FileNotFoundError` is raised. The stems and synonyms are English, so a
    reference in another language is refused.
    """
    for row, truth in enumerate(truths):
        if language := foreign_language(truth):
            raise ValueError(
                f"METEOR is for English, but `references` row {row} seems to be in {language}: pass `meteor=False`."
            )
    try:
        from pycocoevalcap.meteor import meteor as pycocoevalcap_meteor  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ImportError("METEOR needs pycocoevalcap: pip install 'ct-rate-pairs[meteor]'.") from None
    if shutil.which("java") is None:
        raise FileNotFoundError("METEOR needs Java: install one (`apt install default-jre`), or pass `meteor=False`.")
    jar = Path(pycocoevalcap_meteor.__file__).with_name(pycocoevalcap_meteor.METEOR_JAR)
    # A report is one field of a line, so line breaks and the field separator are removed from it.
    clean = [[re.sub(r"[\r\n]", " ", text.replace("|||", "")) for text in texts] for texts in (hypotheses, truths)]
    lines = "".join(f"SCORE ||| {truth} ||| {text}\n" for text, truth in zip(*clean, strict=True))
    command = ["java", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    done = subprocess.run(command, input=lines, capture_output=True, encoding="utf-8", check=True)
    return np.array([line.split() for line in done.stdout.splitlines()], dtype=float)


def meteor_score(counts: np.ndarray) -> np.ndarray:
    """METEOR 1.5 for English from sums of [`meteor_statistics`], `[..., 23]` to `[...]`; 0 if no word matches."""
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    stages = counts[..., 4:20].reshape(*counts.shape[:-1], 4, 4)  # [..., stage, (content of both, function of both)]
    words, function = counts[..., :2], counts[..., 2:4]  # [..., (generated, reference)]
    matched = delta * stages[..., :2] + (1 - delta) * stages[..., 2:]
    weighted = np.einsum("s,...sk->...k", np.array([1.0, 0.6, 0.8, 0.6]), matched)
    share = divide(weighted, delta * (words - function) + (1 - delta) * function, empty=0.0)
    precision, recall = share[..., 0], share[..., 1]
    mean = divide(precision * recall, alpha * precision + (1 - alpha) * recall, empty=0.0)
    chunks, matches = counts[..., 20], counts[..., 21:]
    # A single chunk that covers both whole texts is not fragmented.
    whole = (matches == words).all(axis=-1) & (chunks == 1)
    fragmentation = np.where(whole, 0, divide(chunks, matches.mean(axis=-1), empty=0.0))
    return mean * (1 - gamma * fragmentation**beta)


def bertscore_f1(
    hypotheses: Sequence[str], truths: Sequence[str], model: str, layer: int | None = None
) -> tuple[np.ndarray, str]:
    """
    BERTScore F1 of each report, `[N]`, without idf weights or rescaling; and bert-score's name of the setting.

    A report is truncated to the maximum input length of the encoder, for most encoders 512 tokens.
    """
    # Imported here, because the import is slow and few callers need it.
    try:
        from bert_score import BERTScorer  # noqa: PLC0415
        from bert_score.utils import model2layers  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ImportError("BERTScore needs bert-score: pip install 'ct-rate-pairs[bertscore]'.") from None
    from transformers import AutoConfig  # noqa: PLC0415

    config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    scorer = BERTScorer(model, num_layers=layer or model2layers.get(model, config.num_hidden_layers))
    tokenizer = scorer._tokenizer  # bert-score has no public way to it
    if tokenizer.model_max_length > config.max_position_embeddings:
        # An unset length is 1e30, which the tokenizer itself cannot handle. Less 2: RoBERTa's positions begin at 2.
        tokenizer.model_max_length = config.max_position_embeddings - 2
    scores = np.zeros(len(hypotheses))
    # bert-score 0.3.13 fails on an empty string
    written = [i for i, text in enumerate(hypotheses) if text.strip()]
    if written:
        *_, f1 = scorer.score([hypotheses[i] for i in written], [truths[i] for i in written])
        scores[written] = f1.numpy()
    return scores, scorer.hash
