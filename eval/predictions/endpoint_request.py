"""
What is sent to an endpoint: the pixels of the slices, the row's prompt, and a description of how the slices are laid
out. Never a volume's name, a label or the reference.
"""

import base64
from io import BytesIO

from PIL import Image

from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.trainer.row_checks import depths_of
from ct_rate_pairs.volumes.montage import montage

from .endpoint import Endpoint
from .montage import with_layout


def request_body(row: dict, endpoint: Endpoint, max_new_tokens: int) -> dict:
    """
    The request for a row: the pictures, then a description of their layout and the row's prompt, at temperature 0.

    Args:
        row (`dict`):
            Row of the dataset. Only `images`, `slice_mm` and `prompt` are used.
        endpoint ([`Endpoint`]):
            The endpoint; its `model`, `slices_as`, `mm_per_second` and `chat_template_kwargs` are used.
        max_new_tokens (`int`):
            Maximum length of a report, in the model's tokens.

    Returns:
        `dict`: the body of a chat completion request.
    """
    extra = {"chat_template_kwargs": endpoint.chat_template_kwargs} if endpoint.chat_template_kwargs else {}
    if endpoint.slices_as == "video":
        frames, fps = video_url(row, endpoint.mm_per_second)
        content = [{"type": "video_url", "video_url": {"url": frames}}]
        # All frames, with their distance in time: by default, vLLM takes 32 frames, and one frame per second.
        extra["media_io_kwargs"] = {"video": {"num_frames": -1, "fps": fps, "do_sample_frames": False}}
        *before, question = row["prompt"]
    else:
        as_montage = endpoint.slices_as == "montage"
        pictures = [montage(row["images"])] if as_montage else row["images"]
        content = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in pictures]
        *before, question = with_layout(row, as_montage)
    content.append({"type": "text", "text": text_of(question)})
    return {
        **extra,
        "model": endpoint.model,
        "messages": [*before, question | {"content": content}],
        "temperature": 0,
        "max_tokens": max_new_tokens,
    }


def data_url(picture: Image.Image) -> str:
    """The picture as a PNG data URL, with its pixels alone: metadata of the image file is removed."""
    buffer = BytesIO()
    clean = picture.copy()
    clean.info = {}
    clean.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def video_url(row: dict, mm_per_second: float) -> tuple[str, float]:
    """
    The slices as the frames of a video, and the frames per second at which time is depth.

    vLLM takes frames one after the other, separated by commas (`VideoMediaIO.load_base64` in its
    `vllm/multimodal/media/video.py`). It calls them JPEG, but opens each by its contents, so that PNG loses nothing.
    """
    frames = [data_url(image).partition(",")[2] for image in row["images"]]
    depths = depths_of(row)
    return f"data:video/jpeg;base64,{','.join(frames)}", mm_per_second * (len(depths) - 1) / (depths[-1] - depths[0])
