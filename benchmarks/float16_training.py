"""examples/run_mner.py under float16 autocast on the CPU, for which accelerate has none. Without a scaler of the loss.

python benchmarks/float16_training.py examples/configs/quickstart.json --compare_text_only false --output_dir runs/f16
"""

from unittest import mock

import torch

from modeling_i2srm.training.run import run_script
from modeling_i2srm.training.tasks import MNER
from modeling_i2srm.training.trainer import I2SRMTrainer


def float16(self, cache_enabled=True):
    return torch.autocast("cpu", torch.float16)


if __name__ == "__main__":
    with mock.patch.object(I2SRMTrainer, "autocast_smart_context_manager", float16):
        run_script(MNER)
