"""
`ct-rate-pairs export --embeddings` and `evaluate-matcher`: the vectors of a matcher give its own numbers again, and
those of CT-CLIP are read as its scripts write them.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from datasets import load_dataset
from helpers.matcher_rows import TINY
from helpers.tree import SPACING, write_telling_tree, write_tree

from ct_rate_pairs.eval.embeddings import read_embeddings, read_label_scores, read_texts, write_texts, write_vectors
from ct_rate_pairs.eval.matcher import evaluate_matcher
from ct_rate_pairs.eval.metrics.ranking import label_auroc
from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.export import ct_clip
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.recipes import evaluate_matcher as recipe
from ct_rate_pairs.recipes import evaluate_reports, export, table1
from ct_rate_pairs.recipes.train_matcher import CHOICES, load_choices
from ct_rate_pairs.trainer import save_row_settings
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator
from ct_rate_pairs.trainer.tiny import make_tiny_matcher


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A tree, its splits, a matcher's folder, its numbers, and the folder of its vectors."""
    root = tmp_path_factory.mktemp("matcher")
    tree = write_telling_tree(root / "tree")
    options = {"data_dir": str(tree), "num_slices": 4, "spacing": list(SPACING), "negative": "none"}
    splits = load_dataset("ct_rate_pairs", **options)
    texts = references_of(splits["train"])[1]
    model, tokenizer = make_tiny_matcher(texts, (20, 24), **TINY)
    model.save_pretrained(root / "run")
    tokenizer.save_pretrained(root / "run")
    save_row_settings([reader_of(splits["train"])], root / "run")
    choices = [load_choices(options | kind) for kind in CHOICES]
    collator = MatcherCollator(tokenizer, model.config)
    expected = evaluate_matcher(model, collator, splits["test"], splits["train"], choices, root)
    data = ("--data_dir", str(tree))
    export.main(["--embeddings", str(root / "run"), *data, "--output_dir", str(root / "vectors")])
    return tree, splits, root, expected


def measure(cohort, folder, name="own@1"):
    tree, *_ = cohort
    slices = ("--num_slices", "4", "--spacing", *map(str, SPACING))
    recipe.main(["--embeddings", str(folder), "--made_by", name, "--data_dir", str(tree), *slices])
    return json.loads((folder / "evaluation" / "results.json").read_text())


@pytest.mark.slow
def test_vectors_of_a_matcher_give_its_numbers_again(cohort, capsys):
    _, _, root, expected = cohort
    results = measure(cohort, root / "vectors")
    assert results.pop("made_by") == "own@1"
    assert flat(results) == pytest.approx(flat(expected), abs=1e-6)
    table = (root / "vectors/evaluation/table.md").read_text()
    assert table.replace("| own", "| dual encoder") == (root / "table.md").read_text()
    assert "16 of 16 scans of the split test have a vector" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (root / "vectors/image").iterdir()}
    export.main(
        ["--embeddings", str(root / "run"), "--data_dir", str(cohort[0]), "--output_dir", str(root / "vectors")]
    )
    assert before == {path: path.stat().st_mtime_ns for path in (root / "vectors/image").iterdir()}


@pytest.mark.slow
def test_vectors_and_reports_of_the_same_scans_stand_in_one_table(cohort, tmp_path, capsys):
    tree, splits, root, expected = cohort
    reports = dict(zip(*references_of(splits["test"])[:2], strict=True))
    (tmp_path / "theirs.json").write_text(json.dumps(reports))
    theirs = ("--predictions", str(tmp_path / "theirs.json"), "--made_by", "RadFM@0a1b2c3")
    evaluate_reports.main([*theirs, "--data_dir", str(tree), "--output_dir", str(tmp_path / "radfm")])
    runs = (f"radfm={tmp_path / 'radfm'}", f"dual encoder={root}")
    table1.main([*runs, "--output_file", str(tmp_path / "table.md")])
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:4]] == ["radfm", "dual encoder"]
    assert (
        "| 16 |" in lines[2]
        and "| 16 |" in lines[3]
        and f"{expected['retrieval']['image_to_text']['recall_at_1']:.3f}" in lines[3]
    )


def flat(content, name=""):
    """The numbers of nested results."""
    if isinstance(content, dict):
        return {key: value for inner in content for key, value in flat(content[inner], f"{name}.{inner}").items()}
    if isinstance(content, list):
        return {key: value for i, inner in enumerate(content) for key, value in flat(inner, f"{name}.{i}").items()}
    return {name: content} if isinstance(content, int | float) else {}


