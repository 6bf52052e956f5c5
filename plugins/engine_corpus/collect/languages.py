"""Programming and markup languages, told by the suffixes of files' names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

Language = Literal[
    "c",
    "c++",
    "c#",
    "css",
    "go",
    "haskell",
    "html",
    "java",
    "javascript",
    "julia",
    "kotlin",
    "latex",
    "lua",
    "markdown",
    "perl",
    "php",
    "python",
    "r",
    "restructuredtext",
    "ruby",
    "rust",
    "scala",
    "shell",
    "sql",
    "swift",
    "text",
    "typescript",
]
"""The languages that are told apart. Data formats, such as JSON, are none of them."""

_SUFFIXES: Mapping[Language, str] = {
    "c": ".c .h",
    "c++": ".cc .cpp .cxx .hh .hpp .hxx",
    "c#": ".cs",
    "css": ".css .scss",
    "go": ".go",
    "haskell": ".hs",
    "html": ".html .htm",
    "java": ".java",
    "javascript": ".js .cjs .mjs .jsx",
    "julia": ".jl",
    "kotlin": ".kt .kts",
    "latex": ".tex",
    "lua": ".lua",
    "markdown": ".md .markdown",
    "perl": ".pl .pm",
    "php": ".php",
    "python": ".py .pyi",
    "r": ".r",
    "restructuredtext": ".rst",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "shell": ".sh .bash .zsh",
    "sql": ".sql",
    "swift": ".swift",
    "text": ".txt",
    "typescript": ".ts .tsx .mts .cts",
}
_LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {suffix: language for language, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
)


def language_of(name: str) -> Language | None:
    """The language of a file of this name; None if it is not known."""
    return _LANGUAGES.get(PurePosixPath(name).suffix.lower())
