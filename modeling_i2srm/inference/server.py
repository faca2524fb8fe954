"""A server in front of one `Extractor`: POST /extract takes a post and answers with its entities and relations.

One thread runs the models, on the posts that wait together: up to `max_batch` of them. An answer is that of the
`Extractor` for these posts, to the last digit. Which posts come together depends on the clients, and changes scores by
rounding alone, as in every batch; with `max_batch=1` an answer is that of `extractor(post)`, to the last digit.

    POST /extract    a post as JSON, or as a form with pictures as files; the answer is `Extraction.to_dict`
    GET /health      200, or 503 while the server stops
    GET /metrics     counts and times for Prometheus
    GET /docs        what a post and an answer hold, from /openapi.json

A refusal is {"detail": reason, "field": the key of the post, or null}, with one of these statuses: 413 too many bytes
or pixels, 422 not a post, 429 the queue is full (Retry-After says when to try again), 503 no answer in time, or
stopping.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from queue import Empty, SimpleQueue
from typing import Annotated, Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from ..pictures import PictureError, is_absent
from ..posts import Post
from ..remote_pictures import is_address
from ..tables import likely_column
from ..version import __version__
from .answers import Extraction
from .extraction import Extractor

EXAMPLE = '{"text": "Kobe lands in Paris", "image": "https://example.org/kobe.jpg"}'
RETRY_AFTER = "1"  # seconds


@dataclass(kw_only=True)
class Limits:
    """The limits of a server, and how it batches posts."""

    max_batch: int = field(default=8, metadata={"help": "Most posts per batch; 1 answers each post alone."})
    max_wait_ms: float = field(
        default=5.0,
        metadata={"help": "Longest time in milliseconds that a post waits for others whose pictures are being read."},
    )
    max_queue: int = field(default=64, metadata={"help": "Most posts that wait for an answer; others get status 429."})
    timeout: float = field(default=30.0, metadata={"help": "Seconds per request; then it gets status 503."})
    max_body_mb: float = field(
        default=20.0, metadata={"help": "Most megabytes per request, pictures included; a larger one gets status 413."}
    )
    max_characters: int = field(
        default=10_000, metadata={"help": "Most characters per text, or of all tokens; a longer one gets status 422."}
    )
    num_workers: int = field(default=4, metadata={"help": "Threads that read pictures."})

    def __post_init__(self):
        for name in ("max_batch", "max_queue", "max_characters", "num_workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)} must be 1 or more, e.g. --{name} {LIMITS[name]}")
        for name in ("timeout", "max_body_mb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name} {getattr(self, name)} must be more than 0, e.g. --{name} {LIMITS[name]}")
        if not 0 <= self.max_wait_ms <= 1000 * self.timeout:
            raise ValueError(f"--max_wait_ms {self.max_wait_ms} must be from 0 to the timeout, e.g. --max_wait_ms 5")


LIMITS = {one.name: one.default for one in fields(Limits)}


class Refused(Exception):
    """A request that gets no answer: its status, the reason, and the key of the post that is at fault, if one is."""

    def __init__(self, status: int, reason: str, field: str | None = None):
        super().__init__(reason)
        self.status, self.reason, self.field = status, reason, field


# What a post and an answer hold

Text = Annotated[
    str,
    Field(description="of the post; offsets of the answer are characters of it", json_schema_extra={"pattern": r"\S"}),
]
Words = Annotated[
    list[str],
    Field(
        description="the words of the post; offsets of the answer are words, end exclusive",
        json_schema_extra={"minItems": 1},
    ),
]
Address = Annotated[
    str,
    Field(
        description="an http or https URL of a public address, or a data: URI",
        json_schema_extra={"pattern": "^(https?://|data:)"},
    ),
]


class ObjectBox(BaseModel):
    """A crop as a box in the picture of the post."""

    model_config = ConfigDict(extra="forbid", strict=True)
    box: list[FiniteFloat] = Field(
        min_length=4, max_length=4, description="left, top, right and bottom in pixels of the upright picture"
    )
    score: FiniteFloat | None = None
    label: str | None = None


Crop = Annotated[
    Annotated[Address, Tag("address")] | Annotated[ObjectBox, Tag("box")],
    Discriminator(lambda crop: "box" if isinstance(crop, (dict, ObjectBox)) else "address"),
]
CROPS = "crops of the picture, each an address, a box in the picture, or null"
PASSED = Field(default=None, description="of an answer or of a data set; not read")
NEEDED: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: {"type": kind}}}
        for name, kind in (("text", "string"), ("tokens", "array"))
    ]
}


class PostForm(BaseModel):
    """A post as a form, with pictures as files; tokens and objects repeat."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=NEEDED)
    id: str | None = None
    text: Text | None = None
    tokens: Words | None = None
    image: bytes | Address | None = None
    objects: list[bytes | Address] | None = Field(default=None, description="crops of the picture")


