"""
The Hub on loopback: a folder with CT-RATE's layout, served as the gated dataset `ibrahimhamamci/CT-RATE`, with faults
on request. Volumes are LFS objects behind a redirect, as on the Hub; without Xet: clients set `HF_HUB_DISABLE_XET=1`.

A process of its own (`LoopbackHub`), for it is killed and started again while clients talk to it.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from helpers.ports import hold_port


REPO_ID = "ibrahimhamamci/CT-RATE"
COMMIT = "c7ae" * 10
GRANTED, UNGRANTED = "hf_grantedGRANTEDgranted", "hf_ungrantedUNGRANTED"
CHUNK = 2048  # bytes sent at a time, so that a stream of a small volume can be cut


class LoopbackHub:
    """
    The server's process.

    Args:
        root (`Path`):
            Folder to serve.
        log (`Path`):
            File for the requests, one JSON object a line: `method`, `path`, `authorized` (with a token), `status`.
        chunk (`int`, *optional*):
            Bytes that are sent at a time.
    """

    def __init__(self, root: Path, log: Path, chunk: int = CHUNK):
        self.root, self.log_file, self.chunk = root, log, chunk
        self.held = hold_port()
        self.port = self.held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start, again after a death on the same port."""
        command = [sys.executable, __file__, *map(str, (self.root, self.port, self.log_file, self.chunk))]
        self.process = subprocess.Popen(command)
        while True:
            try:
                return set_faults(self.url, ())
            except URLError:
                assert self.process.poll() is None, "the server ended while it started"
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def set_faults(url: str, faults: Sequence[dict]) -> None:
    """Tell the server at `url` what to do wrong from now on, see `Hub.fault`."""
    urlopen(f"{url}/faults", data=json.dumps(list(faults)).encode()).close()


class Hub:
    """The ASGI application."""

    def __init__(self, root: Path, log: Path, chunk: int):
        self.root, self.log, self.chunk, self.pending = root, log, chunk, []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if request.url.path == "/faults":
            self.pending = await request.json()
            return await Response()(scope, receive, send)
        fault = self.fault(request)
        if "status" in fault:
            response = Response(status_code=fault["status"], headers=fault.get("headers", {}))
        else:
            response = self.answer(request, fault)
        entry = {"method": request.method, "path": request.url.path, "authorized": "authorization" in request.headers}
        with self.log.open("a") as file:
            file.write(json.dumps({**entry, "status": response.status_code}) + "\n")
        await response(scope, receive, send)

    def fault(self, request: Request) -> dict:
        """
        The first pending fault for the request, `times` of them (once by default): `path` (a pattern) and `method`
        choose the request; `status` and `headers` answer it, or its body is `cut` or the server `die`s after so many
        bytes, a bit in its middle is wrong (`corrupt`), or its last bytes are missing (`shrink`).
        """
        for fault in self.pending:
            if (
                fault.get("times", 1) > 0
                and re.search(fault["path"], request.url.path)
                and request.method == fault.get("method", request.method)
            ):
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return {}

    def answer(self, request: Request, fault: dict) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in (GRANTED, UNGRANTED):
            return refuse(401, None, "Invalid credentials in Authorization header")
        if request.url.path == f"/api/datasets/{REPO_ID}":  # anyone may see that the gated repository exists
            return JSONResponse({"id": REPO_ID, "sha": COMMIT, "gated": "auto", "private": False})
        if served := re.fullmatch(r"/objects/([0-9a-f]{64})/(.+)", request.url.path):
            return self.send(request, (self.root / served[2]).read_bytes(), {"ETag": f'"{served[1]}"'}, fault)
        if asked := re.fullmatch(f"/datasets/{REPO_ID}/resolve/{COMMIT}/(.+)", request.url.path):
            if token != GRANTED:
                return refuse(403 if token else 401, "GatedRepo", f"Access to dataset {REPO_ID} is restricted.")
            return self.resolve(request, asked[1], fault)
        return refuse(404, "RevisionNotFound", "Nothing is served but the one commit.")

    def resolve(self, request: Request, path: str, fault: dict) -> Response:
        headers = {"X-Repo-Commit": COMMIT}
        if not (self.root / path).is_file():
            return refuse(404, "EntryNotFound", "Entry not found", headers)
        data = (self.root / path).read_bytes()
        if not path.endswith(".nii.gz"):
            return self.send(request, data, headers | {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'}, fault)
        oid = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        # another host than the Hub's own, as a CDN is: the client follows, and must leave its token behind
        return RedirectResponse(f"http://localhost:{request.url.port}/objects/{oid}/{path}", 302, headers)

    def send(self, request: Request, data: bytes, headers: dict, fault: dict) -> Response:
        if "corrupt" in fault:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]
        data = data[: len(data) - fault.get("shrink", 0)]
        status, start = 200, 0
        if wanted := re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", "")):
            status, start = 206, int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers |= {"Content-Length": str(len(data) - start), "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)

        async def body():
            for sent in range(0, len(data) - start, self.chunk):
                if sent >= fault.get("die", len(data)):
                    os._exit(1)
                if sent >= fault.get("cut", len(data)):
                    raise ConnectionResetError("a cut on request")
                yield data[start + sent : start + sent + self.chunk]

        return StreamingResponse(body(), status, headers)


def refuse(status: int, code: str | None, message: str, headers: dict | None = None) -> Response:
    code = {"X-Error-Code": code} if code else {}
    return Response(status_code=status, headers={**(headers or {}), **code, "X-Error-Message": message})


if __name__ == "__main__":
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("chunk", type=int)
    arguments = parser.parse_args()
    uvicorn.run(Hub(arguments.root, arguments.log, arguments.chunk), port=arguments.port, log_level="critical")
