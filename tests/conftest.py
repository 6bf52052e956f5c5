"""What the tests share: a tiny spec, runs of it in this process, and the command line."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # for `support`

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # other processes share these cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ENGINE_PRECISION"] = "fp32"  # what `auto` means, so that any machine shows the same
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores
    os.environ["OMP_NUM_THREADS"] = "1"

Spec = dict[str, Any]
COVERED = pytest.StashKey[set[str] | None]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker what only this process knows."""
    node.workerinput["whole"] = _whole(node.config)


def _whole(config: pytest.Config) -> bool:
    """Whether all tests were asked for."""
    told = getattr(config, "workerinput", {}).get("whole")
    if told is not None:
        return bool(told)
    return not config.option.keyword and config.args_source is config.ArgsSource.TESTPATHS


@pytest.hookimpl(trylast=True)  # after -m has taken its own away
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gathers what tests say they cover; None where only a part of the tests was asked for."""
    whole = _whole(config)
    marks = (mark for item in items for mark in item.iter_markers("covers"))
    config.stash[COVERED] = {name for mark in marks for name in mark.args} if whole else None


@pytest.fixture
def covered(pytestconfig: pytest.Config) -> set[str]:
    """Names in the ``covers`` marks of all tests; skips unless all are collected."""
    names = pytestconfig.stash[COVERED]
    if names is None:
        pytest.skip("only where the whole suite is collected")
    return names


Engine = Callable[..., subprocess.CompletedProcess[str]]

_WORDS = "the cat sat on a mat and saw one small grey mouse that ran under two old chairs".split()


@pytest.fixture(scope="session")
def real_rows() -> Callable[..., list[dict[str, Any]]]:
    """Reads a file of real rows; skips where there is none."""
    here = Path(__file__).parents[1]
    folder = Path(os.environ.get("ENGINE_REAL_DATA") or here.parent / "shared" / "data")

    def rows(name: str, limit: int | None = None) -> list[dict[str, Any]]:
        file = folder / f"{name}.jsonl"
        if not file.is_file():
            pytest.skip(f"no real rows: {file} (or set ENGINE_REAL_DATA)")
        lines = file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[:limit]]

    return rows


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 short text files, all different."""
    folder = tmp_path_factory.mktemp("texts")
    for i in range(60):
        words = [_WORDS[(i * k * k + k) % len(_WORDS)] for k in range(1, 40 + i % 7)]
        (folder / f"{i:02d}.txt").write_text(f"{i}: {' '.join(words)}.\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def _tiny(texts: Path) -> Spec:
    return {
        "engine": 1,
        "name": "tiny",
        "seed": 5,
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "files", "paths": [f"{texts}/*.txt"]}],
                    "tokenizer": {"type": "bpe", "vocab_size": 300},
                    "holdout": 0.1,
                }
            },
            "base": {
                "train": {
                    "data": "corpus",
                    "model": {
                        "type": "llama",
                        "hidden_size": 32,
                        "layers": 2,
                        "heads": 2,
                        "context": 32,
                    },
                    "objective": {"type": "next-token"},
                    "optimizer": {"type": "adamw", "lr": 3e-3},
                    "batch": {"tokens": 256},
                    "budget": "6 steps",
                    "evaluate": [{"type": "perplexity"}],
                }
            },
        },
    }


@pytest.fixture
def tiny_spec(_tiny: Spec) -> Spec:
    """A prepare and a train stage that take about a second; change it as you like."""
    return copy.deepcopy(_tiny)


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[[Spec | str], Path]:
    """Writes a spec (data or YAML text) to a file."""

    def write(spec: Spec | str) -> Path:
        text = spec if isinstance(spec, str) else yaml.safe_dump(spec, sort_keys=False)
        file = tmp_path / "spec.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def _run(
    *command: object, status: int | None = 0, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        check=False,
        **{"timeout": 240, **options},
    )
    told = f"{done.stdout}\n{done.stderr}"
    assert status is None or done.returncode == status, told
    assert "Traceback" not in told, told
    return done


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Runs ``engine ARGUMENTS`` in a process of its own; ``status=None`` accepts any.

    No command ever ends in a traceback, so all calls check that.
    """
    return partial(_run, sys.executable, "-m", "engine.cli")


@pytest.fixture(scope="session")
def finished_run(_tiny: Spec, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the tiny spec. Copy it before you change anything in it."""
    runs = tmp_path_factory.mktemp("finished")
    spec = runs / "tiny.yaml"
    spec.write_text(yaml.safe_dump(_tiny), encoding="utf-8")
    engine("run", spec, "--runs", runs)
    return runs / "tiny"