class PostBody(BaseModel):
    """A post in the exchange format: text or tokens, its picture, and crops of the picture, also as boxes in it."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=NEEDED)
    id: str | int | None = None
    text: Text | None = None
    tokens: Words | None = None
    image: Address | None = None
    objects: list[Crop | None] | None = Field(default=None, description=CROPS)
    entities: list[dict[str, Any]] | None = PASSED
    relations: list[dict[str, Any]] | None = PASSED
    image_errors: dict[str, str] | None = PASSED
    pairs_left_out: int | None = PASSED
    withheld: dict[str, Any] | None = PASSED
    picture_match: float | None = PASSED


class AnswerEntity(BaseModel):
    start: int
    end: int
    label: str
    score: float
    region: int | None = Field(default=None, description="of a joint model: position in objects, -1 for none")
    region_score: float | None = None


class AnswerRelation(BaseModel):
    head: int = Field(description="position in entities")
    tail: int = Field(description="position in entities")
    label: str
    score: float


class WithheldAnswers(BaseModel):
    entities: list[AnswerEntity]
    relations: list[AnswerRelation] = Field(description="head and tail count the entities that are kept, then these")


class Answer(BaseModel):
    """A post with its entities and relations, in the exchange format."""

    id: str | None
    text: str | None = None
    tokens: list[str] | None = None
    image: str | None = None
    objects: list[str | ObjectBox | None] = Field(description=CROPS)
    entities: list[AnswerEntity]
    relations: list[AnswerRelation]
    image_errors: dict[str, str] = Field(description="pictures that could not be read; the post was read without them")
    pairs_left_out: int
    withheld: WithheldAnswers | None = Field(default=None, description="answers that are not sure, with a coverage")
    picture_match: float | None = Field(default=None, description="the probability that the picture is the post's own")


class Refusal(BaseModel):
    """Why a request got no answer."""

    detail: str
    field: str | None


def describe_body() -> dict:
    """The request body of /extract, for the OpenAPI page."""
    kinds: dict[str, type[BaseModel]] = {"application/json": PostBody, "multipart/form-data": PostForm}
    reference = "#/components/schemas/{model}"  # the models that `Answer` has, too
    content = {name: {"schema": kind.model_json_schema(ref_template=reference)} for name, kind in kinds.items()}
    for kind in content.values():
        kind["schema"].pop("$defs", None)
    for one in content["multipart/form-data"]["schema"]["properties"].values():  # a form knows no null
        one.pop("default")
        one["anyOf"].remove({"type": "null"})
    return {"requestBody": {"required": True, "content": content}}


# Reading requests


async def read_chunks(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request, of at most so many bytes."""
    reason = f"the request has more than {most:,} bytes; send smaller pictures, or raise --max_body_mb"
    if request.headers.get("content-length", "0").isdecimal() and int(request.headers.get("content-length", 0)) > most:
        raise Refused(413, reason)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Refused(413, reason)
        yield chunk


