"""What a spec may not do by itself, and the words by which its user allows it."""

from __future__ import annotations

import pytest
import yaml

from engine.config import Config
from engine.errors import SpecError
from engine.permissions import Need, Permissions, host_of, is_loopback
from engine.spec import load_spec
from engine.talk import show_rows

pytestmark = pytest.mark.usefixtures("composed_once")

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
        ".rewards.0.key_env: sends $AWS_SECRET_ACCESS_KEY to scores.example; add `--allow "
        "secret=AWS_SECRET_ACCESS_KEY@scores.example` where that may be" in p
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
        "ENGINE_ALLOW: 'all' is none of versions|memory|code|files|network=HOST|secret=NAME@HOST"
    ]


@pytest.mark.parametrize(
    "word",
    ["", "*", "network", "network=", "network=*", "network=https://a", "network=a:80", "secret=A",
     "secret=@a", "secret=A@", "secret=A@*", "secret=*@a", "code=x", "network=a b", "NETWORK=a",
     "network=a\n", "network=1:2"],
)  # fmt: skip
def test_what_is_no_word_is_refused(word):
    """So nobody believes to have allowed something else, or to have allowed less."""
    with pytest.raises(SpecError, match="is none of"):
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
        ValueError, match=r"^(is no plain address|has a user or password)"
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

    told = "sends rows to a.b; add `--allow network=a.b` where that may be"
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
    """In any field, before any other error could show them."""
    rewards = stranger["stages"]["aligned"]["train"]["objective"]["rewards"]
    rewards[0] = {**REWARD, "url": "https://me:hunter2@scores.example/", "timeout": -1}
    stranger["stages"]["corpus"]["prepare"]["sources"][0]["paths"] = ["s3://k:hunter2@b/x"]
    problems = told(stranger)
    assert len(problems) == 2
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
