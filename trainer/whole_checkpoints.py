"""
Checkpoints that are whole, or are not used.

A list of the files of a checkpoint and their sizes, `checkpoint_files.json`, is written when all of them are on the
disk. A checkpoint of another program has no such list: its files are opened instead.
"""

import json
import logging
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import transformers
from safetensors import SafetensorError, safe_open
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from ct_rate_pairs.json_files import JSONFileError, read_json
from ct_rate_pairs.json_schemas.checkpoint import CheckpointFiles, TrainerState
from ct_rate_pairs.json_schemas.model_folder import WeightsIndex
from ct_rate_pairs.whole_files import sync_file, sync_folder, write_whole


logger = logging.getLogger(__name__)

STATE = "trainer_state.json"  # Trainer's last file
LISTED = "checkpoint_files.json"
UNNEEDED = (STATE, LISTED, "training_args.bin", "README.md")  # by a resume, or checked in another way
# What is needed to resume, and where it is: in one file, in the shards of FSDP, or in those of DeepSpeed.
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "pytorch_model_fsdp*", "global_step*")
TRAINING = {
    "optimizer": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "learning rate (scheduler.pt)": ("scheduler.pt", "global_step*"),
    "random states (rng_state.pth)": ("rng_state*.pth",),
}


class WholeCheckpointTrainer(Trainer):
    """
    A [`~transformers.Trainer`] that resumes from whole checkpoints only.

    A checkpoint counts when all its files are on the disk. Older checkpoints, beyond `save_total_limit`, are deleted
    after that. The files of a saved model, too, replace those of an earlier one only when they are on the disk.
    """

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """
        Train, as [`~transformers.Trainer`] does. `resume_from_checkpoint=True` resumes from the last whole checkpoint
        in `output_dir`. What is wrong with later ones, left by a process that was killed or by a full disk, is told.

        Raises:
            `ValueError`: if there is no whole checkpoint, or if the given one is not whole.
        """
        if resume_from_checkpoint in (True, "true"):
            resume_from_checkpoint = str(last_whole_checkpoint(self.args.output_dir))
        if resume_from_checkpoint:
            self.check_checkpoint(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def check_checkpoint(self, folder: Path) -> None:
        """Raises a `ValueError` for a checkpoint that cannot be resumed from."""
        if damage := damage_of(folder):
            raise ValueError(
                f"{folder} is not whole: {damage}. Give another checkpoint, or --resume_from_checkpoint true for the "
                "last one that is whole."
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _of_this_training(checkpoint, "optimizer and scheduler"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _of_this_training(checkpoint, "random states"):
            super()._load_rng_state(checkpoint)

    def _load_callback_state(self) -> None:
        with _of_this_training("The checkpoint", "states of callbacks"):
            super()._load_callback_state()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        Save the model, as [`~transformers.Trainer`] does. The files of an earlier model in the folder stay until the
        new ones are on the disk.
        """
        if _internal_call:  # of a checkpoint, which counts when it has its list
            super().save_model(output_dir, _internal_call)
            return
        out = Path(output_dir or self.args.output_dir)
        part = out / ".model.part"
        if self.args.should_save:
            shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
        self.accelerator.wait_for_everyone()
        super().save_model(str(part), _internal_call)
        self.accelerator.wait_for_everyone()  # of a sharded model, each process may write
        if self.args.should_save:
            move_files(part, out)
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, model, trial) -> None:
        run = Path(self._get_output_dir(trial=trial))
        folder = run / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:  # an earlier checkpoint of this step is none while its files are replaced
            for mark in (LISTED, STATE):
                (folder / mark).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # each process writes its random states, and its shards
        if self.args.should_save:
            list_files(folder)
            rotate_checkpoints(str(run), limit, self.state.best_model_checkpoint, use_mtime=True)


@contextmanager
def _of_this_training(checkpoint: str | None, part: str) -> Iterator[None]:
    """Raises a `ValueError` that names the checkpoint if a part of it is not what Trainer has written."""
    try:
        yield
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        raise ValueError(
            f"{checkpoint}: its {part} are damaged, or of another training ({type(error).__name__}: {error}). Give "
            "another checkpoint, or start a new run from its weights (--model_name_or_path)."
        ) from error


def move_files(part: Path, out: Path) -> None:
    """Moves all files of a folder, the weights last, when they are on the disk. Files with the same names go."""
    paths = sorted(path for path in part.rglob("*") if path.is_file())
    for path in paths:
        sync_file(path)
    for path in sorted(paths, key=lambda path: path.suffix == ".safetensors"):
        place = out / path.relative_to(part)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
        sync_folder(place.parent)
    shutil.rmtree(part)


def list_files(folder: Path) -> None:
    """Waits until a checkpoint is on the disk, and writes the list of its files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        sync_file(path)
    for place in {path.parent for path in paths}:
        sync_folder(place)
    write_whole(folder / LISTED, json.dumps(sizes_of(folder, paths), indent=2) + "\n")


def sizes_of(folder: Path, paths: list[Path]) -> dict[str, int]:
    """The sizes of files of a checkpoint, by their relative paths, as `checkpoint_files.json` holds them."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths if path.name not in UNNEEDED}


def last_whole_checkpoint(output_dir: str) -> Path:
    """
    The last whole checkpoint, see [`damage_of`]. What is wrong with later ones is told.

    Args:
        output_dir (`str`):
            Folder of the training.

    Returns:
        `Path`: folder of the checkpoint.

    Raises:
        `ValueError`: if there is no whole checkpoint.
    """
    folders = [folder for folder in Path(output_dir).glob("checkpoint-*") if folder.name[11:].isdecimal()]
    folders.sort(key=lambda folder: int(folder.name[11:]))
    for folder in reversed(folders):
        damage = damage_of(folder)
        if damage is None:
            return folder
        logger.warning("%s is incomplete and is not used: %s", folder, damage)
    raise ValueError(f"{output_dir} has no whole checkpoint to resume from: start without `resume_from_checkpoint`.")


def damage_of(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; `None` if it has all that a resume reads."""
    try:
        state = read_json(folder / STATE, TrainerState)
        sizes = read_json(folder / LISTED, CheckpointFiles) if (folder / LISTED).exists() else None
    except (OSError, JSONFileError) as error:
        return str(error)
    if unknown := sorted(set(state) - {field.name for field in fields(transformers.TrainerState)}):
        return f"{STATE} has the field {unknown[0]!r:.80}, which this version of transformers does not know"
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if odd := [f"{path.relative_to(folder).as_posix()} {told}" for path in paths if (told := _oddity_of(path))]:
        return ", ".join(odd)
    if sizes is None:
        return _lacking(folder) or _damage_of_content(folder)
    found = {name: path.stat().st_size if (path := folder / name).is_file() else None for name in sizes}
    wrong = [
        f"{name} is missing" if found[name] is None else f"{name} has {found[name]:,} bytes of {size:,}"
        for name, size in sizes.items()
        if found[name] != size
    ]
    return ", ".join(wrong) or _lacking(folder)  # a list that is damaged itself may name too little


def _lacking(folder: Path) -> str | None:
    """What a resume needs and the checkpoint does not have, in words."""
    if not _has(folder, WEIGHTS):
        return "there are no weights"
    missing = [name for name, patterns in TRAINING.items() if not _has(folder, patterns)]
    if not missing or len(missing) == len(TRAINING):  # all: the checkpoint is one of the model alone
        return None
    return f"{', '.join(missing)} is missing"


def _damage_of_content(folder: Path) -> str | None:
    """As [`damage_of`], of a checkpoint without a list of its files."""
    try:
        indices = [read_json(index, WeightsIndex) for index in folder.glob("*.index.json")]
    except JSONFileError as error:
        return f"the index of the weights is damaged ({error})"
    shards = {name for index in indices for name in index["weight_map"].values()}
    if missing := [name for name in sorted(shards) if not (folder / name).is_file()]:
        return f"{', '.join(missing)} is missing"
    paths = sorted(folder.rglob("*"))
    if odd := [path.name for path in paths if not path.is_file() and not path.is_dir()]:
        return f"{', '.join(odd)} is no file, but a pipe, a device, or a link that leads nowhere"
    cut = [path.relative_to(folder).as_posix() for path in paths if _is_cut(path)]
    return f"{', '.join(cut)} is empty or cut" if cut else None


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(path for pattern in patterns for path in folder.glob(pattern))


def _is_cut(path: Path) -> bool:
    """Whether a file of tensors is empty, cut or damaged, as after a loss of power or on a full disk."""
    if path.name in UNNEEDED or path.is_dir():
        return False
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt"):  # compares the length of the file with its header
                return False
        except SafetensorError:
            return True
    if path.suffix not in (".pt", ".pth", ".bin"):
        return False
    try:  # files of `torch.save` are zips, with checksums
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, OSError, ValueError):  # what a zip leads to may lie before its beginning
        return True


def _oddity_of(path: Path) -> str | None:
    """What a file of `torch.save` never is, in words: packed, it could take all memory. Otherwise `None`."""
    if path.suffix in (".pt", ".pth", ".bin") and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return "is empty or cut"
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            return "is packed or encrypted, as torch writes none"
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            return "states that it holds more bytes than it has"
    return None