async def read_request(request: Request, limits: Limits, num_objects: int) -> dict:
    """The post that a request holds, as an `Extractor` takes it, with pictures as bytes and addresses alone.

    Raises:
        Refused: it is too large or not a post.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    most = int(limits.max_body_mb * 1e6)
    chunks = read_chunks(request, most)
    if kind == "multipart/form-data":
        post = check(PostForm.model_validate, await read_form(request, chunks, most))
    elif kind in ("application/json", ""):
        post = check(PostBody.model_validate_json, b"".join([chunk async for chunk in chunks]))
    else:
        raise Refused(422, f"content-type {kind[:80]!r} is neither application/json nor multipart/form-data")
    # An empty token counts as one character, as it takes a place in the model.
    characters = len(post.get("text") or "") + sum(max(len(token), 1) for token in post.get("tokens") or ())
    if characters > limits.max_characters:
        name = "text" if post.get("text") else "tokens"
        raise Refused(422, f"{name} has {characters:,} characters, more than {limits.max_characters:,}", name)
    objects = post.get("objects") or []
    if len(objects) > num_objects:
        raise Refused(422, f"{len(objects)} objects: the models see at most {num_objects} crops of a post", "objects")
    for name, picture in (("image", post.get("image")), *((f"objects[{i}]", one) for i, one in enumerate(objects))):
        if isinstance(picture, str) and not is_address(picture) and not is_absent(picture):
            raise Refused(
                422,
                f"{name}={picture[:80]!r} is not an address, and no file of this machine is read: send the file "
                f"(curl -F {name.partition('[')[0]}=@kobe.jpg), a data: URI, or an https URL",
                name,
            )
    return post


async def read_form(request: Request, chunks: AsyncGenerator[bytes, None], most: int) -> dict[str, Any]:
    """The fields of a form, of at most so many bytes; those that repeat as a list, files as bytes."""
    parser = MultiPartParser(request.headers, chunks, max_part_size=most)  # a data: URI is long
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError) as error:  # KeyError: no boundary
        example = "curl -F 'text=Kobe lands in Paris' -F image=@kobe.jpg"
        raise Refused(422, f"not a form: {error!s:.200}; e.g. {example}") from None
    values: dict[str, Any] = {}
    for name in form:
        parts = [await one.read() if isinstance(one, UploadFile) else one for one in form.getlist(name)]
        values[name] = parts if name in ("tokens", "objects") or len(parts) > 1 else parts[0]
    await form.close()
    return values


def check(validate: Callable[..., BaseModel], values: object) -> dict:
    """The keys of a post that an `Extractor` takes; raises `Refused` for one that is at fault, and names it."""
    try:
        post = validate(values).model_dump(include={"id", "text", "tokens", "image", "objects"}, exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name, *places = first["loc"] or (None,)
        if name is None:
            raise Refused(422, f"{first['msg']}; e.g. {EXAMPLE}") from None
        place = f"[{places[0]}]" if places and isinstance(places[0], int) else ""
        if first["type"] == "extra_forbidden" and not places:
            likely = likely_column(str(name))
            hint = f"; is it meant to be {likely!r}?" if likely else ""
            reason = f"a post has no {name!r}, but id, text, tokens, image, objects; e.g. {EXAMPLE}{hint}"
        else:
            reason = f"{name}{place}={first['input']!r:.80}: {first['msg']}; e.g. {EXAMPLE}"
        raise Refused(422, reason, f"{name}{place}") from None
    if "text" not in post and "tokens" not in post:
        raise Refused(422, f"neither text nor tokens; e.g. {EXAMPLE}", "text")
    return post


def refuse(error: Exception, post: dict, example: str) -> Refused:
    """Turn an error of an `Extractor` into a refusal; raise it again where it is not the fault of the post.

    Args:
        example: the call of a pipeline that messages show, in place of which the client sees a body.
    """
    if isinstance(error, PictureError):
        if error.is_machines_fault:
            return Refused(503, f"the server cannot read pictures at present ({error}); try again later", error.place)
        return Refused(413 if error.is_too_large else 422, f"{error.place}: {error}", error.place)
    if isinstance(error, ValueError):
        return Refused(422, str(error).replace(example, EXAMPLE)[:500], "tokens" if "tokens" in post else "text")
    raise error


# Answering


class Job(NamedTuple):
    """A post whose pictures are read, and the place of its answer."""

    post: Post
    answer: Future[Extraction]


class BatchWorker:
    """The thread that runs an `Extractor`, on the posts that wait together.

    Args:
        limits: `max_batch` and `max_wait_ms`.
        count_open: how many requests have no answer yet; a batch that holds them all does not wait.
        note_batch: called with the number of posts of each batch.
    """

    def __init__(
        self,
        extractor: Extractor,
        limits: Limits,
        count_open: Callable[[], int],
        note_batch: Callable[[int], object],
    ):
        self.extractor, self.limits, self.count_open, self.note_batch = extractor, limits, count_open, note_batch
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.thread = threading.Thread(target=self.run, name="extractor", daemon=True)
        self.thread.start()

    def submit(self, post: Post) -> Future[Extraction]:
        """Queue a post whose pictures are read; a cancelled future is not extracted."""
        job = Job(post, Future())
        self.jobs.put(job)
        return job.answer

    def close(self) -> None:
        """Answer what is queued, and end the thread."""
        self.jobs.put(None)
        self.thread.join()

    def run(self) -> None:
        while jobs := self.next_batch():
            self.note_batch(len(jobs))
            self.answer(jobs)

    def next_batch(self) -> list[Job]:
        """Wait for posts, and for others that are about to come; empty once the worker is closed."""
        jobs: list[Job] = []
        until = 0.0
        while len(jobs) < self.limits.max_batch:
            waits = bool(jobs) and self.count_open() > len(jobs)
            timeout = (max(until - time.monotonic(), 0) if waits else 0) if jobs else None
            try:
                job = self.jobs.get(timeout=timeout)
            except Empty:
                break
            if job is None:
                if jobs:
                    self.jobs.put(None)  # for the next call
                break
            if job.answer.set_running_or_notify_cancel():
                until = until if jobs else time.monotonic() + self.limits.max_wait_ms / 1000
                jobs.append(job)
        return jobs

    def answer(self, jobs: list[Job]) -> None:
        """Extract from posts together; where that fails, one by one, so that each gets its own error."""
        try:
            answers = self.extractor.extract([job.post for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            for job in jobs:
                self.answer([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.answer.set_result(answer)


class Metrics:
    """The counters and times of a server, for /metrics."""

    def __init__(self, count_open: Callable[[], int]):
        self.registry = CollectorRegistry()
        shared: dict[str, Any] = {"namespace": "i2srm", "registry": self.registry}
        self.requests = Counter("requests", "Requests to /extract by status.", ["status"], **shared)
        self.seconds = Histogram("request_seconds", "Seconds from a request to its answer.", **shared)
        self.batches = Histogram("batch_posts", "Posts that go through the models together.", buckets=BATCHES, **shared)
        self.pictures = Counter("pictures_failed", "Pictures that posts were read without.", **shared)
        self.pairs = Counter("pairs_left_out", "Pairs of entities that were left out.", **shared)
        Gauge("open_requests", "Requests without an answer yet.", **shared).set_function(count_open)


BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Service:
    """Answers requests with an `Extractor`, within limits."""

    def __init__(self, extractor: Extractor, limits: Limits):
        self.extractor, self.limits = extractor, limits
        self.open, self.stopping = 0, False
        self.metrics = Metrics(lambda: self.open)
        self.pool = ThreadPoolExecutor(limits.num_workers, "pictures")
        self.worker = BatchWorker(extractor, limits, lambda: self.open, self.metrics.batches.observe)

    def stop(self) -> None:
        """Refuse new requests from now on; those that are open are answered."""
        self.stopping = True

    def close(self) -> None:
        """End the threads, after the open requests."""
        self.stop()
        self.pool.shutdown()
        self.worker.close()

    async def respond(self, request: Request) -> Response:
        """The response to a request for /extract, whatever it holds."""
        started = time.monotonic()
        headers: dict[str, str] = {}
        status = 500  # unless it changes below
        try:
            answer = await self.extract(request)
            status = 200
            self.metrics.pictures.inc(len(answer.image_errors))
            self.metrics.pairs.inc(answer.pairs_left_out)
            return Response(answer.to_json(), media_type="application/json")
        except Refused as refused:
            status = refused.status
            if status in (429, 503):
                headers["Retry-After"] = RETRY_AFTER
            return JSONResponse({"detail": refused.reason, "field": refused.field}, status, headers)
        except ClientDisconnect:
            status = 499  # as nginx calls it; nobody reads it
            return Response(status_code=status)
        finally:
            self.metrics.requests.labels(str(status)).inc()
            self.metrics.seconds.observe(time.monotonic() - started)

    async def extract(self, request: Request) -> Extraction:
        """The answer to a request; raises `Refused`."""
        if self.stopping:
            raise Refused(503, "the server is stopping; send the post to another one, or later")
        if self.open >= self.limits.max_queue:
            raise Refused(429, f"{self.open} posts wait already; try again in {RETRY_AFTER} s")
        self.open += 1
        try:
            async with asyncio.timeout(self.limits.timeout):
                post = await read_request(request, self.limits, self.extractor.num_objects)
                try:
                    loop = asyncio.get_running_loop()
                    loaded = await loop.run_in_executor(self.pool, self.extractor.load, post)
                    return await asyncio.wrap_future(self.worker.submit(loaded))
                except Exception as error:
                    raise refuse(error, post, self.extractor.ner.example) from error
        except TimeoutError:
            raise Refused(503, f"no answer within {self.limits.timeout:g} s; try again later") from None
        finally:
            self.open -= 1


REFUSALS = {
    413: "Too many bytes, or a picture of too many pixels",
    422: "Not a post; field names the key at fault",
    429: "The queue is full; Retry-After says when to try again",
    503: "No answer in time, or the server is stopping",
}


def make_app(extractor: Extractor, limits: Limits | None = None) -> FastAPI:
    """The server of an `Extractor` as an ASGI application; its threads run from startup to shutdown.

    Args:
        limits: default `Limits()`.

    Example:

    >>> app = make_app(Extractor.from_pretrained("runs/quickstart"))  # doctest: +SKIP
    >>> uvicorn.run(app, port=8000)  # doctest: +SKIP
    """

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(extractor, limits or Limits())
        yield
        await asyncio.to_thread(app.state.service.close)

    app = FastAPI(title="modeling_i2srm", version=__version__, description=ABOUT, lifespan=run)
    responses: dict[int | str, dict[str, Any]] = {200: {"model": Answer}}
    responses |= {status: {"model": Refusal, "description": text} for status, text in REFUSALS.items()}

    @app.post("/extract", responses=responses, openapi_extra=describe_body())
    async def extract(request: Request) -> Response:
        """The entities of a post, and the relations between them."""
        return await app.state.service.respond(request)

    @app.get("/health", responses={503: {"description": "The server is stopping"}})
    async def health() -> JSONResponse:
        """Report whether the server accepts posts."""
        stopping = app.state.service.stopping
        return JSONResponse({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        return Response(generate_latest(app.state.service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


ABOUT = "Entities of posts with pictures, and the relations between them."


__all__ = ["Limits", "make_app"]
