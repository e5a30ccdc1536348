"""Encoders of MONAI see the slices of a volume together, and each volume alone."""

import sys

import pytest
import torch
from transformers import AutoModel

from ct_rate_pairs.trainer.volume_encoder import NETWORKS, VolumeEncoder, VolumeEncoderConfig


SLICES = 4


@pytest.fixture(params=NETWORKS)
def encoder(request):
    torch.manual_seed(0)
    return VolumeEncoder(VolumeEncoderConfig(request.param, SLICES, (2, 3), image_size=(64, 96))).eval()


@torch.no_grad()
def tokens_of(encoder, images):
    return encoder(images).last_hidden_state


def test_each_slice_gets_its_tokens_from_its_own_volume_alone(encoder):
    images = torch.randn(2 * SLICES, 3, 64, 96)
    tokens = tokens_of(encoder, images)
    assert tokens.shape == (2 * SLICES, 6, encoder.config.hidden_size)
    alone = torch.cat([tokens_of(encoder, part) for part in images.split(SLICES)])
    torch.testing.assert_close(tokens, alone, rtol=1e-4, atol=1e-5)
    images[0] += torch.randn(3, 64, 96)
    change = (tokens_of(encoder, images) - tokens).abs().amax((1, 2))
    assert (change[:SLICES] > 1e-4).all()  # its neighbours see it, too
    assert change[0] == change.max() and (change[SLICES:] < 1e-5).all()


def test_a_token_tells_of_its_place_in_the_slice(encoder):
    images = torch.zeros(SLICES, 3, 64, 96)
    bright = images.clone()
    bright[2, :, 8:24, 72:88] = 1.0  # in the upper right of 2 x 3 places
    change = (tokens_of(encoder, bright) - tokens_of(encoder, images)).abs().sum(-1)  # [slices, places]
    assert change[2].argmax() == 2
    assert change[:, 2].argmax() == 2


def test_it_is_the_same_after_saving_and_loading(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    images = torch.randn(SLICES, 3, 64, 96)
    assert type(loaded) is VolumeEncoder
    assert torch.equal(tokens_of(loaded.eval(), images), tokens_of(encoder, images))


def test_slices_that_are_no_whole_volumes_are_refused_with_the_remedy(encoder):
    with pytest.raises(ValueError, match=r"7 slices are no whole volumes.*4 slices per volume.*--num_slices 4"):
        encoder(torch.zeros(7, 3, 64, 96))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"network": "nn_unet"}, "network='nn_unet': give swin_unetr or resnet3d"),
        ({"feature_size": 10_000}, "feature_size: give whole numbers from 1 to 192"),
        ({"grid": (2, 10**9)}, "grid: give whole numbers"),
        ({"num_slices": 0}, "num_slices"),
        ({"num_slices": "10"}, "num_slices"),
    ],
)
def test_a_hostile_config_is_refused_before_a_network_is_made(wrong, told):
    with pytest.raises(ValueError, match=told):
        VolumeEncoderConfig(**wrong)


def test_without_monai_the_extra_is_named(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(ImportError, match=r"swin_unetr.*pip install 'ct-rate-pairs\[monai\]'"):
        VolumeEncoder(VolumeEncoderConfig())
