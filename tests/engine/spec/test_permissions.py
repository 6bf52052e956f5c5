"""What a spec may not do by itself, and the words by which its user allows it."""

from __future__ import annotations

import json

import pytest
import yaml
from engine_tools.rows import show_rows

from engine.contracts.config import Config, Need
from engine.errors import SpecError
from engine.spec.loading import load_spec
from engine.spec.permissions import Permissions, host_of, is_loopback

REWARD = {"type": "http", "url": "https://Scores.Example/s", "key_env": "AWS_SECRET_ACCESS_KEY"}


@pytest.fixture
def stranger(tiny_spec):
    """A spec that wants all that needs a word."""
    train = tiny_spec["stages"]["base"]["train"]
    train["callbacks"] = [
        {"type": "wandb", "mode": "online"},
        {"type": "mlflow", "uri": "http://tracker.example:5000/x"},
    ]
    train["evaluate"] = [{"type": "lm-eval", "tasks": ["own"], "include": "/"}]
    tokens = {
        "type": "hugging-face",
        "path": "some/one",
        "revision": "1" * 40,
        "token_env": "HF_TOKEN",
    }
    prompts = {**tokens, "records": "prompt"}
    objective = {"type": "grpo", "rewards": [REWARD]}
    aligned = {**train, "model": "base", "objective": objective, "data": prompts}
    tiny_spec["stages"]["aligned"] = {"train": {**aligned, "callbacks": [], "evaluate": []}}
    return tiny_spec


WORDS = [
    "network=api.wandb.ai",
    "secret=WANDB_API_KEY@api.wandb.ai",
    "network=tracker.example",
    "secret=MLFLOW_TRACKING_TOKEN@tracker.example",
    "code",
    "secret=HF_TOKEN@huggingface.co",
    "network=scores.example",
    "secret=AWS_SECRET_ACCESS_KEY@scores.example",
]


def test_everything_is_refused_in_one_pass_with_the_word_for_it(
    stranger, told, write_spec, monkeypatch
):
    """By line, field and flag; all of the flags together are what it takes."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    problems = [p for p in told(stranger) if "--allow" in p]
    found = {p.partition("--allow ")[2].split("`")[0] for p in problems}
    assert found == set(WORDS)
    assert all(p.startswith("spec.yaml:") for p in problems)
    assert any(
        ".rewards.0.key_env: sends $AWS_SECRET_ACCESS_KEY to scores.example; to allow that, "
        "add `--allow secret=AWS_SECRET_ACCESS_KEY@scores.example`" in p
        for p in problems
    )
    load_spec(write_spec(stranger), allow=WORDS)


def test_the_environment_holds_the_same_words(stranger, told, write_spec, monkeypatch):
    """Parted by blanks or commas; a wrong one is named."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    monkeypatch.setenv("ENGINE_ALLOW", f"{WORDS[0]}, {' '.join(WORDS[1:])}\n")
    load_spec(write_spec(stranger))
    monkeypatch.setenv("ENGINE_ALLOW", "all versions")
    assert told(stranger) == [
        "ENGINE_ALLOW: 'all' is not one of versions|memory|code|files|network=HOST|secret=NAME@HOST; "
        "HOST is a name or an address without a port"
    ]


@pytest.mark.parametrize(
    "word",
    ["", "*", "network", "network=", "network=*", "network=https://a", "network=a:80", "secret=A",
     "secret=@a", "secret=A@", "secret=A@*", "secret=*@a", "code=x", "network=a b", "NETWORK=a",
     "network=a\n", "network=1:2"],
)  # fmt: skip
def test_what_is_no_word_is_refused(word):
    """So nobody believes to have allowed something else, or to have allowed less."""
    with pytest.raises(SpecError, match="is not one of"):
        Permissions.given([word])


def test_a_word_allows_what_it_says_and_no_more():
    """Hosts have no capitals; a host allows none below it, a variable goes to its host only."""
    given = Permissions.given(["network=Example.org", "secret=KEY@a.b", "network=2001:DB8::1"])
    assert given.allows("network=example.org")
    assert given.allows("network=2001:db8::1")
    assert given.allows("secret=KEY@A.b")
    for other in ("network=www.example.org", "network=org", "secret=KEY@example.org", "code",
                  "secret=key@a.b", "network=a.b", "files", "versions"):  # fmt: skip
        assert not given.allows(other)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:80/x?y#z", "127.0.0.1"),
        ("https://A.B", "a.b"),
        ("http://[::1]:8000/", "::1"),
        ("HTTP://under_score.x/", "under_score.x"),
        *[(url, None) for url in (
            "http://user@a.b/", "http://user:secret@a.b/", "http://a.b\\@127.0.0.1/",
            "http://127.0.0.1\\@a.b/", "http://127.0.0.1#@a.b:80@c/ x", "http://a.b /", "//a.b/",
            "http:///a.b", "http://a.b:80:90/", "http://\uff41.b/", "http://a%2eb/", "http://a.b/\n",
            "http://a.\u212a/", "http://\u017f.b/",
            "http://a.b/é", "http://[::1", "http://", "http:a.b", "http://-/", "http://a.b:x/",
        )],
    ],
)  # fmt: skip
def test_the_host_of_an_address(url, host):
    """Is what every library takes for it: where two might differ, the address is refused, unquoted."""
    if host is not None:
        assert host_of(url) == host
        return
    with pytest.raises(
        ValueError, match=r"^(is not a plain address|has a user or password)"
    ) as refused:
        host_of(url)
    assert "secret" not in str(refused.value).replace("secrets come", "")


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
     ("0.0.0.0", False), ("2130706433", False), ("127.1", False), ("0x7f.0.0.1", False),
     ("localhost.evil.org", False), ("127.0.0.1.nip.io", False), ("10.0.0.1", False),
     ("169.254.169.254", False), ("::ffff:10.0.0.1", False)],
)  # fmt: skip
def test_only_what_is_certainly_this_machine_is_loopback(host, here):
    """Whatever else may be it needs a word."""
    assert is_loopback(host) is here


