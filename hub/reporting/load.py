"""Loads a released model. Importing this file is fast: torch is imported at the first call."""

from pathlib import Path
from typing import Literal


def load_reporter(
    name_or_path: str,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    device_map: str | dict | None = None,
    quantization: Literal["4bit", "8bit"] | None = None,
):
    """
    Loads a released model to write reports with, or to ask about scans.

    Args:
        name_or_path (`str`):
            Name on the Hub, or folder, of a whole model or of an adapter. The base model of an adapter is loaded by
            the name in `adapter_config.json`.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub. All files are taken from the commit that it points to at the start.
        device (`str` or `torch.device`, *optional*):
            Device that the model is moved to. Defaults to an accelerator if there is one, and to the CPU otherwise.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Data type of the weights, such as `"bfloat16"`; `"auto"` keeps the type in which they were saved. With
            `quantization`, that of the weights that are not quantized, and `"auto"` is bfloat16.
        device_map (`str` or `dict`, *optional*):
            How the layers are spread over devices, in the place of `device`: `"auto"` fills one accelerator after
            another, and then the memory of the machine.
        quantization (`str`, *optional*):
            `"4bit"` or `"8bit"`: the weights are quantized while they are loaded, and the reports name it beside the
            version of the model. It needs bitsandbytes (`pip install 'ct-rate-pairs[qlora]'`).

    Returns:
        [`~ct_rate_pairs.hub.reporting.reporter.Reporter`]: the model, ready for the tasks that it was trained on.

    Raises:
        `ImportError`: if `quantization` needs a package that is not installed.
        `OSError`: if there is no such model, or if the Hub does not answer whether the model has settings and
            confidences.
        [`~ct_rate_pairs.trainer.row_settings.RowSettingsError`]: if the model was trained here and nothing tells which
            rows it must be shown, or if it was trained neither to write reports nor to answer questions.

    Example:

    ```python
    from ct_rate_pairs.hub import load_reporter

    report = load_reporter("USER/model").report("scan.nii.gz")
    print(report.text)
    print([(finding.label, finding.confidence, finding.slices) for finding in report.findings if finding.stated])
    ```
    """
    # Imported here, because these modules take seconds to import.
    import torch

    from ct_rate_pairs.eval.load_model import DECIDING, base_commit_of, load_model, version_of
    from ct_rate_pairs.eval.quantization import TOLD
    from ct_rate_pairs.trainer.hub_files import commit_of
    from ct_rate_pairs.trainer.row_settings import RowSettings, RowSettingsError, find_row_settings, tell_assumed

    from .asking import TASKS
    from .confidence import FILE, load_confidence
    from .domain import FILE as DOMAIN
    from .domain import load_domain
    from .masks import FILE as MASK_HEAD
    from .masks import SCORES, load_masker
    from .reporter import Reporter

    name_or_path = str(name_or_path)
    if revision is not None and Path(name_or_path).is_dir():
        raise ValueError(f"{name_or_path} is a folder and has no revision {revision}: leave the revision out.")
    if device is not None and device_map is not None:
        raise ValueError(f"device={str(device)!r} and device_map={device_map!r:.80}: give one of the two.")
    device = device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    revision = commit_of(name_or_path, revision)
    settings = find_row_settings(name_or_path, revision) or RowSettings({})
    if settings.tasks and not {"report", *TASKS} & set(settings.tasks):
        raise RowSettingsError(
            f"{name_or_path} was trained on {' and '.join(settings.tasks)}, and neither to write reports nor to "
            "answer questions. Measure it by `ct-rate-pairs evaluate-task`."
        )
    tell_assumed(name_or_path, settings.options)
    base_commit = base_commit_of(name_or_path, revision)
    placed = {"device_map": device_map, "quantization": quantization}
    model, collator = load_model(name_or_path, revision, dtype, device, base_commit=base_commit, **placed)
    folder, decides = Path(name_or_path), (*DECIDING, FILE, DOMAIN, MASK_HEAD, SCORES)
    version = version_of(name_or_path, revision, base_commit=base_commit, files=decides)
    return Reporter(
        model,
        collator,
        settings.options,
        load_confidence(name_or_path, revision),
        name=folder.resolve().name if folder.is_dir() else name_or_path,
        # The commit, or a folder's hash
        version=version.removeprefix(f"{name_or_path}@") + (f", {TOLD[quantization]}" if quantization else ""),
        tasks=settings.tasks,
        domain=load_domain(name_or_path, revision),
        masker=load_masker(name_or_path, revision, model),
    )
