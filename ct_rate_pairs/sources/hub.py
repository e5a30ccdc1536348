"""
CT-RATE's gated repository on the Hub. Its tables are cached. Its volumes (21 TB in all) are deleted after reading.
"""

import logging
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    HTTPError,  # of the version of httpx that the client uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
)
from huggingface_hub.utils import tqdm

from ct_rate_pairs.hub_errors import explain, is_refusal, may_have_expired, status_of
from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import Volume, VolumeError

from .tree import TreeSource


logger = logging.getLogger(__name__)

REPO_ID = "ibrahimhamamci/CT-RATE"

ACCESS_HELP = (
    f"CT-RATE is a gated dataset. Accept its terms at https://huggingface.co/datasets/{REPO_ID}, then run `hf auth "
    "login` on this machine. If you have a copy on disk, pass `data_dir=` (the folder that holds `dataset/`). To try "
    "everything without CT-RATE, write a phantom cohort with `ct-rate-pairs phantom --output_dir phantom "
    "--scans 200` and pass `data_dir='phantom'`. To train on the phantom, run `ct-rate-pairs train "
    "--config phantom --data_dir phantom`."
)

PATIENCE = 600.0  # seconds during which a failing request is repeated
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between two tries: each wait is twice the wait before it
_START_TIMEOUT = 10.0  # seconds until the first request fails on a machine without a route to the Hub

# Errors that a request to the Hub raises. `hf_xet` raises plain ones.
_HUB_ERRORS = (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RuntimeError, ConnectionError)

T = TypeVar("T")


class CTRateAccessError(ConnectionError):
    """CT-RATE cannot be reached on the Hub, or its terms are not accepted."""


class _NoBar(tqdm):
    """A hidden bar, because one bar per volume would fill the log. (The client's `silent_tqdm` fails with Xet.)"""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "disable": True})


class HubSource(TreeSource):
    """
    The gated repository on the Hub. All files are read at the newest commit of the moment when the first file is
    needed, so a run never mixes two revisions.

    If the server is overloaded (429), fails (5xx), cuts a stream or stops answering, the request is repeated with
    growing waits, for up to `PATIENCE` seconds per file. A refusal is not repeated, whichever server it comes from: a
    mirror (`HF_ENDPOINT`) may pass requests on. If the very first request does not reach the Hub, it is not repeated
    either. A cut download is resumed where it broke. A volume that arrives damaged is downloaded once more,
    because the download may have damaged it.

    Every method that sends a request raises [`CTRateAccessError`] if the Hub refuses access or cannot be reached.

    Args:
        token (`str`, *optional*):
            Access token. By default, the token that `hf auth login` has stored.
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`], *optional*):
            Which volumes are read, and how they become slices.
    """

    is_phantom = False

    def __init__(self, token: str | None = None, settings: VolumeSettings | None = None):
        super().__init__(settings)
        self.token = token

    @cached_property
    def commit(self) -> str:
        """The commit at which all files are read."""

        def ask() -> str:
            # Without `expand`, the answer would list every file of the repository.
            return HfApi(token=self.token).dataset_info(REPO_ID, expand=["sha"], timeout=_START_TIMEOUT).sha

        return _patiently("The repository", ask, already_reached=False)

    def file(self, path: str) -> Path:
        """
        Local path of the table `path`, which is downloaded if it is not in the cache.

        Raises:
            `FileNotFoundError`: if the repository has no such file.
        """
        try:
            return self._download(path)
        except RemoteEntryNotFoundError as error:
            raise FileNotFoundError(f"{REPO_ID} holds no {path} at commit {self.commit}.") from error

    def volumes(self, folder: str) -> set[str] | None:
        """`None`: the repository has all volumes that the tables name."""
        return None

    def read_volume(self, path: str, **options) -> Volume:
        """
        The volume at `path`. Its file is deleted after reading, unless the process is killed meanwhile.

        Raises:
            `VolumeError`: if the repository has no such volume, or if two downloads of it are damaged.
        """
        try:
            return self._download_volume(path, options)
        except VolumeError as error:
            logger.warning("%s Downloading it once more: the download may be at fault.", error)
            return self._download_volume(path, options)
        except RemoteEntryNotFoundError as error:
            raise VolumeError(f"{path}: {REPO_ID} holds no such volume at commit {self.commit}.") from error

    def _download_volume(self, path: str, options: dict) -> Volume:
        with TemporaryDirectory(prefix="ct_rate_pairs-") as folder:
            try:
                file = self._download(path, local_dir=folder, tqdm_class=_NoBar)
            except OSError as error:
                # The client checks the size of a download. Other errors, such as a full disk, have an errno.
                if type(error) is OSError and error.errno is None:
                    raise VolumeError(f"{path}: the download does not have the size that the Hub states.") from error
                raise
            return read_volume(file, path, **options)

    def _download(self, path: str, **where) -> Path:
        commit = self.commit

        def download() -> str:
            return hf_hub_download(REPO_ID, path, repo_type="dataset", revision=commit, token=self.token, **where)

        return Path(_patiently(path, download))

    def fingerprint(self) -> str:
        """The commit."""
        return self.commit

    @property
    def location(self) -> str:
        """Address of the repository at its commit, for provenance."""
        return f"hf://datasets/{REPO_ID}@{self.commit}"


def _patiently(name: str, request: Callable[[], T], already_reached: bool = True) -> T:
    """The answer to a request, which is repeated while waiting may help. A missing file is left to the caller."""
    give_up, wait, expired = None, FIRST_WAIT, False
    while True:
        try:
            return request()
        except RemoteEntryNotFoundError:
            raise
        except _HUB_ERRORS as raised:
            # `hf_hub_download` hides the error of its first request.
            error = raised.__cause__ or raised if isinstance(raised, LocalEntryNotFoundError) else raised
        # Neither the text of the error nor its causes are shown: they can hold signed addresses, or the token itself.
        what = explain(error)
        # A new address mends an address that has expired. Refused with a new address, too, the request is refused.
        expired = already_reached and not expired and may_have_expired(error)
        if (is_refusal(error) and not expired) or not (status_of(error) or already_reached):
            failed = "the Hub refuses it" if status_of(error) else "the Hub cannot be reached"
            raise CTRateAccessError(f"{name}: {failed} ({what}). {ACCESS_HELP}")
        give_up = give_up or time.monotonic() + PATIENCE
        if time.monotonic() + wait > give_up:
            raise CTRateAccessError(f"{name}: the Hub has failed for {PATIENCE:.0f} s ({what}). {ACCESS_HELP}")
        logger.warning("%s: the Hub fails (%s). Trying again in %.0f s.", name, what, wait)
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
