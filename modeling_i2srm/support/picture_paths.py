"""Where the paths of pictures in the rows of a file may lead."""

import os
from pathlib import Path

from ..pictures import PictureError, is_absent, is_box
from ..remote_pictures import is_address


def locate(picture: object, folder: Path) -> object:
    """A picture as `load_picture` takes it; paths are relative to a folder and must not leave it. A box stays as it is.

    Raises:
        PictureError: the path leads out of the folder: by "..", as an absolute one, or by a link; a dictionary that
            holds no picture and no box.
    """
    if isinstance(picture, dict) and not is_box(picture):
        content = picture["bytes"] if isinstance(picture.get("bytes"), bytes) else picture.get("path")
        if is_absent(content) and not is_absent(picture):
            raise PictureError(
                f"a dict of the keys {list(picture)!s:.200} holds neither the bytes nor the path of a picture, nor a "
                "box; expected e.g. {'path': 'kobe.jpg'}"
            )
        picture = content
    if not isinstance(picture, str) or is_address(picture):
        return picture
    if not picture:
        return None
    path = folder / picture
    try:
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError) as error:  # characters that no file system takes
        raise PictureError(f"{picture[:300]!r} is not a path: {error}") from error
    if not inside:
        raise PictureError(
            f"the path {picture[:300]!r} leads out of {folder}, and is not read; if it may be: --image_dir DIR, with a "
            "folder that holds all pictures, or --image_dir / for any path",
            "outside",
        )
    return str(path)
