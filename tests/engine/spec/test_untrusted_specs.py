"""A spec from an untrusted source is harmless, or refused at once in one line."""

from __future__ import annotations

import json
import os

import pytest
import yaml

from engine.errors import EngineError
from engine.spec.loading import load_spec

RECORD = {
    "kind": "generation",
    "summary": "s",
    "rows": {"path": "rows.jsonl"},
    "prompt": "{{ q }}",
    "answer": "{{ a }}",
    "metrics": [{"name": "m"}],
}


def extends(name):
    return lambda spec, folder: {"extends": name}


def linked(spec, folder):
    (folder / "link.yaml").symlink_to("/etc/hostname")
    return {"extends": "link.yaml"}


def piped(spec, folder):
    os.mkfifo(folder / "pipe.yaml")
    return {"extends": "pipe.yaml"}


def endless(spec, folder):
    with (folder / "zero.yaml").open("wb") as file:
        file.truncate(1 << 40)
    return {"extends": "zero.yaml"}


def inside(spec, folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "a.yaml").write_text("extends: ../b.yaml", encoding="utf-8")
    (folder / "b.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return {"extends": "sub/a.yaml"}


def from_inside(spec, folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "a.yaml").write_text("extends: ../../x.yaml", encoding="utf-8")
    return {"extends": "sub/a.yaml"}


def password_below(spec, folder):
    spec["stages"]["corpus"]["prepare"]["sources"][0]["license"] = "x://u:hunter2@h"
    (folder / "b.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return {"extends": "b.yaml", "seed": 3}


def escaped(spec, folder):
    text = 'x: {"https:\\/\\/u:hunter2@h": 1}'
    (folder / "b.yaml").write_text(text, encoding="utf-8")
    return {"extends": "b.yaml"}


def rewarded(**fields):
    def change(spec, folder):
        _objective(spec)["rewards"] = [{"type": "http", **fields}]

    return change


def constrained(spec, folder):
    reward = {"type": "http", "url": "https://evil.example"}
    _objective(spec)["constraints"] = [{"reward": reward, "limit": 1}]


def evaluated(**fields):
    def change(spec, folder):
        spec["stages"]["base"]["train"]["evaluate"] = [fields]

    return change


def watched(**fields):
    def change(spec, folder):
        spec["stages"]["base"]["train"]["callbacks"] = [fields]

    return change


def reading(*paths):
    def change(spec, folder):
        spec["stages"]["corpus"]["prepare"]["sources"][0]["paths"] = list(paths)

    return change


def beside_a_pipe(spec, folder):
    os.mkfifo(folder / "state.json")
    (folder / "a.txt").write_text("a", encoding="utf-8")
    reading(f"{folder}/*.txt")(spec, folder)


def described(text, name="README.md"):
    def change(spec, folder):
        data = folder / "data"
        data.mkdir()
        (data / "a.jsonl").write_text('{"text": "a"}', encoding="utf-8")
        if text is None:
            os.mkfifo(data / name)
        else:
            (data / name).write_text(text, encoding="utf-8")
        source = {"type": "hugging-face", "path": str(data), "records": "text"}
        spec["stages"]["corpus"]["prepare"]["sources"] = [source]

    return change


def named(**source):
    def change(spec, folder):
        spec["stages"]["corpus"]["prepare"]["sources"] = [source]

    return change


def saved(spec, folder):
    state = json.dumps({"_data_files": [{"filename": "../../../etc/hostname"}]})
    (folder / "state.json").write_text(state, encoding="utf-8")
    reading(str(folder))(spec, folder)


def recorded(**fields):
    def change(spec, folder):
        file = folder / "record.yaml"
        file.write_text(yaml.safe_dump({**RECORD, **fields}), encoding="utf-8")
        evaluated(type="benchmark", file=str(file))(spec, folder)

    return change


def deep_record(spec, folder):
    (folder / "record.yaml").write_text("[" * 2000, encoding="utf-8")
    evaluated(type="benchmark", file=str(folder / "record.yaml"))(spec, folder)


def _objective(spec):
    data = {"type": "arithmetic"}
    objective = {"type": "rloo", "rewards": ["length"], "answer_tokens": 8}
    train = {**spec["stages"]["base"]["train"], "data": data, "model": "base", "evaluate": []}
    spec["stages"]["aligned"] = {"train": {**train, "objective": objective}}
    return objective


VALID = None


ADDRESS = "url: is not a plain address"


OUTSIDE, SETTINGS = "takes data from outside the folder", ".huggingface.yaml"


AWAY = "is outside the spec's folder; to allow that, add `--allow files`"


SPECS = {
    "extends a file above": (extends("../x.yaml"), AWAY),
    "extends an absolute path": (extends("/etc/passwd"), AWAY),
    "extends the environment": (extends("/proc/self/environ"), AWAY),
    "extends a device": (extends("/dev/zero"), AWAY),
    "extends a link that leads out": (linked, AWAY),
    "extends a file that extends one above": (from_inside, AWAY),
    "extends a pipe": (piped, "pipe.yaml: cannot be read: is not a regular file"),
    "extends a terabyte": (endless, "zero.yaml: cannot be read: has more than 10,000,000 bytes"),
    "extends up and down inside its folder": (inside, VALID),
    "a password in the file below": (password_below, "b.yaml:"),
    "a password in what it extends": (extends("https://u:hunter2@h/x.yaml"), "with a password"),
    "a password in a field's name": (
        lambda spec, folder: spec.update({"https://u:hunter2@h": 1}), "with a password"
    ),
    "a password by escapes": (escaped, "b.yaml:1: x: an address with a password"),
    "allows itself": (lambda spec, folder: spec.update(allow=["code"]), "allow: unknown field"),
    "another host before a backslash": (rewarded(url="http://evil.example\\@127.0.0.1/"), ADDRESS),
    "another host after a backslash": (rewarded(url="http://127.0.0.1\\@evil.example/"), ADDRESS),
    "another host after a user": (rewarded(url="http://127.0.0.1@evil.example/"), "url: has a user"),
    "a line's end in an address": (rewarded(url="http://127.0.0.1/\nX: y"), ADDRESS),
    "an address that is a file": (rewarded(url="file:///etc/passwd"), "begins with http"),
    "this machine by another number": (rewarded(url="http://2130706433/"), "network=2130706433"),
    "the machine's own clouds": (rewarded(url="http://169.254.169.254/x"), "network=169.254.169.254"),
    "a service here": (rewarded(url="http://localhost:1/x"), VALID),
    "a secret to a service here": (
        rewarded(url="http://[::1]:1/x", key_env="AWS_KEY"), "key_env: sends $AWS_KEY to ::1; to allow "
        "that, add `--allow secret=AWS_KEY@::1`"
    ),
    "a variable that names a host": (rewarded(url="http://a", key_env="A@B"), "takes the name"),
    "a cost from elsewhere": (constrained, "constraints.0.reward.url: sends prompts and answers"),
    "scores from elsewhere": (
        evaluated(type="answer-reward", rewards=[{"type": "http", "url": "http://evil.example"}]),
        "evaluate.0.rewards.0.url: sends",
    ),
    "tasks of its own": (evaluated(type="lm-eval", tasks=["x"], include="."), "--allow code"),
    "programs without a sandbox": (
        evaluated(type="humaneval", allow_unsandboxed=True), "allow_unsandboxed: unknown field"
    ),
    "a tracker that is a word": (watched(type="mlflow", uri="databricks"), "uri: is neither"),
    "a tracker with a query": (watched(type="mlflow", uri="sqlite:///a?b"), "uri: is neither"),
    "a store elsewhere": (watched(type="mlflow", uri="sqlite:////elsewhere/x"), "--allow files"),
    "a record that is a device": (evaluated(type="benchmark", file="/dev/zero"), "not a regular file"),
    "a record nested without end": (deep_record, "record.yaml"),
    "a power in a record": (recorded(prompt="{{ 9**(9**9) }}"), "takes more than 0.5 s"),
    "a way out of a record's template": (recorded(prompt="{{ ''.__class__.__mro__ }}"), VALID),
    "data from a server": (
        described("---\nconfigs: [{data_files: 'https://evil.example/a.jsonl'}]\n---\n"), OUTSIDE
    ),
    "data behind a server's archive": (
        described("configs: [{data_files: [{path: 'zip://a::http://e/b'}]}]", SETTINGS), OUTSIDE
    ),
    "data from the home folder": (
        described("---\nconfigs:\n- data_dir: ../../.ssh\n---\nText."), OUTSIDE
    ),
    "a data set described by a pipe": (described(None, SETTINGS), "is not a regular file"),
    "a saved data set with a file elsewhere": (saved, "is no file of this folder"),
    "a format for a data set": (
        named(type="hugging-face", path="text", revision="abcdef0"), "is a format of files"
    ),
    "data from the folder itself": (
        described("---\nlicense_link: https://a.b/c\nconfigs: [{data_files: a.jsonl}]\n---\n"), VALID
    ),
    "texts that never end": (reading("/dev/zero"), VALID),  # told when it is read
    "a pipe beside the texts": (beside_a_pipe, VALID),
}  # fmt: skip


@pytest.mark.parametrize("attack", SPECS)
def test_a_stranger_s_spec(attack, tiny_spec, tmp_path, quick):
    """Is valid and harmless, or refused in a line, at once; what it must not see is not shown."""
    change, expected = SPECS[attack]
    folder = tmp_path / "spec"
    folder.mkdir()
    (tmp_path / "x.yaml").write_text("hunter2: 1", encoding="utf-8")
    tiny_spec = change(tiny_spec, folder) or tiny_spec
    (folder / "spec.yaml").write_text(yaml.safe_dump(tiny_spec), encoding="utf-8")
    if expected is VALID:
        load_spec(folder / "spec.yaml")
    else:
        with pytest.raises(EngineError) as refused:
            load_spec(folder / "spec.yaml")
        assert expected in str(refused.value)
        assert "hunter2" not in str(refused.value)
