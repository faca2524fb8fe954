"""The CRF against pytorch-crf: loss with backward, and decoding, in turns in one process on the same scores.

    python benchmarks/crf.py
    python benchmarks/crf.py --sentences 8 --words 40 --device cuda

Prints the median seconds of each, their ratio (above 1: ours is faster), and those of decoding and marginals together.
"""

import argparse
import statistics
import time

import torch
from torchcrf import CRF

from modeling_i2srm.crf import LinearChainCRF

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sentences", type=int, default=64)
parser.add_argument("--words", type=int, default=128, help="of the longest sentence; half of them are shorter")
parser.add_argument("--labels", type=int, default=9)
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--device", default="cpu")


def main(arguments: list[str] | None = None):
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ours, theirs = LinearChainCRF(args.labels).to(args.device), CRF(args.labels, batch_first=True).to(args.device)
    for name in ("start_transitions", "transitions", "end_transitions"):
        getattr(theirs, name).data.copy_(getattr(ours, name))
    emissions = torch.randn(args.sentences, args.words, args.labels, device=args.device, requires_grad=True)
    lengths = torch.randint(args.words // 2, args.words + 1, (args.sentences,))
    lengths[0] = args.words
    mask = (torch.arange(args.words) < lengths[:, None]).to(args.device)
    tags = torch.randint(args.labels, (args.sentences, args.words), device=args.device)

    work = {
        "loss and backward": (
            lambda: ours(emissions, tags, mask).mean().backward(),
            lambda: (-theirs(emissions, tags, mask, reduction="mean")).backward(),
        ),
        "decoding": (lambda: ours.viterbi(emissions, mask), lambda: theirs.decode(emissions, mask)),
        "marginals": (lambda: ours.marginals(emissions, mask), None),
    }
    torch.testing.assert_close(ours(emissions, tags, mask).mean(), -theirs(emissions, tags, mask, reduction="mean"))
    assert ours.viterbi(emissions, mask) == theirs.decode(emissions, mask)
    shape = args.sentences, args.words, args.labels
    print(f"{shape} on {args.device}, {args.threads} threads, median of {args.rounds} rounds, ms")
    for name, calls in work.items():
        seconds = [[] for _ in calls]
        for _ in range(args.rounds + 3):
            for call, spent in zip(calls, seconds, strict=True):
                if call is not None:
                    spent.append(measure(call, args.device))
        own, other = (1000 * statistics.median(spent[3:]) if spent else None for spent in seconds)
        beside = "" if other is None else f"   pytorch-crf {other:8.2f}   {other / own:5.2f} times as fast"
        print(f"{name:20} {own:8.2f}{beside}")


def measure(call, device: str) -> float:
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
