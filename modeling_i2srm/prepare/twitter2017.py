"""Twitter-2017: named entities in tweets with pictures, from the released files to Parquet.

    python dataset_scripts/twitter2017.py --data_dir RAW --output_dir data/twitter2017

RAW holds the texts (`train.txt`, `valid.txt`, `test.txt` in a folder `twitter2017`) and a folder of pictures `ID.jpg`,
in HVPNeT's layout or UMT's; the script finds them. A post whose picture is absent or cannot be read is kept without it.
"""

from .command import run
from .twitter import TwitterBuilder

PICTURES = """\
Download the pictures of Twitter-2017 by hand, with a browser, from Google Drive:
  https://drive.google.com/file/d/1ogfbn-XEYtk9GpUECq1-IwzINnhKGJqy/view  (texts, pictures and crops, by HVPNeT)
  https://drive.google.com/file/d/1PpvvncnQkgDNeBMKVgG2zFYuRhbL873g/view  (pictures alone, by UMT)
Unpack the folder twitter2017_images (and twitter2017_aux_images, the crops) anywhere below {data_dir} and run again."""


class Twitter2017(TwitterBuilder):
    """Builder of Twitter-2017."""

    NAME = "twitter2017"
    TITLE = "Twitter-2017"
    CITATION = """
@inproceedings{lu2018visual,
  title = {Visual Attention Model for Name Tagging in Multimodal Social Media},
  author = {Lu, Di and Neves, Leonardo and Carvalho, Vitor and Zhang, Ning and Ji, Heng},
  booktitle = {Proceedings of the 56th Annual Meeting of the Association for Computational Linguistics},
  year = {2018}
}"""


def main(arguments: list[str] | None = None) -> None:
    run(Twitter2017, __doc__, PICTURES, arguments)
