"""The standard library, and installed packages, as text."""

from __future__ import annotations

import sys
import sysconfig
from itertools import islice
from pathlib import Path

import pytest
from engine_data.config import PythonLibrary
from engine_data.sources.python_library import build
from support.sources import records_of

_FILES = {
    "b.py": b'"""About b.\n\n    Indented."""\n\ndef plain():\n    pass\n',
    "a/__init__.py": b"",
    "a/c.py": (
        b'class C:\n    """A class."""\n'
        b'    async def m(self, x: int = 1, *rest):\n        """A method."""\n'
        b"        def inner():\n            'Inside.'\n"
        b'    def blank(self):\n        """ """\n'
    ),
    "coded.py": "# coding: latin-1\n'é'\n".encode("latin-1"),
    "odd.py": b"'''Text with a \\d in it.'''\nx = '\\d'\n",
    "wrong.py": b"def (:\n",
    "no_text.py": b"'\xff'\n",
    "a/test/t1.py": b"'''t1'''\n",
    "idlelib/idle_test/t2.py": b"'''t2'''\n",
    "tests.py": b"'''no test'''\n",
    "site-packages/other.py": b"'''not the library'''\n",
    "a/__pycache__/c.py": b"'''compiled'''\n",
}


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A small library in the place of this Python's."""
    for name, content in _FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(sysconfig, "get_path", {"stdlib": str(tmp_path)}.get)
    return tmp_path


def _read(**options):
    return records_of(build(PythonLibrary(**options), None))


def _ids(**options) -> list[str]:
    return [record.id for record in _read(**options)]


@pytest.mark.covers("data-source/python-library.parts")
def test_parts_come_one_after_the_other(library):
    """Sources, docstrings, topics: each by name, whatever the order in the spec."""
    sources = ["a/__init__.py", "a/c.py", "b.py", "coded.py", "odd.py", "tests.py", "wrong.py"]
    documented = ["a/c.py", "b.py", "coded.py", "odd.py", "tests.py"]
    assert _ids(parts=("sources",)) == [f"sources/{name}" for name in sources]
    assert _ids(parts=("docstrings",)) == [f"docstrings/{name}" for name in documented]
    topics = _ids(parts=("topics",))
    assert topics == sorted(topics)
    assert "topics/lambda" in topics
    whole = _ids(parts=("sources",)) + _ids(parts=("docstrings",)) + topics
    assert _ids() == _ids(parts=("topics", "docstrings", "sources")) == whole


@pytest.mark.covers("data-source/python-library.tests")
def test_the_library_s_tests_are_read_on_request(library):
    """They would be a third of it, and read like nothing else."""
    more = set(_ids(parts=("sources",), tests=True)) - set(_ids(parts=("sources",)))
    assert more == {"sources/a/test/t1.py", "sources/idlelib/idle_test/t2.py"}


def test_a_source_is_the_file_s_text(library):
    """In the encoding that it names itself; what is no text is left out."""
    texts = {record.id: record.text for record in _read(parts=("sources",))}
    assert texts["sources/b.py"] == _FILES["b.py"].decode()
    assert texts["sources/coded.py"] == "# coding: latin-1\n'é'\n"
    assert "sources/no_text.py" not in texts


def test_docstrings_stand_under_the_names_of_what_they_document(library):
    """Without their indentation; read from the syntax tree, so nothing is imported or run."""
    texts = {record.id: record.text for record in _read(parts=("docstrings",))}
    assert texts["docstrings/b.py"] == "b\n\nAbout b.\n\nIndented.\n"
    assert texts["docstrings/a/c.py"] == (
        "a.c.C\n\nA class.\n\na.c.C.m(self, x: int=1, *rest)\n\nA method.\n\n"
        "a.c.C.m.inner()\n\nInside.\n"
    )


def test_a_module_and_its_docstrings_are_one_group(library):
    """They must not be parted: one would tell of the other, held out."""
    groups = {record.id: record.meta["group"] for record in _read()}
    assert groups["sources/b.py"] == groups["docstrings/b.py"] == "b.py"
    assert groups["topics/lambda"] != groups["topics/with"]


def test_this_python_s_library_is_read_without_importing_it():
    """Its own files, under its licence."""
    before = set(sys.modules)
    records = list(islice(build(PythonLibrary(), None).records("sources"), 3))
    assert [record.id for record in records] == [
        "sources/__future__.py",
        "sources/__hello__.py",
        "sources/__phello__/__init__.py",
    ]
    assert "__hello__" not in set(sys.modules) - before
    assert {(record.source, record.license) for record in records} == {
        ("python-library", "PSF-2.0")
    }


