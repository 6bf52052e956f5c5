"""Source ``html``."""

from __future__ import annotations

from engine import Context, Text
from engine_corpus.collect.config import Html
from engine_corpus.collect.local_files import FileDocuments
from engine_corpus.collect.pages import page_of


class HtmlSource(FileDocuments):
    """A document of each HTML file."""

    kind = "html"
    text_share = 0.3

    def __init__(self, config: Html) -> None:
        super().__init__(config.paths, config.max_mb)
        self._config = config

    def document(self, name: str, raw: bytes) -> Text:
        """See :class:`FileDocuments`."""
        config = self._config
        page = page_of(raw, charset=None, main_content=config.main_content, links=config.links)
        meta = {"url": page.canonical or name}
        return Text(id=name, source=name, license=config.license, text=page.text, meta=meta)


def build(config: Html, context: Context) -> HtmlSource:
    """Builds the source."""
    return HtmlSource(config)
