"""What a request holds: pixels, their layout and the prompt, and nothing else."""

import base64
from io import BytesIO

import numpy as np
import pytest
from helpers.endpoint_scans import write
from helpers.eval_rows import make_row
from helpers.loopback_endpoint import LoopbackEndpoint, error
from PIL import Image

from ct_rate_pairs.eval.predictions.endpoint import Endpoint, EndpointError
from ct_rate_pairs.eval.predictions.endpoint_request import request_body


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "predictions.jsonl"


def pictures(body):
    parts = body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))) for url in urls]


def test_only_pixels_and_prompt_are_sent():
    row = make_row(0, "The reference.", prompt="Write it.")
    row["images"][0].info["Patient"] = "Doe"  # as of a file
    body = request_body(row, Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True), 50)
    text = body["messages"][0]["content"].pop()["text"]
    assert text.endswith("\nWrite it.") and text.startswith("4 axial slices of one chest CT in this order, ")
    assert "30 mm apart" in text
    sent = pictures(body)
    assert [np.array_equal(picture, image) for picture, image in zip(sent, row["images"], strict=True)] == [True] * 4
    assert not any(picture.info for picture in sent)
    body["messages"][0]["content"].clear()
    assert body == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": []}],
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_a_montage_holds_every_slice_in_its_place():
    row = make_row(0, "The reference.")
    row["images"] = row["images"][:3]
    row["slice_mm"] = row["slice_mm"][:3]
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True, slices_as="montage")
    (picture,) = pictures(request_body(row, endpoint, 50))
    pixels = np.asarray(picture)
    assert pixels.shape == (112, 112) and not pixels[56:, 56:].any()
    for image, place in zip(row["images"], (pixels[:56, :56], pixels[:56, 56:], pixels[56:, :56]), strict=True):
        assert np.array_equal(image, place)


def test_a_video_holds_every_slice_unchanged_with_time_as_depth_and_the_prompt_of_the_training():
    row = make_row(0, "The reference.", prompt="Write it.")
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True, slices_as="video")
    body = request_body(row, endpoint, 50)
    video, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "Write it."}
    frames = video["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
    sent = [Image.open(BytesIO(base64.b64decode(frame, validate=True))) for frame in frames]
    assert [np.array_equal(picture, image) for picture, image in zip(sent, row["images"], strict=True)] == [True] * 4
    told = body["media_io_kwargs"]["video"]
    assert told == {"num_frames": -1, "fps": pytest.approx(1 / 3), "do_sample_frames": False}  # 30 mm are 3 s


def test_arguments_of_the_chat_template_are_sent_unless_they_are_none(path):
    for kwargs, sent in ((None, {"enable_thinking": False}), ({"thinking": True}, {"thinking": True}), ({}, None)):
        endpoint = Endpoint("http://127.0.0.1:1/v1", "m", deidentified=True, chat_template_kwargs=kwargs)
        assert request_body(make_row(0, "R."), endpoint, 50).get("chat_template_kwargs") == sent
    unknown = error(400, "Unrecognized request argument supplied: chat_template_kwargs")
    with LoopbackEndpoint(unknown) as server, pytest.raises(EndpointError, match="Pass --chat_template_kwargs '{}'"):
        write(server, path)
