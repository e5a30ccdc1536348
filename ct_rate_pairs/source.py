"""Where CT-RATE's files come from: a local tree (a copy, or the phantom) or the gated repository on the Hub."""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from .volume import Volume, VolumeError, read_volume


REPO_ID = "ibrahimhamamci/CT-RATE"

ACCESS_HELP = (
    f"CT-RATE is a gated dataset. Accept its terms at https://huggingface.co/datasets/{REPO_ID}, then run `hf auth "
    "login` on this machine. For a copy on disk pass `data_dir=` (the folder that holds `dataset/`). To try "
    "everything without "
    "CT-RATE, write a phantom cohort with `python -m ct_rate_pairs.phantom --out phantom --scans 200` and pass "
    "`data_dir='phantom'`; for training: `accelerate launch recipes/sft_neg.py --config recipes/configs/phantom.yaml "
    "--data_dir phantom`."
)


class CTRateAccessError(ConnectionError):
    """CT-RATE cannot be reached on the Hub, or its terms are not accepted."""


class LocalSource:
    """A tree with CT-RATE's layout under `root`."""

    def __init__(self, root: str | Path):
        self.root = Path(root).expanduser().resolve()
        if not (self.root / "dataset").is_dir():
            raise FileNotFoundError(
                f"{self.root} holds no folder `dataset/`. Pass the root of a CT-RATE copy as `data_dir`, or write a "
                f"phantom there: `python -m ct_rate_pairs.phantom --out {self.root} --scans 200`."
            )

    def file(self, path: str) -> Path:
        """Local path of `path`, which is relative to the root."""
        if not (self.root / path).is_file():
            raise FileNotFoundError(f"{self.root / path} is missing. Copy it from CT-RATE, or write the phantom anew.")
        return self.root / path

    def volumes(self, folder: str) -> set[str] | None:
        """Names of the volumes on disk under `folder`."""
        return {path.name for path in (self.root / folder).glob("*/*/*.nii.gz")}

    def read_volume(self, path: str) -> Volume:
        return read_volume(self.root / path)

    def fingerprint(self) -> str:
        """Changes whenever a CSV or the set of volumes does, so that no stale index is served."""
        digest = hashlib.sha256(str(self.root).encode())
        tables = [*self.root.glob("dataset/*/*.csv"), *self.root.glob("dataset/metadata/*.txt")]
        for path in sorted(tables):
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        for name in sorted(path.name for path in self.root.glob("dataset/*/*/*/*.nii.gz")):
            digest.update(name.encode())
        return digest.hexdigest()


class HubSource:
    """The gated repository. Tables are cached as any Hub file is, volumes are read and forgotten (21 TB in all)."""

    def __init__(self, token: str | None = None):
        self.token = token

    def file(self, path: str) -> Path:
        with _access():
            return Path(hf_hub_download(REPO_ID, path, repo_type="dataset", token=self.token))

    def volumes(self, folder: str) -> set[str] | None:
        """`None`: the repository holds all that its tables name."""
        return None

    def read_volume(self, path: str) -> Volume:
        with _access():
            data = HfFileSystem(token=self.token).cat_file(f"datasets/{REPO_ID}/{path}")
        return read_volume(data, name=path)

    def fingerprint(self) -> str:
        with _access():
            return HfApi(token=self.token).dataset_info(REPO_ID).sha


@contextmanager
def _access():
    try:
        yield
    except FileNotFoundError as error:  # a volume that the repository lacks; also how HfFileSystem hides a gated one
        if isinstance(error, LocalEntryNotFoundError):
            raise CTRateAccessError(f"The Hub cannot be reached. {ACCESS_HELP}") from error
        raise VolumeError(f"{error}. {ACCESS_HELP}") from error
    except GatedRepoError as error:
        raise CTRateAccessError(ACCESS_HELP) from error
    except HfHubHTTPError as error:
        raise CTRateAccessError(f"{error}. {ACCESS_HELP}") from error
    except (OfflineModeIsEnabled, httpx2.TransportError, OSError) as error:
        raise CTRateAccessError(f"The Hub cannot be reached ({type(error).__name__}). {ACCESS_HELP}") from error
