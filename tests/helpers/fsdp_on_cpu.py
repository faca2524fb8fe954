"""examples/run_mner.py with FSDP2 on the CPU, where accelerate would train with DDP instead: it looks like a GPU to it.

Prints how many bytes of the parameters each process holds after 20 steps.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import conftest  # noqa: E402, F401  # offline, one thread
import torch  # noqa: E402
from accelerate.state import DistributedType, PartialState  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from modeling_i2srm.training import run as training  # noqa: E402
from modeling_i2srm.training.arguments import parse_arguments  # noqa: E402
from modeling_i2srm.training.tasks import MNER  # noqa: E402


class ParameterBytes(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 20:
            parameters = list(model.parameters())
            here = sum(p.to_local().nbytes if hasattr(p, "to_local") else p.nbytes for p in parameters)
            print(f"process {args.process_index}: {here} of {sum(p.nbytes for p in parameters)} bytes", flush=True)


class Trainer(training.RunTrainer):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.add_callback(ParameterBytes())


torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda self, *arguments: ("gloo", DistributedType.MULTI_GPU)
PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
training.RunTrainer = Trainer
training.run_task(MNER, parse_arguments())
training.end_processes()
