"""Answer posts over HTTP with one model, or one of entities and one of relations; needs the extra `serve`.

    python examples/serve.py --model runs/quickstart
    curl -F 'text=who else loves Camelot ?' -F image=@camelot.png http://127.0.0.1:8000/extract

POST /extract takes a post as JSON, or as a form with pictures as files; keys: text or tokens, image, objects, id. The
answer is in the format of examples/extract.py. GET /docs describes both, /health and /metrics are for those who run the
server. Requests that come at the same time go through the models together.

Pictures are files of a form, data: URIs, or URLs of public addresses; paths are never read. SIGTERM and Ctrl-C stop the
server after it has answered the requests it has.
"""

import argparse
import logging
import signal
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn

from ..inference.extraction import Extractor
from ..inference.server import Limits, make_app
from ..support.detectors import ObjectCropper, load_detector
from ..support.faults import RunError, run_script
from ..support.options import DataclassParser, program, read_settings


@dataclass(kw_only=True)
class ServeArguments(Limits):
    """Which models answer, and where."""

    ner: str = field(
        metadata={"aliases": ["--model"], "help": "A joint model, or one for entities (folder or Hub id)."}
    )
    re: str | None = field(
        default=None,
        metadata={"help": "A model for relations, if the other is one for entities."},
    )
    host: str = field(
        default="127.0.0.1", metadata={"help": "Address to listen on. 0.0.0.0 lets other machines in, without a login."}
    )
    port: int = field(default=8000, metadata={"help": "Port to listen on."})
    threshold: float = field(default=0.0, metadata={"help": "Leave out entities with a lower score."})
    relation_threshold: float = field(default=0.0, metadata={"help": "Leave out relations with a lower score."})
    coverage: float | None = field(
        default=None,
        metadata={
            "help": "Withhold what the models are not sure of, and keep this share of the right answers, e.g. 0.9. "
            "Default: all answers are kept."
        },
    )
    detector: str | None = field(
        default=None,
        metadata={
            "help": "A detector (folder or Hub id) that makes crops for posts that have a picture and no objects."
        },
    )
    on_image_error: str | None = field(
        default=None,
        metadata={
            "help": "Posts with a picture that cannot be read: 'warn' reads them without it, 'raise' refuses them. "
            "Default: warn for failed downloads, raise for broken pictures."
        },
    )
    allow_private_addresses: bool = field(
        default=False,
        metadata={
            "help": "Also download pictures from this machine and private networks, not only from public addresses."
        },
    )
    device: str | None = field(
        default=None, metadata={"help": "Where the models run, e.g. cuda:0. Default: a GPU, if any."}
    )


class Server(uvicorn.Server):
    """A server that refuses new requests as soon as a signal stops it, and answers those it has."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app: Any = self.config.app
        app.state.service.stop()
        super().handle_exit(sig, frame)


def load_extractor(arguments: ServeArguments) -> Extractor:
    """The models and the detector that the arguments name."""
    names = ("device", "threshold", "relation_threshold", "coverage", "on_image_error", "allow_private_addresses")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    extractor = Extractor.from_pretrained(arguments.ner, arguments.re, **options)
    if arguments.detector is not None:
        extractor.cropper = ObjectCropper(load_detector(arguments.detector), num_objects=extractor.num_objects)
    return extractor


def serve(argv: list[str]) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = DataclassParser("serve.py", [ServeArguments], description=__doc__, formatter_class=formatter)
    arguments = parser.parse_args_into_dataclasses(read_settings(argv))[0]
    logging.getLogger("transformers.pipelines.base").setLevel(logging.ERROR)  # advice for loops over posts
    logging.getLogger("modeling_i2srm.posts").setLevel(logging.ERROR)  # pictures that fail: answers name them
    app = make_app(load_extractor(arguments), arguments)
    config = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        access_log=False,  # /metrics counts
        timeout_graceful_shutdown=int(arguments.timeout) + 5,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # which uvicorn raises again once it has stopped
        signal.signal(number, lambda *_: None)
    try:
        Server(config).run()
    except SystemExit as error:  # uvicorn has logged why, e.g. that the port is taken
        if error.code:
            raise RunError(f"no server at {arguments.host}:{arguments.port}; another port: --port 8001") from None


def main(argv: list[str] | None = None) -> None:
    run_script(lambda: serve(sys.argv[1:] if argv is None else argv), program("serve.py"))
