"""Models of the tests of corpora."""

import pytest
import torch
from tiny import bert_tokenizer, tiny_config, tiny_processor

from modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification
from modeling_i2srm.inference.extraction import Extractor


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    """Folders of a model of entities and one of relations, untrained, which find a lot."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    ner = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(bert_tokenizer())}))
    ner.save_pretrained(folder / "ner")
    tiny_processor().save_pretrained(folder / "ner")
    processor = tiny_processor(bert_tokenizer())
    processor.add_entity_markers()
    labels = dict(enumerate(["None", "knows", "/per/loc/place_of_residence"]))
    re = I2SRMForRelationClassification(tiny_config(id2label=labels, text={"vocab_size": len(processor.tokenizer)}))
    re.save_pretrained(folder / "re")
    processor.save_pretrained(folder / "re")
    return str(folder / "ner"), str(folder / "re")


@pytest.fixture(scope="module")
def extractor(models) -> Extractor:
    return Extractor.from_pretrained(*models, device="cpu")
