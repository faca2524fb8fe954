"""The benchmarks of the joint model: both systems are scored on the same graphs, and runs resume."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from random import Random

import pytest
import torch
from tiny import SENTENCES, TAGS, bert_tokenizer, tiny_config, tiny_pipeline, tiny_processor

from benchmarks import joint_runs, joint_speed, joint_text, joint_world
from benchmarks.joint_runs import Graph, Job, Post
from modeling_i2srm import I2SRMForJointExtraction

RELATIONS = ["None", "visits", "knows"]
KINDS = ["PER", "LOC", "ORG", "MISC"]
PER, LOC, ORG = (0, 1, "PER"), (2, 4, "LOC"), (5, 6, "ORG")


def post(*relations):
    return Post(["a"] * 6, Graph([PER, LOC, ORG], list(relations)), {})


def test_triples_are_scored_by_spans_and_label_and_strictly_by_types_too():
    posts = [post((0, 1, "visits"), (1, 0, "knows"), (2, 0, "knows")), post()]
    wrong_type = (2, 4, "ORG")
    graphs = [
        Graph([ORG, PER, wrong_type], [(1, 2, "visits"), (0, 1, "knows"), (2, 1, "visits")]),
        Graph([(0, 2, "PER"), LOC], []),
    ]
    scores = joint_runs.score_graphs(posts, graphs, lost=(2, 4))
    assert [tuple(scores[name][key] for key in ("gold", "found", "right")) for name in scores] == [
        (6 + 2, 5, 3),  # entities
        (3 + 4, 3, 1),  # the tail of "visits" has another type
        (3 + 4, 3, 2),  # "visits" the other way round is another triple
    ]
    assert scores["untyped_triple"] | {"precision": 0} == {
        "precision": 0, "recall": round(2 / 7, 5), "f1": 0.4, "gold": 7, "found": 3, "right": 2
    }  # fmt: skip
    assert joint_runs.score_graphs([post()], [Graph([], [])])["triple"]["f1"] == 0.0


def save(folder, model, processor):
    """Save a model and its processor; return the folder."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


POSTS = [Post(sentence.split(), Graph([], []), {}) for sentence in SENTENCES]


def test_the_joint_model_answers_every_post_with_and_without_coherence(tmp_path, monkeypatch):
    monkeypatch.setattr(joint_runs, "BATCH", 3)
    torch.manual_seed(0)
    types = [["PER", "visits", "LOC"], ["ORG", "knows", "PER"]]
    model = I2SRMForJointExtraction(tiny_config(relation_labels=RELATIONS, relation_types=types))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.joint_head.relation_output.bias.data[1] = 20.0  # each pair visits, if its types may
    folder = save(tmp_path, model, tiny_processor(bert_tokenizer()))
    coherent, incoherent = joint_runs.joint_graphs(folder, POSTS, "cpu", False, (True, False))
    assert len(coherent) == len(incoherent) == len(POSTS) and coherent != incoherent
    allowed = {("PER", "LOC", "visits"), ("ORG", "PER", "knows")}
    triples = [[(g.entities[h][2], g.entities[t][2], label) for g in graphs for h, t, label in g.relations]
               for graphs in (coherent, incoherent)]  # fmt: skip
    assert set(triples[0]) <= allowed and not set(triples[1]) <= allowed


