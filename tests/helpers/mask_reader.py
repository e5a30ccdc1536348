"""
The tiny reader with a mask head that has learnt where its findings are drawn. Its vision tower does not know the depth
of a slice, by which alone the findings differ: so each of the three has the places of all.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.trainer.mask_head import MaskHead, mask_loss
from ct_rate_pairs.trainer.mask_shares import mask_shares

from .tiny_reader import COMBINATIONS, FINDINGS, make_row


THRESHOLD = 0.4


def drawn(shown: tuple[int, ...]) -> np.ndarray:
    """The mask of what six slices of [`make_row`] show, once for each finding, float32 `[3, 6, 28, 28]`."""
    masks = np.zeros((3, 6, 28, 28), np.float32)
    for third, here in enumerate(shown):
        masks[:, 2 * third : 2 * third + 2, 6:20, 6:20] = here
    return masks


def save_mask_reader(folder: Path, reader_dir: Path) -> None:
    shutil.copytree(reader_dir, folder)
    model, collator = load_model(str(reader_dir), device="cpu")
    vision = model.config.vision_config
    head = MaskHead(vision.out_hidden_size, FINDINGS, vision.temporal_patch_size)
    rows = [make_row(shown, seed=seed) for seed, shown in enumerate(COMBINATIONS * 3)]
    inputs = collator.prompts(rows)
    with torch.no_grad():
        features = model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"]).pooler_output
    side = vision.patch_size * vision.spatial_merge_size
    shares = [mask_shares(drawn(shown), side, vision.temporal_patch_size) for shown in COMBINATIONS * 3]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(200):
        mask_loss(head(torch.cat(tuple(features))), torch.cat(shares), [len(share) for share in shares]).backward()
        optimizer.step()
        optimizer.zero_grad()
    head.save(folder)
    findings = {finding: {"threshold": THRESHOLD, "dice": 0.9} for finding in FINDINGS}
    (folder / "masks.json").write_text(json.dumps({"model": {"dice": 0.9, "findings": findings}, "n": 24}))
