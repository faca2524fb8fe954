"""A copy of MNRE whose crops carry nothing but their number, to measure how far the released crops' leak alone carries.

    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_crop_counts
    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_shuffled_counts --shuffle
    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_grey_pictures --picture

Each pair has as many crops as were released with it, all of them the same grey square, and no picture. Train on it as
on any other data set, with num_objects 4; the text is unchanged. As a control, --shuffle gives each pair the number of
another pair of its split, drawn at random. --picture adds the grey square as the main picture of all posts, so that the
semantic loss, which compares text and main picture, takes part in training.
"""

import argparse
import random
from pathlib import Path

from PIL import Image

from modeling_i2srm.prepare.builder import RawData, write_parquet
from modeling_i2srm.prepare.command import print_report
from modeling_i2srm.prepare.mnre import Mnre


class CropCounts(Mnre):
    """Builder of MNRE with placeholders for crops."""

    NAME = "mnre_crop_counts"
    placeholder: Path
    shuffle = False
    picture = False

    def read_raw(self) -> RawData:
        raw = super().read_raw()
        for posts in raw.splits.values():
            counts = [len(post.crops) for post in posts]
            if self.shuffle:
                random.Random(0).shuffle(counts)
            for post, count in zip(posts, counts, strict=True):
                post.image, post.image_file = ("grey", self.placeholder) if self.picture else (None, None)
                post.crops = ["grey"] * count
                post.crop_files = [self.placeholder] * count
        raw.about["objects"] = "released"
        raw.about["warnings"].append(
            "the crops are grey squares: only their number is that of the released ones"
            + (" of another pair, drawn at random" if self.shuffle else "")
        )
        return raw


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder that holds the raw files")
    parser.add_argument("--output_dir", type=Path, default=Path("data/mnre_crop_counts"))
    parser.add_argument("--shuffle", action="store_true", help="give each pair the number of another one")
    parser.add_argument("--picture", action="store_true", help="give each post a grey square as its main picture")
    args = parser.parse_args()
    CropCounts.shuffle, CropCounts.picture = args.shuffle, args.picture
    CropCounts.placeholder = args.output_dir.with_name(args.output_dir.name + ".png").resolve()
    CropCounts.placeholder.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), "grey").save(CropCounts.placeholder)
    print_report(write_parquet(CropCounts, args.output_dir, data_dir=str(args.data_dir), objects="released").report)
    CropCounts.placeholder.unlink()


if __name__ == "__main__":
    main()
