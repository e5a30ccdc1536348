"""A finished run as `recipes/sft_neg.py` leaves it, with what may be published and what must stay at home."""

import json
from pathlib import Path

from ct_rate_pairs.hub import write_model_card
from ct_rate_pairs.hub.references import keep_reference_hashes
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from helpers.writable_hub import WRITE


REPORT = "Findings: Heart size is increased. Calcific plaques are observed in the wall of the thoracic aorta and arch."
REFERENCE = "Findings: " + " ".join(f"In lobe {i} a nodule of {i} mm is seen." for i in range(1, 8))
PNG = bytes.fromhex(  # a black pixel
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)
NIFTI = bytes(344) + b"n+1\0" + bytes(64)
SHOWN = {"num_slices": 6, "spacing": [4.0, 4.0, 8.0], "window": "paper", "z_range": [0.0, 1.0]}
SHOWN |= {"target": "findings", "prompt": "en", "prompt_metadata": False}


def write_model(folder: Path) -> Path:
    model, processor = make_tiny_qwen([REPORT], seed=0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_run(folder: Path, model_dir: Path, *, phantom: bool = True, adapter: bool = False) -> Path:
    """The weights are links to those of `model_dir`."""
    (folder / "figures").mkdir(parents=True)
    (folder / "samples").mkdir()
    (folder / "checkpoint-1").mkdir()
    for file in model_dir.iterdir():
        if not (adapter and file.name in ("model.safetensors", "config.json")):
            (folder / file.name).symlink_to(file)
    if adapter:
        (folder / "adapter_model.safetensors").symlink_to(model_dir / "model.safetensors")
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct"}')
    row = {"coverage": 0.5, "coverage_ci": [0.4, 0.6], "ci_level": 0.95, "labeler": "rules", "recipe": "lower"}
    results = {"model": row, "all_negative": row | {"coverage": 0.0}}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "row_settings.json").write_text(json.dumps(SHOWN))
    prediction = {"volume": "valid_1_a_1.nii.gz", "report": REPORT, "cut": False}
    (folder / "predictions.jsonl").write_text(json.dumps(prediction) + "\n")
    (folder / "figures" / "labels.png").write_bytes(PNG)
    (folder / "figures" / "reports.png").write_bytes(PNG)
    (folder / "training_args.bin").write_text(WRITE)
    (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"weights")
    sample = f"## valid_1_a_1.nii.gz\n\n### Reference\n\n{REFERENCE}\n\n### Generated\n\n{REPORT}\n"
    (folder / "samples" / "step-000001.md").write_text(sample)
    keep_reference_hashes(folder, [REFERENCE], phantom=phantom)
    config = NegativeSFTConfig(output_dir=folder, bf16=False, hub_token=WRITE, beta=0.1)
    facts = {"negative": "heter", "num_train": 20, "num_test": 10, "steps": 1, "hardware": "2 CPU cores"}
    base = "Qwen/Qwen2.5-VL-7B-Instruct" if adapter else None
    write_model_card(folder, results, config, phantom=phantom, minutes=1.0, base_model=base, **facts)
    return folder
