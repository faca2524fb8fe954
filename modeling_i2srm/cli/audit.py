"""Measures leaks of a data set: labels that show in the pictures' files and crops, posts that are in two splits.

    python dataset_scripts/audit.py --data_dir RAW
    python dataset_scripts/audit.py --parquet data/mnre data/my_posts --output audit.json
    python dataset_scripts/audit.py --parquet data/visual_posts --predictions runs/quickstart/predictions.jsonl
    python dataset_scripts/audit.py --parquet data/visual_posts --model runs/quickstart

It ends with a verdict for each question: red, yellow or green, and a sentence. --output writes all figures, and a page
of the same name that ends in .html.

Of the raw files it needs only the texts and the index of the released crops (`*_dict.pth`), not the crops and pictures.
Of a folder of Parquet files it reads the columns that the data set scripts write, those that there are.
docs/how-to/audit.md explains the answers; docs/concepts/leak.md has the results for MNRE and the Twitter data sets.
"""

import argparse
import json
import sys
from pathlib import Path

from ..prepare.report import table
from ..studies import audit as measures
from ..studies.audit_cues import PERMUTATIONS
from ..studies.audit_data import BUILDERS, Split, read_folder, read_raw
from ..studies.audit_page import traffic_lights, write_audit
from ..studies.audit_predictions import audit_model, audit_predictions
from ..studies.audit_verdicts import LEAST_PERMUTATIONS
from ..support.options import OptionParser


def print_audit(name: str, report: dict) -> None:
    """Print the crop counts and what splits share as tables, and the verdicts."""
    tables = {f"is a row {label}, by its number of crops?": columns for label, columns in report["crops"].items()}
    if not tables:
        print(f"\n{name}: crop counts are not audited: no index of crops (*_dict.pth), or no label")
    for title, columns in (tables | {"what two splits share": report["overlap"]}).items():
        lines: dict[str, dict[str, str]] = {top: {} for top in columns}
        for top, key, value in ((top, *item) for top, entry in columns.items() for item in entry.items()):
            cells = value if isinstance(value, dict) else {"": value}
            lines[top][f"{key}  {' / '.join(cells)}"] = " / ".join("-" if v is None else str(v) for v in cells.values())
        print(f"\n{name}: {title}\n{table(lines) if lines else 'there is one split only'}")
        if title in tables:
            print(measures.verdict(columns))


def make_parser() -> OptionParser:
    parser = OptionParser(
        "audit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data_dir", type=Path, help="folder that holds the raw files")
    source.add_argument("--parquet", type=Path, nargs="+", help="folders of Parquet files, one per data set")
    parser.add_argument(
        "--dataset", nargs="+", choices=BUILDERS, help="which data sets of --data_dir (default: all that it holds)"
    )
    parser.add_argument("--words", action="store_true", help="also fit models of the words (a minute for MNRE)")
    parser.add_argument(
        "--permutations",
        type=int,
        default=PERMUTATIONS,
        help="permutations of the test of each cue (default %(default)s)",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="predictions of the test split of the one folder of --parquet: a predictions.jsonl, or posts in the "
        "exchange format; more files, e.g. of the same model without pictures, are compared with the first",
    )
    parser.add_argument(
        "--model",
        type=Path,
        help="folder of a model to audit: it predicts the test split of the one folder of --parquet",
    )
    parser.add_argument(
        "--max_posts", type=int, help="with --model: predict only this many posts of the test split (default: all)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="JSON file to write; a page is written beside it, with the ending .html"
    )
    return parser


def read_data(args: argparse.Namespace) -> dict[str, dict[str, Split]]:
    """The splits of each data set, by its name."""
    data_sets: dict[str, dict[str, Split]] = {}
    for folder in args.parquet or []:
        data_sets[str(folder)] = read_folder(folder)
    for name in (args.dataset or BUILDERS) if args.data_dir else []:
        try:
            data_sets[name] = read_raw(name, args.data_dir)
        except FileNotFoundError as error:
            if args.dataset:
                raise
            print(f"left out: {error}", file=sys.stderr)
    if not data_sets:
        raise FileNotFoundError(f"no data set in {args.data_dir}")
    return data_sets


def main(argv: list[str] | None = None) -> None:
    """Audit data sets and what systems answer on them; print verdicts, and write a JSON file and a page."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.dataset and args.parquet:
        parser.error("--dataset needs --data_dir")
    if (args.predictions or args.model) and len(args.parquet or []) != 1:
        parser.error("--predictions and --model need the one data set that was predicted, e.g. --parquet data/mnre")
    if args.permutations < LEAST_PERMUTATIONS:
        parser.error(
            f"--permutations {args.permutations} is too few to tell any cue from chance: give {LEAST_PERMUTATIONS} or "
            f"more, e.g. --permutations {PERMUTATIONS}"
        )
    if args.output and args.output.suffix.lower() == ".html":
        given, figures = args.output, args.output.with_suffix(".json")
        parser.error(f"--output {given} is the page, which is written beside the figures: give --output {figures}")
    try:
        data_sets = read_data(args)
        reports = {name: measures.audit(splits, args.words, args.permutations) for name, splits in data_sets.items()}
        for name, report in reports.items():
            print_audit(name, report)
        test = next(iter(data_sets.values())).get("test")
        if (args.predictions or args.model) and test is None:
            raise ValueError(f"{args.parquet[0]}: no test split, whose rows --predictions and --model answer")
        if args.predictions and test is not None:
            reports[str(args.predictions[0])] = audit_predictions(args.predictions, test, args.permutations)
        if args.model and test is not None:
            given = args.model, args.parquet[0], test, args.max_posts, args.permutations
            reports[str(args.model)] = audit_model(*given)
        for name, report in reports.items():
            print(f"\n{traffic_lights(name, report)}")
        if args.output:
            text = json.dumps(reports, indent=2, ensure_ascii=False)
            args.output.write_text(f"{text}\n", encoding="utf-8")
            write_audit(reports, args.output.with_suffix(".html"))
            print(f"\nfigures: {args.output}\npage: {args.output.with_suffix('.html')}")
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
