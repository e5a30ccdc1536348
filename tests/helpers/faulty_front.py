"""A server in front of a real PACS, which passes requests on and fails as it is told."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import requests


class FaultyFront:
    """
    Passes requests on to `url`.

    Args:
        fault (`str`): what happens to answers:
            `"cut"`: the connection is cut in the middle of an answer that has a length; `"unnoticed"`: of an answer
            without one; `"silent"`: nothing comes; `"drip"`: a byte every now and then; `"503"`: the status;
            `"page"`: a page of HTML; `"other"`: the answer to another instance; `"endless"`: the list never ends.
        after (`int`): the number of instances that are passed on whole before.
        times (`int`): how often it fails; then all is passed on.
    """

    def __init__(self, url: str, fault: str = "", after: int = 0, times: int = 10**6):
        self.behind, self.fault, self.after, self.times = url, fault, after, times
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                front.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}{urlsplit(url).path}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        base = urlsplit(self.behind)
        self.paths.append(handler.path)
        self.headers.append(dict(handler.headers))
        passed = {k: v for k, v in handler.headers.items() if k.lower() not in ("host", "connection")}
        real = requests.get(f"{base.scheme}://{base.netloc}{handler.path}", headers=passed, timeout=60)
        is_instance = real.headers.get("Content-Type", "").startswith("multipart")
        fails = self.fault and self.times > 0 and is_instance and self.after <= 0
        self.after -= is_instance
        self.times -= bool(fails)
        content, headers = real.content, {"Content-Type": real.headers.get("Content-Type", "text/plain")}
        status, fault = real.status_code, self.fault if fails else ""
        if fault == "503":
            status, content = 503, b"DOE JANE"
        if fault == "page":
            content, headers = b"<html>DOE^JANE, please log in</html>", {"Content-Type": "text/html"}
        if fault == "silent":
            time.sleep(3)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if fault == "unnoticed":
            handler.send_header("Connection", "close")
        else:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if fault in ("cut", "unnoticed"):
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
        elif fault == "drip":
            for byte in content:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(0.05)
        else:
            handler.wfile.write(content)
