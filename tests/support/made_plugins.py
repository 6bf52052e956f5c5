"""Plugins from the author's guide and from files that a test gives; a plugin of pytest."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from support.command_line import Engine, run_program


@pytest.fixture(scope="session")
def guide() -> dict[str, str]:
    """Every file in the plugin author's guide, by path: what it says of one, in reading order."""
    text = (Path(__file__).parents[2] / "contrib" / "README.md").read_text(encoding="utf-8")
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
def outside(install_here, tmp_path) -> Path:
    """Installs the plugin of tests here; the folder in which other processes find it."""
    source = Path(__file__).with_name("outside_plugin")
    install_here({f"engine_outside/{file.name}": file.read_text() for file in source.glob("*.py")})
    return tmp_path / "site"


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[Path], Engine]:
    """Installs a project with pip, in an environment that sees this one's packages too.

    Gives a function that runs that environment's Python.
    """

    def install(project: Path) -> Engine:
        environment = tmp_path / "environment"
        run_program(sys.executable, "-m", "venv", "--without-pip", environment)
        python = environment / "bin" / "python"
        here = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (next(environment.glob("lib/*/site-packages")) / "here.pth").write_text(here)
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
        pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
        run_program(*pip, "install", *offline, project)
        return partial(run_program, python)

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
