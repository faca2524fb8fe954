"""What our trainer takes from transformers' Trainer beyond its public methods is still there and has not changed."""

import ast
import inspect
import re

import pytest
from transformers import Trainer

from modeling_i2srm import I2SRMTrainer

CLASSES = [owner for owner in I2SRMTrainer.__mro__ if owner.__module__.startswith("modeling_i2srm")]
# Read in transformers 5.24. Where this test fails, read the name's code again, then correct ours and this list.
METHODS = {
    "_get_eval_sampler": ["eval_dataset"],
    "_get_grad_norm": ["model", "grad_norm"],
    "_get_output_dir": ["trial"],
    "_get_train_sampler": ["train_dataset"],
    "_load_best_model": [],
    "_prepare_inputs": ["inputs"],
    "_push_from_checkpoint": ["checkpoint_folder"],
    "_run_epoch": [
        "model",
        "epoch",
        "train_dataloader",
        "steps_in_epoch",
        "num_update_steps_per_epoch",
        "trial",
        "ignore_keys_for_eval",
        "start_time",
        "resume_from_checkpoint",
        "epochs_trained",
        "steps_trained_in_current_epoch",
    ],
    "_save_checkpoint": ["model", "trial"],
}
ATTRIBUTES = {"_globalstep_last_logged", "_tr_loss"}


def private_names_of_trainer() -> set[str]:
    return set(re.findall(r"(?:self\.|def )(_(?!_)\w+)", inspect.getsource(Trainer)))


def private_names_in_use() -> set[str]:
    """The private methods that our classes define, and those that they reach through self or super()."""
    names = set()
    for owner in CLASSES:
        for node in ast.walk(ast.parse(inspect.getsource(owner))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()"):
                names.add(node.attr)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_every_private_name_of_trainer_that_ours_uses_is_listed_and_still_there():
    assert private_names_in_use() & private_names_of_trainer() == {*METHODS, *ATTRIBUTES}


@pytest.mark.parametrize("name", METHODS)
def test_a_private_method_of_trainer_takes_what_ours_expects(name):
    assert list(inspect.signature(getattr(Trainer, name)).parameters)[1:] == METHODS[name]
    for owner in CLASSES:
        if name in vars(owner):
            parameters = list(inspect.signature(vars(owner)[name]).parameters.values())[1:]
            named = [parameter.name for parameter in parameters if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
            passes_rest_on = len(named) < len(parameters)  # *args, **kwargs
            assert named == METHODS[name][: len(named)] and (passes_rest_on or len(named) == len(METHODS[name]))
