"""
A small Hub on loopback that can be written to: repositories with branches, tags and LFS, token roles, gates,
collections, and faults on request. Without Xet: clients set `HF_HUB_DISABLE_XET=1`.

It runs in a thread of the tests, which look into its repositories; what is stored outlives a death of the server.
"""

import asyncio
import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import transformers.utils.hub
import uvicorn
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from helpers.ports import hold_port


USERS = {  # token -> user and role
    "hf_aliceWRITESaliceWRITES": ("alice", "write"),
    "hf_aliceREADSaliceREADS00": ("alice", "read"),
    "hf_bobWRITESbobWRITESbob0": ("bob", "write"),
}
WRITE, READ, STRANGER = USERS
CREATED = "2026-01-01T00:00:00.000Z"
CHUNK = 65536


class HubError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Repo:
    """A repository: commits are whole trees, path to contents; LFS objects are contents that were uploaded apart."""

    id: str
    kind: str  # models, datasets or spaces
    private: bool
    sdk: str | None
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)  # sha256 -> contents

    def commit(self, branch: str, files: dict[str, bytes], title: str) -> str:
        name = hashlib.sha1(f"{self.id} {len(self.commits)} {title}".encode()).hexdigest()
        self.parents[name], self.titles[name] = self.branches.get(branch), title
        self.commits[name], self.branches[branch] = files, name
        return name

    def rev(self, name: str) -> str:
        found = self.branches.get(name) or self.tags.get(name) or (name if name in self.commits else None)
        if found is None:
            raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return found

    def history(self, rev: str) -> list[str]:
        """Commits up to `rev`, the last one first."""
        found = [self.rev(rev)]
        while parent := self.parents[found[-1]]:
            found.append(parent)
        return found

    def files(self, rev: str = "main") -> dict[str, bytes]:
        return self.commits[self.rev(rev)]

    def entry(self, path: str, data: bytes) -> dict:
        oid = hashlib.sha256(data).hexdigest()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry = {"type": "file", "path": path, "size": len(data), "oid": blob}
        return entry | ({"lfs": {"oid": oid, "size": len(data), "pointerSize": 130}} if oid in self.lfs else {})


