"""A server in front of a real PACS, which passes requests on and fails as it is told."""

import socket
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import requests


EXPLICIT = b"1.2.840.10008.1.2.1"  # the transfer syntax of uncompressed images


class FaultyFront:
    """
    Passes requests on to `url`.

    Args:
        fault (`str`): what happens to answers:
            `"cut"`: the connection is cut in the middle of an answer that has a length; `"unnoticed"`: of an answer
            without one; `"silent"`: nothing comes; `"drip"`: a byte every now and then; `"503"`: the status;
            `"page"`: a page of HTML; `"elsewhere"`: it is sent on to the PACS itself; `"deflated"`: an image of that
            transfer syntax; `"other"`: the image of before.
        after (`int`): the number of instances that are passed on whole before.
        times (`int`): how often it fails; then all is passed on.
        certificate (`Path`): of the server, with its key. It then encrypts.
    """

    def __init__(self, url: str, fault: str = "", after: int = 0, times: int = 10**6, certificate: Path | None = None):
        self.behind, self.fault, self.after, self.times = url, fault, after, times
        self.paths: list[str] = []
        self.before: tuple[dict[str, str], bytes] = {}, b""
        self.headers: list[dict[str, str]] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self):
                with suppress(OSError):  # a client that has seen enough hangs up
                    super().handle()

            def do_GET(self):
                front.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}{urlsplit(url).path}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

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
        fault, plain = self.fault if fails else "", real.headers.get("Content-Type", "text/plain")
        status, headers, content = {
            "503": (503, {}, b"DOE JANE"),
            "page": (200, {"Content-Type": "text/html"}, b"<html>DOE^JANE, please log in</html>"),
            "elsewhere": (307, {"Location": f"{base.scheme}://{base.netloc}{handler.path}"}, b""),
            "deflated": (200, {"Content-Type": plain}, real.content.replace(EXPLICIT + b"\0", EXPLICIT + b".99")),
            "other": (200, *self.before),
        }.get(fault, (real.status_code, {"Content-Type": plain}, real.content))
        self.before = headers, content
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
