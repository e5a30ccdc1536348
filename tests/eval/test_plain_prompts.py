"""BLIP-2 and InstructBLIP have no chat template: a plain question, one picture, and reports alone are measured."""

import pytest
import torch
from helpers.eval_rows import REPORTS, make_row
from helpers.tiny_image_models import T5, make_tiny_blip2, make_tiny_instructblip
from helpers.tiny_models import make_tiny_gemma3

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.load_model import check_family, check_model, load_model
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import write_batch


TEXTS = [*REPORTS, "Write the report."]
LONGER = [{"role": "user", "content": "Write the report, and tell all that is seen."}]
ROWS = [make_row(0, REPORTS[0]), make_row(1, REPORTS[1]) | {"prompt": LONGER}]
FAMILIES = {"blip2": make_tiny_blip2, "instructblip": make_tiny_instructblip}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    for part in FAMILIES[request.param](TEXTS):
        part.save_pretrained(folder)
    return request.param, str(folder), *load_model(str(folder), slices_as="montage")


def test_the_question_stands_behind_the_picture_in_the_form_of_the_family(family):
    name, _, _, collator = family
    batch = collator.prompts(ROWS)
    before, after = {"blip2": ("Question: ", " Answer:"), "instructblip": ("", "")}[name]
    for row, ids, mask in zip(ROWS, batch["input_ids"], batch["attention_mask"], strict=True):
        told = collator.processor.tokenizer.decode(ids[mask == 1])
        assert told.startswith(
            f"<image><image><image><image></s>{before}4 axial slices of one chest CT in one picture"
        )
        assert told.endswith(f"\n{row['prompt'][0]['content']}{after}")
        assert mask.tolist() == sorted(mask.tolist())  # all padding lies before the picture
    assert batch["attention_mask"].min() == 0 and batch["pixel_values"].shape == (2, 3, 56, 56)
    if name == "instructblip":
        told = collator.processor.qformer_tokenizer.batch_decode(batch["qformer_input_ids"])
        assert told[0].startswith("[CLS]") and told[0].endswith("[PAD]") and told[1].endswith("[SEP]")


@torch.no_grad()
def test_a_row_is_the_same_alone_and_in_a_batch_and_the_picture_counts(family):
    _, _, model, collator = family
    together = model(**collator.prompts(ROWS)).logits[:, -1]
    alone = torch.cat([model(**collator.prompts([row])).logits[:, -1] for row in ROWS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    other = model(**collator.prompts([ROWS[0] | {"images": ROWS[1]["images"]}])).logits[:, -1]
    assert (other - alone[:1]).abs().max() > 1e-3


def test_it_writes_reports_and_the_plain_form_is_saved_with_the_processor(family, tmp_path):
    _, _, model, collator = family
    check_model(model, collator, ROWS[0], 4, with_losses=False)
    reports = generate_reports(model, collator, ROWS, max_new_tokens=4, progress=False)
    assert len(reports) == 2
    for part in (model, collator.processor):
        part.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), slices_as="montage")
    assert again[1].processor.chat_template == collator.processor.chat_template
    assert generate_reports(*again, ROWS, max_new_tokens=4, progress=False) == reports


def test_likelihoods_training_and_several_pictures_are_refused_with_a_remedy(family):
    _, folder, model, collator = family
    with pytest.raises(ValueError, match=r"not trained, and the likelihood.*--looking_scans 0"):
        check_model(model, collator, ROWS[0], 4, with_losses=True)
    with pytest.raises(ValueError, match=r"one picture per scan.*--slices_as montage"):
        load_model(folder)[1].prompts(ROWS)
    with pytest.raises(ValueError, match="not trained"):
        PairCollator(collator.processor)(ROWS)


def test_a_processor_that_does_not_place_the_picture_where_the_model_looks_is_refused(family, tmp_path):
    _, _, model, collator = family
    name = type(collator.processor)
    processor = name.from_pretrained(family[1])
    check_family(model, processor, "alice/model")
    for number in (None, 3):
        processor.num_query_tokens = number
        with pytest.raises(ValueError, match=r"alice/model places .*without seeing the picture.*newer commit"):
            check_family(model, processor, "alice/model")


def test_an_encoder_decoder_that_is_no_blip_is_refused_by_name():
    model, processor = make_tiny_gemma3(TEXTS)
    model.config.is_encoder_decoder = True
    with pytest.raises(ValueError, match=r"alice/t5 is an encoder-decoder.*--predictions FILE"):
        check_family(model, processor, "alice/t5")


@pytest.fixture(scope="module", params=FAMILIES)
def with_t5(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    for part in FAMILIES[request.param](TEXTS, T5):
        part.save_pretrained(folder)
    return load_model(str(folder), slices_as="montage")


def test_t5_writes_its_own_most_likely_tokens_alone_or_in_a_batch(with_t5):
    model, collator = with_t5
    check_model(model, collator, ROWS[0], 10_000, with_losses=False)  # T5 knows no longest text
    together = write_batch(model, collator, ROWS, max_new_tokens=5)
    alone = [write_batch(model, collator, [row], max_new_tokens=5)[0] for row in ROWS]
    assert together == alone and all(written.text for written in alone)
    # Token by token, as T5's decoder has them behind its first token.
    prompt, tokens = collator.prompts(ROWS[:1]), [model.config.text_config.pad_token_id]
    with torch.no_grad():
        for _ in range(5):
            logits = model(**prompt, decoder_input_ids=torch.tensor([tokens])).logits
            tokens.append(int(logits[0, -1].argmax()))
    assert alone[0].text == collator.processor.tokenizer.decode(tokens[1:], skip_special_tokens=True).strip()


def test_the_picture_counts_for_t5_and_no_text_is_set(with_t5):
    model, collator = with_t5
    decoder = {"decoder_input_ids": torch.tensor([[model.config.text_config.pad_token_id]])}
    seen = [
        model(**collator.prompts([ROWS[0] | {"images": row["images"]}]), **decoder).logits.detach() for row in ROWS
    ]
    assert (seen[0] - seen[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="encoder-decoder, which cannot go on"):
        write_batch(model, collator, ROWS[:1], max_new_tokens=2, openings=["Abnormalities: none.\n"])
