"""A model's card: what the Hub reads in it, what a person reads, and what no text can make of it."""

from __future__ import annotations

import json
import math
import re

import pytest
import yaml
from engine_tools.card import _score_table, escaped
from engine_tools.card_metadata import metadata
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index
from markdown_it import MarkdownIt

from engine import cleaned

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
SCORE = {"evaluator": "gsm8k", "metric": "exact_match", "value": 0.25, "stderr": 0.1, "n": 9}


def block(licences=(), scores=(), *, name="tiny-base", config=CONFIG, **fields):
    fields = {"base_model": None, "datasets": (), "tags": (), **fields}
    return ModelCard(metadata(name, config, licences, list(scores), **fields)).data


@pytest.fixture
def card_of(tiny_spec, run_here, command, tmp_path):
    """A function that runs the tiny spec, with what a test changes, and gives the card's file."""

    def card(sources=None, **stages):
        if sources is not None:
            tiny_spec["stages"]["corpus"]["prepare"]["sources"] = sources
        tiny_spec["stages"] |= stages
        folder = run_here(tiny_spec).folder
        file = tmp_path / "out" / "README.md"
        assert command("export", folder / "base", file.parent, "--card") == (
            f"{file}: the card\n",
            "",
        )
        return file

    return card


def test_a_card_alone(card_of, command, tmp_path):
    """Has valid metadata, whose scores come back, and scores of evaluate stages with their intervals;
    it is not written over one that is there."""
    named = [{"type": "perplexity"}]
    file = card_of(scores={"evaluate": {"models": ["base"], "data": "corpus", "evaluators": named}})
    assert [path.name for path in file.parent.iterdir()] == ["README.md"]
    text = file.read_text(encoding="utf-8")
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.tags == ["training-engine", "next-token"]
    assert data.license is None  # the texts name none
    found = {(r.dataset_name, r.metric_type): r.metric_value for r in data.eval_results}
    assert found.keys() == {("perplexity", "perplexity"), ("perplexity", "bits_per_byte")}
    assert (
        eval_results_to_model_index(data.model_name, data.eval_results)
        == (metadata_load(file)["model-index"])
    )
    for part in (
        r"# tiny / base\n\nA llama model of [0-9,]+ parameters, trained from random weights with the "
        r"objective next-token: 1,536 tokens in 6 steps\.",
        r"\| model FLOPs \| [0-9.]+e\+0[0-9] \|\n\| executed FLOPs \| ",
        r"\| base \| perplexity \| perplexity \| ([0-9.]+) \| [0-9.]+ to [0-9.]+ \| 10 \|\n(.+\n)+"
        r"\| scores \| perplexity \| perplexity \| \1 \| [0-9.]+ to [0-9.]+ \| 10 \|",
        r"\| base \| files \| 50 \| 9,[0-9]+ \| [0-9,]+ \| unknown \|",
        r"There is no record of a search for items of benchmarks in the documents\.",
        r"AutoModelForCausalLM\.from_pretrained\(",
        r"\| torch \| [0-9]",
        r"```yaml\nengine: 1\n",
    ):
        assert re.search(part, text), part
    _, err = command("export", file.parents[1] / "runs/tiny/base", file.parent, "--card", status=1)
    assert err == f"error: {file}: is there already; move it away\n"
    assert file.read_text(encoding="utf-8") == text


ATTACK = "x|y <script>alert(1)</script>\n---\n# [a](http://b) ``` \x1b[2J"


