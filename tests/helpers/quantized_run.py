"""Reports with a model in 4 and in 8 bits, where bitsandbytes is. It is given a folder."""

import json
import sys
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.card_memory import memory_of, shapes_of
from ct_rate_pairs.hub.report import main as report
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from helpers.tiny_reader import SETTINGS, save_nifti


def main(folder: Path) -> None:
    # bitsandbytes quantizes blocks of 64 inputs
    model, processor = make_tiny_qwen(["Cardiomegaly is seen."], hidden_size=128, num_layers=1, vision_depth=1)
    base, scan = folder / "model", save_nifti(folder / "scan.nii.gz", (1, 0, 1))
    model.save_pretrained(base)
    processor.save_pretrained(base)
    (base / "row_settings.json").write_text(json.dumps(SETTINGS))
    exact = load_reporter(base, device="cpu")
    for quantization, layer in (("4bit", Linear4bit), ("8bit", Linear8bitLt)):
        reporter = load_reporter(base, quantization=quantization)
        kinds = {name.split(".")[-1] for name, module in reporter.model.named_modules() if type(module) is layer}
        assert {"qkv", "q_proj", "up_proj"} <= kinds and "lm_head" not in kinds
        assert reporter.version == f"{exact.version}, quantized to {quantization[0]} bits"
        assert reporter.model.dtype == torch.bfloat16
        computed = memory_of(shapes_of(base, ["model.safetensors"]))[quantization]
        assert reporter.model.get_memory_footprint() == pytest.approx(computed, rel=0.05)

        options = ["--model_name_or_path", base, "--max_new_tokens", "8", "--quantization", quantization]
        report([*map(str, [scan, *options, "--output_dir", folder / quantization])])
        written = json.loads((folder / quantization / "report.json").read_text())
        assert written["version"] == reporter.version
        assert reporter.version in (folder / quantization / "report.md").read_text()

    reporter.model.save_pretrained(base)  # in 8 bits
    with pytest.raises(ValueError, match="is quantized already, in another way"):
        load_reporter(base, quantization="4bit")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
