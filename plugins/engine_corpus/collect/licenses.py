"""Recognises licences by sentences of their texts."""

from __future__ import annotations

FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING", "COPYING.txt")
"""Names of files that hold a project's licence."""
_SIGNS = (
    ("AGPL-3.0", "gnu affero general public license version 3"),
    ("LGPL-3.0", "gnu lesser general public license version 3"),
    ("LGPL-2.1", "gnu lesser general public license version 2.1"),
    ("GPL-3.0", "gnu general public license version 3"),
    ("GPL-2.0", "gnu general public license version 2"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("Apache-2.0", "apache license version 2.0"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"),
    (
        "MIT",
        "permission is hereby granted, free of charge, to any person obtaining a copy of this soft",
    ),
    (
        "ISC",
        "permission to use, copy, modify, and/or distribute this software for any purpose with or",
    ),
    ("BSD", "redistribution and use in source and binary forms, with or without modification, are"),
)
"""Identifiers of SPDX, and what only texts of these licences have near their beginnings."""
_BEGINNING = 1500
"""Characters, more than the titles and copyright notices that precede these sentences have."""


def license_of(text: str) -> str | None:
    """The SPDX identifier of a licence's text; None where it is not a well-known one alone."""
    words = " ".join(text.lower().replace("*", " ").replace("#", " ").split())
    beginning = words.replace(", version", " version").replace("the mit", "mit")[:_BEGINNING]
    found = [name for name, sign in _SIGNS if sign in beginning]
    if len(found) != 1:
        return None
    if found == ["BSD"]:
        return "BSD-3-Clause" if "neither the name" in words else "BSD-2-Clause"
    return found[0]