class WritableHub:
    """
    The server. `faults` are met in turn: `path` (a pattern) and `method` choose the request, the first `times` of them
    (once by default) `after` so many; `status` and `headers` answer it, its body is `cut` after so many bytes, or the
    server `die`s.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.collections: dict[str, list[dict]] = {}  # slug -> items
        self.faults: list[dict] = []
        self.log: list[str] = []  # "METHOD path status"
        self.held = hold_port()
        self.port = self.held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start, again after a death on the same port."""
        # The timeout: to stop, the server would else wait without end for a client's connection that is still open.
        told = {"log_level": "critical", "lifespan": "off", "timeout_graceful_shutdown": 1}
        config = uvicorn.Config(self, host="127.0.0.1", port=self.port, **told)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the server ended while it started"
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()

    def repo(self, repo_id: str, kind: str = "models") -> Repo:
        return self.repos[kind, repo_id]

    def connect(self, monkeypatch: pytest.MonkeyPatch, token: str | None, home: Path) -> None:
        """Point this process's client here, with a cache of its own in `home`."""
        for name, value in client_environment(self.url, token, home).items():
            monkeypatch.setenv(name, value)
        if token is None:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        for name, value in {  # read from the environment when the client was imported
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", self.url)  # of the functions without a client
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # else it stays with an earlier test's server

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        fault = self.fault(request)
        try:
            if "status" in fault:
                response = Response(status_code=fault["status"], headers=fault.get("headers", {}))
            elif "die" in fault:
                self.server.should_exit = self.server.force_exit = True
                await asyncio.sleep(60)  # never answers: the loop ends, and the connection with it
            else:
                path = [unquote(part) for part in scope["raw_path"].decode().strip("/").split("/")]
                response = await self.route(request, path, fault)
        except HubError as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            response = JSONResponse({"error": str(error)}, error.status, headers)
        self.log.append(f"{request.method} {request.url.path} {response.status_code}")
        await response(scope, receive, send)

    def fault(self, request: Request) -> dict:
        for fault in self.faults:
            if (
                fault.get("times", 1) > 0
                and re.search(fault["path"], request.url.path)
                and request.method == fault.get("method", request.method)
            ):
                if fault.get("after", 0) > 0:
                    fault["after"] -= 1
                    continue
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return {}

    def user(self, request: Request) -> tuple[str | None, str | None]:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return None, None
        if token not in USERS:
            raise HubError(401, "Invalid credentials in Authorization header")
        return USERS[token]

    def check_write(self, request: Request, owner: str) -> None:
        name, role = self.user(request)
        if name is None:
            raise HubError(401, "Invalid username or password.")
        if (name, role) != (owner, "write"):
            raise HubError(403, f"You don't have the rights to write under the namespace {owner}")

    def find(self, request: Request, kind: str, repo_id: str, *, write: bool = False, files: bool = False) -> Repo:
        name = self.user(request)[0]
        repo, owner = self.repos.get((kind, repo_id)), repo_id.split("/", maxsplit=1)[0]
        if repo is None or (repo.private and name != owner):
            raise HubError(404 if name else 401, "Repository not found", "RepoNotFound")
        if files and repo.gated and name != owner:
            raise HubError(403 if name else 401, f"Access to {repo_id} is restricted.", "GatedRepo")
        if write:
            self.check_write(request, owner)
        return repo

    async def route(self, request: Request, path: list[str], fault: dict) -> Response:  # noqa: PLR0911, PLR0912
        match path:
            case ["api", "whoami-v2"]:
                name, role = self.user(request)
                if name is None:
                    raise HubError(401, "Invalid username or password.")
                token = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
                return JSONResponse({"type": "user", "id": name, "name": name, "orgs": [], "auth": token})
            case ["api", "repos", "create"]:
                return self.create(request, await request.json())
            case ["api", "validate-yaml"]:
                content = (await request.json())["content"]
                yaml.safe_load(content.split("---")[1])
                return JSONResponse({"errors": [], "warnings": []})
            case ["api", "collections"]:
                return self.create_collection(request, await request.json())
            case ["api", "collections", owner, slug, *items]:
                if f"{owner}/{slug}" not in self.collections:
                    raise HubError(404, "Collection not found")
                if items:
                    self.check_write(request, owner)
                    return self.collect(f"{owner}/{slug}", await request.json())
                return self.collection(f"{owner}/{slug}")
            case ["api", kind, owner, name, *rest] if kind in ("models", "datasets", "spaces"):
                return await self.api(request, kind, f"{owner}/{name}", rest)
            case [*kind, owner, name, "info", "lfs", "objects", "batch"]:
                repo = self.find(request, *kind or ["models"], f"{owner}/{name.removesuffix('.git')}", write=True)
                return JSONResponse({"transfer": "basic", "objects": self.batch(repo, await request.json())})
            case ["_lfs", kind, owner, name, oid] if request.method == "PUT":
                data = await request.body()
                assert hashlib.sha256(data).hexdigest() == oid
                self.repo(f"{owner}/{name}", kind).lfs[oid] = data
                return Response()
            case ["_cdn", kind, owner, name, oid]:
                assert "authorization" not in request.headers  # another host: the token must be left behind
                return send(request, self.repo(f"{owner}/{name}", kind).lfs[oid], {"ETag": f'"{oid}"'}, fault)
            case ["datasets" | "spaces" as kind, owner, name, "resolve", rev, *file]:
                return self.resolve(request, kind, f"{owner}/{name}", rev, "/".join(file))
            case [owner, name, "resolve", rev, *file]:
                return self.resolve(request, "models", f"{owner}/{name}", rev, "/".join(file))
        raise HubError(404, "Not found")

    def create(self, request: Request, body: dict) -> Response:
        owner = body.get("organization") or self.user(request)[0]
        self.check_write(request, owner)
        kind, repo_id = body.get("type", "model") + "s", f"{owner}/{body['name']}"
        url = f"{self.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        if (kind, repo_id) in self.repos:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        repo = Repo(repo_id, kind, private=body.get("visibility") == "private", sdk=body.get("sdk"))
        repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self.repos[kind, repo_id] = repo
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    def create_collection(self, request: Request, body: dict) -> Response:
        self.check_write(request, body["namespace"])
        slug = f"{body['namespace']}/{re.sub('[^a-z0-9]+', '-', body['title'].lower())}"
        slug += f"-{hashlib.sha1(body['title'].encode()).hexdigest()[:24]}"
        if slug in self.collections:
            return JSONResponse({"error": "This collection already exists", "slug": slug}, 409)
        self.collections[slug] = []
        return self.collection(slug)

    def collect(self, slug: str, body: dict) -> Response:
        if body["item"] in self.collections[slug]:
            raise HubError(409, "Item already in collection")
        self.collections[slug].append(body["item"])
        return self.collection(slug)

    def collection(self, slug: str) -> Response:
        owner, title = slug.split("/")
        told = {"slug": slug, "title": title, "owner": {"name": owner}, "items": [], "lastUpdated": CREATED}
        return JSONResponse(told | {"position": 0, "private": False, "theme": "green", "upvotes": 0})

    def batch(self, repo: Repo, body: dict) -> list[dict]:
        objects = []
        for wanted in body["objects"]:
            upload = {"upload": {"href": f"{self.url}/_lfs/{repo.kind}/{repo.id}/{wanted['oid']}"}}
            objects.append(wanted | ({} if wanted["oid"] in repo.lfs else {"actions": upload}))
        return objects

    async def api(self, request: Request, kind: str, repo_id: str, rest: list[str]) -> Response:  # noqa: PLR0911
        match rest:
            case [] | ["revision", _]:
                return JSONResponse(self.info(self.find(request, kind, repo_id), *rest[1:]))
            case ["refs"]:
                repo = self.find(request, kind, repo_id)
                refs = {
                    kind: [
                        {"name": name, "ref": f"refs/{name}", "targetCommit": commit} for name, commit in of.items()
                    ]
                    for kind, of in (("branches", repo.branches), ("tags", repo.tags))
                }
                return JSONResponse(refs | {"converts": []})
            case ["commits", rev]:
                repo = self.find(request, kind, repo_id)
                log = [
                    {"id": name, "title": repo.titles[name], "message": "", "date": CREATED, "authors": []}
                    for name in repo.history(rev)
                ]
                return JSONResponse(log)
            case ["tree", rev, *folder]:
                return self.tree(request, self.find(request, kind, repo_id), rev, "/".join(folder))
            case ["paths-info", rev]:
                repo, body = self.find(request, kind, repo_id), (await request.body()).decode()
                paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
                files = repo.files(rev)
                return JSONResponse([repo.entry(path, files[path]) for path in paths if path in files])
            case ["auth-check", "write"]:
                self.find(request, kind, repo_id, write=True)
                return Response()
            case ["preupload", rev]:
                repo = self.find(request, kind, repo_id, write=True)
                return JSONResponse({"files": preupload(repo, rev, (await request.json())["files"])})
            case ["commit", rev]:
                repo = self.find(request, kind, repo_id, write=True)
                return self.commit(repo, rev, await request.body())
            case ["branch", name]:
                repo = self.find(request, kind, repo_id, write=True)
                if name in repo.branches:
                    raise HubError(409, f"Reference already exists: {name}")
                repo.branches[name] = repo.rev((await request.json())["startingPoint"])
                return JSONResponse({})
            case ["tag", rev]:
                repo, name = self.find(request, kind, repo_id, write=True), (await request.json())["tag"]
                if name in repo.tags:
                    raise HubError(409, f"Tag reference exists already: {name}")
                repo.tags[name] = repo.rev(rev)
                return JSONResponse({})
        raise HubError(404, "Not found")

    def info(self, repo: Repo, rev: str = "main") -> dict:
        files = repo.files(rev)
        metadata = re.match(r"---\n(.*?)\n---", files.get("README.md", b"").decode(), re.DOTALL)
        card = yaml.safe_load(metadata[1]) if metadata else {}
        known = {key: card[key] for key in ("pipeline_tag", "library_name", "model-index") if key in card}
        return known | {
            "id": repo.id,
            "sha": repo.rev(rev),
            "lastModified": CREATED,
            "createdAt": CREATED,
            "private": repo.private,
            "gated": "auto" if repo.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": card.get("tags", []),
            "cardData": card,
            "siblings": [{"rfilename": path} for path in files],
            "sdk": repo.sdk,
        }

    def tree(self, request: Request, repo: Repo, rev: str, folder: str) -> Response:
        start = f"{folder}/" if folder else ""
        files = {path: data for path, data in repo.files(rev).items() if path.startswith(start)}
        if folder and not files:
            raise HubError(404, f"{folder} does not exist on {rev}", "EntryNotFound")
        entries = {}
        recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        for path, data in files.items():
            below = path.removeprefix(start).split("/")
            if len(below) == 1 or recursive:
                entries[path] = repo.entry(path, data)
            else:
                entries[start + below[0]] = {"type": "directory", "path": start + below[0], "oid": "0" * 40, "size": 0}
        return JSONResponse(list(entries.values()))

    def commit(self, repo: Repo, rev: str, body: bytes) -> Response:
        files = dict(repo.files(rev))
        for line in body.splitlines():
            match (item := json.loads(line))["key"]:
                case "header":
                    title = item["value"]["summary"]
                case "file":
                    files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                case "lfsFile":
                    files[item["value"]["path"]] = repo.lfs[item["value"]["oid"]]
                case "deletedFile":
                    del files[item["value"]["path"]]
        name = repo.commit(rev, files, title)
        return JSONResponse({"success": True, "commitOid": name, "commitUrl": f"{self.url}/{repo.id}/commit/{name}"})

    def resolve(self, request: Request, kind: str, repo_id: str, rev: str, path: str) -> Response:
        repo = self.find(request, kind, repo_id, files=path not in ("README.md", ".gitattributes"))
        commit = repo.rev(rev)
        data = repo.files(commit).get(path)
        if data is None:
            raise HubError(404, "Entry not found", "EntryNotFound")
        entry, headers = repo.entry(path, data), {"X-Repo-Commit": commit}
        if "lfs" not in entry:
            return send(request, data, headers | {"ETag": f'"{entry["oid"]}"'}, {})
        oid = entry["lfs"]["oid"]
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        # another host than the Hub's own, as a CDN is
        return RedirectResponse(f"http://localhost:{self.port}/_cdn/{kind}/{repo_id}/{oid}", 302, headers)


def client_environment(url: str, token: str | None, home: Path) -> dict[str, str]:
    """What a process needs to talk to the server at `url`, with a cache of its own in `home`."""
    environment = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return environment | ({"HF_TOKEN": token} if token else {})


def refs(commits: dict[str, str]) -> list[dict]:
    return [{"name": name, "ref": f"refs/{name}", "targetCommit": commit} for name, commit in commits.items()]


def preupload(repo: Repo, rev: str, files: list[dict]) -> list[dict]:
    """How each file is to come: binary files as LFS objects."""
    now, answers = repo.files(rev), []
    for file in files:
        mode = "lfs" if b"\0" in base64.b64decode(file["sample"]) else "regular"
        entry = repo.entry(file["path"], now[file["path"]]) if file["path"] in now else {}
        oid = entry.get("lfs", entry).get("oid")
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return answers


def send(request: Request, data: bytes, headers: dict, fault: dict) -> Response:
    status, start = 200, 0
    if wanted := re.fullmatch(r"bytes=(\d+)-\d*", request.headers.get("range", "")):
        status, start = 206, int(wanted[1])
        headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    headers = headers | {"Content-Length": str(len(data) - start), "Accept-Ranges": "bytes"}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)

    async def body():
        for sent in range(start, len(data), CHUNK):
            if sent - start >= fault.get("cut", len(data)):
                raise ConnectionResetError("a cut on request")
            yield data[sent : sent + CHUNK]

    return StreamingResponse(body(), status, headers)
