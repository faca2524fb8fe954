"""Twitter-2015: named entities in tweets with pictures, from the released files to Parquet.

    python dataset_scripts/twitter2015.py --data_dir RAW --output_dir data/twitter2015

RAW holds the texts (`train.txt`, `valid.txt`, `test.txt` in a folder `twitter2015`) and a folder of pictures `ID.jpg`,
in HVPNeT's layout or UMT's; the script finds them. A post whose picture is absent or cannot be read is kept without it.
"""

from .command import run
from .twitter import TwitterBuilder

PICTURES = """\
Download the pictures of Twitter-2015 by hand, with a browser, from Google Drive:
  https://drive.google.com/file/d/1qAWrV9IaiBadICFb7mAreXy3llao_teZ/view  (texts, pictures and crops, by HVPNeT)
  https://drive.google.com/file/d/1PpvvncnQkgDNeBMKVgG2zFYuRhbL873g/view  (pictures alone, by UMT)
Unpack the folder twitter2015_images (and twitter2015_aux_images, the crops) anywhere below {data_dir} and run again.
HVPNeT's texts are another edition: 239 test posts have other tags."""


class Twitter2015(TwitterBuilder):
    """Builder of Twitter-2015."""

    NAME = "twitter2015"
    TITLE = "Twitter-2015"
    CITATION = """
@inproceedings{zhang2018adaptive,
  title = {Adaptive Co-attention Network for Named Entity Recognition in Tweets},
  author = {Zhang, Qi and Fu, Jinlan and Liu, Xiaoyu and Huang, Xuanjing},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year = {2018}
}"""


def main(arguments: list[str] | None = None) -> None:
    run(Twitter2015, __doc__, PICTURES, arguments)
