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
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import runs
from support.golden import Golden
from support.warm import READ_AT_IMPORT, Warm

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # other processes share these cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ENGINE_PRECISION"] = "fp32"  # what `auto` means, so that any machine shows the same
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores
    os.environ["OMP_NUM_THREADS"] = "1"

Spec = dict[str, Any]
COVERED = pytest.StashKey[set[str] | None]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of golden files: this machine's own are equal to the bit."""
    group = parser.getgroup("golden files")
    group.addoption("--golden", type=Path, metavar="FOLDER", help="compare to the bit with FOLDER")
    group.addoption("--write-golden", type=Path, metavar="FOLDER", help="write to FOLDER")


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Golden:
    """Compares what a test found with a golden file."""
    if written := pytestconfig.getoption("write_golden"):
        return Golden(written.resolve(), write=True)
    own = pytestconfig.getoption("golden")
    return Golden(own.resolve(), exact=True) if own else Golden()


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
    """Gathers what tests say they cover; None where only a part of the tests was asked for.

    The longest files come first, so that no process has to wait for another's last.
    """
    items.sort(key=lambda item: item.path.parent.name != "specs")
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


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    """Finds the plugins and composes their models once for all specs: half of what a tiny run takes.

    Both depend on what is installed alone, so on the path where Python looks for it.
    """
    from engine.registry import Plugins
    from engine.spec import loading as spec

    original, select = Plugins.discover, cache(Plugins.selected)
    discover = cache(lambda path, blocked: original(blocked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Plugins, "discover", lambda blocked=(): discover(tuple(sys.path), tuple(blocked))
        )
        patch.setattr(Plugins, "selected", lambda self, names: select(self, tuple(names)))
        patch.setattr(spec, "spec_class", cache(spec.spec_class))
        yield


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Takes back what ``engine.cli.main`` sets for its process, which is this one in many tests."""
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


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
    return _checked(done, status)


def _checked(
    done: subprocess.CompletedProcess[str], status: int | None
) -> subprocess.CompletedProcess[str]:
    told = f"{done.stdout}\n{done.stderr}"
    assert status is None or done.returncode == status, told
    assert "Traceback" not in told, told
    return done


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Starts programs in processes that have imported torch and transformers already."""
    with Warm() as started:
        yield started


@pytest.fixture(scope="session")
def engine(warm: Warm) -> Engine:
    """Runs ``engine ARGUMENTS`` in a process of its own; ``status=None`` accepts any.

    No command ever ends in a traceback, so all calls check that.
    """

    def run(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> Any:
        command = ("-m", "engine.cli", *arguments)
        if (env or {}).keys() & READ_AT_IMPORT or "input" in options:
            return _run(sys.executable, *command, env=env, **options)
        status = options.pop("status", 0)
        return _checked(warm.run(command, env=env, **options), status)

    return run


@pytest.fixture(scope="session")
def engine_ranks(warm: Warm) -> Callable[..., None]:
    """Runs ``engine ARGUMENTS`` as ranks of one job, as a launcher that is not ours starts them.

    Takes seconds less than ``--nproc``, whose launcher and ranks each import torch.
    """

    def run(count: int, *arguments: object) -> None:
        warm.ranks(count, ("-m", "engine.cli", *arguments))

    return run


@pytest.fixture(scope="session")
def finished_run(_tiny: Spec, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the tiny spec. Copy it before you change anything in it."""
    runs = tmp_path_factory.mktemp("finished")
    spec = runs / "tiny.yaml"
    spec.write_text(yaml.safe_dump(_tiny), encoding="utf-8")
    engine("run", spec, "--runs", runs)
    return runs / "tiny"


@pytest.fixture(scope="session")
def prepared(finished_run: Path) -> Callable[[Path], Path]:
    """A run's folder in which the tiny corpus is prepared already."""

    def copy(runs: Path) -> Path:
        shutil.copytree(finished_run / "corpus", runs / "tiny" / "corpus")
        return runs / "tiny"

    return copy


@pytest.fixture
def copied(finished_run, tmp_path) -> Path:
    """A finished run that may be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "tiny"))


@pytest.fixture
def command(capsys, monkeypatch) -> Callable[..., tuple[str, str]]:
    """Runs a command in this process: what it printed to stdout and to stderr."""
    from engine.cli import main

    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object, status: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        told = capsys.readouterr()
        assert ended.value.code == status, told
        return told.out, told.err

    return run


@dataclass(frozen=True)
class Here:
    """A run's folder and what is in it."""

    folder: Path
    status: int

    def events(self, name: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        return runs.events(self.folder, name, **fields)

    def steps(self, field: str, **fields: Any) -> list[Any]:
        return runs.steps(self.folder, field, **fields)

    def weights(self, stage: str = "base") -> dict[str, Any]:
        return runs.weights(self.folder, stage)

    def card(self) -> dict[str, Any]:
        return json.loads((self.folder / "corpus" / "card.json").read_text(encoding="utf-8"))


@pytest.fixture
def run_here(write_spec, tmp_path, finished_run, capsys) -> Callable[..., Here]:
    """Runs a spec; the tiny corpus is copied unless the spec prepares another one."""

    # Light fixtures must not wait for torch.
    from engine.processes.process import Process
    from engine.runs.session import run_spec
    from engine.spec.loading import load_spec

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
    from engine_rlhf.online.joint_strategy import JointStrategy
    from support.waits import counted_waits, uncounted

    from engine.modeling import heads as modules
    from engine.training import loop

    found: Counter[str] = Counter()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            with counted_waits(found):
                return function(*arguments, **named)

        return call

    for owner in (Replicated, JointStrategy):
        for name in ("forward_backward", "step"):
            monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    monkeypatch.setattr(loop, "read_scalars", counting(loop.read_scalars))
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


@pytest.fixture
def spoil(guide, install_here) -> Callable[..., None]:
    """Installs the guide's plugin, the first text in its code changed into the second, and so on."""

    def install(*edits: tuple[str, str]) -> None:
        files = {path: text for path, text in guide.items() if path.startswith("engine_example/")}
        for old, new in edits:
            assert any(old in text for text in files.values()), f"the guide has no {old!r}"
            files = {path: text.replace(old, new) for path, text in files.items()}
        install_here(files)

    return install
