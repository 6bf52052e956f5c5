"""Local folders and names on the hub: tells them apart and explains invalid ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine.files.matching import neighbours

_HUB_NAME = re.compile(r"(?!.*(--|\.\.|\.git$))(\w[\w.-]*/)?\w([\w.-]{0,94}\w)?")
"""Names that the hub allows."""
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def misplaced(name: str, revision: str | None) -> str | None:
    """Why ``name`` is neither a local folder nor a name on the hub with a pinned commit; None if it is.

    A name that could be either is taken as one on the hub if it has a revision.
    """
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):  # unlike pathlib, raises nothing for an invalid path
        return None
    if os.path.exists(path):
        return f"'{name}' is a file; give the folder that holds it"
    local = name.startswith((".", "~", "/")) or not _HUB_NAME.fullmatch(name)
    if local or (revision is None and path.parent != Path() and os.path.isdir(path.parent)):
        return f"'{name}' is not a folder here; {neighbours(path)}"
    if revision is None:
        return (
            f"'{name}' is not a folder here, and as a name on the hub it needs a pinned revision "
            "(`revision`: a commit's hash)"
        )
    if not _COMMIT.fullmatch(revision):
        return (
            f"'{name}' is not a folder here, and revision '{revision}' is not a commit's hash (40 "
            "characters of 0-9 and a-f): what a branch or a tag names may change"
        )
    return None
