"""What a model says about posts is written, corrected by a person, read as data, and trained on."""

import json

from raw_files import jpeg, write
from tiny import SENTENCES, tiny_config, tiny_pipeline

from modeling_i2srm import (
    Extractor,
    I2SRMDataCollator,
    I2SRMForTokenClassification,
    I2SRMTrainer,
    I2SRMTrainingArguments,
)
from modeling_i2srm.data.dataset import encode_split, load_splits
from modeling_i2srm.prepare.posts import main
from modeling_i2srm.training.tasks import MNER


def test_extract_correct_and_train(tmp_path):
    raw = tmp_path / "raw"
    picture = str(write(raw / "7.jpg", jpeg(40, 40)))
    ner = tiny_pipeline("entities")
    posts = [{"id": str(n), "text": text, "image": picture} for n, text in enumerate(SENTENCES[:3])]
    answers = [json.loads(answer.to_json()) for answer in Extractor(ner)([*posts, {"tokens": ["Kobe", "in", "Paris"]}])]
    first = answers[0]["entities"][0]
    first["label"] = "TEAM"  # the correction; the others are accepted
    write(raw / "train.jsonl", "".join(f"{json.dumps(answer)}\n" for answer in answers))

    main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "data")])
    split = load_splits(str(tmp_path / "data"), MNER.text_columns)["train"]
    names = MNER.label_names(split.features, "data")
    [place] = [n for n, tag in enumerate(split[0]["ner_tags"]) if names[tag] == "B-TEAM"]
    assert SENTENCES[0][first["start"] :].startswith(split[0]["tokens"][place])
    assert sum(names[tag].startswith("B-") for tags in split["ner_tags"] for tag in tags) == sum(
        len(answer["entities"]) for answer in answers
    )
    assert [image is not None for image in split["image"]] == [True, True, True, False]

    model = I2SRMForTokenClassification(
        tiny_config(text={"vocab_size": len(ner.processor.tokenizer)}, id2label=dict(enumerate(names)))
    )
    arguments = I2SRMTrainingArguments(
        str(tmp_path / "run"), max_steps=2, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True
    )
    encoded, counts = encode_split(MNER, split, ner.processor, 64, "train")
    trainer = I2SRMTrainer(
        model=model, args=arguments, data_collator=I2SRMDataCollator(ner.processor), train_dataset=encoded
    )
    assert trainer.train().global_step == 2 and counts["posts"] == 4 and counts["labels_lost"] == 0
