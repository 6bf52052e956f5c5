"""The source `git` gives the files of a repository at a revision, and runs nothing that it names."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from engine_corpus.collect import local_files
from engine_corpus.collect.config import Git
from engine_corpus.collect.licenses import license_of
from pydantic import ValidationError

from engine import Bad, RunError
from engine.testing import StandAloneContext

_MIT = """MIT License

Copyright (c) 2024 The harbour office

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction
"""


def _git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *settings, "-C", folder, *arguments],
        env=environment | {"GIT_CONFIG_NOSYSTEM": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def _commit(folder: Path, **files: str | bytes) -> str:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", "change")
    return _git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(folder):
    """A repository of a few files in several languages."""
    path = folder / "tides"
    path.mkdir()
    _git(path, "init", "--quiet", "--initial-branch", "main")
    _commit(
        path,
        README_dot_md="# Tides\n",
        LICENSE=_MIT,
        src__tides_dot_py="def height():\n    return 'höher 👋🏽'\n",
        src__empty_dot_py="",
        src__moon_dot_rs="fn moon() {}\r\n",
        data_dot_json="{}",
        picture_dot_png=b"\x89PNG\0",
    )
    return path


@pytest.mark.covers("data-source/git.repository", "data-source/git.languages")
def test_files_are_documents_by_language(repository, collected):
    """Whatever the working tree has meanwhile; data, pictures and empty files are left out."""
    (repository / "src" / "tides.py").write_text("changed = True\n")
    records = {record.id: record for record in collected("git", repository="tides")}
    assert list(records) == ["tides/README.md", "tides/src/moon.rs", "tides/src/tides.py"]
    tides = records["tides/src/tides.py"]
    assert tides.text == "def height():\n    return 'höher 👋🏽'\n"
    assert tides.source == "tides"
    head = _git(repository, "rev-parse", "HEAD")
    assert tides.meta == {"url": "tides/src/tides.py", "commit": head, "language": "python"}
    assert records["tides/src/moon.rs"].text == "fn moon() {}\n"
    (only,) = collected("git", repository="tides", languages=["rust"])
    assert only.id == "tides/src/moon.rs"
    with pytest.raises(RunError, match="git: 'tides' has no file in java or go at 'HEAD'"):
        collected("git", repository="tides", languages=["java", "go"])
    with pytest.raises(ValidationError, match="Input should be 'c', 'c\\+\\+'"):
        collected("git", repository="tides", languages=["klingon"])


@pytest.mark.covers("data-source/git.revision")
def test_a_revision_is_read_as_it_was(repository, collected):
    """By hash, tag or branch, also in a bare clone."""
    first = _git(repository, "rev-parse", "HEAD")
    _git(repository, "tag", "v1")
    _commit(repository, src__tides_dot_py="new = 1\n", src__new_dot_py="new = 2\n")

    def names(**settings) -> list[str]:
        return [r.id.rpartition("/")[2] for r in collected("git", languages=["python"], **settings)]

    assert names(repository="tides") == ["new.py", "tides.py"]
    for revision in (first, first[:9], "v1", "main~1"):
        assert names(repository="tides", revision=revision) == ["tides.py"]
    _git(repository.parent, "clone", "--quiet", "--bare", "tides", "bare.git")
    assert names(repository="bare.git", revision="main") == ["new.py", "tides.py"]
    with pytest.raises(
        RunError, match=r"git: '.*/tides' has no commit 'v2'; list what there is: git"
    ):
        names(repository="tides", revision="v2")
    for wrong in ("--output=x", "a\nb"):
        with pytest.raises(ValidationError, match="is not a revision, such as HEAD"):
            names(repository="tides", revision=wrong)


@pytest.mark.covers("data-source/git.license")
def test_the_licence_is_the_configured_or_the_well_known_one_of_the_file(repository, collected):
    """Two licence files, or an unknown text, give none."""

    def license_told(**settings) -> str | None:
        (found,) = {r.license for r in collected("git", repository="tides", **settings)}
        return found

    assert license_told() == "MIT"
    assert license_told(license="LicenseRef-harbour") == "LicenseRef-harbour"
    _commit(repository, COPYING=_MIT)
    assert license_told() is None
    (repository / "COPYING").unlink()
    _commit(repository, LICENSE="All rights reserved.\n")
    assert license_told() is None


def test_licences_are_told_apart():
    """Python's own licence is none of the well-known ones alone."""
    assert license_of(_MIT) == "MIT"
    gpl = "GNU GENERAL PUBLIC LICENSE\n                       Version {}, June\n\n Everyone"
    assert license_of(gpl.format(3)) == "GPL-3.0"
    assert license_of(gpl.format(2)) == "GPL-2.0"
    assert license_of(gpl.replace("GENERAL", "LESSER GENERAL").format("2.1")) == "LGPL-2.1"
    assert license_of("   Apache License\n   Version 2.0, January 2004\n") == "Apache-2.0"
    bsd = "Redistribution and use in source and binary forms, with or without\nmodification, are given"
    assert license_of(bsd) == "BSD-2-Clause"
    assert license_of(f"{bsd}\nNeither the name of the harbour office") == "BSD-3-Clause"
    assert license_of(f"{_MIT}\n{bsd}") is None
    assert license_of("") is None


