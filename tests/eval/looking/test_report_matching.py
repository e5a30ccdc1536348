import json

import numpy as np
import pytest
import torch
from datasets import load_dataset
from helpers.lazy_rows import REPORTS, LazyRows, make_row
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3
from helpers.tree import SPACING
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.eval.looking.likelihood import marginal_losses, option_losses, report_losses, report_tokens
from ct_rate_pairs.eval.looking.other_volumes import TooFewScansError, blank_slices
from ct_rate_pairs.eval.looking.report_matching import draw_options, report_matching
from ct_rate_pairs.eval.metrics.ranking import rank_scores, ranks_of_correct
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.texts import same_words
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


RULES = ["mean", "sum", "pmi", "corrected_mean", "corrected_sum", "text_only_mean", "text_only_sum"]
FOUR = [*REPORTS, "No finding."]


@st.composite
def splits(draw):
    """Labels, texts (with duplicates in other case or layout) and volume names (with patients of several scans)."""
    number = draw(st.integers(1, 24))
    labels = draw(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=number, max_size=number))
    pool = st.sampled_from(["a b", "A  b\n", "c", "C ", *"defghijklmnop"])
    texts = draw(st.lists(pool, min_size=number, max_size=number))
    patients = draw(st.lists(st.integers(1, 20), min_size=number, max_size=number))
    volumes = [f"valid_{patient}_{'abc'[scan % 3]}_{scan}.nii.gz" for scan, patient in enumerate(patients)]
    return np.array(labels), texts, volumes, patients


@pytest.mark.slow
@given(splits(), st.sampled_from(["random", "hard"]), st.integers(1, 3), st.integers(0, 99))
def test_false_reports_are_other_patients_differently_worded_ones(split, difficulty, num_false, seed):
    labels, texts, volumes, patients = split
    arguments = {"num_false": num_false, "difficulty": difficulty, "seed": seed}
    try:
        options = draw_options(labels, texts, volumes, **arguments)
    except TooFewScansError as error:
        assert "`num_false`" in str(error)
        return
    assert options.reports.shape == (len(options.volumes), num_false + 1)
    assert (np.take_along_axis(options.reports, options.correct[:, None], axis=1)[:, 0] == options.volumes).all()
    for row in options.reports:
        assert len({patients[j] for j in row}) == len({same_words(texts[j]) for j in row}) == num_false + 1
        if difficulty == "hard":
            assert len({tuple(labels[j]) for j in row}) == num_false + 1
    again = draw_options(labels, texts, volumes, **arguments)
    assert all((one == other).all() for one, other in zip(options, again, strict=True))


@pytest.fixture(scope="module")
def forty():
    labels = np.random.default_rng(0).integers(0, 2, (40, 18))
    return labels, [f"Report {i}." for i in range(40)], [f"valid_{i}_a_1.nii.gz" for i in range(40)]


@pytest.mark.parametrize("difficulty", ["random", "hard"])
def test_each_report_is_true_once_and_false_thrice_at_places_that_tell_nothing(forty, difficulty):
    options = draw_options(*forty, difficulty=difficulty)
    assert options.volumes.tolist() == list(range(40))
    assert np.bincount(options.reports.ravel()).tolist() == [4] * 40
    assert np.bincount(options.correct).tolist() == [10] * 4
    # A model with a favourite in each group, whatever the volume, is right of one in four.
    favourites = np.random.default_rng(1).random(40)[options.reports]
    assert rank_scores(ranks_of_correct(favourites, options.correct), 4)["top1"] == 0.25


def test_the_options_depend_on_the_seed(forty):
    first, second = (draw_options(*forty, seed=seed) for seed in (0, 1))
    assert (first.reports != second.reports).mean() > 0.9
    assert (first.correct != second.correct).any()


def test_a_report_that_too_many_share_is_asked_for_as_often_as_it_can_be_false(forty, caplog):
    labels, texts, volumes = forty
    options = draw_options(labels, ["Normal."] * 20 + texts[20:], volumes)
    assert (options.volumes < 20).sum() == 6 and (options.volumes >= 20).sum() == 20
    assert "14 of the 40 volumes of the split 'evaluated' are left out of matching" in caplog.text