def test_texts_of_the_data_are_text_in_a_card(card_of, texts):
    """A licence that is Markdown, HTML, YAML and a terminal's command at once."""
    source = {"type": "files", "paths": [f"{texts}/*.txt"], "license": ATTACK}
    text = card_of([source]).read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.license == "other"
    assert re.fullmatch("[a-z0-9.-]+", card.data.license_name)
    assert "\x1b" not in text
    body, spec = card.text.split("\n## Spec\n")
    assert "<script" not in re.sub(r"\\.", "", body)
    assert "\n# [" not in body
    (row,) = [line for line in body.split("\n") if line.startswith("| base | files |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    fence = re.match("\n(`{4,})yaml\n", spec)[1]
    lines = spec.strip().split("\n")
    assert [n for n, line in enumerate(lines) if line.startswith(fence)] == [0, len(lines) - 1]
    assert yaml.safe_load("\n".join(lines[1:-1]))["name"] == "tiny"


@pytest.mark.parametrize(
    ("licences", "told"),
    [
        ({"CC-BY-4.0"}, ("cc-by-4.0", None)),
        ({"Apache-2.0"}, ("apache-2.0", None)),
        ({"GPL-3.0-or-later", "GPL-3.0-only"}, ("gpl-3.0", None)),
        ({"PSF-2.0"}, ("other", "psf-2.0")),
        ({"///"}, ("other", "other")),
        ({"MIT", "Apache-2.0"}, (None, None)),
        ({"MIT", "unknown"}, (None, None)),
        ({"unknown"}, (None, None)),
        ((), (None, None)),
        (None, (None, None)),
    ],
)
def test_the_licence_where_it_is_one(licences, told):
    """By the Hub's identifier; several, and unknown ones, are left out."""
    data = block(licences)
    assert (data.license, data.license_name) == told
    assert block(licences, base_model="org/model").license is None


def test_where_a_model_comes_from():
    """Names on the Hub are links there; folders are nobody else's."""
    data = block(
        base_model="org/model-1.5", datasets=["org/data", "/home/me/data", "./data", "a/b/c"]
    )
    assert (data.base_model, data.base_model_relation) == ("org/model-1.5", "finetune")
    assert data.datasets == ["org/data"]
    assert block(base_model="/home/me/model").base_model is None


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForSequenceClassification", "text-classification"),
        ("Other", None),
    ],
)
def test_the_task_of_an_architecture(architecture, task):
    """Is the one that the Hub offers for it, if any."""
    assert block(config={"architectures": [architecture]}).pipeline_tag == task
    assert block(config={}).pipeline_tag is None


def test_scores_in_the_metadata():
    """Of a score of several stages the last; none that is not finite; names that the Hub accepts."""
    scores = [SCORE, {**SCORE, "value": 0.5}, {**SCORE, "metric": "nats", "value": math.inf}]
    data = block(scores=[*scores, {**SCORE, "evaluator": None, "metric": "a b\n---\n<c>"}])
    assert [(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results] == [
        ("gsm8k", "exact_match", 0.5),
        ("a-b-c-", "a-b-c-", 0.25),
    ]


@pytest.mark.parametrize("name", [ATTACK, "---", "a: b", "- x", "{}", "é 中", "x\u2028y"])
def test_any_name_is_a_text_in_the_metadata(name):
    """And ends no block."""
    data = block(name=name, scores=[SCORE], tags=[name])
    assert data.tags[1] == data.model_name == " ".join(cleaned(name).split())


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("a|b\n# c", r"a\|b # c"),
        ("<script>", r"\<script\>"),
        ("[x](y) `z`", r"\[x\](y) \`z\`"),
        ("bits_per_byte", "bits_per_byte"),
        ("\x1b[2J", r"\\x1b\[2J"),
    ],
)
def test_texts_are_text_in_markdown(text, cell):
    """A row brings its own, and a card is Markdown that others show."""
    assert escaped(text) == cell


@pytest.mark.parametrize(
    "text",
    [
        "__x__ _y_ **z** a_b_",
        "~~x~~",
        "[links](http://a.b) ![i](c) [d]: e",
        "<b>x</b> <!-- y --> &amp; &#64;",
        "<http://a.b> http://a.b www.a.b ftp://c mailto:d@e.f",
        "@me x@y.z #1 org/name#22 GH-3",
        r"\_ \* \\ ` `` $x$",
    ],
)
def test_a_page_shows_a_text_as_it_is(text):
    """No emphasis, link, code or HTML of it; and nothing that a site makes a link of by itself."""
    rendered = MarkdownIt("gfm-like", {"linkify": False}).parse(
        f"| a |\n| --- |\n| {escaped(text)} |"
    )
    (cell,) = [token for token in rendered if token.type == "inline"][1:]
    assert {token.type for token in cell.children} == {"text"} | (
        {token.type for token in cell.children} & {"text_special"}
    )
    shown = "".join(token.content for token in cell.children)
    assert shown.replace("\u2060", "") == text
    assert not re.search(r"://|www\.|@\w|#\d|GH-\d|mailto:\w", shown)


def test_a_training_that_ended_early_or_diverged(tiny_spec, card_of, command, tmp_path):
    """Is told to have; its FLOPs are those of the steps that it took."""
    train = tiny_spec["stages"]["base"]["train"]
    train["evaluate"] = [{"type": "perplexity", "every": "2 steps", "limit": 2}]
    stop = {"type": "early-stop", "metric": "bits_per_byte", "patience": 1, "min_delta": 1e9}
    train |= {"budget": "40 steps", "callbacks": [stop]}
    run = card_of().parents[1] / "runs" / "tiny"
    log = run / "events.jsonl"
    events = list(map(json.loads, log.read_text(encoding="utf-8").splitlines()))
    for event in events:
        if event["event"] == "step" and event["step"] > 3:
            event["loss"] = None
        if event["event"] == "ended_early":
            event["reason"] = "no <b>better</b>"
    log.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    command("export", run / "base", tmp_path / "again", "--card")
    text = (tmp_path / "again" / "README.md").read_text(encoding="utf-8")
    assert "\nIt ended before its budget was spent: no \\<b\\>better\\</b\\>.\n" in text
    assert "\nThe loss is not finite since step 4: the training has diverged.\n" in text
    (planned,) = (event["flops"] for event in events if event["event"] == "training")
    assert float(re.search(r"model FLOPs \| (\S+) \|", text)[1]) == pytest.approx(
        planned * 4 / 40, rel=0.01
    )


def test_scores_that_are_not_finite():
    """Stand in the table as such, and not in the metadata, as a null or as a number."""
    for value in (None, math.nan, math.inf):
        score = {"stage": "base", **SCORE, "value": value}
        assert list(_score_table([score]))[2:] == [
            "| base | gsm8k | exact_match | not finite |  | 9 |"
        ]
        assert block(scores=[score]).eval_results is None
