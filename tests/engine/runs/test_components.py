"""What components are made of."""

from __future__ import annotations

from engine.runs.components import code_of


def test_the_code_of_a_package_changes_with_any_of_its_files(tmp_path, monkeypatch):
    """In its name or its content."""
    package = tmp_path / "engine_changing"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "one.py").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    found = set()
    for change in (
        lambda: None,
        lambda: (package / "inner" / "one.py").write_text("2"),
        lambda: (package / "inner" / "one.py").rename(package / "inner" / "two.py"),
    ):
        change()
        code_of.cache_clear()
        found.add(code_of("engine_changing"))
    assert len(found) == 3


def test_the_code_of_a_module_of_its_own_is_its_file_s(tmp_path, monkeypatch):
    """And that of a package without files is known as well."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "engine_alone.py"
    found = set()
    for content in ("1", "2"):
        file.write_text(content)
        code_of.cache_clear()
        found.add(code_of("engine_alone"))
    assert len(found) == 2
    assert code_of("sys") == code_of("nowhere_at_all")
