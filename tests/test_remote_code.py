"""A saved folder loads in a process where the package and what only training needs cannot be imported."""

import json
import os
import subprocess
import sys

import torch
from PIL import Image
from tiny import bert_tokenizer, tiny_config, tiny_processor

from modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification

REMOTE = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"modeling_i2srm", "evaluate", "seqeval", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers import AutoProcessor

folder, second, relations, other = sys.argv[1:]
for path in (folder, second):
    config = AutoConfig.from_pretrained(path, trust_remote_code=True)
    base = AutoModel.from_pretrained(path, trust_remote_code=True)
    model = AutoModelForTokenClassification.from_pretrained(path, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(path, trust_remote_code=True)
    assert type(base).__name__ == "I2SRMModel" and type(config).__name__ == "I2SRMConfig"
    assert type(processor.image_processor).__name__.endswith("Pil")
    inputs = processor(text="Kobe lands in Paris!", images=sys.argv[1] + "/picture.png", return_word_offsets=True)
    offsets = [inputs.pop(name) for name in ("word_offsets", "words", "num_truncated_words")][0]
    with torch.no_grad():
        logits = model(**inputs).logits
    print("RESULT", json.dumps({"offsets": offsets[0], "logits": logits.tolist(),
                                "tags": model.decode(logits, inputs["word_mask"])[0]}))
    model.save_pretrained(second)
    processor.save_pretrained(second)
for path in (relations, other):
    model = AutoModelForSequenceClassification.from_pretrained(path, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(path, trust_remote_code=True)
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    inputs = processor(text="Kobe lands in Paris!", images=sys.argv[1] + "/picture.png", head=(0, 4), tail=(14, 19))
    inputs.pop("num_truncated_words", None)
    with torch.no_grad():
        print("RELATION", json.dumps(model(**inputs).logits.tolist()))
    model.save_pretrained(other)
    processor.save_pretrained(other)
# One folder loads with every Auto class, whichever model was saved into it.
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
assert type(model).__name__ == "I2SRMForRelationClassification"
assert "datasets" not in sys.modules
"""


def test_loads_without_the_package_and_survives_a_second_save(tmp_path):
    folder, second, relations, other = (tmp_path / name for name in ("first", "second", "relations", "other"))
    processor = tiny_processor(bert_tokenizer())
    model = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(processor.tokenizer)})).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    picture = Image.linear_gradient("L").convert("RGB")
    picture.save(folder / "picture.png")
    pair_processor = tiny_processor(bert_tokenizer())
    pair_processor.add_entity_markers()
    pair_model = I2SRMForRelationClassification(tiny_config(text={"vocab_size": len(processor.tokenizer)})).eval()
    pair_model.resize_token_embeddings(len(pair_processor.tokenizer))
    pair_model.save_pretrained(relations)
    pair_processor.save_pretrained(relations)
    script = tmp_path / "remote.py"
    script.write_text(REMOTE)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(script), str(folder), str(second), str(relations), str(other)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    results = [json.loads(line.removeprefix("RESULT")) for line in lines]
    inputs = processor(text="Kobe lands in Paris!", images=picture)
    with torch.no_grad():
        logits = model(**inputs).logits
    for result in results:
        torch.testing.assert_close(torch.tensor(result["logits"]), logits)
        assert result["tags"] == model.decode(logits, inputs["word_mask"])[0]
        assert result["offsets"] == [[0, 4], [5, 10], [11, 13], [14, 19], [19, 20]]
    assert len(results) == 2
    inputs = pair_processor(text="Kobe lands in Paris!", images=picture, head=(0, 4), tail=(14, 19))
    inputs.pop("num_truncated_words", None)
    with torch.no_grad():
        logits = pair_model(**inputs).logits
    lines = [line.removeprefix("RELATION") for line in done.stdout.splitlines() if line.startswith("RELATION")]
    assert len(lines) == 2
    for line in lines:
        torch.testing.assert_close(torch.tensor(json.loads(line)), logits)
