"""CT-RATE's gated repository on the Hub: its tables are cached, its volumes (21 TB in all) read and forgotten."""

import logging
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    FileMetadataError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
)
from huggingface_hub.utils import tqdm

from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import Volume, VolumeError

from .tree import TreeSource


logger = logging.getLogger(__name__)

REPO_ID = "ibrahimhamamci/CT-RATE"

ACCESS_HELP = (
    f"CT-RATE is a gated dataset. Accept its terms at https://huggingface.co/datasets/{REPO_ID}, then run `hf auth "
    "login` on this machine. For a copy on disk pass `data_dir=` (the folder that holds `dataset/`). To try "
    "everything without "
    "CT-RATE, write a phantom cohort with `python -m ct_rate_pairs.phantom --out phantom --scans 200` and pass "
    "`data_dir='phantom'`; for training: `accelerate launch recipes/sft_neg.py --config recipes/configs/phantom.yaml "
    "--data_dir phantom`."
)

PATIENCE = 600.0  # seconds for which a server that fails is tried again
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds, doubled from one to the other
_START_TIMEOUT = 10.0  # seconds until a machine without a route to the Hub hears of it

# What a request to the Hub raises. `hf_xet` has only RuntimeError for a lost connection.
_HUB_ERRORS = (httpx2.HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RuntimeError)
_REFUSALS = {401: "there is no token, or it is not valid", 403: "this account has not been granted access"}

T = TypeVar("T")


class CTRateAccessError(ConnectionError):
    """CT-RATE cannot be reached on the Hub, or its terms are not accepted."""


class _NoBar(tqdm):
    """For a bar a volume would fill the log. (The client's own `silent_tqdm` fails under Xet.)"""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "disable": True})


class HubSource(TreeSource):
    """
    The gated repository, at the commit that it has when the first file is asked for: no run mixes two revisions.

    A server that is overloaded (429), ill (5xx), cuts streams or dies is waited for up to `PATIENCE` seconds a file,
    with growing pauses; one that cannot even be reached for the commit, not at all. A cut stream is resumed where it
    broke. A volume that comes damaged is downloaded once more, for the damage may be the download's.

    Args:
        token (`str`, *optional*):
            Access token; the stored one of `hf auth login` by default.
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`], *optional*):
            Which volumes, and how they become slices.

    Every method that asks the Hub raises `CTRateAccessError` when it refuses access, or cannot be reached.
    """

    is_phantom = False

    def __init__(self, token: str | None = None, settings: VolumeSettings | None = None):
        super().__init__(settings)
        self.token = token

    @cached_property
    def commit(self) -> str:
        """The commit that every file is read at."""

        def ask() -> str:
            # without `expand` the answer lists every file of the repository
            return HfApi(token=self.token).dataset_info(REPO_ID, expand=["sha"], timeout=_START_TIMEOUT).sha

        return _patiently("The repository", ask, already_reached=False)

    def file(self, path: str) -> Path:
        """
        Local path of the table `path`.

        Raises:
            `FileNotFoundError`: when the repository has no such file.
        """
        try:
            return self._download(path)
        except RemoteEntryNotFoundError as error:
            raise FileNotFoundError(f"{REPO_ID} holds no {path} at commit {self.commit}.") from error

    def volumes(self, folder: str) -> set[str] | None:
        return None

    def read_volume(
        self,
        path: str,
        rescale: tuple[float, float] | None = None,
        spacing: tuple[float, float, float] | None = None,
    ) -> Volume:
        """
        The volume at `path`. Nothing of it stays on disk, unless the process is killed outright meanwhile.

        Raises:
            `VolumeError`: when the repository has no such volume, or it is damaged in two downloads.
        """
        try:
            return self._download_volume(path, rescale, spacing)
        except VolumeError as error:
            logger.warning("%s Downloading it once more: the download may be at fault.", error)
            return self._download_volume(path, rescale, spacing)
        except RemoteEntryNotFoundError as error:
            raise VolumeError(f"{path}: {REPO_ID} holds no such volume at commit {self.commit}.") from error

    def _download_volume(
        self, path: str, rescale: tuple[float, float] | None, spacing: tuple[float, float, float] | None
    ) -> Volume:
        with TemporaryDirectory(prefix="ct_rate_pairs-") as folder:
            try:
                file = self._download(path, local_dir=folder, tqdm_class=_NoBar)
            except OSError as error:
                if type(error) is OSError and error.errno is None:  # the client's check of the size; not a full disk
                    raise VolumeError(f"{path}: the download has not the size that the Hub states.") from error
                raise
            return read_volume(file, path, rescale=rescale, spacing=spacing)

    def _download(self, path: str, **where) -> Path:
        commit = self.commit

        def download() -> str:
            return hf_hub_download(REPO_ID, path, repo_type="dataset", revision=commit, token=self.token, **where)

        return Path(_patiently(path, download))

    def fingerprint(self) -> str:
        return self.commit

    @property
    def location(self) -> str:
        return f"hf://datasets/{REPO_ID}@{self.commit}"


def _patiently(name: str, request: Callable[[], T], already_reached: bool = True) -> T:
    """`request()`, called again as long as waiting may help; its 404 for a file is the caller's to explain."""
    give_up, wait = None, FIRST_WAIT
    while True:
        try:
            return request()
        except RemoteEntryNotFoundError:
            raise
        except _HUB_ERRORS as raised:
            # `hf_hub_download` hides what became of its first request
            error = raised.__cause__ if isinstance(raised, LocalEntryNotFoundError) else raised
        # Neither the error's text nor its chain is shown: both can hold signed addresses, or the token itself.
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        what = f"HTTP {status}, {type(error).__name__}" if status else type(error).__name__
        # what refuses elsewhere than at the Hub is a CDN, whose signed address has expired: the next one is fresh
        from_hub = status and str(error.response.url).startswith(constants.ENDPOINT)
        if from_hub and status not in (408, 429) and status < 500:
            raise CTRateAccessError(f"{name}: the Hub refuses it ({_REFUSALS.get(status, what)}). {ACCESS_HELP}")
        if isinstance(error, OfflineModeIsEnabled | FileMetadataError) or not (status or already_reached):
            raise CTRateAccessError(f"{name}: the Hub cannot be reached ({what}). {ACCESS_HELP}")
        give_up = give_up or time.monotonic() + PATIENCE
        if time.monotonic() + wait > give_up:
            raise CTRateAccessError(f"{name}: the Hub fails ({what}), for {PATIENCE:.0f} s now. {ACCESS_HELP}")
        logger.warning("%s: the Hub fails (%s). Trying again in %.0f s.", name, what, wait)
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
