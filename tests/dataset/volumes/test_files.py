"""What is read of a file is bounded by what was read, not by what was promised."""

import gzip
import io
import tracemalloc
import zipfile
import zlib

import nibabel as nib
import numpy as np
import pytest
from helpers.marked_volume import marked_volume

from ct_rate_pairs.volumes.files import limited, read_voxels
from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.slicing import VolumeError


AFFINE = np.diag([-2.0, -3.0, 4.0, 1.0])
NIFTI = nib.Nifti1Image(marked_volume(), AFFINE).to_bytes()


@pytest.fixture
def few(monkeypatch):
    """As if no CT had more than 1 MB."""
    for module in ("files", "nifti"):
        monkeypatch.setattr(f"ct_rate_pairs.volumes.{module}.MOST_BYTES", 2**20)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: gzip.compress(data)[:-1]], ids=["", "gz", "cut"])
def test_what_follows_the_voxels_without_end_is_not_read_to_its_end(few, pack):
    with pytest.raises(VolumeError, match="v.nii: more than 0 GB follow the .* voxels"):
        read_volume(pack(NIFTI + bytes(2**23)), "v.nii")


@pytest.mark.slow
def test_members_behind_a_damaged_one_are_looked_through_to_the_same_limit(few, monkeypatch):
    """Where a stream is damaged, its whole members are counted: they, too, may inflate to more than any CT."""
    inflated = []
    inflater = zlib.decompressobj

    def counted(wbits):
        member = inflater(wbits=wbits)

        class Member:
            eof = property(lambda self: member.eof)
            unused_data = property(lambda self: member.unused_data)

            def decompress(self, piece):
                found = member.decompress(piece)
                inflated.append(len(found))
                return found

        return Member()

    monkeypatch.setattr("ct_rate_pairs.volumes.nifti.isal_zlib.decompressobj", counted)
    members = b"".join(gzip.compress(piece) for piece in (NIFTI[:1000], *[bytes(2**22)] * 50))
    first = bytearray(gzip.compress(NIFTI[1000:]))
    first[-8] ^= 1  # of its checksum
    with pytest.raises(VolumeError, match="gzip stream is damaged|more than 0 GB"):
        read_volume(bytes(first) + members, "v.nii")
    with pytest.raises(VolumeError, match="more than 0 GB follow|gzip stream is damaged"):
        read_volume(members[:-1], "v.nii")
    assert sum(inflated) < 50 * 2**22 / 2


def test_many_short_members_of_a_gzip_stream_take_linear_time(monkeypatch):
    """As bgzip writes them, but shorter: each byte of the file is copied a bounded number of times."""
    copied = []

    class Counted(bytes):
        def __getitem__(self, place):
            piece = bytes.__getitem__(self, place)
            copied.append(len(piece))
            return piece

    class File(io.BytesIO):
        def read(self, size=-1):
            return Counted(super().read(size)) if size == -1 else super().read(size)

    pieces = [NIFTI[i : i + 64] for i in range(0, len(NIFTI), 64)]
    stream = b"".join(map(gzip.compress, pieces))
    monkeypatch.setattr("ct_rate_pairs.volumes.nifti.io.BytesIO", File)
    whole = read_volume(stream + b"junk", "v.nii").stored
    np.testing.assert_array_equal(whole, read_volume(NIFTI, "v.nii").stored)
    assert sum(copied) <= len(pieces) * 2**12 + len(stream)


def test_a_promise_of_more_voxels_than_any_ct_has_takes_no_memory():
    tracemalloc.start()
    for shape in ((2**11, 2**11, 2**10), (40_000, 40_000, 2)):  # the second would take 64 GB to resample
        with pytest.raises(VolumeError, match="more than any CT has"):
            read_voxels("v", io.BytesIO(b"few"), shape, np.dtype("i2"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_limited_file_counts_what_is_read_again_and_not_what_is_passed_over():
    error = VolumeError("too much")
    file = limited(io.BytesIO(bytes(2**20)), 2**15, error)
    file.seek(2**19)
    assert file.read(100) == bytes(100) and file.tell() == 2**19 + 100
    with pytest.raises(VolumeError, match="too much"):
        for _ in range(8):
            file.seek(0)
            file.read(2**13 + 1)
    with pytest.raises(VolumeError, match="too much"):
        zipfile.ZipFile(limited(io.BytesIO(bytes(2**20)), 100, error))
