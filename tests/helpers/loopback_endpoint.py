"""An OpenAI-compatible endpoint on loopback, which answers as it is told."""

import asyncio
import threading
import time

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


def answer(content="A nodule.", finish_reason="stop", served=None, **message):
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}
    return JSONResponse({"choices": [choice], **(served or {})})


def error(status, message="no", code=None, **headers):
    return JSONResponse({"error": {"message": message, "code": code}}, status, headers)


class LoopbackEndpoint:
    """
    A server in a thread, for `with`. Requests get what `script` holds, in turn: a response, or the seconds to be late
    with `reply`, the report that all later ones get.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.reply = lambda body: "A nodule."
        self.bodies, self.headers, self.times = [], [], []
        self.at_once = self.most_at_once = 0
        app = Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    async def complete(self, request):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.times.append(time.monotonic())
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(request.headers)
        response = self.script.pop(0) if self.script else answer(self.reply(body))
        if isinstance(response, float):
            await asyncio.sleep(response)
            response = answer(self.reply(body))
        self.at_once -= 1
        return response

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()
