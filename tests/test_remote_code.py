"""A checkpoint loads in a process that has torch, transformers and pillow and nothing else: not this package either."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bare_site import bare_site, run_bare
from hub_server import LFS_SUFFIXES, Blob, HubServer, Repository
from PIL import Image
from tiny import assert_same, bert_tokenizer, tiny_config, tiny_pipeline, tiny_processor
from transformers import pipeline

from modeling_i2srm import I2SRMForRelationClassification, I2SRMForSequenceClassification, I2SRMForTokenClassification

TEXT = "Kobe lands  in\tParis!"
PAIR = {"head": (0, 4), "tail": (15, 20)}

LOADING = """
import json, sys
from importlib.util import find_spec

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers import AutoProcessor, pipeline

ABSENT = "modeling_i2srm", "datasets", "accelerate", "evaluate", "seqeval", "sklearn", "pyarrow", "torchvision", "peft"
assert not [name for name in ABSENT if find_spec(name)]
ner, re, posts, revision, picture, *saves = sys.argv[1:]
remote = {"trust_remote_code": True, **({"revision": revision} if revision else {})}
head, tail = (0, 4), (15, 20)


def answers(ner, re, remote):
    found = []
    config = AutoConfig.from_pretrained(ner, **remote)
    assert type(config).__name__ == "I2SRMConfig"
    assert type(AutoModel.from_pretrained(ner, **remote)).__name__ == "I2SRMModel"
    # One folder loads with every Auto class, whichever model was saved into it.
    other = AutoModelForSequenceClassification.from_pretrained(ner, **remote)
    assert type(other).__name__ == "I2SRMForRelationClassification"
    model = AutoModelForTokenClassification.from_pretrained(ner, **remote)
    processor = AutoProcessor.from_pretrained(ner, **remote)
    assert type(processor.image_processor).__name__.endswith("Pil")
    inputs = processor(text="Kobe lands  in\\tParis!", images=picture)
    pair_model = AutoModelForSequenceClassification.from_pretrained(re, **remote)
    pair_processor = AutoProcessor.from_pretrained(re, **remote)
    assert pair_model.config.text_config.vocab_size == len(pair_processor.tokenizer)
    pair = pair_processor(text="Kobe lands  in\\tParis!", images=picture, head=head, tail=tail)
    with torch.no_grad():
        found += [model(**inputs).logits.tolist(), pair_model(**pair).logits.tolist()]
    post = {"text": "Kobe lands  in\\tParis!", "image": picture}
    tagger = pipeline("multimodal-token-classification", model=ner, **remote)
    named = pipeline(model=ner, **remote)  # the checkpoint knows its task
    found += [tagger(post, aggregation_strategy="none", ignore_labels=[]), named([post, "a"], batch_size=2)]
    relation = pipeline("multimodal-relation-classification", model=re, **remote)
    found.append(relation({**post, "head": head, "tail": tail}, top_k=None))
    return found, (model, processor, pair_model, pair_processor, tagger, relation)


found, (model, processor, pair_model, pair_processor, tagger, relation) = answers(ner, re, remote)
results = [found]
if saves[0] == "hub":  # the remote classes go to the Hub again
    model.push_to_hub("user/ner-again")
    processor.push_to_hub("user/ner-again")
    relation.model.push_to_hub("user/re-again")
    relation.processor.push_to_hub("user/re-again")
    results.append(answers("user/ner-again", "user/re-again", {"trust_remote_code": True})[0])
else:  # and into folders, one part at a time or as pipelines
    for save, parts in zip(saves[::2], [(model, processor), (tagger,)]):
        for part in parts:
            part.save_pretrained(save)
    for save, parts in zip(saves[1::2], [(pair_model, pair_processor), (relation,)]):
        for part in parts:
            part.save_pretrained(save)
    results += [answers(*folders, remote)[0] for folders in zip(saves[::2], saves[1::2])]
if posts:  # labels of posts share an Auto class with relations, and graphs of posts with entities
    for folder, again in ((posts, "posts-again"), ("posts-again", None)):
        classifier = AutoModelForSequenceClassification.from_pretrained(folder, **remote)
        assert type(classifier).__name__ == "I2SRMForSequenceClassification"
        results.append(pipeline(model=folder, **remote)(["Kobe lands", {"text": "a", "image": picture}]))
        if again:
            classifier.save_pretrained(again)
            AutoProcessor.from_pretrained(folder, **remote).save_pretrained(again)
    for folder, again in ((posts.replace("posts", "joint"), "joint-again"), ("joint-again", None)):
        graphs = pipeline(model=folder, **remote)
        assert graphs.task == "multimodal-joint-extraction"
        assert type(graphs.model).__name__ == "I2SRMForJointExtraction"
        post = {"text": "Swan upping : first stop Hermitage Warf", "image": picture, "objects": [picture]}
        results.append(graphs(post))
        if again:
            graphs.save_pretrained(again)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return bare_site(tmp_path_factory.mktemp("bare") / "site", "torch", "transformers", "pillow")


