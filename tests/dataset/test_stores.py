"""Prepared copies of whole volumes: the source's slices by every rule, whole files, the volumes themselves."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from datasets import load_dataset
from helpers.own_scans import own_rows, write_table
from helpers.prepare import use_a_thread
from helpers.tree import SPACING

from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.volumes.windows import windows_of


FORMS = ("preprocessed", "preprocessed_numpy")
ROUNDING = {"preprocessed": 1 / 60, "preprocessed_numpy": 0.501}  # of HU
OTHER_SPACING = (3.0, 5.0, 6.0)  # so that all axes are resampled


@pytest.fixture(scope="module")
def stores(tree, tmp_path_factory):
    """The session's tree in both forms, with five scans a shard."""
    root = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_a_thread(monkeypatch)
        for form in FORMS:
            prepare(open_source(tree, spacing=OTHER_SPACING), root / form, form=form, shard_size=5, workers=1)
    return root


@pytest.fixture(scope="module")
def phantom_stores(phantom, tmp_path_factory):
    """The phantom in both forms: it has lungs."""
    root = tmp_path_factory.mktemp("phantom_stores")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_a_thread(monkeypatch)
        for form in FORMS:
            prepare(open_source(phantom, spacing=(4.5, 4.5, 6.5)), root / form, form=form, workers=1)
    return root


def volumes_of(source, store, count=2):
    """Pairs of a volume of the source and the volume of the store, both before slices are chosen."""
    scans = source.scans("train", "raise")
    for name, scan in store.scans("train", "raise").iloc[:count].iterrows():
        yield read_volume(source.root / scans.loc[name, "path"]), store._open(scan)


@pytest.mark.parametrize("form", FORMS)
def test_the_slices_of_a_store_are_those_of_its_source_within_its_rounding(tree, stores, form):
    fractions = np.random.default_rng(0).random(8)
    for volume, stored in volumes_of(open_source(tree), open_source(stores / form)):
        for window in ("paper", "rgb", (-160, 240)):
            hu = np.squeeze(np.diff(windows_of(window)) / 2)  # per unit of each channel
            for options in ({}, {"z_range": (0.2, 0.9)}, {"fractions": fractions}):
                ours, own = (
                    stored.slices(8, None, window, **options),
                    volume.slices(8, OTHER_SPACING, window, **options),
                )
                assert (np.abs(ours[0] - own[0]) * hu).max() <= ROUNDING[form]
                np.testing.assert_allclose(ours[1], own[1])
        ours, own = stored.slices(8, None, rule="mip"), volume.slices(8, OTHER_SPACING, rule="mip")
        assert ours[0].shape[-1] == 3 and np.abs(ours[0] - own[0]).max() * 1000 <= ROUNDING[form] + 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_lung_slices_of_a_store_are_those_of_its_source(phantom, phantom_stores, form):
    for volume, stored in volumes_of(open_source(phantom), open_source(phantom_stores / form)):
        ours, own = stored.slices(12, None, rule="lung"), volume.slices(12, (4.5, 4.5, 6.5), rule="lung")
        assert np.abs(ours[0] - own[0]).max() * 1000 <= ROUNDING[form]
        np.testing.assert_allclose(ours[1], own[1])


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_are_those_of_the_source_by_every_rule(phantom, phantom_stores, form):
    for slices in ("uniform", "jitter", "lung", "mip"):
        options = {"negative": "heter", "slices": slices, "num_slices": 6, "split": "train"}
        source = load_dataset("ct_rate_pairs", data_dir=str(phantom), spacing=(4.5, 4.5, 6.5), **options)
        store = load_dataset("ct_rate_pairs", data_dir=str(phantom_stores / form), **options)
        for row, twin in zip(source.select(range(3)), store.select(range(3)), strict=True):
            for column in ("images", "negative_images"):
                ours, own = (np.stack([np.asarray(image, int) for image in r[column]]) for r in (row, twin))
                assert ours.shape == own.shape and np.abs(ours - own).max() <= 1  # of 255 grey values, 8 HU each
            del row["images"], row["negative_images"], twin["images"], twin["negative_images"]
            assert row == twin


