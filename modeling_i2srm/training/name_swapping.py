"""Names of entities that change in training, so that a model reads types from context and picture."""

from collections.abc import Mapping, Sequence

import torch

from ..joint_head import words_of_tokens


def swap_names(
    inputs: Mapping[str, torch.Tensor], rate: float, label_names: Sequence[str] = ()
) -> dict[str, torch.Tensor]:
    """Replace the sub-tokens of some entities of a batch by sub-tokens of the batch's entities, drawn one by one.

    A model that sees a name in many posts memorises its type, and looks neither at the words around it nor at the
    picture. Labels and lengths stay as they are.

    Args:
        inputs: a batch with input_ids (B, T) and either labels of words with word_mask, or head_mask and tail_mask.
        rate: the probability that an entity is replaced.
        label_names: of the labels, in BIO.

    Raises:
        ValueError: a batch without entities' places, e.g. of a model that classifies posts.

    Example:

    >>> batch = {"input_ids": torch.tensor([[0, 7, 8, 5]]), "word_mask": torch.tensor([[0, 1, 1, 0]])}
    >>> batch |= {"labels": torch.tensor([[-100, 1, 0, -100]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    >>> swap_names(batch, 1.0, ["O", "B-PER", "I-PER"])["input_ids"]
    tensor([[0, 7, 8, 5]])
    """
    ids = inputs["input_ids"]
    if inputs.get("head_mask") is not None:
        entities = torch.where(inputs["tail_mask"].bool(), 1, torch.where(inputs["head_mask"].bool(), 0, -1))
    elif inputs.get("word_mask") is not None and inputs["labels"].shape == ids.shape:
        entities = entities_of_tags(inputs, label_names)
    else:
        raise ValueError("name_swapping changes the names of entities, and these rows have none: set name_swapping=0")
    names = ids[entities >= 0]
    if not len(names):
        return dict(inputs)
    chosen = torch.rand(len(ids), int(entities.max()) + 1, device=ids.device) < rate
    replaced = (entities >= 0) & chosen.gather(1, entities.clamp(min=0))
    others = names[torch.randint(len(names), ids.shape, device=ids.device)]
    return {**inputs, "input_ids": torch.where(replaced, others, ids)}


def entities_of_tags(inputs: Mapping[str, torch.Tensor], label_names: Sequence[str]) -> torch.Tensor:
    """The number (B, T) of the entity that each sub-token belongs to, from 0; -1 outside of entities."""
    labels, word_mask = inputs["labels"], inputs["word_mask"].bool()
    inside, begins = (
        torch.isin(labels, torch.tensor([i for i, name in enumerate(label_names) if test(name)], device=labels.device))
        for test in (lambda name: name != "O", lambda name: name.startswith("B-"))
    )
    numbers = (begins.cumsum(1) - 1).clamp(min=0).masked_fill(~inside, -1)  # on the first sub-token of each word
    places = torch.arange(labels.shape[1], device=labels.device)
    first = torch.where(word_mask, places, 0).cummax(1).values  # of the word that a sub-token belongs to
    return numbers.gather(1, first).masked_fill(words_of_tokens(word_mask, inputs["attention_mask"]) < 0, -1)


__all__ = ["swap_names"]
