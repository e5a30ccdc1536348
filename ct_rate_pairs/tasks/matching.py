"""`task="matching"`: the model chooses the volume's text among false texts, and answers with its letter."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from datasets import List, Value

from ct_rate_pairs.number_ranges import Range
from ct_rate_pairs.random_streams import Purpose, draw_rng
from ct_rate_pairs.reports.readable import check_mostly_read
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.texts import same_words
from ct_rate_pairs.volumes.settings import one_of, whole_number

from .matching_groups import draw_groups, kept_of
from .task import Asked, Scans, Task, TaskOptions
from .vqa_wording import write_findings


logger = logging.getLogger(__name__)

OPTIONS = ("full", "impression", "keywords")
DIFFICULTIES = ("random", "hard")
LETTERS = "ABCDEFGHIJ"
QUESTION = {
    "en": "Which of these texts describes this chest CT? Answer with its letter.",
    "zh": "下列哪一段文字描述的是这份胸部 CT？请回答其字母。",
}


@dataclass
class MatchingOptions(TaskOptions):
    """
    Options of the task `"matching"`.

    Args:
        options (`str`, *optional*, defaults to `"full"`):
            What the texts are. `"full"`: the `target` of the report. `"impression"`: the same as
            `target="impression"`. `"keywords"`: the names of the findings that the report states.
        num_false (`int`, *optional*, defaults to `3`):
            False texts per volume.
        difficulty (`str`, *optional*, defaults to `"random"`):
            `"random"`: false texts are random. `"hard"`: their labels differ little from those of the true text.
    """

    options: str = field(default="full", metadata={"help": "matching: full, impression or keywords."})
    num_false: int = field(
        default=3, metadata={"range": Range(1, len(LETTERS) - 1), "help": "matching: false texts per volume."}
    )
    difficulty: str = field(default="random", metadata={"help": "matching: random or hard."})

    def check(self) -> None:
        """Raises a `ValueError` for a value that is not allowed."""
        one_of("options", self.options, OPTIONS)
        one_of("difficulty", self.difficulty, DIFFICULTIES)
        whole_number("num_false", self.num_false, 1, len(LETTERS) - 1)
        if self.task == "matching" and self.options == "impression":
            self.target = "impression"


class Matching(Task):
    """
    Asks which of `num_false + 1` texts is the text of the volume.

    In every epoch the split is divided into groups of volumes with different patients and different texts (see
    [`~ct_rate_pairs.tasks.matching_groups`]). The options of a volume are the texts of its group. So each text is the
    true text in one question of its group and a false text in the others, whatever its words, length and letter are: a
    model that does not look at the volume is right only by chance. In each group, every letter is the answer once.

    If more than one in `num_false + 1` volumes has the same text, the volumes that cannot be grouped are left out.

    Args:
        names (`Sequence[str]`):
            Names of the `N` volumes.
        texts (`Sequence[str]`):
            Text of each volume. Texts are the same if they differ only in case and white space.
        labels (`np.ndarray`):
            Labels of the volumes, 0 or 1, of shape `[N, 18]`.
        patients (`Sequence[str]`):
            Patient of each volume.
        num_false (`int`, *optional*, defaults to `3`):
            False texts per volume.
        difficulty (`str`, *optional*, defaults to `"random"`):
            `"random"`: groups are random, and two texts of a group may state the same findings in other words.
            `"hard"`: the labels within a group differ, but as little as the split allows.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws.
        split (`str`, *optional*, defaults to `"train"`):
            Name of the split, for messages.
    """

    Options = MatchingOptions
    features: ClassVar = {"options": List(Value("string")), "correct": Value("int8")}
    remedy = ", or a smaller `num_false`"

    def __init__(
        self,
        names: Sequence[str],
        texts: Sequence[str],
        labels: np.ndarray,
        patients: Sequence[str],
        num_false: int = 3,
        difficulty: str = "random",
        language: str = "en",
        seed: int = 0,
        split: str = "train",
    ):
        self.names, self.texts, self.size = names, texts, num_false + 1
        self.language, self.seed = language, seed
        self.wording = _integers([same_words(text) for text in texts])  # [N]
        patterns = (labels.astype(np.uint32) @ (1 << np.arange(labels.shape[1], dtype=np.uint32))).astype(np.uint32)
        keys = [self.wording, _integers(patients)]
        if difficulty == "hard":
            keys.append(patterns.astype(np.int64))
        self.keys, self.patterns = np.stack(keys, axis=1), patterns if difficulty == "hard" else None
        rank = np.array([zlib.crc32(name.encode()) for name in names])  # by the names, so the same in every epoch
        kept = kept_of(self.keys, self.size, rank)
        self.rows_of = kept.astype(int)  # [N]
        if not kept.all():
            logger.warning(
                "%d of the %d volumes of the split '%s' are left out of matching: too many share one text%s.",
                *((~kept).sum(), len(kept), split, " or one set of labels" if difficulty == "hard" else ""),
            )
        self._groups: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split."""
        texts = scans.texts(options.target)
        if options.options == "keywords":
            check_mostly_read(texts, "reports")
            texts = [write_findings(label_report(text), options.prompt) for text in texts]
        shown = options.num_false, options.difficulty, options.prompt, options.seed
        return cls(scans.names, texts, scans.labels, scans.patients, *shown, scans.split)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """The question about volume `i` in the epoch `draw_key`."""
        order = self.order(i, draw_key)
        options, correct = [self.texts[j] for j in order], order.index(i)
        lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)]
        return Asked(
            "\n".join([QUESTION[self.language], *lines]),
            LETTERS[correct],
            {"options": options, "correct": correct},
        )

    def order(self, i: int, draw_key: int) -> list[int]:
        """Indices of the volumes whose texts are the options of volume `i`, in the order of the options."""
        groups, correct = self.groups(draw_key)
        rng = draw_rng(self.seed, draw_key, self.names[i], Purpose.OPTIONS)
        return np.insert(rng.permutation(groups[i, 1:]), correct[i], i).tolist()

    def unfit_partners(self, i: int, number: int, draw_key: int) -> np.ndarray:
        """Indices `[M]` of the volumes with the same text as volume `i`, for which the answer would also be right."""
        return np.flatnonzero(self.wording == self.wording[i])

    def groups(self, draw_key: int) -> tuple[np.ndarray, np.ndarray]:
        """
        For one epoch: the group of each volume (itself first), int `[N, num_false + 1]`, and the position of its own
        text among the options, int `[N]`. Both are -1 for volumes that are left out.
        """
        if draw_key not in self._groups:
            rng = draw_rng(self.seed, draw_key, None, Purpose.OPTIONS)
            there = np.flatnonzero(self.rows_of)
            patterns = self.patterns[there] if self.patterns is not None else None
            drawn = draw_groups(self.keys[there], self.size, rng, patterns)
            groups = np.full((len(self.names), self.size), -1)
            groups[there] = there[drawn]
            correct = np.full(len(self.names), -1)
            correct[there] = _places(drawn, rng)
            # Epoch 0 is kept too, because the index holds its texts.
            first = {0: self._groups[0]} if 0 in self._groups else {}
            self._groups = first | {draw_key: (groups, correct)}
        return self._groups[draw_key]


def _places(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A position for each volume, `[N]`. Within a group, every position occurs once, in random order."""
    places = rng.integers(groups.shape[1], size=len(groups))
    members = np.sort(groups, axis=1)
    # Groups that were filled up with volumes of other groups keep the random positions.
    whole = (members[groups] == members[:, None]).all(axis=(1, 2))
    for group in np.unique(members[whole], axis=0):
        places[group] = rng.permutation(len(group))
    return places


def _integers(values: Sequence[str]) -> np.ndarray:
    return np.unique(np.asarray(values, dtype=object), return_inverse=True)[1]