@pytest.fixture(scope="module")
def parts():
    """A tagger and a classifier of pairs, each with its processor."""
    torch.manual_seed(1)
    processor, pair_processor = tiny_processor(bert_tokenizer()), tiny_processor(bert_tokenizer())
    config = {"text": {"vocab_size": len(processor.tokenizer)}}
    model = I2SRMForTokenClassification(tiny_config(**config)).eval()
    pair_model = I2SRMForRelationClassification(tiny_config(**config)).eval()
    pair_processor.add_entity_markers()
    pair_model.resize_token_embeddings(len(pair_processor.tokenizer))
    return model, processor, pair_model, pair_processor


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    return path


@pytest.fixture(scope="module")
def expected(parts, picture) -> list:
    """What the package itself answers."""
    model, processor, pair_model, pair_processor = parts
    with torch.no_grad():
        logits = model(**processor(text=TEXT, images=picture)).logits.tolist()
        pair = pair_model(**pair_processor(text=TEXT, images=picture, **PAIR)).logits.tolist()
    post = {"text": TEXT, "image": str(picture)}
    tagger = pipeline("multimodal-token-classification", model=model, processor=processor)
    relation = pipeline("multimodal-relation-classification", model=pair_model, processor=pair_processor)
    words = tagger(post, aggregation_strategy="none", ignore_labels=[])
    assert [word["start"] for word in words] == [0, 5, 12, 15, 20]
    return [logits, pair, words, [tagger(post), tagger("a")], relation({**post, **PAIR}, top_k=None)]


def load(site, tmp_path, environment, *arguments) -> list:
    script = tmp_path / "loading.py"
    script.write_text(LOADING)
    done = run_bare(site, script, *arguments, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def serve(hub: HubServer, name: str, folder):
    """Put the files of a folder on a Hub."""
    files = {path.name: Blob(path.read_bytes(), path.name.endswith(LFS_SUFFIXES)) for path in folder.iterdir()}
    repository = hub.repositories["model", name] = Repository("model", name, private=False)
    repository.add("main", files, "saved")


def test_a_hub_serves_checkpoints_which_survive_two_ways_of_saving_again(site, tmp_path, parts, picture, expected):
    folders = [tmp_path / name for name in ("ner", "re", "ner-again", "re-again", "ner-third", "re-third")]
    model, processor, pair_model, pair_processor = parts
    for part, folder in zip(parts, (folders[0], folders[0], folders[1], folders[1]), strict=True):
        part.save_pretrained(folder)
    classifier = I2SRMForSequenceClassification(tiny_config(text={"vocab_size": len(processor.tokenizer)}))
    classify = pipeline("multimodal-text-classification", model=classifier, processor=processor)
    classify.save_pretrained(tmp_path / "posts")
    (graphs := tiny_pipeline("joint")).save_pretrained(tmp_path / "joint")
    with HubServer() as hub:
        served = ["user/ner", "user/re", "user/posts", "user/joint"]
        for name in served:
            serve(hub, name, tmp_path / Path(name).name)
        results = load(site, tmp_path, hub.environment(), *served[:3], "", picture, *folders[2:])
        assert hub.unknown_requests == []
    assert len(results) == 7
    for result in results[:3]:
        assert_same(result, expected)
    for result in results[3:5]:
        assert_same(result, classify(["Kobe lands", {"text": "a", "image": str(picture)}]))
    post = {"text": "Swan upping : first stop Hermitage Warf", "image": str(picture), "objects": [str(picture)]}
    graph = graphs(post)
    assert graph["entities"] and graph["relations"]
    for result in results[5:]:
        assert_same(result, graph)
    code = {path.name: path.read_text() for path in folders[0].glob("*.py")}
    for folder in folders[1:]:
        assert {path.name: path.read_text() for path in folder.glob("*.py")} == code


@pytest.mark.slow  # two processes
def test_a_hub_serves_every_revision(site, tmp_path, parts, picture, expected):
    pushing = """
import sys
from modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification, I2SRMProcessor

for model_class, folder, name in (
    (I2SRMForTokenClassification, sys.argv[1], "user/ner"),
    (I2SRMForRelationClassification, sys.argv[2], "user/re"),
):
    model, processor = model_class.from_pretrained(folder), I2SRMProcessor.from_pretrained(folder)
    model.push_to_hub(name)
    processor.push_to_hub(name)
    model.push_to_hub(name, revision="first")
    processor.push_to_hub(name, revision="first")
    for parameter in model.parameters():
        parameter.data.zero_()
    model.push_to_hub(name)  # main changes
"""
    folders = tmp_path / "ner", tmp_path / "re"
    for part, folder in zip(parts, (folders[0], folders[0], folders[1], folders[1]), strict=True):
        part.save_pretrained(folder)
    with HubServer() as hub:
        writer = tmp_path / "pushing.py"
        writer.write_text(pushing)
        done = subprocess.run(
            [sys.executable, str(writer), *map(str, folders)], env=hub.environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        reader = hub.environment(home="reader")
        [first, again] = load(site, tmp_path, reader, "user/ner", "user/re", "", "first", picture, "hub")
        assert_same(first, expected)
        assert_same(again, expected)
        weights = [hub.files("model", "user/ner", name)["model.safetensors"] for name in ("main", "first")]
        assert weights[0] != weights[1] and hub.unknown_requests == []
