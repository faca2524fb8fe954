"""Extract entities and relations from corpora, on any number of processes; interrupted runs can be resumed.

    accelerate launch examples/extract.py --input data/visual_posts --output out --model runs/quickstart
    accelerate launch examples/extract.py --input posts.jsonl --output out --ner NER_MODEL --re RELATION_MODEL
    torchrun --nproc_per_node 2 examples/extract.py settings.json --use_cpu true         # two processes on the CPU
    python examples/extract.py --engine ray settings.json                                # on the nodes of a Ray cluster

Arguments come from a JSON file, from the command line, or from both (the command line wins). The same command resumes a
run that was killed or stopped by a full disk; the results are those of an uninterrupted run.

Inputs are files of posts: JSONL with one post per line, Parquet, CSV, TSV, JSON or CoNLL; folders of Parquet files;
folders of pictures with a text beside each (kobe.jpg, kobe.txt); data sets of the Hub (hf:owner/posts:test, without
:test all splits). JSONL and Parquet are read as a stream; others are written to OUTPUT/inputs first. Keys of a line, or
columns:

  text      the text of the post. Or:
  tokens    its words, a list
  image     its picture: a path or URL; in Parquet also the bytes                                           (optional)
  objects   crops of the picture, a list of paths, URLs or bytes                                            (optional)
  id        a name of the post; default FILE-ROW, rows counted from 1                                       (optional)

ner_tags, entities, relations, head, tail and relation, labels of data sets for training, are ignored; other keys are
errors, unless --ignore names them. An example: {"id": "7", "text": "Kobe lands in Paris", "image": "pictures/7.jpg"}

Paths are relative to the folder of the file, and a row whose path leads out of it (.., an absolute path, a link) is an
error; --image_dir names another folder, / for any path. URLs of this machine and of private networks are not read
without --allow_private_addresses true.

With --detector, posts that have a picture and no crops get crops of the detected objects, computed once per picture for
all models; --max_objects and --detector_threshold limit them.

Results, in the folder of --output:

  part-00000.jsonl ...    one post per line, in the order of the input, in the format that dataset_scripts/posts.py
                          reads: id, text or tokens, entities (start, end, label, score; offsets are characters of
                          text, words of tokens; of a joint model also region, the position in objects or -1 for
                          none, and region_score), relations (head and tail by position in entities, label, score),
                          image and objects (paths as they were given; with --detector its detections: box in pixels
                          of the upright picture, score, label), image_errors, pairs_left_out; with --coverage
                          also withheld: the entities and relations that are not sure; with --picture_match
                          picture_match: how probable it is that the picture is the post's own
  answers.parquet         all of them in one file, with --output_format parquet
  errors.jsonl            rows that are not posts or cannot be read: input, row, id, reason
  summary.json            counts of all parts, and posts per second
  manifest.json, done/    the state from which a run is resumed
"""

import argparse
import logging
import signal
import sys

from transformers.utils import logging as transformers_logging

from ..inference.corpus import CorpusArguments, extract_corpus, start_processes
from ..support.faults import Interrupted, RunError, run_script, stop_on_sigterm
from ..support.options import DataclassParser, program, read_settings
from ..training.run import end_processes
from .launch import launch, take_processes


def parse_arguments(argv: list[str]) -> CorpusArguments:
    """Read the arguments of the command line and of the settings files that it names."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = DataclassParser("extract.py", [CorpusArguments], description=__doc__, formatter_class=formatter)
    parser.take_values("--input")
    return parser.parse_args_into_dataclasses(read_settings(argv))[0]


def setup_logging(is_main_process: bool) -> None:
    """Log decisions in the main process only, and no pictures that fail: the results list and count them."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("modeling_i2srm").setLevel(logging.INFO if is_main_process else logging.WARNING)
    logging.getLogger("modeling_i2srm.posts").setLevel(logging.ERROR)
    logging.getLogger("transformers.pipelines.base").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()


def extract(argv: list[str]) -> None:
    try:
        arguments = parse_arguments(argv)
        setup_logging(start_processes(arguments.use_cpu or arguments.engine == "ray").is_main_process)
        stop_on_sigterm()
        summary = extract_corpus(arguments)
    except KeyboardInterrupt as error:
        message = "interrupted; finished parts are kept, and the same command resumes the run"
        raise Interrupted(getattr(error, "signum", signal.SIGINT), message) from None
    except (ValueError, OSError) as error:
        raise RunError(str(error)) from error
    for name, value in summary.items():
        if value:  # most counts are of what can go wrong
            print(f"{name.replace('_', ' '):24}{value:>14,}")
    if summary:
        print(f"results: {arguments.output}")
    end_processes()


def run(argv: list[str]) -> None:
    """Extract in this process, or with --num_processes in several."""
    processes, words = take_processes(read_settings(argv))
    if processes > 1:
        if parse_arguments(words).engine == "ray":  # read here: else each process would say what is wrong
            raise ValueError(f"--num_processes {processes} is of --engine local; of ray: --ray_workers {processes}")
        return launch(["extract"], words, processes)
    extract(words)


def main(argv: list[str] | None = None) -> None:
    run_script(lambda: run(sys.argv[1:] if argv is None else argv), program("extract.py"))