def test_a_store_streams_as_its_source_does(tree, stores):
    options = {"streaming": True, "split": "test", "slices": "mip", "num_slices": 4}
    for form in FORMS:
        row = next(iter(load_dataset("ct_rate_pairs", data_dir=str(stores / form), **options)))
        twin = next(iter(load_dataset("ct_rate_pairs", data_dir=str(tree), spacing=OTHER_SPACING, **options)))
        for ours, own in zip(row.pop("images"), twin.pop("images"), strict=True):
            assert ours.mode == "RGB" and np.abs(np.asarray(ours, int) - np.asarray(own, int)).max() <= 1
        assert row == twin


def write_ramp(file, turn) -> np.ndarray:
    """A volume whose HU are a linear function of the place of a voxel, and the factors of x, y, z, 1 in RAS."""
    factors = np.array([3.0, -2.0, 1.0, 20.0])
    affine = np.array([[-2.0, 0, 0, 31], [0, 2.2, 0, -17], [0, 0, 2.5, 77], [0, 0, 0, 1]])
    places = np.stack([*np.indices((50, 52, 54)), np.ones((50, 52, 54))], axis=-1) @ affine.T
    hu = np.rint(4 * (places - affine @ [25, 26, 27, 1]) @ [*factors[:3], 0] - 300).astype(np.int16)
    nib.save(nib.as_closest_canonical(nib.Nifti1Image(hu, affine)).as_reoriented(turn), file)
    return 4 * np.array([*factors[:3], -factors[:3] @ (affine @ [25, 26, 27, 1])[:3] - 75])


@pytest.mark.parametrize("turn", [[[0, 1], [1, 1], [2, 1]], [[2, 1], [0, -1], [1, 1]]])
def test_nifti_keeps_the_place_of_each_voxel_for_any_reader(own_tree, tmp_path, without_processes, turn):
    file = next(own_tree.glob("dataset/train_fixed/*/*/train_1_a_1.nii.gz"))
    factors = write_ramp(file, np.array(turn))
    prepare(open_source(own_tree, spacing=OTHER_SPACING), tmp_path / "out", form="preprocessed", workers=1)
    written = tmp_path / "out" / "volumes" / "train-00000-of-00001" / "train_1_a_1.nii"
    image = nib.load(written)
    inner = (slice(2, -2),) * 3  # at the border, resampling repeats the outermost voxels
    places = np.stack([*np.indices(image.shape), np.ones(image.shape)], axis=-1) @ image.affine.T
    expected = (places @ factors).clip(-1000, 1000)
    assert np.abs(1000 * image.get_fdata() - expected)[inner].max() < 1
    np.testing.assert_allclose(image.header.get_zooms(), OTHER_SPACING, rtol=0.05)
    itk = sitk.ReadImage(str(written))
    np.testing.assert_allclose(sitk.GetArrayFromImage(itk), image.get_fdata().T, atol=1e-6)
    index = (5, 6, 7)
    np.testing.assert_allclose(
        itk.TransformIndexToPhysicalPoint(index), (image.affine @ [*index, 1])[:3] * [-1, -1, 1], atol=1e-3
    )


def test_numpy_files_are_hu_as_z_x_y_and_memory_mapped(tree, stores):
    source, store = open_source(tree), open_source(stores / "preprocessed_numpy")
    name, scan = next(store.scans("train", "raise").iterrows())
    file = stores / "preprocessed_numpy" / "volumes" / "train-00000-of-00003" / f"{name.removesuffix('.nii.gz')}.npy"
    array = np.load(file, mmap_mode="r")
    hu = read_volume(source.root / source.scans("train", "raise").loc[name, "path"]).resampled(OTHER_SPACING).stored
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, hu.transpose(0, 2, 1))
    assert isinstance(store._open(scan).stored, np.memmap)
    assert scan["voxel_mm"].tolist() == pytest.approx([24 * 4 / 32, 20 * 4 / 16, 20 * 8 / 26])