@pytest.mark.slow
def test_ct_clip_s_own_files_give_retrieval_and_its_zero_shot_labels(cohort, tmp_path, capsys):
    _, splits, root, expected = cohort
    volumes, reports, labels = references_of(splits["test"])
    shutil.copytree(root / "vectors/image", tmp_path / "image")
    vectors = read_embeddings(root / "vectors", dict(zip(volumes, reports, strict=True)))
    write_vectors(
        tmp_path / "text",
        {volume[:-7]: vectors.texts[report] for volume, report in zip(volumes, reports, strict=True)},
    )
    order = np.random.default_rng(0).permutation(len(volumes))  # CT-CLIP's script shuffles the scans
    scores = np.random.default_rng(1).random((len(volumes), 18))
    np.savez(tmp_path / "predicted_weights.npz", data=scores[order])
    (tmp_path / "accessions.txt").write_text("".join(f"{volumes[place][:-7]}\n" for place in order))
    results = measure(cohort, tmp_path, "CT-CLIP_v2@0a1b2c3")
    assert flat(results["retrieval"]) == pytest.approx(flat(expected["retrieval"]), abs=1e-6)
    assert results["zero_shot"]["auroc_macro"] == pytest.approx(label_auroc(scores, labels)["auroc_macro"])
    assert results["matching"] == {} and results["zero_shot_sentences"] is None
    told = capsys.readouterr().out
    assert "Matching (full, random) is not measured: there is no vector of a blank volume." in told

    shutil.rmtree(tmp_path / "image")
    alone = measure(cohort, tmp_path, "CT-CLIP_v2@0a1b2c3")
    assert alone["zero_shot"] == results["zero_shot"] and alone["retrieval"] is None
    assert "Retrieval is not measured" in capsys.readouterr().out


@pytest.mark.slow
def test_ct_clip_gets_its_scans_a_blank_one_and_the_texts_to_embed(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(ct_clip, "SIZE", (24, 48, 48))  # an array of the true size has 221 MB
    tree, splits, *_ = cohort
    out = ("--output_dir", str(tmp_path), "--max_eval_samples", "1")
    export.main(["--for", "ct-clip", "--data_dir", str(tree), *out])
    assert np.load(tmp_path / "blank.npy").shape == np.load(tmp_path / "scans/valid_1/valid_1_a/valid_1_a_1.npy").shape
    texts = read_texts(tmp_path)
    assert {references_of(splits["test"])[1][0], "Cardiomegaly is present."} < set(texts.values())
    with pytest.raises(ValueError, match="exported otherwise: cohort"):
        export.main(["--for", "ct-clip", "--data_dir", str(write_tree(tmp_path / "other")), *out])
    assert read_texts(tmp_path) == texts


def test_a_vector_stays_with_its_text_when_another_export_has_other_texts(tmp_path):
    reports = {"valid_1_a_1.nii.gz": "A."}
    write_vectors(tmp_path / "image", {"valid_1_a_1": torch.ones(2)})
    write_texts(tmp_path, ["B.", "C."])
    vectors = {"B.": torch.tensor([1.0, 0.0]), "C.": torch.tensor([0.0, 1.0])}
    write_vectors(tmp_path / "text", {name: vectors[text] for name, text in read_texts(tmp_path).items()})
    write_texts(tmp_path, ["A.", "B."])
    found = read_embeddings(tmp_path, reports).texts
    assert {text: vector.tolist() for text, vector in found.items()} == {"B.": [1, 0], "C.": [0, 1]}


@pytest.mark.slow
def test_vectors_of_a_matcher_are_not_measured_on_another_cohort_of_the_same_names(cohort, tmp_path):
    other = write_tree(tmp_path / "other", scans=16)
    with pytest.raises(ValueError, match=r"vectors/manifest\.json tells .* with other scans or reports"):
        recipe.main(["--embeddings", str(cohort[2] / "vectors"), "--made_by", "own@1", "--data_dir", str(other)])


def test_a_model_without_its_commit_is_refused():
    with pytest.raises(ValueError, match="--made_by CT-CLIP: give the model and the commit"):
        recipe.main(["--embeddings", "latents", "--made_by", "CT-CLIP"])


def test_a_folder_that_holds_no_vectors_is_told_by_file(tmp_path):
    reports = {"valid_1_a_1.nii.gz": "A.", "valid_2_a_1.nii.gz": "B."}
    with pytest.raises(FileNotFoundError, match=r"any of these 2 scans, such as image/valid_1_a_1\.npz"):
        read_embeddings(tmp_path, reports)
    write_vectors(tmp_path / "image", {"valid_1_a_1": torch.tensor([3.0, 4.0])})
    found = read_embeddings(tmp_path, reports)
    assert found.volumes == ["valid_1_a_1.nii.gz"] and found.vectors[0].tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)]
    ]
    assert found.vectors[1].isnan().all() and not found.texts
    write_vectors(tmp_path / "text", {"valid_1_a_1": torch.ones(3)})
    with pytest.raises(ValueError, match="vectors of 2 and of 3 numbers, the first of these that of 'A.'"):
        read_embeddings(tmp_path, reports)
    for content in (b"", b"PK\x03\x04", b"no zip"):
        (tmp_path / "image/valid_1_a_1.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"valid_1_a_1\.npz holds no array 'arr'"):
            read_embeddings(tmp_path, reports)
    np.savez(tmp_path / "image/valid_1_a_1.npz", arr=np.array([[np.nan, 1]]))
    with pytest.raises(ValueError, match="no vector of finite numbers"):
        read_embeddings(tmp_path, reports)
    np.savez(tmp_path / "predicted_weights.npz", data=np.zeros((2, 18)))
    (tmp_path / "accessions.txt").write_text("valid_1_a_1\nvalid_1_a_1\n")
    with pytest.raises(ValueError, match="names 1 scans"):
        read_label_scores(tmp_path)
