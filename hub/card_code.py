"""The code in a model card: how to load the model, and how to use it with transformers alone."""

from ct_rate_pairs.reports.texts import write_prompt
from ct_rate_pairs.volumes.windows import windows_of

from .templates import THIS_FOLDER, read_template


# Code in the card that loads the model and makes a pipeline: for a whole model, and for an adapter.
WHOLE = {
    "load_model": "model = AutoModelForImageTextToText.from_pretrained(model_id, revision=revision)",
    "make_pipeline": 'pipe = pipeline("image-text-to-text", model_id, revision=revision)',
}
ADAPTER = {
    "load_model": """\
on = {"revision": revision}  # of the adapter alone: the base model has no such revision
model = AutoModelForImageTextToText.from_pretrained(model_id, adapter_kwargs=on)""",
    "make_pipeline": 'pipe = pipeline("image-text-to-text", model=model, processor=processor)',
}

# How the card's code for transformers alone makes inputs of the slices, and how the card tells it: for a model that
# takes a volume as a video, and for one that takes each slice as an image. Both do what `PairCollator` does.
VIDEO = {
    "form": "The planes are the frames of a video, with timestamps from\n  their distance in mm.",
    "slices_to_inputs": """\
# A video of these frames, padded with air to whole patches, of which each takes two frames. Time is depth.
side, odd = processor.video_processor.patch_size * processor.video_processor.merge_size, number % 2
y, x = (-n % side for n in slices.shape[2:])
frames = F.pad(torch.cat([slices, slices[-1:]])[: number + odd], (x - x // 2, x // 2, y - y // 2, y // 2))
depths = gap * (planes - planes[0])  # mm
places = depths / depths[-1] * (number - 1)
even = abs(places - np.arange(number)).max() <= 1 / 3
places = np.arange(number) if even else places
places = np.append(places, places[-1])[: number + odd]  # a repeated last slice lies where it lies
mm_per_second = processor.video_processor.to_dict().get("mm_per_second", 10)
fps = mm_per_second * (number - 1) / float(depths[-1])
told = {"fps": fps, "frames_indices": places.tolist(), "total_num_frames": len(places)}
given = {"videos": [frames], "video_metadata": [told], "do_resize": False, "do_sample_frames": False}
shown = [{"type": "video"}]""",
    "tell_depths": """\
if "second_per_grid_ts" in inputs and not even:  # Qwen2.5-VL: seconds that, times 0, 1, 2, ..., give the depths
    places[number:] += 1  # here, it counts as one that lies a mean distance deeper
    pairs = torch.tensor(places.tolist()).view(-1, 2).mean(dim=1)
    seconds = inputs["second_per_grid_ts"][:, None].repeat(1, len(pairs))
    seconds[0, 1:] = ((pairs - pairs[0]) / 2 * seconds[0] / torch.arange(len(pairs)))[1:]
    inputs["second_per_grid_ts"] = seconds
""",
}
IMAGES = {
    "form": "Each plane is an image.",
    "slices_to_inputs": """\
given = {"images": [list(slices)]}
shown = [{"type": "image"}] * number""",
    "tell_depths": "",
}


ALONE_NEEDS_PLANES = """\
With transformers alone, this model cannot be used: its slices are chosen by the rule `{slices}` of `ct-rate-pairs`,
and from other slices it has not learnt to write a report.
"""


def alone_text(settings: dict, adapter: bool, takes_video: bool) -> str:
    """Code that uses the model without this package, from the contents of `row_settings.json`."""
    if settings.get("slices", "uniform") != "uniform":
        return ALONE_NEEDS_PLANES.format(slices=settings["slices"])
    top, bottom = settings["z_range"]
    form = VIDEO if takes_video else IMAGES
    return read_template("model_card_alone").format(
        peft=" peft" * adapter,
        this_folder=THIS_FOLDER,
        load_model=(ADAPTER if adapter else WHOLE)["load_model"],
        spacing_zyx=list(settings["spacing"])[::-1],
        top=top,
        bottom=bottom,
        num_slices=settings["num_slices"],
        windows=[list(window) for window in windows_of(settings["window"])],
        slices_to_inputs=form["slices_to_inputs"],
        tell_depths=form["tell_depths"],
        prompt=write_prompt(settings["target"], settings["prompt"]),
    )
