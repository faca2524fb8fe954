"""Options from files and values without an option."""

import json

import pytest

from modeling_i2srm.support.options import OptionParser, program, read_settings


def test_a_file_is_read_first_and_given_options_win(tmp_path):
    settings = {"seed": 1, "do_train": True, "learning_rate": 0.0001, "names": ["a", "b"], "left_out": None}
    settings["text_config"] = {"model_type": "bert"}
    (tmp_path / "s.json").write_text(json.dumps(settings))
    (tmp_path / "s.yaml").write_text(
        "seed: 1\ndo_train: true\nlearning_rate: 1e-4\nnames: [a, b]\nleft_out:\ntext_config:\n  model_type: bert\n"
    )
    words = ["--seed", "1", "--do_train", "true", "--learning_rate", "0.0001", "--names", "a", "b"]
    words += ["--text_config", '{"model_type": "bert"}']
    assert read_settings([f"{tmp_path}/s.json", "--seed", "2"]) == [*words, "--seed", "2"]
    words[5] = "1e-4"  # a text in YAML
    assert read_settings(["--seed", "2", "--config", f"{tmp_path}/s.yaml"]) == [*words, "--seed", "2"]
    assert read_settings(["data/x", "--a"], "--dataset") == ["--dataset", "data/x", "--a"]
    assert read_settings([f"{tmp_path}/s.yaml", "x"], "--dataset") == [*words, "--dataset", "x"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("s.yml", "a: [1", "s.yml is not YAML: "), ("s.yaml", "- 1", "holds [1], expected settings by name")],
)
def test_files_that_are_not_settings_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as error:
        read_settings([str(tmp_path / name)])
    assert words in str(error.value)
    with pytest.raises(ValueError, match="--config needs a file"):
        read_settings(["--config"])


def test_values_without_an_option(capsys):
    parser = OptionParser("some.py")
    parser.add_argument("--input", nargs="+", required=True)
    parser.add_argument("--model")
    parser.take_values("--input")
    assert parser.parse_args(["--model", "m", "a", "b"]).input == ["a", "b"]
    assert parser.parse_args(["--input", "a", "b"]).input == ["a", "b"]
    for words, message in (
        (["--model", "m"], "some.py: the following arguments are required: --input\n"),
        (["a", "--input", "b"], "some.py: a besides --input: give one of them\n"),
        (["a", "--mdel", "b"], "some.py: unrecognized arguments: --mdel b; did you mean --model?\n"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert capsys.readouterr().err == message


def test_messages_begin_with_what_runs(monkeypatch):
    assert program("extract.py") == "extract.py"
    monkeypatch.setattr("sys.argv", ["i2srm extract"])
    assert program("extract.py") == "i2srm extract"