@dataclass(frozen=True)
class Here:
    """A run's folder and what is in it."""

    folder: Path
    status: int

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [e for line in lines if (e := json.loads(line))["event"] == name]

    def steps(self, field: str) -> list[Any]:
        return [e[field] for e in self.events("step")]

    def weights(self, stage: str = "base") -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.folder / stage / "final" / "model.safetensors")

    def card(self) -> dict[str, Any]:
        return json.loads((self.folder / "corpus" / "card.json").read_text(encoding="utf-8"))


@pytest.fixture
def run_here(write_spec, tmp_path, finished_run, capsys) -> Callable[..., Here]:
    """Runs a spec; the tiny corpus is copied unless the spec prepares another one."""

    # Light fixtures must not wait for torch.
    from engine.launch import Process
    from engine.session import run_spec
    from engine.spec import load_spec

    original = yaml.safe_load((finished_run / "spec.yaml").read_text(encoding="utf-8"))

    def run(spec: dict[str, Any], *, runs: str = "runs", **options: Any) -> Here:
        read = {name: options.pop(name, ()) for name in ("overrides", "allow")}
        loaded = load_spec(write_spec(spec), **read)
        folder = tmp_path / runs / loaded.spec.name
        copied = folder / "corpus"
        if _corpus(spec) == _corpus(original) and not copied.exists():
            shutil.copytree(finished_run / "corpus", copied)
        status = run_spec(loaded, tmp_path / runs, Process(), as_json=True, **options)
        capsys.readouterr()
        return Here(folder, status)

    return run


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What makes the process wait for its device in steps of this process: in what a strategy does, and
    where the loop reads the figures."""
    from engine_parallel.replicated import Replicated
    from support.waits import counted_waits, uncounted

    from engine import joint, loop, modules

    found: Counter[str] = Counter()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            with counted_waits(found):
                return function(*arguments, **named)

        return call

    for owner in (Replicated, joint.Joint):
        for name in ("forward_backward", "step"):
            monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    monkeypatch.setattr(loop, "read", counting(loop.read))
    monkeypatch.setattr(modules, "_found_on_host", uncounted(modules._found_on_host))
    return found


def _corpus(spec: dict[str, Any]) -> Any:
    """All that the prepared data depends on."""
    return spec["seed"], spec["stages"].get("corpus")


@pytest.fixture(scope="session")
def guide() -> dict[str, str]:
    """Every file in the plugin author's guide, by path: what it says of one, in reading order."""
    text = (Path(__file__).parents[1] / "contrib" / "README.md").read_text(encoding="utf-8")
    files: dict[str, str] = defaultdict(str)
    for block in re.findall(r"^```(?:python|yaml)\n(.*?)^```$", text, re.S | re.M):
        _, *parts = re.split(r"^# (\S+\.(?:py|yaml))\n", block, flags=re.M)
        for path, code in zip(parts[::2], parts[1::2], strict=True):
            files[path] += code
    return dict(files)


@pytest.fixture
def install_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Mapping[str, str]], None]]:
    """Makes a package ``engine_NAME``, given as files by path, a plugin of this process."""
    packages = []

    def install(files: Mapping[str, str]) -> None:
        package = next(iter(files)).split("/")[0]
        name = package.removeprefix("engine_")
        entry_points = f"[engine.v1]\n{name} = {package}.plugin\n"
        described = f"{package}-1.0.dist-info"
        about = {
            f"{described}/METADATA": f"Metadata-Version: 2.1\nName: engine-{name}\nVersion: 1.0\n",
            f"{described}/entry_points.txt": entry_points,
        }
        for path, text in {**files, **about}.items():
            file = tmp_path / "site" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / "site")
        packages.append(package)

    yield install
    for module in list(sys.modules):
        if module.split(".")[0] in packages:
            del sys.modules[module]


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[Path], Engine]:
    """Installs a project with pip, in an environment that sees this one's packages too.

    Gives a function that runs that environment's Python.
    """

    def install(project: Path) -> Engine:
        environment = tmp_path / "environment"
        _run(sys.executable, "-m", "venv", "--without-pip", environment)
        python = environment / "bin" / "python"
        here = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (next(environment.glob("lib/*/site-packages")) / "here.pth").write_text(here)
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
        pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
        _run(*pip, "install", *offline, project)
        return partial(_run, python)

    return install