def test_too_few_reports_and_unknown_difficulties_are_refused():
    split = (np.zeros((4, 18), int), list("abcd"), [f"valid_{i}_a_1.nii.gz" for i in range(4)])
    assert draw_options(*split).reports.shape == (4, 4)
    with pytest.raises(TooFewScansError, match=r"4 volumes there are not 4 of .* reports and labels\. Use a larger"):
        draw_options(*split, difficulty="hard")
    with pytest.raises(TooFewScansError, match="there are not 5 of different patients"):
        draw_options(*split, num_false=4)
    with pytest.raises(ValueError, match="difficulty"):
        draw_options(*split, difficulty="easy")


def test_ranks_and_scores_on_known_losses():
    losses = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.2, 0.1, 0.3, 0.4]])
    ranks = ranks_of_correct(losses, np.array([0, 1, 0, 0]))
    assert ranks.tolist() == [1, 2, 4, 2]
    scores = rank_scores(ranks, 4)
    assert scores == {"top1": 0.25, "mrr": (1 + 1 / 2 + 1 / 4 + 1 / 2) / 4, "recall_at_2": 0.75, "recall_at_3": 0.75}


def test_a_model_that_cannot_tell_the_options_apart_scores_chance():
    ranks = ranks_of_correct(np.zeros((8, 4)), np.arange(8) % 4)
    assert rank_scores(ranks, 4) == rank_scores(np.arange(1, 5), 4)
    assert rank_scores(ranks, 4)["top1"] == 0.25


def test_intervals_of_matching_take_a_patients_questions_together():
    ranks, volumes = [1] * 10 + [2] * 10, [f"valid_{i // 10}_{i}_1" for i in range(20)]
    scores = rank_scores(ranks, 4, volumes, ci=0.9)
    assert scores["top1"] == 0.5 and scores["top1_ci"] == [0, 1] and scores["mrr_ci"] == [0.5, 1]


# in mm; at the wider one the volume reaches deeper than the prompt is long
@pytest.mark.parametrize("gap", [30.0, 120.0])
@pytest.mark.parametrize("make", [make_tiny_qwen, make_tiny_qwen3, make_tiny_gemma3])
def test_options_that_share_one_reading_of_the_volume_lose_what_whole_dialogues_do(make, gap):
    model, processor = make(FOUR)
    model.eval()
    collator = PairCollator(processor)
    depths = {"slice_mm": [gap * place for place in range(4)]}
    rows = [make_row(0, report, size=(56, 84)) | depths | {"negative_images": []} for report in FOUR]
    batch = collator(rows)
    del batch["volumes"]
    tokens = report_tokens(collator, rows)
    with torch.no_grad():
        expected, counts = report_losses(model, batch)
        losses = option_losses(model, collator.prompts(rows[:1]), tokens)
    assert [len(report) for report in tokens] == counts.tolist()
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.fixture(scope="module")
def rows():
    return [make_row(seed, report) for seed, report in enumerate(FOUR)]


