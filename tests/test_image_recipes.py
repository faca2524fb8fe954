import numpy as np
import pytest
import torch
import transformers
from odd_pictures import picture
from PIL import Image

from modeling_i2srm.processing_i2srm import pil_backed, resnet_image_processor


def test_resnet_recipe():
    image = picture(300, 400)
    resized = np.asarray(image.resize((341, 256), Image.Resampling.BILINEAR), dtype=np.float64) / 255
    cropped = resized[16:240, 58:282]
    expected = (cropped - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    pixels = resnet_image_processor()(image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(pixels, torch.tensor(expected).permute(2, 0, 1).float(), atol=1e-5)


@pytest.mark.parametrize("name", ["BitImageProcessor", "BitImageProcessorFast", "ConvNextImageProcessor"])
def test_a_torchvision_image_processor_becomes_its_pil_twin(name):
    twin = getattr(transformers, f"{name.removesuffix('Fast')}Pil")
    recipe = twin(size={"shortest_edge": 36}, image_mean=[0.1, 0.2, 0.3]).to_dict()
    converted = pil_backed(type(name, (), {"to_dict": lambda self: recipe})())
    assert type(converted) is twin
    assert converted.to_dict() == recipe
    assert pil_backed(converted) is converted
    assert pil_backed(None) is None
