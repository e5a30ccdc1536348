"""A storage of Xet on loopback that answers each request with one status, and transfers by `hf_xet` from and to it."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hf_xet import XetFileInfo
from huggingface_hub.utils._xet import get_xet_session


class XetStorage:
    """A server in a thread, for `with`."""

    def __init__(self, status: int):
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_PUT = do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_port}"
        self.address = {
            "endpoint": url,
            "token": "hf_secret",
            "token_expiry_unix_secs": int(time.time()) + 3600,
            "token_refresh_url": f"{url}/refresh",
            "token_refresh_headers": {},
            "custom_headers": {},
        }
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def download(self, to: Path) -> None:
        """As `hf_hub_download` does it."""
        with get_xet_session().new_file_download_group(**self.address) as group:
            group.start_download_file(XetFileInfo("a" * 64, 1000), str(to))

    def upload(self) -> None:
        """As `create_commit` does it."""
        with get_xet_session().new_upload_commit(**self.address) as commit:
            commit.start_upload_bytes(b"abc" * 100_000, name="model.safetensors")
