import math

import pytest
import torch
import torch.nn.functional as F
from datasets import load_dataset
from helpers.matcher_rows import REPORTS, SIZE, TINY, make_row
from helpers.tree import SPACING
from PIL import Image
from transformers import BertTokenizer, CLIPVisionModel

from ct_rate_pairs.trainer.matcher import IMAGE_TOWERS, MatcherConfig, MatcherModel, Simple3DCNN, contrastive_loss
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator, describe
from ct_rate_pairs.trainer.tiny import make_tiny_matcher, train_wordpiece


@pytest.fixture(scope="module")
def rows():
    return [make_row(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tiny_matcher(REPORTS, SIZE)[1]


@pytest.fixture(params=IMAGE_TOWERS)
def model(request):
    return make_tiny_matcher(REPORTS, SIZE, image_tower=request.param, **TINY)[0].eval()


def test_the_loss_is_the_cross_entropy_of_both_directions():
    logits = torch.randn(5, 5, dtype=torch.float64)
    expected = 0.0
    for i in range(5):
        expected -= logits[i].log_softmax(0)[i] / 10 + logits[:, i].log_softmax(0)[i] / 10
    assert torch.allclose(contrastive_loss(logits), expected)
    assert contrastive_loss(torch.zeros(8, 8)).item() == pytest.approx(math.log(8))


def test_pairs_of_one_text_are_neither_match_nor_negative():
    logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    loss = contrastive_loss(logits, same)
    loss.backward()
    assert logits.grad[0, 1] == logits.grad[1, 0] == 0 and logits.grad[0, 2] > 0 and logits.grad[0, 0] < 0
    rows = [logits[0, [0, 2]], logits[1, [1, 2]], logits[2]]
    columns = [logits[[0, 2], 0], logits[[1, 2], 1], logits[:, 2]]
    targets = [0, 0, 2]
    cross = [F.cross_entropy(v[None], torch.tensor([t])) for v, t in zip(rows + columns, targets * 2, strict=True)]
    assert torch.allclose(loss, sum(cross) / 6)
    assert contrastive_loss(logits, torch.ones(3, 3, dtype=torch.bool)).item() == 0  # nothing is left to tell apart


def test_embeddings_are_of_length_one_and_the_logits_their_cosines(model, tokenizer, rows):
    output = model(**MatcherCollator(tokenizer, model.config)(rows))
    for embeds in (output.image_embeds, output.text_embeds):
        assert torch.allclose(embeds.norm(dim=-1), torch.ones(4)) and embeds.shape == (4, 16)
    cosines = output.image_embeds @ output.text_embeds.T
    assert torch.allclose(output.logits_per_image, cosines / 0.07, atol=1e-3)
    assert torch.allclose(output.loss, contrastive_loss(output.logits_per_image))


def test_a_scan_or_a_text_is_embedded_alike_whatever_else_is_in_its_batch(model, tokenizer):
    collator = MatcherCollator(tokenizer, model.config)
    rows = [make_row(0), make_row(1, size=(20, 60)), make_row(2, size=(48, 24))]  # sizes differ, as on CT-RATE
    together = model.embed_images(**collator.images(rows))
    alone = torch.cat([model.embed_images(**collator.images([row])) for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)
    texts = [*REPORTS, "Normal."]
    together = model.embed_texts(**collator.texts(texts))
    alone = torch.cat([model.embed_texts(**collator.texts([text])) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)


def test_pixels_age_and_sex_all_reach_the_vector_of_the_scan(model, tokenizer):
    collator = MatcherCollator(tokenizer, model.config)
    row = make_row(0)
    changed = [make_row(1), row | {"age": 80}, row | {"age": None}, row | {"sex": "F"}, row | {"sex": None}]
    own, *others = model.embed_images(**collator.images([row, *changed]))
    assert all((own - other).abs().max() > 1e-6 for other in others)


def test_only_the_middle_slice_counts_in_stage_one_and_all_do_in_the_others(model, tokenizer, rows):
    collator = MatcherCollator(tokenizer, model.config)
    other = make_row(9)["images"]
    for place in range(4):
        images = [*rows[0]["images"][:place], other[place], *rows[0]["images"][place + 1 :]]
        own, changed = model.embed_images(**collator.images([rows[0], rows[0] | {"images": images}]))
        counts = model.config.image_tower != "clip_middle_slice" or place == 2
        assert bool((own - changed).abs().max() > 1e-6) == counts


def test_the_cnn_knows_left_from_right_and_top_from_bottom():
    torch.manual_seed(0)
    tower = Simple3DCNN(MatcherConfig(image_size=SIZE, cnn_widths=(8, 16), cnn_grid=(2, 2, 2))).eval()
    spot = torch.full((1, 1, 4, *SIZE), -1.0)
    spot[..., 1, 8:12, 8:12] = 1
    features = [tower(torch.flip(spot, axes)) for axes in ((), (2,), (3,), (4,))]
    for other in features[1:]:
        assert (features[0] - other).abs().max() > 0.1


def test_it_is_saved_and_loaded_with_its_tokenizer(tmp_path, model, tokenizer, rows):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, collator = MatcherModel.from_pretrained(tmp_path), MatcherCollator.from_pretrained(tmp_path)
    assert loaded.config.to_dict().keys() == model.config.to_dict().keys()
    assert isinstance(collator.tokenizer, BertTokenizer)
    batch, again = MatcherCollator(tokenizer, model.config)(rows), collator(rows)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert torch.equal(model(**batch).logits_per_image, loaded(**again).logits_per_image)


def test_pretrained_towers_are_taken_as_they_are():
    source, _ = make_tiny_matcher(REPORTS, SIZE, image_tower="clip_all_slices", seed=1)
    vision, text = source.vision_model.clip, source.text_model
    assert isinstance(vision, CLIPVisionModel)
    config = MatcherConfig(image_tower="clip_all_slices", text_config=text.config, vision_config=vision.config)
    before = {name: value.clone() for name, value in (vision.state_dict() | text.state_dict()).items()}
    model = MatcherModel(config, text, vision)
    after = model.vision_model.clip.state_dict() | model.text_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_weights_come_from_the_seed_alone():
    random_state = torch.get_rng_state()
    first, second, third = (make_tiny_matcher(REPORTS, SIZE, seed=seed, **TINY)[0] for seed in (0, 0, 1))
    assert torch.equal(random_state, torch.get_rng_state())
    weights = [model.vision_model.blocks[0][0].weight for model in (first, second, third)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_temperature_is_learnt_and_its_inverse_never_above_100(tokenizer, rows):
    model, _ = make_tiny_matcher(REPORTS, SIZE, **TINY)
    batch = MatcherCollator(tokenizer, model.config)(rows)
    model(**batch).loss.backward()
    assert model.logit_scale.grad != 0
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    model.zero_grad()
    model(**batch).loss.backward()
    assert model.logit_scale.exp().item() == pytest.approx(100)
    assert model.logit_scale.grad != 0  # it can come down again


def test_an_unknown_tower_is_refused():
    with pytest.raises(ValueError, match="image_tower='vit': choose one of cnn3d"):
        MatcherConfig(image_tower="vit")


@pytest.mark.slow
def test_it_learns_four_scans(tokenizer, rows):
    model, _ = make_tiny_matcher(REPORTS, SIZE, **TINY)
    collator = MatcherCollator(tokenizer, model.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = collator(rows)
    torch.manual_seed(0)  # of the dropout
    for _ in range(60):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    loss = model.eval()(**batch).loss.item()
    assert loss < 0.1 * math.log(4), loss


def test_slices_are_cropped_or_padded_with_air_about_their_centre(tokenizer):
    collator = MatcherCollator(tokenizer, MatcherConfig(image_size=(4, 6)))
    white = Image.new("L", (2, 8), 255)  # too narrow, too high
    pixels = collator.images([make_row(0) | {"images": [white] * 3}])["pixel_values"]
    assert pixels.shape == (1, 1, 3, 4, 6)
    assert (pixels[..., 2:4] == 1).all() and (pixels[..., :2] == -1).all() and (pixels[..., 4:] == -1).all()


def test_three_windows_are_three_channels_and_one_is_not_three(tokenizer):
    row = make_row(0, mode="RGB")
    pixels = MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE, num_channels=3)).images([row])["pixel_values"]
    assert pixels.shape == (1, 3, 4, *SIZE)
    assert pixels[0, 2, 1, 3, 5].item() == pytest.approx(row["images"][1].getpixel((5, 3))[2] / 127.5 - 1)
    with pytest.raises(ValueError, match=r"train_0_a_1.*3 channels for a model of 1.*window"):
        MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE)).images([row])


def test_age_and_sex_may_be_unknown():
    assert describe(67, "F") == [0.67, 1, 0, 1]
    assert describe(None, None) == [0, 0, 0, 0]
    assert describe(0, "M") == [0, 1, 1, 0]  # a newborn's age is known


def test_reports_of_one_wording_are_marked(tokenizer):
    rows = [make_row(0, "Normal."), make_row(1, "normal.\n"), make_row(2)]
    same = MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE))(rows)["same_text"]
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_a_hard_negative_is_a_pair_of_its_own_in_the_batch(tree, tokenizer):
    options = {"data_dir": str(tree), "num_slices": 4, "spacing": SPACING, "negative": "hard"}
    train = load_dataset("ct_rate_pairs", split="train", **options)
    partners = {row["volume"]: row for row in train.with_format(None)}
    rows = [train[i] for i in range(3)]
    collator = MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE), partners=partners)
    batch = collator(rows)
    assert batch["pixel_values"].shape == (6, 1, 4, *SIZE) and batch["same_text"].shape == (6, 6)
    by_name = {row["volume"]: row for row in train}
    partner_rows = [by_name[row["negative_volume"]] for row in rows]
    expected = MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE))([*rows, *partner_rows])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match=r'train_.*its negative train_.* has no report here.*negative="hard"'):
        MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE), partners={})(rows)