def test_two_models_answer_every_allowed_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(joint_runs, "BATCH", 3)
    posts = POSTS[1:3]
    pipe = tiny_pipeline("entities")
    entities = joint_runs.entity_graphs(save(tmp_path / "ner", pipe.model, pipe.processor), posts, "cpu", False)
    answers = pipe([{"tokens": post.tokens} for post in posts], aggregation_strategy="simple")
    assert [[one["entity_group"] for one in answer] for answer in answers] == [
        [kind for *_, kind in graph.entities] for graph in entities
    ]
    pipe = tiny_pipeline("relations", id2label=dict(enumerate(RELATIONS)))
    mre = save(tmp_path / "mre", pipe.model, pipe.processor)
    graphs = [Graph(post_entities[:3], []) for post_entities, _ in entities]
    every = {(head, tail): {"visits"} for head in KINDS for tail in KINDS}
    related, too_long = joint_runs.related_graphs(mre, posts, graphs, every, "cpu", False)
    assert too_long == 0 and [graph.entities for graph in related] == [graph.entities for graph in graphs]
    pairs = [(n, head, tail) for n in range(len(posts)) for head, tail in permutations(range(3), 2)]
    questions = [
        {
            "tokens": posts[n].tokens,
            "head": graphs[n].entities[head][:2],
            "tail": graphs[n].entities[tail][:2],
        }
        for n, head, tail in pairs
    ]
    scores = [{one["label"]: one["score"] for one in answer} for answer in pipe(questions, top_k=None)]
    expected = [pair for pair, score in zip(pairs, scores, strict=True) if score["visits"] > score["None"]]
    found = [(n, head, tail) for n, graph in enumerate(related) for head, tail, _ in graph.relations]
    assert found == expected and 0 < len(found) < len(pairs)
    assert joint_runs.related_graphs(mre, posts, graphs, {}, "cpu", False)[0] == graphs


def test_runs_resume_and_wait_for_those_that_they_need(tmp_path, capsys):
    calls = []

    def work(name, fail=False):
        calls.append(name)
        if fail and calls.count(name) == 1:
            raise ValueError(f"no {name}")
        return {"value": name}

    jobs = [
        Job("sum", work, {"name": "sum"}, ("b", "a")),
        Job("a", work, {"name": "a"}),
        Job("b", work, {"name": "b", "fail": True}),
    ]
    output = tmp_path / "out/runs.jsonl"
    with ThreadPoolExecutor(1) as pool:
        records = joint_runs.run_jobs(jobs, output, pool, 2)
        assert [record["name"] for record in records] == ["a"] and calls == ["a", "b"]
        assert "not run, since a run that they need failed: sum" in capsys.readouterr().out
        assert json.loads(output.read_text().splitlines()[1]) == {"name": "b", "error": "ValueError('no b')"}
        with pytest.raises(SystemExit, match="2 of 3 runs have no result"):
            joint_runs.stop_on_error(records, jobs)
        records = joint_runs.run_jobs(jobs, output, pool, 2)
    assert [record["value"] for record in records] == ["sum", "a", "b"] and calls == ["a", "b", "b", "sum"]
    assert all(record["seconds"] >= 0 and record["cpu_seconds"] >= 0 for record in records)