def test_a_component_s_own_needs_reach_its_user():
    """A plugin declares them in its configuration."""

    class Mine(Config):
        def needs(self):
            return [Need("server", "sends rows to a.b", "network=a.b")]

    told = "sends rows to a.b; to allow that, add `--allow network=a.b`"
    assert list(Permissions().refusals(Mine().needs())) == [("server", told)]
    assert list(Permissions.given(["network=a.b"]).refusals(Mine().needs())) == []


def test_what_was_not_allowed_is_not_built_either(tiny_spec, run_here):
    """A run's folder that came from a stranger does no more than a spec, whatever looks into it."""
    token = {
        "type": "hugging-face",
        "path": "some/one",
        "revision": "1" * 40,
        "token_env": "HF_TOKEN",
    }
    run = run_here(tiny_spec)
    resolved = run.folder / "resolved.yaml"
    spec = yaml.safe_load(resolved.read_text(encoding="utf-8"))
    model = {"type": "pretrained", "path": str(run.folder / "base" / "final")}
    changed = {"data": token, "objective": {"type": "sft"}, "model": model}
    spec["stages"]["base"]["train"] |= changed
    resolved.write_text(yaml.safe_dump(spec), encoding="utf-8")
    with pytest.raises(SpecError, match=r"--allow secret=HF_TOKEN@huggingface\.co"):
        show_rows(run.folder / "base", 1, 0, as_json=False)


def test_passwords_in_addresses_are_refused_and_not_repeated(stranger, told):
    """In any field, as any name of one, before any other error could show them."""
    rewards = stranger["stages"]["aligned"]["train"]["objective"]["rewards"]
    rewards[0] = {**REWARD, "url": "https://me:hunter2@scores.example/", "timeout": -1}
    stranger["stages"]["corpus"]["prepare"]["sources"][0]["paths"] = ["s3://k:hunter2@b/x"]
    stranger["stages"]["ftp://k:hunter2@b"] = {}
    problems = told(stranger)
    assert len(problems) == 3
    assert all("an address with a password in it" in problem for problem in problems)
    assert "hunter2" not in "".join(problems)


def test_what_a_valid_spec_reads_elsewhere_is_listed(tiny_spec, write_spec, tmp_path, texts):
    """Links followed, each file once, or folders with counts; what lies beside it is not."""
    (tmp_path / "own.txt").write_text("own", encoding="utf-8")
    (tmp_path / "link.txt").symlink_to(texts / "00.txt")
    source = tiny_spec["stages"]["corpus"]["prepare"]["sources"][0]
    source["paths"] = [f"{tmp_path}/*.txt"]
    assert load_spec(write_spec(tiny_spec)).outside() == [str(texts / "00.txt")]
    source["paths"] += [f"{texts}/0[0-4].txt"]
    assert load_spec(write_spec(tiny_spec)).outside() == [
        str(texts / f"0{i}.txt") for i in range(5)
    ]
    source["paths"] += [f"{texts}/*"]
    assert load_spec(write_spec(tiny_spec)).outside() == [f"{texts}: 60 files"]


def test_links_in_a_folder_that_is_named_are_listed(tiny_spec, write_spec, tmp_path, texts):
    """A model's, a data set's and a benchmark's folder may lie beside the spec and lead elsewhere."""
    for place in ("set/part", "model"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "set" / "part" / "train.txt").symlink_to(texts / "00.txt")
    (tmp_path / "model" / "deep").symlink_to(texts)
    (tmp_path / "model" / "own").symlink_to(tmp_path / "set")
    (tmp_path / "model" / "itself").symlink_to("itself")
    source = {"type": "hugging-face", "path": str(tmp_path / "set")}
    rows = {"type": "hellaswag", "rows": str(tmp_path / "model")}
    tiny_spec["stages"]["corpus"]["prepare"]["sources"] = [source]
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [rows]
    found = load_spec(write_spec(tiny_spec)).outside()
    assert found == [str(texts), str(texts / "00.txt")]


def test_a_file_of_a_saved_data_set_lists_the_others(tiny_spec, write_spec, tmp_path, texts):
    """They are what is read."""
    (tmp_path / "set").mkdir()
    state = {"_data_files": [{"filename": "a.arrow"}]}
    (tmp_path / "set" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (tmp_path / "set" / "a.arrow").symlink_to(texts / "00.txt")
    source = tiny_spec["stages"]["corpus"]["prepare"]["sources"][0]
    source |= {"paths": [str(tmp_path / "set" / "state*")], "records": "text"}
    assert load_spec(write_spec(tiny_spec)).outside() == [str(texts / "00.txt")]


def test_a_file_that_is_named_is_listed_whatever_else_is(tiny_spec, write_spec, tmp_path, texts):
    """A glob over many folders hides none."""
    away = [tmp_path / "away" / str(n) / "x.txt" for n in range(11)]
    for file in away:
        file.parent.mkdir(parents=True)
        file.write_text("x", encoding="utf-8")
    source = tiny_spec["stages"]["corpus"]["prepare"]["sources"][0]
    source["paths"] = [f"{tmp_path}/away/*/x.txt", str(texts / "00.txt")]
    (tmp_path / "own").mkdir()
    file = tmp_path / "own" / "spec.yaml"
    file.write_text(yaml.safe_dump(tiny_spec), encoding="utf-8")
    assert load_spec(file).outside() == [str(texts / "00.txt"), f"{tmp_path}/away: 11 files"]
