"""Export a checkpoint, joint or for entities or relations, to ONNX and compare the file with torch.

    python examples/export_onnx.py --model runs/quickstart --output joint.onnx

Needs the extra "onnx": pip install 'modeling-i2srm[onnx]'. The checkpoint's config.json names the head.
"""

import argparse
import logging

from ..onnx.export import LOWEST_OPSET, TOLERANCE, export_checkpoint
from ..support.options import OptionParser

parser = OptionParser("export_onnx.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
parser.add_argument("-o", "--output", required=True, help="the ONNX file to write")
parser.add_argument("--opset", type=int, default=LOWEST_OPSET, help="ONNX operator set (default %(default)s)")


def main(arguments: list[str] | None = None) -> None:
    args = parser.parse_args(arguments)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of a missing torchvision
    try:
        difference = export_checkpoint(args.model, args.output, args.opset)
    except (ValueError, RuntimeError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(
        f"{args.output}: agrees with torch on present and absent pictures, largest difference of the scores "
        f"{difference:.1e} (allowed {TOLERANCE:.0e})"
    )