@pytest.mark.covers("data-source/git.max_mb")
def test_files_that_are_no_text_or_too_large_are_bad(repository, collected):
    """Each for one reason; the others are read."""
    _commit(
        repository,
        a_dot_py="x = 1\n" * 50_000,
        b_dot_py=b"caf\xe9",
        c_dot_py=b"zero \0",
        d_dot_py=" \n\t\n",
        e_dot_py="x = 1\n" * 100,
    )
    records = collected("git", repository="tides", languages=["python"], max_mb=0.1)
    reasons = {r.id: r.reason for r in records if isinstance(r, Bad)}
    assert reasons == {
        "tides/a.py": "too-large",
        "tides/b.py": "not-utf-8",
        "tides/c.py": "nul",
        "tides/d.py": "no-text",
    }
    assert [r.id for r in records if not isinstance(r, Bad)] == ["tides/e.py", "tides/src/tides.py"]
    whole = collected("git", repository="tides", languages=["python"])
    assert "too-large" not in [getattr(r, "reason", None) for r in whole]


def test_links_and_submodules_are_no_documents(repository, collected):
    """Links may lead anywhere, also to themselves."""
    (repository / "link.py").symlink_to("link.py")
    (repository / "secret.py").symlink_to("/etc/passwd")
    (repository / "sub.py").mkdir()
    _git(repository / "sub.py", "init", "--quiet")
    _commit(repository / "sub.py", a_dot_py="inner = 1\n")
    _commit(repository)
    records = collected("git", repository="tides", languages=["python"])
    assert [record.id for record in records] == ["tides/src/tides.py"]


def test_parts_are_files_up_to_32_mb_whose_version_is_their_content(repository, monkeypatch):
    monkeypatch.setattr(local_files, "_PART", 30)
    for number in range(4):
        _commit(repository, **{f"m{number}_dot_py": f"number = {number}\n" * 2})
    settings = {"type": "git", "repository": "tides", "languages": ["python"]}
    source = StandAloneContext().build("data-source", settings)
    assert source.parts() == ["m0.py", "m2.py", "src/tides.py"]
    before = [source.version(part) for part in source.parts()]
    _commit(repository, m1_dot_py="number = 7\n" * 2)
    changed = StandAloneContext().build("data-source", settings)
    after = [changed.version(part) for part in changed.parts()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]
    with pytest.raises(RunError, match=r"git: there is no part 'm1\.py'"):
        list(source.records("m1.py"))


def test_nothing_that_a_repository_names_is_run(repository, collected):
    """Hooks, a file monitor, filters, a pager, and what a partial clone would fetch with."""
    trap = repository.parent / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{repository.parent}/sprung'\n")
    trap.chmod(0o755)
    for name in (
        "core.fsmonitor",
        "core.pager",
        "pager.ls-tree",
        "core.sshCommand",
        "diff.x.textconv",
    ):
        _git(repository, "config", name, str(trap))
    for name in ("filter.x.smudge", "filter.x.process", "remote.origin.uploadpack"):
        _git(repository, "config", name, str(trap))
    _git(repository, "config", "remote.origin.url", f"ext::{trap}")
    _git(repository, "config", "remote.origin.promisor", "true")
    _git(repository, "config", "protocol.ext.allow", "always")
    _git(repository, "config", "extensions.partialClone", "origin")
    _git(repository, "config", "core.repositoryformatversion", "1")
    (repository / ".git" / "info" / "attributes").write_text("* filter=x diff=x\n")
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        (repository / ".git" / "hooks").mkdir(exist_ok=True)
        (repository / ".git" / "hooks" / hook).symlink_to(trap)
    assert len(collected("git", repository="tides")) == 3
    blob = _git(repository, "rev-parse", "HEAD:src/tides.py")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(RunError, match=r"content of 'src/tides\.py' in '.*tides' cannot be read"):
        collected("git", repository="tides")
    assert not (repository.parent / "sprung").exists()


def test_variables_that_name_another_repository_are_ignored(repository, collected, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(repository.parent / "other"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(repository.parent / "other"))
    assert len(collected("git", repository="tides")) == 3


def test_damage_and_other_folders_are_errors_that_say_what_to_do(repository, collected):
    """A damaged object, a folder inside a repository, and one that is missing."""
    with pytest.raises(
        RunError, match=r"git: '.*/tides/src' is no git repository; name the folder"
    ):
        collected("git", repository="tides/src")
    assert Git(repository="tide").problems() == {"repository": "there is no folder 'tide'"}
    assert Git(repository="tides").problems() == {}
    assert list(Git(repository="tides").reads()) == ["tides"]
    blob = _git(repository, "rev-parse", "HEAD:src/moon.rs")
    file = repository / ".git" / "objects" / blob[:2] / blob[2:]
    file.chmod(0o644)
    file.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"the content of 'src/moon\.rs' in .*fsck"):
        collected("git", repository="tides")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_another_user_is_an_error_that_explains_trust(repository, collected):
    os.chown(repository, 65534, 65534)
    with pytest.raises(RunError, match=r"belongs to another user.*safe\.directory '.*/tides'"):
        collected("git", repository="tides")


def test_the_standard_library_in_a_repository_comes_back_byte_for_byte(repository, collected):
    """Some hundred files of real code."""
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for module in modules:
        (repository / module.name).write_bytes(module.read_bytes())
    _commit(repository)
    found = {r.id: r.text for r in collected("git", repository="tides", languages=["python"])}
    for module in modules:
        text = module.read_bytes().decode().replace("\r\n", "\n")
        assert found.get(f"tides/{module.name}", "") == text
