"""Extract entities and relations from whole corpora, on any number of processes; a run that was cut off goes on.

    accelerate launch examples/extract.py --input posts.jsonl --output out --ner NER_MODEL --re RELATION_MODEL
    accelerate launch examples/extract.py --input data/visual_posts --output out --ner runs/quickstart
    torchrun --nproc_per_node 2 examples/extract.py settings.json --use_cpu true         # two processes on the CPU

Arguments come from a JSON file, from the command line, or from both (the command line wins). Killed or stopped by a
full disk, the same command goes on; the results are the same as if nothing had happened.

Inputs are JSONL files, a post a line, Parquet files, or folders of them. Keys of a line, or columns:

  text      the post. Or:
  tokens    its words, a list
  image     its picture: a path, or a URL; in Parquet also the bytes                                        (optional)
  objects   crops of the picture, a list of such                                                            (optional)
  id        a name of the post; default FILE-ROW, rows counted from 1                                       (optional)

ner_tags, head, tail and relation, columns of data sets for training, are passed over; other keys are errors, unless
--ignore names them. An example: {"id": "7", "text": "Kobe lands in Paris", "image": "pictures/7.jpg"}

Paths are relative to the folder of the file, and a row whose path leads out of it (.., an absolute path, a link) is an
error; --image_dir names another folder, / for every path there is. URLs of this machine and the networks around it are
not read without --allow_private_addresses true.

With --detector the posts that have a picture and no crops of their own get the crops of what it finds, once a picture
for both models; --max_objects and --detector_threshold bound them.

Results, in the folder of --output:

  part-00000.jsonl ...    a post a line, in the order of the input: text, entities (type, score, word, start, end),
                          relations (head and tail by position in entities, label, score), id, image_errors,
                          pairs_left_out, objects (what --detector found: box in pixels of the upright picture, score,
                          label)
  errors.jsonl            rows that are no posts or cannot be read: input, row, id, reason
  summary.json            counts of all parts, and posts a second
  manifest.json, done/    what the run needs to go on
"""

import argparse
import logging
import signal
import sys

from transformers import HfArgumentParser
from transformers.utils import logging as transformers_logging

from ..inference.corpus import CorpusArguments, extract_corpus, start_processes
from ..support.faults import Interrupted, RunError, run_script, stop_on_sigterm
from ..training.arguments import json_to_argv
from ..training.run import end_processes


def parse_arguments(argv: list[str]) -> CorpusArguments:
    """Read the arguments of the command line and of the JSON file that it may begin with."""
    if argv and argv[0].endswith(".json"):
        argv = json_to_argv(argv[0]) + argv[1:]
    parser = HfArgumentParser(
        CorpusArguments, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser.parse_args_into_dataclasses(argv)[0]


def setup_logging(is_main_process: bool):
    """Log what is decided, once; pictures that fail are counted and stand in the results."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("modeling_i2srm").setLevel(logging.INFO if is_main_process else logging.WARNING)
    logging.getLogger("modeling_i2srm.pipeline_i2srm").setLevel(logging.ERROR)
    logging.getLogger("transformers.pipelines.base").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()


def extract(argv: list[str]):
    try:
        arguments = parse_arguments(argv)
        setup_logging(start_processes(arguments.use_cpu).is_main_process)
        stop_on_sigterm()
        summary = extract_corpus(arguments)
    except KeyboardInterrupt as error:
        message = "interrupted; finished parts are kept, and the same command goes on with the others"
        raise Interrupted(getattr(error, "signum", signal.SIGINT), message) from None
    except (ValueError, OSError) as error:
        raise RunError(str(error)) from error
    for name, value in summary.items():
        print(f"{name.replace('_', ' '):24}{value:>14,}")
    if summary:
        print(f"results: {arguments.output}")
    end_processes()


def main(argv: list[str] | None = None):
    run_script(lambda: extract(sys.argv[1:] if argv is None else argv), "extract.py")
