"""A run goes on from the last checkpoint of which nothing is cut."""

import shutil

import pytest
from helpers.pair_trainer import make_trainer
from peft import LoraConfig

from ct_rate_pairs.trainer.whole_checkpoints import last_whole_checkpoint


LORA = LoraConfig(r=4, target_modules=["q_proj"])


@pytest.fixture(scope="module", params=[None, LORA], ids=["whole", "LoRA"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = {"beta": 0.0, "max_steps": 2, "save_strategy": "steps", "save_steps": 1, "peft_config": request.param}
    make_trainer(folder, **options).train()
    return folder


@pytest.mark.slow_but_first
def test_each_file_that_a_resume_reads_is_looked_at(run, tmp_path, caplog):
    assert last_whole_checkpoint(str(run)).name == "checkpoint-2" and not caplog.text
    tensors = [
        path.name for path in (run / "checkpoint-2").iterdir() if path.suffix in (".safetensors", ".pt", ".pth")
    ]
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth"} < set(tensors) and len(tensors) == 4
    for name in (*tensors, "trainer_state.json"):
        for kept in (0, 1, 0.5, -3):
            copy = shutil.copytree(run, tmp_path / "copy")
            path = copy / "checkpoint-2" / name
            content = path.read_bytes()
            path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
            caplog.clear()
            assert last_whole_checkpoint(str(copy)).name == "checkpoint-1", (name, kept)
            assert "checkpoint-2 is incomplete" in caplog.text and name in caplog.text
            shutil.rmtree(copy)


def test_folders_with_other_names_are_no_checkpoints(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    for name in ("checkpoint-best", "checkpoint-", "checkpoint-3-old"):
        shutil.copytree(copy / "checkpoint-2", copy / name)
    assert last_whole_checkpoint(str(copy)).name == "checkpoint-2"
