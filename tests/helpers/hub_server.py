"""A Hub of data sets and models on the loopback interface, held in memory, for tests that push and load as users do.

huggingface_hub reads its endpoint while it is imported, so clients are forks that read it again:

    with HubServer() as hub:
        done = hub.run(lambda: HfApi().create_repo("user/name"), tmp_path / "printed")
        assert done.returncode == 0 and hub.unknown_requests == []
"""

import base64
import hashlib
import importlib
import json
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import parse_qs, unquote

import datasets
import forked
import huggingface_hub.hf_api
import transformers.utils.hub
import yaml  # huggingface_hub needs it too

LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".pt", ".arrow", ".png", ".jpg", ".jpeg", ".zip", ".gz")
LFS_SIZE = 10 * 2**20
API = r"/api/(?P<kind>dataset|model)s/(?P<repo_id>[^/]+/[^/]+)"
WEB = r"/(?:(?P<kind>dataset)s/)?(?P<repo_id>[^/]+/[^/]+)"
REVISION = r"/(?P<revision>[^/]+)"
ENDPOINTS = []


class HubError(Exception):
    """A refusal, in the form that huggingface_hub turns into its exceptions."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict | None = None, **content):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, "X-Error-Code": code, **(headers or {})}
        self.content = {"error": message, **content}


@dataclass(frozen=True)
class Blob:
    """A file; `lfs` when git holds only a pointer to it."""

    content: bytes
    lfs: bool = False

    @cached_property
    def oid(self) -> str:
        """The hash that names the content: git's own, or sha256 for a large file."""
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """All files at one moment."""

    oid: str
    parent: "Commit | None"
    files: dict[str, Blob]
    title: str

    def entry(self, path: str) -> dict | None:
        """Describe a file or folder as the tree and paths-info endpoints do."""
        blob = self.files.get(path)
        if blob is None:
            inside = [other.oid for name, other in self.files.items() if name.startswith(f"{path}/")]
            oid = hashlib.sha1("".join(inside).encode()).hexdigest()
            return {"type": "directory", "oid": oid, "size": 0, "path": path} if inside else None
        size = {"oid": blob.oid, "size": len(blob.content)}
        return {"type": "file", "path": path, **size, **({"lfs": {**size, "pointerSize": 134}} if blob.lfs else {})}


