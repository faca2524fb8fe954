"""Train, evaluate and predict one label per post: sentiment, hateful or not, topic ...

    accelerate launch examples/run_classification.py examples/configs/quickstart_topics.json
    accelerate launch examples/run_classification.py --dataset data/my_posts --output_dir runs/mine \
        --text_encoder FacebookAI/roberta-large --vision_encoder microsoft/resnet-50 --do_train true

The columns of the data set are text (or tokens, a list of words), label (a ClassLabel), and optionally image and
objects. Arguments come from a JSON file, from the command line, or from both (the command line wins); `--help` lists
them.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.train", "classification")
