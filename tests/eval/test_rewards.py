"""Rewards are between 0 and 1, rise with what is right, and give nothing to what is cut or cannot be read."""

import numpy as np
import pytest

from ct_rate_pairs.eval import crg
from ct_rate_pairs.eval.rewards import REWARDS, positive_weight_of, rewards_of
from ct_rate_pairs.reports.findings_line import write_line
from ct_rate_pairs.reports.labels import LABELS


REPORT = "There is a pleural effusion on the right. The heart is enlarged."
NORMAL = "The heart is normal. No pleural effusion is seen."


def labels_of(*names):
    return [int(label in names) for label in LABELS]


TRUE = labels_of("Cardiomegaly", "Pleural effusion")


def reward(name, text, *, labels=TRUE, reference=REPORT, cut=False, **kwargs):
    (value,) = REWARDS[name](
        completions=[[{"role": "assistant", "content": text}]],
        prompts=[[]],
        labels=[labels],
        reference=[reference],
        cut=[cut],
        **kwargs,
    )
    return value


def below(text, *names):
    return f"{write_line(labels_of(*names), 'names')}\n{text}"


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        (REPORT, TRUE, 1.0),
        (NORMAL, TRUE, 0.0),
        ("The heart is enlarged.", TRUE, 2 / 3),
        (f"{REPORT} Emphysema is seen.", TRUE, 4 / 5),
        (NORMAL, labels_of(), 1.0),
        (REPORT, labels_of(), 0.0),
        (below(REPORT, "Emphysema"), TRUE, 1.0),  # the line is no part of the report
    ],
)
def test_the_f1_of_the_labels_of_one_report(text, labels, expected):
    assert reward("label_f1", text, labels=labels) == pytest.approx(expected)


def test_the_crg_reward_is_what_a_report_adds_to_crg():
    rng = np.random.default_rng(0)
    labels = rng.random((20, len(LABELS))) < 0.3
    weight, true = positive_weight_of(labels), labels[0].astype(int)
    texts = {NORMAL: labels_of(), REPORT: TRUE, f"{REPORT} Emphysema.": labels_of("Emphysema") + np.array(TRUE)}
    rewards = [reward("crg", text, labels=true.tolist(), positive_weight=weight) for text in texts]
    scores = []
    for stated in texts.values():  # of this one report among others that are all right
        predictions = labels.astype(int)
        predictions[0] = stated
        scores.append(crg(predictions.tolist(), labels.astype(int).tolist(), LABELS)["crg"])
    assert np.argsort(rewards).tolist() == np.argsort(scores).tolist() and len({*rewards}) == 3
    # CRG is U / (2U - s): the sum s is linear in the reward.
    best = (labels.size - labels.sum()) / 2
    sums = [2 * best - best / score for score in scores]
    slope = np.diff(sums) / np.diff(rewards)
    assert slope[0] == pytest.approx(slope[1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pleural effusion on the right.", 1.0),
        ("Pleural effusion on the left.", 0.0),
        ("There is a pleural effusion.", 0.0),  # nothing is earned by telling no place
        ("Pleural effusion on both sides.", 0.0),
    ],
)
def test_a_place_is_earned_on_the_right_side_alone(text, expected):
    assert reward("place", text) == expected


def test_a_reward_that_does_not_apply_is_none():
    assert reward("place", REPORT, reference=NORMAL) is None
    assert reward("agreement", REPORT) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (below(REPORT, "Cardiomegaly", "Pleural effusion"), 1.0),
        (below(REPORT, "Cardiomegaly"), 2 / 3),
        (below(NORMAL), 1.0),
        (f"Abnormalities: something.\n{REPORT}", 0.0),
        (REPORT, 0.0),
    ],
)
def test_a_report_is_to_agree_with_its_own_line(text, expected):
    reference = below(REPORT, "Cardiomegaly", "Pleural effusion")
    assert reward("agreement", text, reference=reference) == pytest.approx(expected)


def test_only_what_is_longer_than_the_reference_is_punished():
    assert reward("length", REPORT) == reward("length", "The heart is enlarged.") == 1.0
    assert reward("length", f"{REPORT} {REPORT}") == pytest.approx(0.5)
    assert reward("length", below(REPORT, "Emphysema")) == 1.0
    assert reward("length", "心脏增大。心脏增大。", reference="心脏增大。") == pytest.approx(0.5)


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize(
    ("text", "cut", "counted"),
    [
        (below(REPORT, "Cardiomegaly"), True, {"cut": 1, "unreadable": 0}),
        ("Abnormality: Emphysema.", False, {"cut": 0, "unreadable": 1}),  # of a model with a line, no report
        ("", False, {"cut": 0, "unreadable": 1}),
        ("Herz und Lunge sind unauffällig, kein Pleuraerguss.", False, {"cut": 0, "unreadable": 1}),
        ("a" * 200_000, False, {"cut": 0, "unreadable": 1}),
    ],
)
def test_what_is_cut_or_unreadable_earns_nothing_and_is_counted(name, text, cut, counted):
    logged = {}
    reference = below(REPORT, "Cardiomegaly")
    assert reward(name, text, cut=cut, reference=reference, log_metric=logged.__setitem__) == 0.0
    assert logged == counted


def test_the_weight_of_a_positive_label_is_that_of_the_training_labels():
    labels = np.zeros((4, len(LABELS)), int)
    with pytest.raises(ValueError, match="0 of the 72 labels.*Leave it out"):
        rewards_of(["crg"], labels)
    labels[:, :3] = 1
    (function,) = rewards_of(["crg"], labels)
    assert function.keywords == {"positive_weight": 5.0}
    assert rewards_of(["length", "place"], labels) == [REWARDS["length"], REWARDS["place"]]
