"""Folders here and names on a hub: which of the two a text is, and what is wrong with it."""

from __future__ import annotations

import difflib
import os
import re
from itertools import islice
from pathlib import Path

_HUB_NAME = re.compile(r"(?!.*(--|\.\.|\.git$))(\w[\w.-]*/)?\w([\w.-]{0,94}\w)?")
"""As the hub itself allows them."""
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def misplaced(name: str, revision: str | None) -> str | None:
    """Why there can be no model, tokenizer or data set: a folder that is missing, or a name on the hub
    without a commit. A name that could be either is one on the hub if it has a revision."""
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):  # no error for what can be no path, as pathlib has
        return None
    if os.path.exists(path):
        return f"'{name}' is a file; give the folder that holds it"
    local = name.startswith((".", "~", "/")) or not _HUB_NAME.fullmatch(name)
    if local or (revision is None and path.parent != Path() and os.path.isdir(path.parent)):
        return f"'{name}' is no folder here; {neighbours(path)}"
    if revision is None:
        return (
            f"'{name}' is no folder here, and as a name on the hub it needs a pinned revision "
            "(`revision`: a commit's hash)"
        )
    if not _COMMIT.fullmatch(revision):
        return (
            f"'{name}' is no folder here, and revision '{revision}' is no commit of the hub, whose "
            "hash has 40 of 0-9 and a-f: a branch or a tag may be another one tomorrow"
        )
    return None


def neighbours(path: Path) -> str:
    """What there is in the last folder of the path that exists, the most similar names first."""
    missing = path
    while not os.path.isdir(missing.parent):
        missing = missing.parent
    folder = missing.parent
    try:
        names = sorted(p.name for p in islice(folder.iterdir(), 1000))
    except OSError as error:
        return f"'{folder}' cannot be read: {error.strerror or error}"
    near = difflib.get_close_matches(missing.name, names, n=1) or names[:3]
    return f"in '{folder.resolve().name}' there is: {', '.join(near) or 'nothing'}"
