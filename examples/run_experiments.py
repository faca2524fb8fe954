"""Run a study: a table, a figure and a significance test of each setting against the full model.

    accelerate launch examples/run_experiments.py STUDY --task mner|mre --dataset DATA --seeds 1 2 3
    accelerate launch examples/run_experiments.py ablation examples/configs/quickstart_mner.json --attn_mixup true \\
        --task mner
    accelerate launch examples/run_experiments.py text_encoder examples/configs/mnre.json --task mre \\
        --settings FOLDER_OR_HUB_ID ANOTHER

`--help` lists all options. The code: modeling_i2srm/cli/run_experiments.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.run_experiments")
