"""How much the features of the pictures of Twitter-2015, Twitter-2017 and MNRE take on disk, in 16 bit, with ResNet-50.

    python benchmarks/cache_size.py ../shared/data

The folder holds the raw texts and the indices of the released crops, as dataset_scripts/ read them. Main pictures are
the distinct names in the texts, crops the distinct names among the first three of each post. Pictures of equal content
are stored once, so these are upper bounds.
"""

import argparse
import ast
import re
from pathlib import Path

import torch

BYTES_A_PICTURE = 2 * 17_408 + 16  # F numbers of ResNet-50, and the key
CROPS = 3

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data_dir", type=Path)


def report(name: str, mains: list[str], crops: set[tuple[str, str]]) -> None:
    counts = {"main pictures": len(set(mains)), "crops": len(crops)}
    print(
        name, *(f"{count:,} {what}: {count * BYTES_A_PICTURE / 1e6:.1f} MB" for what, count in counts.items()), sep="; "
    )


def main():
    data = parser.parse_args().data_dir
    for name in ("twitter2015", "twitter2017"):
        folder, mains, crops = data / "NER_data" / name, [], set()
        for split, short in (("train", "train"), ("valid", "val"), ("test", "test")):
            found = re.findall(r"^IMGID:(\S+)", (folder / f"{split}.txt").read_text(encoding="utf-8"), re.MULTILINE)
            index = torch.load(folder / f"{name}_{short}_dict.pth", weights_only=True)
            mains += found
            crops |= {(split, crop) for post in found for crop in index.get(f"{post}.jpg", [])[:CROPS]}
        report(name, mains, crops)
    folder, mains, crops = data / "RE_data" / "txt", [], set()
    for split in ("train", "val", "test"):
        lines = (folder / f"ours_{split}.txt").read_text(encoding="utf-8").splitlines()
        rows = [ast.literal_eval(line) for line in lines if line.strip()]
        index = torch.load(folder / f"mre_{split}_dict.pth", weights_only=True)
        mains += [row["img_id"] for row in rows]
        crops |= {(split, crop) for i in range(len(rows)) for crop in index.get(i, [])[:CROPS]}
    report("MNRE", mains, crops)


if __name__ == "__main__":
    main()
