"""The page takes a study from a real PACS."""

import gradio as gr
import pytest
from helpers.dicom_series import PLANTED, ROOT, slices, write
from helpers.tiny_reader import AFFINE, SETTINGS, make_voxels

from ct_rate_pairs.hub.app.callbacks import Callbacks
from ct_rate_pairs.hub.pacs import DicomWebServer
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.hub.reporting.seen import see


pytestmark = pytest.mark.slow


def test_a_study_of_a_pacs_is_opened_on_the_page_and_a_wrong_one_is_told(pacs, reader, tmp_path):
    folder = write(tmp_path / "series", slices(make_voxels((1, 0, 1)), AFFINE))
    pacs.push(folder)
    call = Callbacks(Reporter(*reader, SETTINGS), DicomWebServer(pacs.url))
    opened = call.open_study(f" {ROOT} ", "")
    assert (opened.seen.pixels == see(folder, call.reporter.volume_settings).pixels).all()
    for study, told in ((f"{ROOT}.9", "This study cannot be read: "), ("DOE", "UID")):
        with pytest.raises(gr.Error, match=told) as error:
            call.open_study(study, "")
        assert not [word for word in PLANTED if word not in (ROOT, "DOE") and word in str(error.value)]


def test_of_several_series_of_a_study_one_is_chosen_by_its_uid(pacs, reader, tmp_path):
    for number in (1, 2):
        pacs.push(write(tmp_path / f"series{number}", slices(make_voxels((1, 0, 1)), AFFINE, series=number)))
    call = Callbacks(Reporter(*reader, SETTINGS), DicomWebServer(pacs.url))
    with pytest.raises(gr.Error, match="in the field “DICOM series”") as error:
        call.open_study(ROOT, "")
    assert f"{ROOT}.2" in str(error.value)
    assert "--series" not in str(error.value)
    assert call.open_study(ROOT, f"{ROOT}.2").seen.instances.images[0].series_uid == f"{ROOT}.2"
