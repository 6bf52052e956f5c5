"""MinHash signatures of texts, of 128 permutations and shingles of five words, again and again.

``python near_peer.py ours|datatrove TEXTS`` prints a JSON line for each round over the texts of a JSON
file; ``time`` is the process's CPU seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def main(name: str, file: Path) -> None:
    """Signs without end."""
    texts = json.loads(file.read_text(encoding="utf-8"))
    sign = {"ours": _ours, "datatrove": _datatrove}[name](texts)
    while True:
        signed = sign()
        line = {"event": "step", "time": time.process_time(), "loss": signed}
        print(json.dumps(line), flush=True)


def _ours(texts: Sequence[str]) -> Callable[[], int]:
    """With all that the step computes of each document: hashes of 16 bands of 8, and of the whole."""
    import pyarrow as pa
    from engine_corpus.deduplicate.near.banding import Banding
    from engine_corpus.deduplicate.near.signatures import band_hashes

    column = pa.chunked_array([pa.array(texts, pa.large_string())])
    return lambda: len(band_hashes(column, 5, Banding(16, 8))[0])


def _datatrove(texts: Sequence[str]) -> Callable[[], int]:
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8)
    step = MinhashDedupSignature(tempfile.mkdtemp(), config)
    return lambda: len([step.get_signature(step.get_shingles(text)) for text in texts])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