def test_the_runs_of_real_text(tmp_path):
    report = {"splits": {"test": {"irregularities": {joint_text.SHORTER: 5, joint_text.LOST: 4}}}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    words = ["--mnre", str(tmp_path), "--text_encoder", "minilm", "--seeds", "1", "2"]
    jobs = joint_text.plan(joint_text.parser.parse_args(words))
    names = ["mnre/mre", "mnre/joint", "mnre/mner", f"mnre/{joint_text.LIGHT}", "gmner/joint", "gmner/mner"]
    names += ["mnre/two models"]
    assert [job.name for job in jobs] == [f"{name}/seed{seed}" for seed in (1, 2) for name in names]
    two = jobs[6]
    assert two.needs == ("mnre/mner/seed1", "mnre/mre/seed1") and two.arguments["ner"].endswith("mnre/mner/seed1")
    assert [job.arguments["lost"] for job in jobs[:7]] == [(5, 4)] * 4 + [(0, 0)] * 2 + [(5, 4)]
    assert jobs[3].arguments["settings"]["relation_loss_weight"] == 1 and jobs[3].arguments["task"] == "joint"
    only = joint_text.plan(joint_text.parser.parse_args([*words, "--only", "gmner/"]))
    assert [job.name for job in only] == [f"gmner/{arm}/seed{seed}" for seed in (1, 2) for arm in ("joint", "mner")]
    trial = joint_text.plan(joint_text.parser.parse_args([*words, "--rows", "16", "--epochs", "1"]))
    assert {job.arguments["lost"] for job in trial} == {(0, 0)}
    assert trial[1].arguments["settings"]["max_predict_samples"] == 16


def test_the_best_trial_of_each_model_is_chosen_by_the_validation_split(tmp_path, monkeypatch):
    assert len({len(trials) for trials in joint_world.TRIALS.values()}) == 1  # as many for each
    records = []
    for task, scores in {"joint": [0.5, 0.9], "mner": [0.7, 0.6]}.items():
        for n, score in enumerate(scores):
            metrics = {"validation": {"strict_f1": score}, "strict_f1": 1 - score}
            record = {"name": f"trial/{task}/{n}", "task": task, "metrics": metrics}
            records.append({**record, "scores": {"triple": {"f1": score}}})
    (tmp_path / "runs.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    monkeypatch.setitem(joint_world.TRIALS, "joint", [{}, {"attn_mixup": False}])
    chosen = joint_world.choose(tmp_path / "runs.jsonl")
    assert chosen == {"joint": {"attn_mixup": False}, "mner": joint_world.TRIALS["mner"][0], "mre": {}}
    (tmp_path / "quickstart.json").write_text("{}")
    options = joint_world.parser.parse_args(["--seeds", "1", "--configs", str(tmp_path)])
    finals = joint_world.final_jobs(options, chosen)
    assert finals[0].arguments["settings"]["attn_mixup"] is False
    assert finals[2].needs == ("final/mner/seed1",)  # a relation model starts from the entity model
    assert finals[2].arguments["settings"]["model_name_or_path"] == finals[1].arguments["folder"]
    assert finals[3].needs == ("final/mre/seed1", "final/mner/seed1")
    assert sum(set(overrides) <= {"negatives"} for overrides in joint_world.ABLATIONS.values()) == 2
    ablations = joint_world.ablation_jobs(options, chosen)
    names = [job.name for job in ablations]
    assert names == [f"ablation/{name}/seed1" for name in joint_world.ABLATIONS if name not in ("no AttnMixup", "KL")]
    assert ablations[-1].arguments["settings"] == {**finals[0].arguments["settings"], "semantic_loss_weight": 0.0}


def test_pairs_without_a_relation_are_left_out_of_the_loss(monkeypatch):
    processor = tiny_processor(bert_tokenizer())
    relations = [{"head": 0, "tail": 1, "label": 1}, {"head": 2, "tail": 0, "label": 0}]
    tags = ["B-PER", "O", "B-LOC", "B-PER"]
    label2id = {tag: i for i, tag in enumerate(TAGS)}
    row = processor.encode_graph("Kobe in Paris Jordan".split(), tags, relations, None, label2id)

    def labels(rule, draw):
        monkeypatch.setattr(draw, "random", iter([0.9, 0.1, 0.9, 0.9]).__next__)
        typed = {("PER", "LOC"), ("LOC", "PER")}
        return processor.pad([joint_world.leave_out_negatives(row, rule, typed, TAGS, draw)])["relation_labels"][0]

    none = -100
    assert labels("typed", Random()).tolist() == [[none, 1, none], [0, none, 0], [0, 0, none]]
    assert labels("half", Random()).tolist() == [[none, 1, 0], [none, none, 0], [0, 0, none]]


def test_the_speed_of_both_systems_on_the_same_entities(capsys):
    rows = joint_speed.measure("tiny", [2], [2, 3], rounds=1)
    assert [(row["batch"], row["entities"], row["pairs"]) for row in rows] == [(2, 2, 2), (2, 3, 6)]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    for row in rows:
        speeds = row["one_posts_per_second"], row["two_posts_per_second"]
        assert min(speeds) > 0 and row["ratio"] == pytest.approx(speeds[0] / speeds[1], rel=0.05)
