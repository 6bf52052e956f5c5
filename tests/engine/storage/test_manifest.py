"""A folder is what its manifest lists: no file more, none less, none another, and none elsewhere."""

from __future__ import annotations

import json
import os

import pytest

from engine.errors import RunError
from engine.storage import manifest


@pytest.fixture
def folder(tmp_path):
    """A whole folder with two files in it."""
    made = tmp_path / "made"
    (made / "part").mkdir(parents=True)
    (made / "a").write_text("first")
    (made / "part" / "b").write_text("second")
    manifest.complete(made, step=7)
    return made


def _listed(folder, change) -> None:
    """Changes the manifest as whoever knows how it is sealed can."""
    fields = manifest.unsealed((folder / manifest.NAME).read_text())
    change(fields)
    (folder / manifest.NAME).write_text(manifest.sealed(fields))


def test_a_whole_folder_is_accepted(folder):
    """With the fields that it was completed with; how its stage stands is kept beside."""
    (folder / "stage.json").write_text("{}")
    assert manifest.verify(folder)["step"] == 7
    assert manifest.verify(folder, "part/")["step"] == 7


def test_a_folder_without_a_manifest_is_not_whole(tmp_path):
    """That is no damage: it was never finished."""
    assert manifest.read(tmp_path) is None
    with pytest.raises(RunError, match="no manifest, so it is not whole"):
        manifest.verify(tmp_path)


def test_any_changed_byte_of_a_manifest_is_named_or_means_nothing(folder):
    """Spaces between values mean nothing; all else does."""
    file = folder / manifest.NAME
    raw, fields = file.read_bytes(), manifest.verify(folder)
    harmless, named = 0, []
    for at in range(len(raw)):
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        try:
            found = manifest.verify(folder)
        except RunError as error:
            named.append(str(folder) in str(error))
            continue
        harmless += 1
        assert fields.items() <= found.items()
    assert harmless < len(raw) / 10
    assert all(named)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '{"format": 9}', '{"format": 2}'])
def test_what_is_no_manifest_is_damage(folder, content):
    """Named with the file and the way out, and never taken for a folder without one."""
    (folder / manifest.NAME).write_text(content)
    with pytest.raises(
        RunError, match=rf"{manifest.NAME}: damaged .*remove {folder} and run again"
    ):
        manifest.read(folder)


def test_a_manifest_that_cannot_be_read_is_not_taken_for_none(folder):
    """Any error of the system but that there is no such file."""
    (folder / manifest.NAME).unlink()
    (folder / manifest.NAME).mkdir()
    with pytest.raises(RunError, match=r"damaged \(Is a directory"):
        manifest.read(folder)
    assert not manifest.is_missing(folder)


@pytest.mark.parametrize("name", ["c", "part/c", ".hidden", "stage.json.old"])
def test_a_file_that_is_not_listed_is_named(folder, name):
    """Whoever put it there has it named, and keeps it."""
    (folder / name).write_text("planted")
    with pytest.raises(RunError, match=rf"{name}: is not one of the files.*move it elsewhere"):
        manifest.verify(folder)
    assert (folder / name).read_text() == "planted"


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "part/../../outside", "", "."])
def test_a_listed_file_is_sought_in_the_folder_only(folder, name):
    """A relative name with `..` in it, or an absolute one, is missing, with the right checksum too."""
    outside = folder.parent / "outside"
    outside.write_text("secret")
    digest = manifest.checksums(folder.parent)["outside"]
    _listed(folder, lambda fields: fields["files"].update({name: digest}))
    with pytest.raises(RunError, match="missing"):
        manifest.verify(folder)


@pytest.mark.parametrize("name", ["a", "part"])
def test_a_link_is_no_part_of_a_folder(folder, name):
    """Also where what it leads to has the right content."""
    (folder / name).rename(folder.parent / "moved")
    (folder / name).symlink_to(folder.parent / "moved")
    with pytest.raises(RunError, match=f"{name}: is a link"):
        manifest.verify(folder)


def test_a_temporary_name_that_was_planted_is_not_filled(tmp_path, monkeypatch):
    """A link under the name that a write begins with: what it leads to stays as it was."""
    outside = tmp_path / "outside"
    outside.write_text("mine")
    monkeypatch.setattr("threading.get_ident", lambda: 7)
    (tmp_path / ".file.7").symlink_to(outside)
    manifest.write_durably(tmp_path / "file", "new")
    assert (outside.read_text(), (tmp_path / "file").read_text()) == ("mine", "new")
    (tmp_path / "linked").symlink_to(outside)
    manifest.write_durably(tmp_path / "linked", "new")
    assert outside.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "linked", "outside"]


def test_a_manifest_of_before_has_no_checksum_of_its_own(folder):
    """It is read as it was."""
    fields = manifest.unsealed((folder / manifest.NAME).read_text()) | {"format": 1}
    (folder / manifest.NAME).write_text(json.dumps(fields))
    assert manifest.verify(folder)["step"] == 7