class Repository:
    """A data set or a model with its commits and branches."""

    def __init__(self, kind: str, repo_id: str, private: bool):
        self.repo_id, self.private = repo_id, private
        self.path = f"datasets/{repo_id}" if kind == "dataset" else repo_id
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.add("main", {".gitattributes": Blob(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n")}, "initial commit")

    def add(self, branch: str, files: dict[str, Blob], title: str) -> Commit:
        """Put a commit on top of a branch."""
        oid = hashlib.sha1(f"{self.path} {len(self.commits)} {title}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, self.commits.get(self.branches.get(branch, "")), files, title)
        self.branches[branch] = oid
        return self.commits[oid]

    def at(self, revision: str) -> Commit:
        """Return the commit that a branch or a commit id names."""
        oid = self.branches.get(revision.removeprefix("refs/heads/"), revision)
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str = "main") -> list[Commit]:
        """Return the commits of a revision, the newest first."""
        commits = [self.at(revision)]
        while commits[-1].parent:
            commits.append(commits[-1].parent)
        return commits


class HubServer:
    """The server and what it holds; `requests` and `unknown_requests` list (method, path) of what it was asked.

    `user` may write to the repositories under its name, with `token`; everybody may read what is not private.
    """

    def __init__(self, user: str = "user", token: str = "hf_testing"):
        self.user, self.token = user, token
        self.repositories: dict[tuple[str, str], Repository] = {}  # by "dataset" or "model", and id
        self.objects: dict[str, bytes] = {}  # large files by sha256
        self.announced: dict[str, int] = {}  # sizes of large files that may be sent
        self.requests: list[tuple[str, str]] = []
        self.unknown_requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "HubServer":
        self.folder = tempfile.TemporaryDirectory()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        self.folder.cleanup()

    def environment(self, home: str = "home", signed_in: bool = True, **others: str) -> dict[str, str]:
        """Return all environment variables of a client that knows this Hub and no other; a new `home` has no cache."""
        ours = re.compile("(HF|HUGGING_?FACE|TRANSFORMERS)_.*|.*_PROXY", re.IGNORECASE)
        variables = {name: value for name, value in os.environ.items() if not ours.fullmatch(name)}
        variables |= {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(Path(self.folder.name) / home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets counts with a request to another host
            "NO_PROXY": "*",
        }
        return variables | ({"HF_TOKEN": self.token} if signed_in else {}) | others

    def run(
        self, work: Callable[[], object], output: Path, home: str = "home", signed_in: bool = True, **others: str
    ) -> CompletedProcess:
        """Call a function in a fork that is a client with such an environment; see [`forked.start`]."""
        variables = self.environment(home, signed_in, **others)
        return forked.run(lambda: (connect(variables), work()), output)

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Return the files of a "dataset" or "model" repository."""
        return {path: blob.content for path, blob in self.repositories[kind, repo_id].at(revision).files.items()}


def connect(variables: dict[str, str]):
    """Replace the environment of this process, a fork, and all that libraries have read from it while imported."""
    os.environ.clear()
    os.environ.update(variables)
    hub_files = transformers.utils.hub
    changes = [("HF_MODULES_CACHE", hub_files.HF_MODULES_CACHE, f"{variables['HF_HOME']}/modules")]
    for module in (huggingface_hub.constants, datasets.config):
        before = dict(vars(module))
        after = vars(importlib.reload(module))
        names = [name for name in before if name.isupper() and before[name] != after[name]]
        changes += [(name, before[name], after[name]) for name in names]
    for name in list(sys.modules):
        if name.startswith("transformers_modules"):  # code of checkpoints that this process has loaded
            del sys.modules[name]
        elif name.startswith(("huggingface_hub", "datasets", "transformers")):
            values = vars(sys.modules[name])
            values.update({key: new for key, old, new in changes if key in values and values[key] == old})
            for value in list(values.values()):  # an earlier client, or create_repo ... which are its methods
                for client in (value, getattr(value, "__self__", None)):
                    if type(client).__name__ == "HfApi":
                        client.endpoint = huggingface_hub.constants.ENDPOINT
    sys.path[:] = [path for path in sys.path if path != changes[0][1]]
    huggingface_hub.hf_api.api.endpoint = huggingface_hub.constants.ENDPOINT
    warnings.simplefilter("ignore", DeprecationWarning)  # as in a new process; huggingface_hub (2.4) warns of itself


def endpoint(method: str, pattern: str, write: bool = False):
    """Register a method of [`Handler`] for paths that match a pattern; its named groups become the arguments."""

    def register(function):
        ENDPOINTS.append((method, re.compile(pattern), write, function))
        return function

    return register


def read_card(content: str) -> dict:
    """Return the YAML at the head of a README.md."""
    head = re.match(r"---\r?\n(.*?)\r?\n---", content, re.DOTALL)
    return dict(yaml.safe_load(head[1]) or {}) if head else {}


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self.hub = self.server.hub
        path, _, query = self.path.partition("?")
        self.query, self.body = parse_qs(query), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            with self.hub.lock:
                self.hub.requests.append((self.command, path))
                result = self.dispatch(path)
        except HubError as error:
            result = error.status, error.headers, json.dumps(error.content).encode()
        if not isinstance(result, tuple):
            result = 200, {"Content-Type": "application/json"}, json.dumps(result).encode()
        status, headers, content = result
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        """Keep quiet."""

    def dispatch(self, path: str):
        """Check the token and call the endpoint, which returns what goes out as JSON or (status, headers, content)."""
        authorization = self.headers.get("Authorization")
        self.signed_in = authorization == f"Bearer {self.hub.token}"
        if authorization and not self.signed_in:
            raise HubError(401, "Invalid credentials in Authorization header")
        for method, pattern, write, function in ENDPOINTS:
            match = pattern.fullmatch(path)
            if match and method == ("GET" if self.command == "HEAD" else self.command):
                if write and not self.signed_in:
                    raise HubError(401, "Invalid username or password.")
                arguments = {name: unquote(value) for name, value in match.groupdict().items() if value}
                if "repo_id" in arguments:
                    key = arguments.pop("kind", "model"), arguments.pop("repo_id")
                    arguments["repository"] = self.find(key, write)
                return function(self, **arguments)
        self.hub.unknown_requests.append((self.command, path))
        raise HubError(404, f"this test server does not know {self.command} {path}")

    def find(self, key: tuple[str, str], write: bool) -> Repository:
        repository = self.hub.repositories.get(key)
        if repository is None or (repository.private and not self.signed_in):
            # the Hub does not tell strangers which repositories exist
            raise HubError(404 if self.signed_in else 401, "Repository not found", "RepoNotFound")
        if write:
            self.check_owner(key[1])
        return repository

    def check_owner(self, repo_id: str):
        if repo_id.split("/")[0] != self.hub.user:
            raise HubError(403, f"You don't have the rights to write to {repo_id}")

    @endpoint("GET", "/api/whoami-v2", write=True)
    def whoami(self):
        token = {"displayName": "test", "role": "write"}
        return {"type": "user", "name": self.hub.user, "orgs": [], "auth": {"accessToken": token}}

    @endpoint("POST", "/api/validate-yaml")
    def validate_yaml(self):
        try:
            card = read_card(json.loads(self.body)["content"])
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise HubError(400, "bad YAML", errors=[{"message": str(error)}], warnings=[]) from error
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        return {"errors": [], "warnings": warnings}

    @endpoint("POST", "/api/repos/create", write=True)
    def create_repository(self):
        request = json.loads(self.body)
        kind, repo_id = request.get("type", "model"), f"{request['organization'] or self.hub.user}/{request['name']}"
        self.check_owner(repo_id)
        new = Repository(kind, repo_id, private=request.get("visibility") == "private")
        url = f"{self.hub.endpoint}/{new.path}"
        if (kind, repo_id) in self.hub.repositories:
            raise HubError(409, "You already created this repo", url=url)
        self.hub.repositories[kind, repo_id] = new
        return {"url": url}

    @endpoint("GET", API)
    @endpoint("GET", f"{API}/revision{REVISION}")
    def info(self, repository: Repository, revision: str = "main"):
        commit = repository.at(revision)
        card = read_card(commit.files["README.md"].content.decode()) if "README.md" in commit.files else {}
        return {
            "id": repository.repo_id,
            "sha": commit.oid,
            "private": repository.private,
            "gated": False,
            "tags": card.get("tags", []),
            "cardData": card,
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            **{name: card[name] for name in ("pipeline_tag", "library_name") if name in card},
        }

    @endpoint("GET", f"{API}/refs")
    def refs(self, repository: Repository):
        heads = repository.branches.items()
        branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in heads]
        return {"branches": branches, "tags": [], "converts": [], "pullRequests": []}

    @endpoint("POST", f"{API}/branch{REVISION}", write=True)
    def create_branch(self, repository: Repository, revision: str):
        if revision in repository.branches:
            raise HubError(409, f"Reference already exists: refs/heads/{revision}")
        repository.branches[revision] = repository.at(json.loads(self.body).get("startingPoint", "main")).oid
        return {}

    @endpoint("GET", f"{API}/tree{REVISION}(?:/(?P<folder>.+))?")
    def tree(self, repository: Repository, revision: str, folder: str = ""):
        commit = repository.at(revision)
        prefix = f"{folder}/" if folder else ""
        paths = {"/".join(path.split("/")[:depth]) for path in commit.files for depth in range(1, path.count("/") + 2)}
        paths = {path for path in paths if path.startswith(prefix)}
        if not paths:
            raise self.entry_not_found(commit, folder)
        if self.query.get("recursive", [""])[0].lower() != "true":
            paths = {path for path in paths if "/" not in path.removeprefix(prefix)}
        return [commit.entry(path) for path in sorted(paths)]

    @endpoint("POST", f"{API}/paths-info{REVISION}")
    def paths_info(self, repository: Repository, revision: str):
        paths = parse_qs(self.body.decode()).get("paths", [])
        return [entry for entry in map(repository.at(revision).entry, paths) if entry]

    @endpoint("GET", f"{WEB}/resolve{REVISION}/(?P<path>.+)")
    def resolve(self, repository: Repository, revision: str, path: str):
        commit = repository.at(revision)
        blob = commit.files.get(path)
        if blob is None:
            raise self.entry_not_found(commit, path)
        size = len(blob.content)
        headers = {"ETag": f'"{blob.oid}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.oid}"', "X-Linked-Size": str(size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return 200, headers, blob.content
        start, stop = int(wanted[1]), min(int(wanted[2] or size) + 1, size)
        if start >= stop:
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
        return 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}, blob.content[start:stop]

    def entry_not_found(self, commit: Commit, path: str) -> HubError:
        return HubError(404, f"{path} does not exist", "EntryNotFound", {"X-Repo-Commit": commit.oid})

    @endpoint("POST", f"{API}/preupload{REVISION}", write=True)
    def preupload(self, repository: Repository, revision: str):
        held, files = repository.at(revision).files, []
        for file in json.loads(self.body)["files"]:
            large = file["path"].endswith(LFS_SUFFIXES) or file["size"] > LFS_SIZE
            files.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False})
            if file["path"] in held:
                files[-1]["oid"] = held[file["path"]].oid  # a file that has not changed is not sent again
        return {"files": files}

    @endpoint("POST", rf"{WEB}\.git/info/lfs/objects/batch", write=True)
    def lfs_batch(self, repository: Repository):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            objects.append({"oid": wanted["oid"], "size": wanted["size"]})
            if wanted["oid"] not in self.hub.objects:
                self.hub.announced[wanted["oid"]] = wanted["size"]
                objects[-1]["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    @endpoint("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_upload(self, oid: str):
        """Take a large file, as the Hub's signed addresses do: without a token, but only one that was announced."""
        if oid not in self.hub.announced:
            raise HubError(403, f"{oid} was not announced")
        if len(self.body) != self.hub.announced[oid] or hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, f"the content is not that of {oid}")
        self.hub.objects[oid] = self.body
        return {}

    @endpoint("POST", f"{API}/commit{REVISION}", write=True)
    def commit(self, repository: Repository, revision: str):
        if revision not in repository.branches or "create_pr" in self.query:
            raise HubError(400, f"{revision} is not a branch, or a pull request is wanted")
        head = repository.at(revision)
        files, header = dict(head.files), {}
        for line in self.body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            path = value.get("path", "").rstrip("/")
            if key == "header":
                header = value
                if value.get("parentCommit", head.oid) != head.oid:
                    raise HubError(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[path] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise HubError(400, f"{path} points to a large file that was not sent")
                files[path] = Blob(self.hub.objects[value["oid"]], lfs=True)
            elif key in ("deletedFile", "deletedFolder"):
                if not head.entry(path):
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                files = {name: blob for name, blob in files.items() if not f"{name}/".startswith(f"{path}/")}
            else:
                raise HubError(400, f"{key} is not an operation that this server knows")
        commit = repository.add(revision, files, header["summary"])
        url = f"{self.hub.endpoint}/{repository.path}/commit/{commit.oid}"
        return {"success": True, "commitOid": commit.oid, "commitUrl": url}
