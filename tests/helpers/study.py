"""A study of a tiny phantom, of two steps per run."""

from helpers.paths import ROOT


STUDY = {
    "base": str(ROOT / "recipes" / "configs" / "phantom_heter.yaml"),
    "cohort": {"scans": 16, "valid_scans": 6, "seed": 0, "reconstructions": 0},
    "settings": {
        "max_steps": 2,
        "logging_steps": 1,
        "warmup_steps": 0,
        "negative_start_ratio": 0,
        "dataloader_num_workers": 0,
        "dataloader_persistent_workers": False,
        "dataloader_prefetch_factor": None,
        "max_eval_samples": 2,
        "confidence_scans": 0,
        "max_new_tokens": 4,
        "save_strategy": "steps",
        "save_steps": 1000,
        "save_only_model": True,
        "disable_tqdm": True,
    },
    "seeds": [0],
    "tables": {
        "first": {
            "title": "First",
            "rows": {"Origin": {"negative": "none", "beta": 0}, "no cap": {"max_negative_loss": float("inf")}},
        },
        "second": {
            "title": "Second",
            "rows": {
                "goes on": {"model_name_or_path": "runs/none_beta-0_seed-{seed}", "max_steps": 1},
                "rewards": {
                    "base": str(ROOT / "recipes" / "configs" / "phantom_grpo.yaml"),
                    "model_name_or_path": "runs/none_beta-0_seed-{seed}",
                    "reward_funcs": ["length"],
                    "reward_weights": [1],
                    "max_steps": 1,
                    "num_generations": 2,
                    "max_completion_length": 4,
                    "per_device_train_batch_size": 2,
                    "gradient_accumulation_steps": 1,
                    "operating_point": "none",
                },
                "again": {"negative": "none", "beta": 0},
                "broken": {"beta": -1},
            },
        },
    },
}
