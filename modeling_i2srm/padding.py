"""Encoded rows -> padded tensors."""

import torch

from .checks import IGNORE, check_whole_number

GRAPH_COLUMNS = ("entity_spans", "relation_labels", "region_labels")


def pad_rows(rows: list[dict], pad_token_id: int, pad_to_multiple_of: int | None = None) -> dict[str, torch.Tensor]:
    """Pad rows as `I2SRMProcessor.pad` says; entries whose names begin with `num_` are left out."""
    if not rows:
        raise ValueError('no rows to pad; e.g. processor.pad([processor.encode_tokens(["Kobe", "lands"])])')
    if pad_to_multiple_of is not None:
        check_whole_number("pad_to_multiple_of", pad_to_multiple_of, 1)
    for name, what in (("head_mask", "head and tail"), ("word_mask", "words to be tagged")):
        if len({name in row for row in rows}) == 2:
            raise ValueError(f"rows with and without {what} are mixed; give a batch rows of one kind")
    graphs = pad_graphs(rows) if any("entity_spans" in row for row in rows) else {}
    padding = {"input_ids": pad_token_id, "labels": IGNORE}
    one_label = "word_mask" not in rows[0]
    if any("labels" in row for row in rows):
        rows = [{**row, "labels": row.get("labels", IGNORE if one_label else [])} for row in rows]
    length = max(len(row["input_ids"]) for row in rows)
    if pad_to_multiple_of:
        length = -(-length // pad_to_multiple_of) * pad_to_multiple_of
    padded = {
        name: torch.tensor(
            [row[name] for row in rows]
            if one_label and name == "labels"
            else [[*row[name], *[padding.get(name, 0)] * (length - len(row[name]))] for row in rows]
        )
        for name in rows[0]
        if name not in GRAPH_COLUMNS and not name.startswith("num_")
    }
    return padded | graphs


def pad_graphs(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Pad the graphs of rows; a row without one has no entities.

    Args:
        rows: each with the lists of `RowGraph.to_lists`.

    Returns:
        entity_spans (B, E, 2), -1 = padding; relation_labels (B, E, E), 0 = no relation, -100 = padding, not annotated
        or an entity with itself; region_labels (B, E), -100 = padding or not annotated. E is at least 1.
    """
    graphs = [[row.get(name) for name in GRAPH_COLUMNS] for row in rows]
    count = max(1, *(len(spans or ()) for spans, _, _ in graphs))
    entity_spans = torch.full((len(rows), count, 2), -1)
    relation_labels = torch.full((len(rows), count, count), IGNORE)
    region_labels = torch.full((len(rows), count), IGNORE)
    for i, (spans, relations, regions) in enumerate(graphs):
        size = len(spans or ())
        if not size:
            continue
        entity_spans[i, :size] = torch.tensor(spans)
        if relations is not None:
            relation_labels[i, :size, :size] = 0
            relation_labels[i].fill_diagonal_(IGNORE)
            for head, tail, label in relations:
                relation_labels[i, head, tail] = label
        if regions is not None:
            region_labels[i, :size] = torch.tensor(regions)
    return dict(zip(GRAPH_COLUMNS, (entity_spans, relation_labels, region_labels), strict=True))


__all__ = ["GRAPH_COLUMNS", "pad_graphs", "pad_rows"]
