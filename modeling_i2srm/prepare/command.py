"""The command line that the data set scripts share."""

import argparse
import sys
from pathlib import Path

from ..support.options import OptionParser
from .builder import PostsBuilder, write_parquet
from .download import DownloadError, RemoteFile, fetch_all
from .known_files import KNOWN_FILES
from .picture_files import MAX_PIXELS
from .push import push_folder
from .report import print_report


def make_parser(builder_class: type[PostsBuilder], description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts have."""
    name = builder_class.NAME
    parser = OptionParser(
        f"{name}.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="folder that holds the raw files")
    parser.take_values("--data_dir")
    parser.add_argument("-o", "--output_dir", type=Path, default=Path("data") / name, help="the data set to write")
    parser.add_argument("--image_dir", type=Path, help="folder that holds the pictures, if it is not in data_dir")
    parser.add_argument("--num_proc", type=int, default=1, help="pictures decoded at a time (default: 1)")
    parser.add_argument("--max_pixels", type=int, default=MAX_PIXELS, help="leave out larger pictures")
    parser.add_argument("--strict", action="store_true", help="fail where a raw line cannot be read")
    parser.add_argument("--push_to_hub", metavar="USER/NAME", help="also put the result on the Hub")
    parser.add_argument("--private", action="store_true", help="make the data set on the Hub a private one")
    return parser


def run(
    builder_class: type[PostsBuilder],
    description: str,
    pictures: str,
    arguments: list[str] | None,
    posts_class: type[PostsBuilder] | None = None,
) -> None:
    """Run the script of a benchmark: download (optional), build, report, push (optional).

    Args:
        builder_class: The builder.
        description: The text of `--help`.
        pictures: How to get the pictures, which have no download URL; may contain `{data_dir}`.
        arguments: Default: those of the command line.
        posts_class: The builder for --posts, where rows are pairs; `None` where they are posts.
    """
    parser = make_parser(builder_class, description)
    if posts_class is not None:
        parser.add_argument("--posts", action="store_true", help="a row for each post, not for each pair of entities")
    parser.add_argument(
        "--objects",
        default="none",
        metavar="none|released|DIR",
        help="crops: none (default), those released with the data, or DIR/NAME/* for picture NAME.jpg",
    )
    parser.add_argument("--download", action="store_true", help="fetch the text files into data_dir first")
    args = parser.parse_args(arguments)
    if args.download:
        files = KNOWN_FILES[builder_class.NAME].values()
        try:
            fetch_all([RemoteFile(file.url, file.path, file.sha256) for file in files], args.data_dir)
        except DownloadError as error:
            sys.exit(f"{parser.prog}: {error}")
        print(pictures.format(data_dir=args.data_dir))
    if posts_class is not None and args.posts:
        builder_class = posts_class
        if args.output_dir == parser.get_default("output_dir"):
            args.output_dir = Path("data") / builder_class.NAME
    finish(parser, builder_class, args, objects=args.objects)


def refuse_public_push(parser: argparse.ArgumentParser, args: argparse.Namespace, what: str) -> None:
    """End the script where data that must not be republished would be pushed without --private."""
    if args.push_to_hub and not args.private:
        parser.error(
            f"--push_to_hub needs --private: {what} must not be republished; give --push_to_hub {args.push_to_hub} "
            "--private"
        )


def finish(
    parser: argparse.ArgumentParser, builder_class: type[PostsBuilder], args: argparse.Namespace, **config: object
) -> None:
    """Build, report and push as the arguments say; errors of input end the script with one message."""
    if args.num_proc < 1:
        parser.error(f"--num_proc {args.num_proc}: give 1 or more")
    try:
        builder = write_parquet(
            builder_class,
            args.output_dir,
            num_proc=args.num_proc,
            data_dir=str(args.data_dir),
            image_dir=args.image_dir and str(args.image_dir),
            max_pixels=args.max_pixels,
            strict=args.strict,
            **config,
        )
        print_report(builder.report)
        size = sum(path.stat().st_size for path in args.output_dir.glob("data/*.parquet"))
        print(f"wrote {args.output_dir} ({size / 1e6:.1f} MB)")
        if args.push_to_hub:
            print(f"pushed to {push_folder(args.output_dir, args.push_to_hub, private=args.private)}")
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