@pytest.mark.parametrize("form", [None, *FORMS])
def test_whole_volumes_are_arrays_in_the_order_of_the_slices(tree, stores, form):
    where = {"data_dir": str(tree), "spacing": OTHER_SPACING} if form is None else {"data_dir": str(stores / form)}
    dataset = load_dataset("ct_rate_pairs", negative="heter", split="train", images="volume", **where)
    row = dataset[0]
    path = next(tree.glob(f"dataset/*/*/*/{row['volume']}"))
    expected, depths = read_volume(path).slices(26, OTHER_SPACING)
    assert row["images"].shape == row["negative_images"].shape == (26, 16, 32)
    assert row["images"].dtype == np.float16 and row["slice_mm"] == pytest.approx(depths)
    assert np.abs(row["images"] - expected).max() * 1000 <= ROUNDING.get(form, 0) + 0.25  # of float16 below 1
    partner = next(tree.glob(f"dataset/*/*/*/{row['negative_volume']}"))
    assert np.abs(row["negative_images"] - read_volume(partner).slices(26, OTHER_SPACING)[0]).max() < 1e-3


def test_whole_volumes_survive_formats_map_and_other_windows(stores):
    where = {"data_dir": str(stores / "preprocessed_numpy"), "split": "train", "images": "volume"}
    dataset = load_dataset("ct_rate_pairs", negative="gauss", window="rgb", **where)
    row = dataset[0]
    assert row["images"].shape == row["negative_images"].shape == (26, 16, 32, 3)
    assert -1 <= row["negative_images"].min() < row["negative_images"].max() <= 1
    np.testing.assert_array_equal(dataset.with_format("torch")[0]["images"], row["images"])
    looked_at = dataset.select([0]).map(lambda row: {"mean": float(np.mean(row["images"], dtype=float))})
    np.testing.assert_array_equal(looked_at[0]["images"], row["images"])
    assert looked_at.data.column("images")[0]["own"].as_py() is None  # still read when it is looked at
    changed = dataset.select([0]).map(lambda row: {"images": np.array(row["images"])[:2, :3]})
    np.testing.assert_array_equal(np.array(changed[0]["images"], np.float16), row["images"][:2, :3])


def test_a_partner_of_another_size_is_fitted_along_the_depth_too(own_tree):
    for name, depth in (("train_1", 30), ("train_2", 14)):
        hu = np.random.default_rng(0).integers(-1000, 400, (20, 26, depth), dtype=np.int16)
        file = next(own_tree.glob(f"dataset/train_fixed/*/*/{name}_a_1.nii.gz"))
        nib.save(nib.Nifti1Image(hu, np.diag([-4, -4, 8, 1])), file)
    dataset = load_dataset(
        "ct_rate_pairs", "heter", data_dir=str(own_tree), split="train", images="volume", spacing=SPACING,
        min_label_distance=1, validation_size=0.0,
    )  # fmt: skip
    shapes = {(row["images"].shape, row["negative_images"].shape) for row in dataset}
    assert len({own for own, _ in shapes}) == 3 and all(own == other for own, other in shapes)


def test_what_whole_volumes_exclude_is_refused(tree, stores, tmp_path, without_processes):
    for name, value in {"num_slices": 5, "z_range": (0, 0.5), "slices": "lung"}.items():
        with pytest.raises(ValueError, match=f"{name}=.*no effect with images='volume'"):
            load_dataset("ct_rate_pairs", data_dir=str(stores / FORMS[0]), images="volume", **{name: value})
    with pytest.raises(ValueError, match="images='volume' cannot be streamed"):
        load_dataset("ct_rate_pairs", data_dir=str(tree), images="volume", streaming=True, split="train")
    prepare(open_source(tree, spacing=SPACING), tmp_path / "slices", workers=1)
    with pytest.raises(ValueError, match="images='volume' needs whole volumes.*preprocessed_numpy"):
        load_dataset("ct_rate_pairs", data_dir=str(tmp_path / "slices"), images="volume")


