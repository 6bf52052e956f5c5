"""Changes to a model's folder."""

from __future__ import annotations

import json


def set_config(folder, **fields):
    """Gives its config.json other values."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