_WHEEL = {
    "pie/__init__.py": b"'''Pies.'''\nraise SystemExit('imported')\n",
    "pie/crust.py": b"def bake():\n    '''Bakes.'''\n",
    "pie/tests/test_crust.py": b"assert True\n",
    "pie/data.json": b"{}\n",
    "../bin/pie.py": b"'''a script'''\n",
    "apple.py": b"x = 1\n",
}


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """An installed distribution `apple-pie` whose modules must not be imported."""
    site = tmp_path / "site"
    for name, content in _WHEEL.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    about = site / "apple_pie-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: apple-pie\nVersion: 1.2\nLicense-Expression: MIT\n"
    )
    listed = [*reversed(_WHEEL), "pie/gone.py", "apple_pie-1.2.dist-info/METADATA"]
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(site)
    return about


@pytest.mark.covers("data-source/python-library.packages")
def test_packages_are_read_in_place_of_the_library(wheel):
    """Sources and docstrings of the modules that the distribution lists and that are there, by path."""
    assert _ids(packages=("apple-pie",)) == [
        "sources/apple.py",
        "sources/pie/__init__.py",
        "sources/pie/crust.py",
        "docstrings/pie/__init__.py",
        "docstrings/pie/crust.py",
    ]
    more = set(_ids(packages=("apple-pie",), tests=True)) - set(_ids(packages=("apple-pie",)))
    assert more == {"sources/pie/tests/test_crust.py"}
    assert "pie" not in sys.modules


def test_a_package_s_module_and_its_docstrings_are_one_group(wheel):
    """They are held out together, as the library's are."""
    groups = {record.id: record.meta["group"] for record in _read(packages=("apple-pie",))}
    assert groups["sources/pie/crust.py"] == groups["docstrings/pie/crust.py"] == "pie/crust.py"


@pytest.mark.parametrize(
    ("about", "terms"),
    [
        ("License-Expression: MIT\nClassifier: License :: OSI Approved :: BSD License\n", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License\nLicense: BSD\n", "BSD License"),
        ("License: BSD\n", "BSD"),
        ("License: Copyright\n        All of it.\n", None),
        ("", None),
    ],
)
def test_a_package_s_licence_is_what_its_metadata_says(wheel, about, terms):
    """An expression, else a classifier, else a name; the text of a licence is no name."""
    (wheel / "METADATA").write_text(f"Metadata-Version: 2.1\nName: apple-pie\nVersion: 1\n{about}")
    assert {record.license for record in _read(packages=("apple-pie",))} == {terms}


def test_a_package_s_version_tells_whether_it_is_read_again(wheel):
    """A part's version is that of the distribution and of Python, which parses docstrings."""
    source = build(PythonLibrary(packages=("apple-pie", "pytest")), None)
    parts = source.parts()
    assert list(parts) == [
        "sources/apple-pie",
        "docstrings/apple-pie",
        "sources/pytest",
        "docstrings/pytest",
    ]
    assert source.version(parts[0]).startswith("apple-pie 1.2, Python 3")


def test_a_package_s_name_may_be_spelled_in_other_ways(wheel):
    """It has the same parts, and is named once."""
    assert build(PythonLibrary(packages=("Apple_Pie",)), None).parts() == [
        "sources/apple-pie",
        "docstrings/apple-pie",
    ]
    assert _ids(packages=("APPLE.pie",)) == _ids(packages=("apple-pie",))
    assert PythonLibrary(packages=("Apple_Pie", "apple-pie")).problems() == {
        "packages.1": "'apple-pie' is named twice, also as 'Apple_Pie'"
    }


def test_an_empty_list_of_packages_is_refused():
    """It does not stand for the library; a spec with all defaults does not have it."""
    assert PythonLibrary().problems() == {}
    assert "packages" not in PythonLibrary().model_dump()
    assert PythonLibrary.model_validate(PythonLibrary().model_dump()).problems() == {}
    assert PythonLibrary(packages=()).problems() == {
        "packages": "names no package; remove the field to read the standard library"
    }
    assert PythonLibrary(packages=("pytest",)).model_dump()["packages"] == ("pytest",)


def test_packages_that_cannot_be_read_are_refused(wheel):
    """What is not installed, what has no sources, and what is named twice: each with the mend."""
    (wheel.parent / "empty-1.0.dist-info").mkdir()
    (wheel.parent / "empty-1.0.dist-info" / "METADATA").write_text("Name: empty\nVersion: 1.0\n")
    wrong = PythonLibrary(packages=("apple-pie", "no-such-pie", "empty", "apple-pie")).problems()
    assert wrong["packages.1"] == "'no-such-pie' is not installed; pip install no-such-pie"
    assert "has no Python sources" in wrong["packages.2"]
    assert wrong["packages.3"] == "'apple-pie' is named twice"
    with pytest.raises(ValueError, match="have no topics"):
        PythonLibrary(packages=("apple-pie",), parts=("topics",))
