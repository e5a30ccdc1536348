"""The optimizer for training from scratch: which weights it treats how, and that a checkpoint brings it back."""

import copy

import pytest
import torch

from ct_rate_pairs.trainer import MuonAdamW
from ct_rate_pairs.trainer.muon import orthogonalise
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


@pytest.fixture(scope="module")
def tiny():
    model, _ = make_tiny_qwen(["No nodule is observed."] * 3, hidden_size=32, num_layers=1, vision_depth=1)
    return model


def give_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest(tiny):
    muon_group, adamw_group = MuonAdamW(tiny).param_groups
    names = {id(parameter): name for name, parameter in tiny.named_parameters()}
    matrices = {names[id(parameter)] for parameter in muon_group["params"]}
    others = {names[id(parameter)] for parameter in adamw_group["params"]}
    assert matrices | others == set(names.values()) and not matrices & others
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in matrices
    assert {"model.language_model.embed_tokens.weight", "model.visual.patch_embed.proj.weight"} <= others


def test_one_learning_rate_moves_matrices_as_far_as_adamw_moves_the_rest(tiny):
    model = copy.deepcopy(tiny)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = MuonAdamW(model, lr=1e-3, weight_decay=0.0)
    give_gradients(model, seed=0)
    optimizer.step()
    for old, (name, new) in zip(before, model.named_parameters(), strict=True):
        # Adam's first step is lr; Muon's is scaled to 0.2 to 0.4 of it, which is the size of Adam's later steps.
        assert 0.1e-3 < (new - old).pow(2).mean().sqrt() < 1.1e-3, name


def test_a_restored_optimizer_goes_on_as_the_saved_one(tiny):
    model = copy.deepcopy(tiny)
    optimizer = MuonAdamW(model)
    for seed in range(2):
        give_gradients(model, seed)
        optimizer.step()
    again = copy.deepcopy(model)
    restored = MuonAdamW(again, lr=1.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its_optimizer in ((model, optimizer), (again, restored)):
        give_gradients(one, seed=2)
        its_optimizer.step()
    for expected, parameter in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(expected, parameter)


def test_its_updates_are_those_of_torch_but_for_the_rounding_of_bfloat16(tiny):
    ours, torchs = copy.deepcopy(tiny), copy.deepcopy(tiny)
    optimizer = MuonAdamW(ours, lr=1e-2, weight_decay=0.1)
    (matrices, _) = optimizer.param_groups
    places = {id(parameter) for parameter in matrices["params"]}
    twins = [twin for own, twin in zip(ours.parameters(), torchs.parameters(), strict=True) if id(own) in places]
    other = torch.optim.Muon(twins, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    before = [matrix.detach().clone() for matrix in twins]
    for seed in range(3):
        give_gradients(ours, seed)
        give_gradients(torchs, seed)
        optimizer.step()
        other.step()
    for old, own, twin in zip(before, matrices["params"], twins, strict=True):
        assert (own - twin).norm() < 0.02 * (twin - old).norm()


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_an_update_has_singular_values_of_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    made = torch.linalg.svdvals(orthogonalise(1000 * matrix))
    assert made.max() < 1.3 and made[values.argsort(descending=True)][:-1].min() > 0.3
    assert (left @ right * orthogonalise(matrix)).sum() > 0.8 * min(shape)  # the same singular vectors


def test_a_scheduler_sets_both_learning_rates(tiny):
    model = copy.deepcopy(tiny)
    optimizer = MuonAdamW(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    give_gradients(model, seed=0)
    optimizer.step()
    scheduler.step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
