"""The yardstick of docs/measured/results.md: a plain transformers AutoModelForTokenClassification on the same data.

    python benchmarks/plain_ner.py --dataset data/twitter2015 --text_encoder DIR --output_dir runs/plain --seed 1

Same encoder, tokens, truncation, epochs, batch size, optimiser and metrics as `examples/run_mner.py`; words are tagged
on their first sub-token, each on its own (argmax). Writes results.json with the metrics of both splits.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from modeling_i2srm import I2SRMProcessor
from modeling_i2srm.data.dataset import encode_split, load_splits
from modeling_i2srm.training.metrics import MNERMetric, tag_sequences
from modeling_i2srm.training.tasks import MNER

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--dataset", required=True)
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--output_dir", required=True)
parser.add_argument("--max_length", type=int, default=128)
parser.add_argument("--num_train_epochs", type=float, default=3)
parser.add_argument("--per_device_train_batch_size", type=int, default=16)
parser.add_argument("--learning_rate", type=float, default=1e-4)
parser.add_argument("--seed", type=int, default=1)


def main():
    arguments = parser.parse_args()
    started = time.perf_counter()
    set_seed(arguments.seed)
    splits = load_splits(arguments.dataset, MNER.text_columns)
    names = MNER.label_names(splits["train"].features, arguments.dataset)
    tokenizer = AutoTokenizer.from_pretrained(arguments.text_encoder)
    processor = I2SRMProcessor.from_encoders(arguments.text_encoder)
    columns = ["input_ids", "attention_mask", "labels"]
    encoded = {
        name: encode_split(MNER, split, processor, arguments.max_length, name)[0].select_columns(columns)
        for name, split in splits.items()
    }
    model = AutoModelForTokenClassification.from_pretrained(arguments.text_encoder, num_labels=len(names))
    metric = MNERMetric(keep_in_memory=True)

    def compute_metrics(prediction):
        predicted, gold = tag_sequences(np.argmax(prediction.predictions, -1), prediction.label_ids, names)
        return metric.compute(predictions=predicted, references=gold)

    trainer = Trainer(
        model,
        TrainingArguments(
            arguments.output_dir,
            num_train_epochs=arguments.num_train_epochs,
            per_device_train_batch_size=arguments.per_device_train_batch_size,
            per_device_eval_batch_size=32,
            learning_rate=arguments.learning_rate,
            weight_decay=0.01,
            warmup_steps=0.01,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="lenient_f1",
            seed=arguments.seed,
            report_to="none",
        ),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        compute_metrics=compute_metrics,
    )
    trainer.train()
    results = {
        name: trainer.evaluate(encoded[split], metric_key_prefix=name)
        for name, split in (("validation", "validation"), ("test", "test"))
    }
    results = {
        name: {key.removeprefix(f"{name}_"): value for key, value in values.items()} for name, values in results.items()
    }
    results["seconds"] = round(time.perf_counter() - started, 1)
    Path(arguments.output_dir, "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for name in ("validation", "test"):
        print(name, {k: round(100 * v, 2) for k, v in results[name].items() if k in ("lenient_f1", "strict_f1")})


if __name__ == "__main__":
    main()
