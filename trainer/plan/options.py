"""The options of a plan. They import nothing heavy, so that the command answers at once."""

import math
from dataclasses import dataclass, field, fields

from ct_rate_pairs.number_ranges import COUNT, SIZE, Range

from .feeding import Site
from .row_shape import RowShape
from .shapes import MODELS, TUNINGS
from .unit_costs import NEGATIVES, STORES
from .ways import Way


# Operations per second in bfloat16 without sparsity, and bytes of memory, by the makers' data sheets.
GPUS = {"H100": (989e12, 80e9), "H200": (989e12, 141e9), "A100": (312e12, 80e9)}
TRAIN_SCANS, ALL_SCANS = 24_128, 24_128 + 1_564
# CT-RATE's 21 TB hold each of its 50,188 volumes twice: as it was published first, and fixed.
VOLUME_MB = round(21e6 / (2 * (47_149 + 3_039)))
HUB_STREAM_MB_S = 100.0
POSITIVE_SHARE = Range(0, 1, above=True)


def _option(default, told: str, **more):
    return field(default=default, metadata={"help": told, **more})


@dataclass
class PlanOptions:
    """
    What is planned.

    Raises:
        `ValueError`: for a value out of its range.
    """

    model: str = _option("7B", "Size of Qwen2.5-VL.", choices=MODELS)
    tuning: str = _option("full", "What learns; frozen_tower: the language model alone.", choices=TUNINGS)
    negative: tuple[str, ...] = _option(("none", "heter", "mutual"), "Negatives; none: stock.", choices=NEGATIVES)
    negative_share: float = _option(1.0, "Share of the steps that have a negative.", range=POSITIVE_SHARE)
    gpus: tuple[int, ...] = _option((1, 2, 8, 64), "Numbers of GPUs.", range=COUNT)
    gpu: str = _option("H100", "Kind of GPU.", choices=tuple(GPUS))
    mfu: tuple[float, ...] = _option(
        (0.3, 0.4), "Share of the GPU's peak that the needed operations reach.", range=POSITIVE_SHARE
    )
    store: tuple[str, ...] = _option(("fixed", "hub", "prepared"), "Where rows are read from.", choices=STORES)
    workers: int = _option(8, "Worker processes per GPU, as dataloader_num_workers; each needs a core.", range=COUNT)
    store_gb_s: float = _option(1.0, "GB per second that a store gives to all GPUs together.", range=SIZE)
    stream_mb_s: float | None = _option(
        None,
        f"MB per second that one worker gets at most; by default {HUB_STREAM_MB_S:g} from the Hub, else no bound.",
        range=SIZE,
    )
    stored: str = _option("int16", "Data type of the voxels of .nii.gz files, one that was measured.")
    volume_mb: float = _option(float(VOLUME_MB), "MB of a .nii.gz file.", range=SIZE)
    rows: int = _option(TRAIN_SCANS, "Rows of an epoch.", range=COUNT)
    num_slices: int = _option(10, "Slices of a volume.", range=COUNT)
    side: int = _option(480, "Pixels along a side of a slice, after resampling.", range=Range(28))
    report_tokens: int = _option(311, "Tokens of a report, with its end.", range=COUNT)
    per_device_train_batch_size: int = _option(
        1, "Rows that a GPU takes at once, 2 or more if mutual; counts for memory.", range=COUNT
    )

    def __post_init__(self):
        self.negative, self.store = (tuple(dict.fromkeys(names)) for names in (self.negative, self.store))
        self.gpus = tuple(sorted(set(self.gpus)))
        for option in fields(self):
            if allowed := option.metadata.get("range"):
                allowed.check(f"--{option.name}", getattr(self, option.name))

    def idle(self) -> dict[str, str]:
        """The options whose value does not matter beside the others, and why."""
        idle = {}
        if self.negative == ("none",):
            idle["negative_share"] = "no way of training has a negative"
        if self.store == ("prepared",):
            idle |= dict.fromkeys(("stored", "volume_mb"), "a prepared copy has no .nii.gz files")
        return idle

    @property
    def ways(self) -> list[Way]:
        """The ways of training."""
        return [Way(negative, 1.0 if negative == "none" else self.negative_share) for negative in self.negative]

    @property
    def row(self) -> RowShape:
        """The size of a row."""
        return RowShape(slices=self.num_slices, side=self.side, report=self.report_tokens)

    def stream_rate(self, store: str) -> float:
        """Bytes per second that one worker gets at most."""
        if self.stream_mb_s is None:
            return HUB_STREAM_MB_S * 1e6 if store == "hub" else math.inf
        return self.stream_mb_s * 1e6

    def site(self, gpus: int, store: str) -> Site:
        """Where the training runs."""
        return Site(gpus, self.workers, self.store_gb_s * 1e9, self.stream_rate(store))
