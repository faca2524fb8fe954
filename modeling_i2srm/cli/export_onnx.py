"""Export a checkpoint, joint or for entities, relations or labels of posts, to ONNX and compare the answers with torch.

    python examples/export_onnx.py --model runs/quickstart --output onnx/         # a folder that answers by itself
    python examples/export_onnx.py --model runs/quickstart --output onnx8/ --int8
    python examples/export_onnx.py --model runs/quickstart --output joint.onnx    # the graph alone

Needs the extra "onnx": pip install '.[onnx]' in a clone. The checkpoint's config.json names the head.

A folder holds extract.py, which needs onnxruntime, tokenizers, numpy and pillow and neither torch nor this package.
"""

import argparse
import logging
from pathlib import Path

from ..onnx.export import LOWEST_OPSET, TOLERANCE, export_checkpoint
from ..onnx.folder import CODE, export_folder, quantise
from ..support.options import OptionParser

parser = OptionParser("export_onnx.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
parser.add_argument("-o", "--output", required=True, help="the folder to write, or an ONNX file, NAME.onnx")
parser.add_argument(
    "--int8", action="store_true", help="store the linear layers of the text encoder in 8 bits: smaller, not exact"
)
parser.add_argument("--opset", type=int, default=LOWEST_OPSET, help="ONNX operator set (default %(default)s)")


def main(arguments: list[str] | None = None) -> None:
    args = parser.parse_args(arguments)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of a missing torchvision
    is_file, output = args.output.endswith(".onnx"), Path(args.output)
    try:
        if is_file:
            difference = export_checkpoint(args.model, output, args.opset)
            if args.int8:
                quantise(output)
        else:
            difference = export_folder(args.model, output, args.int8, args.opset)
    except (ValueError, RuntimeError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(
        f"{args.output}: agrees with torch on present and absent pictures, largest difference of the scores "
        f"{difference:.1e} (allowed {TOLERANCE:.0e})"
    )
    if args.int8:
        print(
            "int8: that was before the text encoder became int8, which changes some answers; compare them on your posts"
        )
    if not is_file:
        size = sum(path.stat().st_size for path in output.iterdir()) / 1e6
        print(
            f"The folder, {size:.1f} MB, answers posts without torch and this package:\n"
            "  pip install onnxruntime tokenizers numpy pillow\n"
            f"  python {output / CODE} post.json"
        )
