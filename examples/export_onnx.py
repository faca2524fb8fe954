"""Export a checkpoint for entities or relations to ONNX and compare the file with torch.

    python examples/export_onnx.py --model runs/quickstart --output joint.onnx

`--help` lists all options. The code: modeling_i2srm/cli/export_onnx.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.export_onnx")
