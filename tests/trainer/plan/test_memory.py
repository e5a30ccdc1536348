"""Memory of a GPU: what is counted is exact, and the formula of activations is near what autograd keeps."""

import pytest
import torch
from helpers.shares import mostly_slow
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

from ct_rate_pairs.trainer.plan.memory import (
    activation_bytes,
    count_parameters,
    disk_of_checkpoints,
    layer_bytes,
    memory_per_gpu,
)
from ct_rate_pairs.trainer.plan.row_shape import RowShape
from ct_rate_pairs.trainer.plan.shapes import make_config


ROW = RowShape()


def test_the_released_sizes_have_their_parameters():
    assert sum(count_parameters("3B")[:2]) == 3_754_622_976  # the output weights are those of the embeddings
    assert sum(count_parameters("7B")[:2]) == 8_292_166_656
    projections = 2 * 2048 + 2 * (2048 + 256) + 2 * 2048 + 3 * (2048 + 11008)  # q, k and v, o; gate, up, down
    assert count_parameters("3B").adapters == 36 * 16 * projections


def test_weights_gradients_and_optimizer_by_hand():
    tower, language, adapters = count_parameters("7B")
    full = memory_per_gpu("7B", ROW, "full", 1, is_joint=False, shards=1)
    assert full[:3] == (6 * (tower + language), 4 * (tower + language), 8 * (tower + language))
    frozen = memory_per_gpu("7B", ROW, "frozen_tower", 1, is_joint=False, shards=1)
    assert frozen[:3] == (4 * (tower + language) + 2 * language, 4 * language, 8 * language)
    lora = memory_per_gpu("7B", ROW, "lora", 1, is_joint=False, shards=1)
    assert lora[:3] == (2 * (tower + language) + 4 * adapters, 4 * adapters, 8 * adapters)
    sharded = memory_per_gpu("7B", ROW, "full", 1, is_joint=False, shards=8)
    assert sharded[:3] == tuple((tower + language) * numbers / 8 for numbers in (4, 4, 8))
    assert full.total == sum(full)


def test_activations_grow_with_the_pairs_and_not_with_the_shards():
    one = memory_per_gpu("3B", ROW, "full", 1, is_joint=False, shards=1).activations
    assert memory_per_gpu("3B", ROW, "full", 2, is_joint=False, shards=1).activations == 2 * one
    assert memory_per_gpu("3B", ROW, "full", 1, is_joint=True, shards=8).activations == 2 * one
    assert memory_per_gpu("3B", ROW, "frozen_tower", 1, is_joint=False, shards=1).activations < one
    assert activation_bytes("3B", ROW._replace(slices=20), keeps_tower=True) > one


def test_checkpoints_hold_weights_and_state():
    whole = sum(count_parameters("3B")[:2])
    assert disk_of_checkpoints("3B", "full") == (12 * whole, 4 * whole)
    adapters = count_parameters("3B").adapters
    assert disk_of_checkpoints("3B", "lora") == (12 * adapters, 4 * adapters)


@pytest.mark.parametrize(
    ("hidden", "intermediate", "heads", "keys"), mostly_slow([(256, 1376, 2, 1), (512, 2752, 4, 2)])
)
def test_the_formula_of_a_layer_is_near_what_autograd_keeps(hidden, intermediate, heads, keys):
    tokens = 128
    kept = []
    for layers in (1, 2):
        small = {
            "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers, "vocab_size": 256,
            "num_attention_heads": heads, "num_key_value_heads": keys, "bos_token_id": None, "eos_token_id": None,
        }  # fmt: skip
        model = Qwen2_5_VLTextModel._from_config(make_config("3B", language=small).text_config, dtype=torch.float32)
        embeddings = torch.randn(1, tokens, hidden, requires_grad=True)
        storages = {}

        def keep(tensor, storages=storages):
            if tokens in tensor.shape:  # not the weights, of which autocast has copies
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        places = torch.arange(tokens)[None, None].expand(3, 1, tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            out = model(inputs_embeds=embeddings, position_ids=places, use_cache=False)
        kept.append((sum(storages.values()), out))  # the outputs stay, so that no storage is used twice
    assert (kept[1][0] - kept[0][0]) / tokens == pytest.approx(layer_bytes(hidden, intermediate, 128 * keys), rel=0.1)