def test_texts_lose_sentences_anew_each_time_and_never_all(tokenizer):
    rows = [make_row(i, " ".join(f"Sentence {n} of {i}." for n in range(10))) for i in range(8)]
    collator = MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE), keep_sentences=0.5)
    whole = MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE))(rows)["attention_mask"].sum(dim=1)
    torch.manual_seed(0)
    first, second = (collator(rows)["attention_mask"].sum(dim=1) for _ in range(2))
    assert (first < whole).all() and not torch.equal(first, second)
    assert 0.3 < first.sum() / whole.sum() < 0.7
    one = MatcherCollator(tokenizer, MatcherConfig(image_size=SIZE), keep_sentences=1e-6)
    assert one(rows)["attention_mask"].sum(dim=1).tolist() == whole.tolist()  # none kept: the report as it is
    torch.manual_seed(0)
    assert torch.equal(collator(rows)["attention_mask"].sum(dim=1), first)


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_that_is_none_is_refused(tokenizer, share):
    with pytest.raises(ValueError, match="keep_sentences"):
        MatcherCollator(tokenizer, MatcherConfig(), keep_sentences=share)


def test_the_vocabulary_depends_on_the_texts_alone_so_that_a_run_can_be_repeated():
    texts = ["The heart is normal.", "The lungs: no nodule, 12 mm.", "Heart, nodule."]
    vocabulary = train_wordpiece(texts, 1024).get_vocab()
    assert train_wordpiece(texts[::-1], 1024).get_vocab() == vocabulary
    words = sorted(vocabulary, key=vocabulary.get)
    assert words[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert words[-9:] == ["heart", "nodule", "the", "12", "is", "lungs", "mm", "no", "normal"]
    small = train_wordpiece(texts, len(vocabulary) - 1)
    assert small.tokenize("A normal heart") == ["a", "no", "##r", "##m", "##a", "##l", "heart"]


def test_reports_use_whole_words_of_the_learnt_vocabulary(tokenizer):
    assert tokenizer.tokenize("Cardiomegaly. No nodule") == ["cardiomegaly", ".", "no", "nodule"]
    assert tokenizer("heart")["input_ids"][0] == tokenizer.cls_token_id
    assert tokenizer.pad_token_id == 0
