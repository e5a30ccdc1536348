"""Options of a training whose value does not matter, because of the other options."""

from transformers import TrainingArguments


def idle_training_options(args: TrainingArguments) -> dict[str, str]:
    """
    The options of transformers' own training that have no effect in a trainer of this package.

    Args:
        args ([`~transformers.TrainingArguments`]):
            The options.

    Returns:
        `dict[str, str]`: maps the name of each such option to the reason.
    """
    idle = {"logging_nan_inf_filter": "a loss that is not finite always stops the training"}
    idle |= dict.fromkeys(("do_train", "do_eval", "do_predict"), "neither the trainer nor the recipe reads it")
    if args.max_steps > 0:
        idle["num_train_epochs"] = f"max_steps={args.max_steps} ends the training"
    own = vars(args)  # transformers 5.23 renamed `gradient_checkpointing`
    if not (own.get("activation_checkpointing") or own.get("gradient_checkpointing")):
        of_checkpointing = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
        idle |= dict.fromkeys(of_checkpointing, "gradient checkpointing is off")
    if args.eval_strategy == "no":
        of_evaluation = ["metric_for_best_model", "greater_is_better"]
        if args.load_best_model_at_end:  # "false" may turn off what a config turns on
            of_evaluation.append("load_best_model_at_end")
        idle |= dict.fromkeys(("eval_steps", "eval_delay", *of_evaluation), "eval_strategy is no")
    if args.lr_scheduler_type in ("constant", "reduce_lr_on_plateau", "greedy"):
        reason = f"lr_scheduler_type={args.lr_scheduler_type.value} has no warmup"
        idle |= dict.fromkeys(("warmup_steps", "warmup_ratio"), reason)
    if args.lr_scheduler_type in ("constant", "constant_with_warmup"):
        idle["lr_scheduler_kwargs"] = f"lr_scheduler_type={args.lr_scheduler_type.value} takes none"
    if args.optim in ("adafactor", "sgd", "adagrad", "rmsprop"):
        of_adam = ("adam_beta1", "adam_beta2", "adam_epsilon")
        idle |= dict.fromkeys(of_adam, f"optim={args.optim.value} does not use it")
    if args.save_strategy == "no":
        idle |= dict.fromkeys(("save_steps", "save_total_limit", "save_only_model"), "save_strategy is no")
    return idle
