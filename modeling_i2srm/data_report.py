"""What the script that made a data set has to say about it: its edition, its crops, its warnings."""

import json
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

SAID = {"edition": str, "objects": str, "warnings": list}


def read_data_report(dataset: str) -> dict:
    """Read what the report.json of a data set says that belongs beside every result.

    Args:
        dataset: a folder or a data set on the Hub, as for `datasets.load_dataset`.

    Returns:
        a dict with those of edition, objects and warnings (a list of sentences) that are there; empty for data without
        a report, and for one on the Hub that cannot be reached.
    """
    path = Path(dataset) / "report.json"
    if not Path(dataset).exists():
        try:
            path = Path(hf_hub_download(dataset, "report.json", repo_type="dataset"))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
            return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(report, dict):
        return {}
    return {name: report[name] for name, type in SAID.items() if isinstance(report.get(name), type) and report[name]}


__all__ = ["read_data_report"]
