"""What is kept with the weights of a model, in each checkpoint and at the end: its row settings and its heads."""

import logging
from pathlib import Path

from peft import PeftModel
from torch import Tensor

from ct_rate_pairs.json_files import read_json

from .finite import check_weights
from .heads import Head
from .pair_collator import MM_PER_SECOND
from .row_settings import FILE, KEY, RowSettings, RowSettingsError, checked_settings, write_row_settings
from .whole_checkpoints import WholeCheckpointTrainer


logger = logging.getLogger(__name__)


class ModelFilesTrainer(WholeCheckpointTrainer):
    """
    A [`~transformers.Trainer`] that keeps row settings and heads with the model, and resumes only if the checkpoint
    was trained on the same rows. A class that inherits from it sets `row_settings`, `heads` and `data_collator`.
    """

    row_settings: RowSettings | None
    heads: list[Head]

    def mark_model(self) -> None:
        """Keeps the row settings with model and processor. Tells if the model comes from other rows."""
        config, settings = self.model.config, self.row_settings
        if settings is None:
            logger.warning(
                "It is not known how the training rows were made, so the model is saved without %s. Pass "
                "`row_settings`, or rows of `load_dataset('ct_rate_pairs', ...)`.",
                FILE,
            )
        elif changes := checked_settings(config.to_dict().get(KEY) or {}, "config.json").changes(settings.content()):
            told = f"The model was trained on other rows: {'; '.join(changes)}."
            if isinstance(self.model, PeftModel):
                raise RowSettingsError(
                    f"{told} An adapter does not change what its base model tells of itself, so that the merged model "
                    "would be shown the wrong rows. Train on the rows of the base model, or without an adapter."
                )
            logger.warning("%s From now on, it is shown the new ones.", told)
        setattr(config, KEY, settings.content() if settings else {})
        setattr(self.processing_class.image_processor, KEY, settings.content() if settings else {})
        if (rate := self.data_collator.mm_per_second) != MM_PER_SECOND and self.data_collator.takes_video:
            self.processing_class.video_processor.mm_per_second = rate  # saved with it

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, as [`~transformers.Trainer`] does, with its row settings."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            write_row_settings(self.row_settings, output_dir or self.args.output_dir)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        # `save_pretrained` takes the weights of the heads out of the dictionary.
        own = {head: _weights_of(head, state_dict or {}) for head in self.heads}
        super()._save(output_dir, state_dict)
        for head in self.heads if self.args.should_save else ():  # every process comes here
            head.save(output_dir or self.args.output_dir, own[head])

    def check_checkpoint(self, folder: Path) -> None:
        """Raises an error for a checkpoint that is not whole or of other rows. Tells if it holds only the model."""
        super().check_checkpoint(folder)
        path = folder / FILE
        before = checked_settings(read_json(path), path).content() if path.is_file() else {}
        now = (self.row_settings or RowSettings({})).content()
        changes = RowSettings(before).changes(now)
        if before.get("tasks") and now.get("tasks") and set(before["tasks"]) != set(now["tasks"]):
            changes.append(f"tasks {', '.join(before['tasks'])}, now {', '.join(now['tasks'])}")
        if changes:
            raise RowSettingsError(
                f"{folder} was trained on other rows: {'; '.join(changes)}. Resume with the options of its run, or "
                "start a new run from its weights (--model_name_or_path)."
            )
        if folder.is_dir() and not (folder / "scheduler.pt").is_file():
            logger.warning(
                "%s holds only the model (`save_only_model`): optimizer and learning rate start anew.", folder
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self.is_fsdp_enabled or isinstance(self.model, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            for head in () if self.is_fsdp_enabled else self.heads:  # its shards hold the heads
                head.load(resume_from_checkpoint)
        else:
            self._load_weights(resume_from_checkpoint)
            check_weights(self.model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled  # their shards hold the heads
        if sharded or isinstance(self.model, PeftModel):
            super()._load_best_model()
            for head in () if sharded else self.heads:
                head.load(self.state.best_model_checkpoint)
        else:
            self._load_weights(self.state.best_model_checkpoint)

    def _load_weights(self, checkpoint: str) -> None:
        # A checkpoint of Qwen2.5-VL has the parameter names of the release, not of the class. Trainer ignores names
        # that it does not know, so it would continue with the initial weights and only warn (transformers issue
        # 43701). `from_pretrained` knows both kinds of names.
        saved = type(self.model).from_pretrained(checkpoint, dtype="auto", trust_remote_code=False)
        weights = saved.state_dict()
        for head in self.heads:
            head.load(checkpoint)
            weights |= {f"{head.key}.{name}": value for name, value in head.state_dict().items()}
        self.model.load_state_dict(weights)


def _weights_of(head: Head, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a head among those of a model, by their names in the head."""
    part = f"{head.key}."
    return {name.partition(part)[2]: value for name, value in state_dict.items() if part in name}