def test_settings_that_a_store_cannot_keep_or_give_are_refused(tree, stores, tmp_path):
    def refused(told, form, **settings):
        with pytest.raises(ValueError, match=told):
            prepare(open_source(tree, **settings), tmp_path / "out", form=form)

    refused("num_slices=5 has no effect with form='preprocessed'", "preprocessed", num_slices=5)
    refused("slices='lung' has no effect", "preprocessed_numpy", slices="lung")
    refused("window='rgb' has no effect", "preprocessed_numpy", window="rgb")
    refused("three values per voxel", "preprocessed", window="rgb")
    refused("slices='jitter' draws other planes", "slices", slices="jitter")
    refused("form='zarr' is unknown", "zarr")
    for form in FORMS:
        with pytest.raises(ValueError, match="prepared copy with spacing"):
            open_source(stores / form, spacing=(1, 1, 1))
        for other in {"slices", *FORMS} - {form}:
            with pytest.raises(ValueError, match=f"another form: '{form}' there, '{other}' now"):
                prepare(open_source(tree, spacing=OTHER_SPACING), stores / form, form=other, shard_size=5)
    with pytest.raises(ValueError, match=r"holds HU from -1000 to 1000.*preprocessed_numpy"):
        open_source(stores / "preprocessed", window=(-1000, 2000))
    with pytest.raises(ValueError, match=r"slices='mip' fills the three channels"):
        open_source(stores / "preprocessed", window="rgb", slices="mip")


def test_a_store_of_a_narrow_window_is_read_with_it(tree, tmp_path, without_processes):
    window = (-160, 240)
    source = open_source(tree, spacing=SPACING, window=window)
    prepare(source, tmp_path / "out", form="preprocessed", workers=1)
    store = open_source(tmp_path / "out")
    scan = source.scans("test", "raise").iloc[0]
    ours, own = store.read_slices(store.scans("test", "raise").loc[scan.name]), source.read_slices(scan)
    assert np.abs(ours[0].astype(int) - own[0]).max() <= 1 and len(np.unique(own[0])) > 50


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_store_goes_on_and_jobs_share_it(tree, stores, tmp_path, without_processes, form):
    source, out = open_source(tree, spacing=OTHER_SPACING), tmp_path / "out"
    options = {"form": form, "shard_size": 5, "workers": 1}
    assert prepare(source, out, **options, shard_index=0, num_shards=2)["missing"] == 3
    with pytest.raises(FileNotFoundError, match="shards of .* are missing"):
        load_dataset("ct_rate_pairs", data_dir=str(out))
    left = out / "volumes" / "train-00001-of-00003"
    left.mkdir()
    (left / ".train_7_a_1.nii.abc.part").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("train-00000*/*")}
    summary = prepare(source, out, **options, shard_index=1, num_shards=2)
    assert (summary["rows"], summary["missing"]) == (24, 0) and not list(out.rglob("*.part"))
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 5
    whole = {path.relative_to(stores / form): path for path in (stores / form).rglob("volumes/*/*")}
    assert len(whole) == 24
    for name, path in whole.items():
        assert (out / name).read_bytes() == path.read_bytes()
    assert summary["bytes"] > sum(path.stat().st_size for path in whole.values())


def test_bad_volumes_are_left_out_of_a_store(own_tree, tmp_path, without_processes):
    bad = next(own_tree.glob("dataset/*/*/*/train_5_a_1.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:500])
    hu = np.random.default_rng(0).normal(-500, 300, (20, 20, 20)).astype(np.float32)
    hu[0, 0, 1] = np.nan  # in no plane that ten slices would show
    whole = next(own_tree.glob("dataset/*/*/*/train_6_a_1.nii.gz"))
    nib.save(nib.Nifti1Image(hu, np.diag([-4, -4, 8, 1])), whole)
    out = tmp_path / "out"
    assert prepare(open_source(own_tree, spacing=SPACING), out, form=FORMS[0], workers=1)["bad"] == 2
    listed = pd.read_csv(out / "bad_volumes.csv").set_index("volume")["error"]
    assert "truncated" in listed["train_5_a_1.nii.gz"] and "NaN" in listed["train_6_a_1.nii.gz"]
    assert len(open_source(out).scans("train", "raise")) == 10 and not list(out.rglob("train_[56]_a_1.nii"))


def write_npy(file, array):
    with file.open("wb") as opened:
        np.save(opened, array, allow_pickle=True)


DAMAGES = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-10]),
    "another size": lambda file: shutil.copy(next(file.parent.parent.glob(f"other*{file.suffix}")), file),
    "floats": lambda file: write_npy(file, np.zeros((26, 32, 16), np.float32)),
    "a pickle": lambda file: write_npy(file, np.array([{}], dtype=object)),
}


