"""
Starts Python programs as forks of a process that has imported what takes seconds: torch, and what it brings along.

A program has a process, arguments, folder, environment, output, `__main__`, exit and exit code of its own. It imports
the product's modules itself. It imports those of Hugging Face itself, too, because they read `HF_…` variables then.
Only where these variables are those of the tests, the program is a fork of a process that has these libraries.

Start a program with `subprocess` where its start is what is tested: what it imports, what an import warns of, what
torch or the interpreter reads of the environment. All forks of a process have the same hashes of strings. So a test
that compares two programs to the bit has one of them from elsewhere.
"""

import gc
import os
import pickle
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import types
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path


BASE = (
    *("torch._dynamo", "torch.distributed.tensor", "torch.distributed.fsdp", "torch._inductor.test_operators"),
    *("torchvision.transforms.v2", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "pydantic", "rich.console"),
    *("aiohttp", "httpx2", "jinja2", "multiprocess", "nibabel", "pydicom", "requests", "sympy", "tokenizers"),
)
HUGGING_FACE = ("datasets", "accelerate", "peft", "trl.trainer.sft_trainer", "evaluate")
HUGGING_FACE += ("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",)


class Program:
    """A program that runs; `words` are those behind `python`: a script, `-m` and a module, or `-c` and code."""

    def __init__(self, words, server, cwd=None, env=None, stdin=subprocess.DEVNULL, stdout=None, stderr=None):
        self.told, keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = pickle.dumps(([str(word) for word in words], str(cwd or os.getcwd()), dict(env or os.environ)))
        with keeper, open(os.devnull, "r+b") as silent:
            streams = [silent if one in (None, subprocess.DEVNULL) else one for one in (stdin, stdout, stderr)]
            socket.send_fds(server, [request], [keeper.fileno(), *(stream.fileno() for stream in streams)])
        self.pid, self.returncode = int(self.told.recv(20)), None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. Raises `TimeoutError` or, for a timeout of 0, `BlockingIOError`."""
        if self.returncode is None:
            self.told.settimeout(timeout)
            self.returncode = int(self.told.recv(20))
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except BlockingIOError:
            return None


@cache
def server(modules: tuple[str, ...] = BASE) -> socket.socket:
    """Where to send requests to a process that has these modules."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = ["-m", "helpers.programs", *modules]
    with theirs:
        if modules == BASE:
            subprocess.Popen([sys.executable, *words], stdin=theirs)
        else:
            Program(words, server(), stdin=theirs)
    return ours


def start(*words, cwd=None, env=None, stdout=None, stderr=None) -> Program:
    def of_hub(variables):
        return {name: value for name, value in variables.items() if name.startswith("HF_")}

    is_own = of_hub(env or os.environ) == of_hub(os.environ)
    return Program(words, server(HUGGING_FACE) if is_own else server(), cwd, env, stdout=stdout, stderr=stderr)


def run(*words, cwd=None, env=None, timeout: float | None = None) -> subprocess.CompletedProcess:
    """Like `subprocess.run` with `capture_output`, `text` and no `check`."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        program = start(*words, cwd=cwd, env=env, stdout=stdout, stderr=stderr)
        try:
            program.wait(timeout)
        finally:
            if program.returncode is None:
                os.kill(program.pid, signal.SIGKILL)
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(words, program.returncode, stdout.read(), stderr.read())


def next_program() -> tuple[list[str], str, dict[str, str]]:
    """Serves requests for ever, and returns in each program."""
    requests = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that keep programs need no one to wait for them
    gc.collect()
    gc.freeze()
    # A fork has no other thread. jemalloc, of pyarrow, starts its own anew.
    assert {path.read_text() for path in Path("/proc/self/task").glob("*/comm")} <= {"python\n", "jemalloc_bg_thd\n"}
    while True:
        request, files, *_ = socket.recv_fds(requests, 2**20, 4)
        if not request:
            sys.exit()
        if not os.fork():
            break
        for file in files:
            os.close(file)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.detach()
    keeper = socket.socket(fileno=files[0])
    if program := os.fork():
        keeper.send(str(program).encode())
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        with suppress(BrokenPipeError):  # nobody waits for the program any more
            keeper.send(str(code).encode())
        os._exit(0)
    keeper.close()
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
        os.close(file)
    return pickle.loads(request)


def main() -> None:
    own = sys.path[1 + os.environ["PYTHONPATH"].count(os.pathsep) + 1 :]
    for module in sys.argv[1:]:
        import_module(module)
    words, folder, environment = next_program()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # asks `TMPDIR` anew
    for package in ("multiprocessing", "multiprocess"):
        import_module(f"{package}.process").ORIGINAL_DIR = folder  # where spawned processes begin
    # A shell lets a process in the background ignore SIGINT, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    import_module("numpy").random.seed()
    first = str(Path(words[0]).resolve().parent) if not words[0].startswith("-") else ""
    given = environment.get("PYTHONPATH")
    sys.path[:] = [first, *(given.split(os.pathsep) if given else []), *own]
    program = sys.modules["__main__"] = types.ModuleType("__main__")
    kind, *rest = words
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), vars(program))
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main()