@pytest.fixture(scope="module")
def model_and_collator(rows):
    """A tiny model that has learnt four reports by heart, each by its own scan."""
    model, processor = make_tiny_qwen(FOUR, seed=0)
    collator = PairCollator(processor)
    batch = collator([row | {"negative_images": []} for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(80):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, collator


@pytest.mark.slow
def test_a_model_that_knows_its_scans_finds_every_report(model_and_collator, rows):
    model, collator = model_and_collator
    result = report_matching(model, collator, rows, progress=False)
    assert model.training  # as it was
    for rule in ("mean", "sum", "pmi"):
        assert result["rules"][rule] == {"top1": 1, "mrr": 1, "recall_at_2": 1, "recall_at_3": 1}
    assert list(result["rules"]) == list(result["ranks"]) == RULES
    assert result["rules"]["text_only_mean"]["top1"] == 0.25  # all four volumes have one favourite when blank
    assert (result["top1"], result["headline"], result["n"], result["num_options"]) == (1, "mean", 4, 4)
    assert result["chance"] == {"top1": 0.25, "mrr": pytest.approx(25 / 48), "recall_at_2": 0.5, "recall_at_3": 0.75}
    assert result["volumes"] == [row["volume"] for row in rows]
    assert json.loads(json.dumps(result)) == result


def test_without_pixels_only_the_text_is_left_and_the_corrected_choice_is_chance(model_and_collator, rows):
    blank = [row | {"images": blank_slices(row)} for row in rows]
    seen, unseen = (report_matching(*model_and_collator, scans, progress=False) for scans in (rows, blank))
    for rule in ("mean", "sum"):
        assert unseen["ranks"][rule] == unseen["ranks"][f"text_only_{rule}"] == seen["ranks"][f"text_only_{rule}"]
        assert unseen["rules"][f"corrected_{rule}"] == unseen["chance"]
        assert seen["ranks"][rule] != unseen["ranks"][rule]


@pytest.mark.slow
def test_all_rules_choose_by_the_losses_of_whole_dialogues(model_and_collator):
    model, collator = model_and_collator
    rows = [make_row(seed, report, size=(56, 28 * (1 + seed))) for seed, report in enumerate(FOUR)]
    result = report_matching(model, collator, rows, seed=3, progress=False)
    model.eval()
    own = np.empty((2, 4, 4))  # given the volume and given a blank one, of every report under every row
    for kind, question in np.ndindex(2, 4):
        row = rows[question]
        images = blank_slices(row) if kind else row["images"]
        choices = [row | {"images": images, "completion": rows[i]["completion"]} for i in range(4)]
        batch = collator([choice | {"negative_images": []} for choice in choices])
        del batch["volumes"]
        with torch.no_grad():
            own[kind, question], counts = report_losses(model, batch)
    given, blank, counts = *own, counts.numpy()
    others = [[given[row, report] for row in range(4) if row != report] for report in range(4)]
    marginal = -np.log(np.exp(-np.array(others)).mean(axis=1))
    by_rule = [
        *(given / counts, given, given - marginal, (given - blank) / counts, given - blank),
        *(blank / counts, blank),
    ]
    options = draw_options(np.zeros((4, 18), int), FOUR, result["volumes"], seed=3)
    for rule, losses in zip(RULES, by_rule, strict=True):
        expected = ranks_of_correct(np.take_along_axis(losses, options.reports, axis=1), options.correct)
        assert result["ranks"][rule] == expected.tolist()


def test_the_marginal_of_a_report_leaves_its_own_patient_out(model_and_collator):
    model, collator = model_and_collator
    volumes = ["valid_1_a_1.nii.gz", "valid_1_b_1.nii.gz", "valid_2_a_1.nii.gz"]
    rows = [make_row(seed, REPORTS[seed], volume) for seed, volume in enumerate(volumes)]
    model.eval()
    tokens = report_tokens(collator, rows)
    with torch.no_grad():
        marginal = marginal_losses(model, collator, rows, volumes, tokens)
        given = np.stack([option_losses(model, collator.prompts([row]), tokens) for row in rows])  # [row, report]
    # A patient's volumes are read but once, so that of patient 1 is one of his two.
    assert marginal[:2] == pytest.approx(given[2, :2], rel=1e-5)
    assert marginal[2] == pytest.approx(given[0, 2], rel=1e-5) or marginal[2] == pytest.approx(given[1, 2], rel=1e-5)


@pytest.mark.slow
def test_one_volume_is_held_at_a_time(model_and_collator):
    model, collator = model_and_collator
    rows, alive = LazyRows(9), []
    hook = model.register_forward_pre_hook(lambda *_: alive.append(rows.alive))
    report_matching(model, collator, rows, num_false=2, progress=False)
    hook.remove()
    assert len(alive) == 8 * (1 + 3) + 9 * 2 * (1 + 1)  # each reads a volume once: 8 for all reports, 9 twice for 3
    assert max(alive) <= 2  # the next row is made before the last one is let go


@pytest.mark.slow
@pytest.mark.parametrize("difficulty", ["random", "hard"])
def test_a_map_style_dataset_is_matched_without_reading_it_ahead(tree, difficulty, monkeypatch):
    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), negative="none", spacing=SPACING, split="test[:6]")
    model, processor = make_tiny_qwen(FOUR, hidden_size=32, num_layers=1, vision_depth=1, vision_hidden_size=32)
    read, source = [], reader_of(rows).source
    read_slices = source.read_slices
    monkeypatch.setattr(source, "read_slices", lambda scan, *how: read.append(scan.name) or read_slices(scan, *how))
    result = report_matching(model, PairCollator(processor), rows, difficulty=difficulty, progress=False)
    assert read[-6:] == result["volumes"] and sorted(read[:-6]) == sorted(result["volumes"])  # for `pmi`, then to ask
    assert result["difficulty"] == difficulty
    assert result == report_matching(model, PairCollator(processor), list(rows), difficulty=difficulty, progress=False)


def test_no_rows_and_rows_without_an_index_are_refused(model_and_collator, rows):
    with pytest.raises(ValueError, match="no rows"):
        report_matching(*model_and_collator, [], progress=False)
    with pytest.raises(ValueError, match="cannot be read by index"):
        report_matching(*model_and_collator, iter(rows), progress=False)