@pytest.mark.parametrize("case", DAMAGES)
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_an_error_of_its_volume_alone(stores, tmp_path, form, case):
    out = tmp_path / "out"
    shutil.copytree(stores / form, out)
    store = open_source(out)
    name, scan = next(store.scans("train", "raise").iterrows())
    (file,) = out.glob(f"volumes/train*/{name.removesuffix('.nii.gz')}.*")
    if form == "preprocessed":
        other = nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4))
        nib.save(other, file.parent.parent / "other.nii")
    else:
        write_npy(file.parent.parent / "other.npy", np.zeros((9, 9, 9), np.int16))
    DAMAGES[case](file)
    with pytest.raises(VolumeError, match=f"{name}: .*cannot be read.*Remove .*parquet.*again"):
        store.read_slices(scan)
    options = {"on_error": "skip", "split": "train", "validation_size": 0.0, "streaming": True}
    assert len(list(load_dataset("ct_rate_pairs", data_dir=str(out), **options))) == 11


def test_a_copy_that_an_earlier_release_began_goes_on(tree, tmp_path, without_processes):
    source, out = open_source(tree, spacing=SPACING), tmp_path / "out"
    prepare(source, out, shard_size=5, workers=1, shard_index=0, num_shards=2)
    told = json.loads((out / "prepared.json").read_text())
    del told["settings"]["slices"]
    (out / "prepared.json").write_text(json.dumps(told))
    assert prepare(source, out, shard_size=5, workers=1)["missing"] == 0
    assert open_source(out).settings == VolumeSettings(spacing=SPACING)


def test_the_card_of_a_store_says_what_it_holds(stores):
    for form, told in (("preprocessed", "values in [-1, 1]"), ("preprocessed_numpy", "shape (z, x, y)")):
        card = (stores / form / "README.md").read_text()
        assert told in card and "CT-RATE volumes" in card and "Do not upload" in card
        assert load_dataset(str(stores / form), split="train")[0]["shape"] == [26, 16, 32]


@pytest.mark.parametrize("form", FORMS)
def test_own_scans_of_every_format_go_into_a_store_and_pictures_are_told(tmp_path, without_processes, form):
    table = write_table(tmp_path / "own" / "table.csv", own_rows(tmp_path / "own", 10))
    source, out = open_source(table, spacing=SPACING), tmp_path / "out"
    summary = prepare(source, out, form=form, workers=1)
    assert (summary["rows"], summary["bad"]) == (8, 2)
    listed = pd.read_csv(out / "bad_volumes.csv")["error"]
    assert listed.str.contains("pictures have no HU.*form='slices'").all()
    store = open_source(out, num_slices=4)
    four, read = open_source(table, spacing=SPACING, num_slices=4), 0
    for split in store.splits:
        scans = four.scans(split, "raise")
        for name, scan in store.scans(split, "raise").iterrows():
            ours, own = store.read_slices(scan), four.read_slices(scans.loc[name])
            assert np.abs(ours[0].astype(int) - own[0]).max() <= 1 and ours[1] == pytest.approx(own[1])
            read += 1
    assert read == 8
    for options in ({"slices": "mip"}, {"images": "volume"}):
        dataset = load_dataset("ct_rate_pairs", data_dir=str(table), spacing=SPACING, split="train", **options)
        with pytest.raises(VolumeError, match="pictures"):
            dataset["images"][:]
