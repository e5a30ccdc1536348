"""A real PACS on loopback: Debian's Orthanc with its DICOMweb plug-in, and what stands in front of it."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from .ports import hold_port


PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "alice", "s3cret-of-alice"


class Orthanc:
    """A running PACS, and its own REST interface."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}/dicom-web"
        self.rest = f"http://127.0.0.1:{port}"

    def request(self, method: str, path: str, **options) -> requests.Response:
        response = requests.request(method, f"{self.rest}/{path}", auth=(USER, PASSWORD), timeout=60, **options)
        response.raise_for_status()
        return response

    def push(self, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            self.request("POST", "instances", data=path.read_bytes())

    def clear(self) -> None:
        for patient in self.request("GET", "patients").json():
            self.request("DELETE", f"patients/{patient}")

    def kept(self, modality: str) -> list[bytes]:
        """The files of a modality."""
        found = self.request("POST", "tools/find", json={"Level": "Instance", "Query": {"Modality": modality}})
        return [self.request("GET", f"instances/{name}/file").content for name in found.json()]


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc")
    if not program or not PLUGIN.exists():
        pytest.skip("Orthanc with DICOMweb is not installed: apt-get install orthanc orthanc-dicomweb")
    folder.mkdir()
    with hold_port() as held:
        port = held.getsockname()[1]
        config = {
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "Plugins": [str(PLUGIN)],
            "HttpPort": port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
        }
        (folder / "config.json").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([program, str(folder / "config.json")], stdout=log, stderr=log)
        try:
            yield _ready(Orthanc(port), process, folder / "log")
        finally:
            process.terminate()
            process.wait(60)


def _ready(orthanc: Orthanc, process: subprocess.Popen, log: Path) -> Orthanc:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            orthanc.request("GET", "system")
            return orthanc
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())
