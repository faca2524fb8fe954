"""Extract entities and relations from corpora, on any number of processes; interrupted runs can be resumed.

    accelerate launch examples/extract.py --input data/visual_posts --output out --model runs/quickstart
    accelerate launch examples/extract.py --input posts.jsonl --output out --ner NER_MODEL --re RELATION_MODEL
    torchrun --nproc_per_node 2 examples/extract.py settings.json --use_cpu true         # two processes on the CPU

`--help` lists all options. The code: modeling_i2srm/cli/extract.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.extract")
