"""A service that scores answers, and really listens on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service:
    """Answers a question with what ``answer`` makes of it, once it has refused ``refusals`` times and
    ``open`` is set; keeps questions and keys."""

    def __init__(self):
        self.questions, self.keys, self.refusals = [], [], 0
        self.answer = lambda asked: {"scores": [float(len(text)) for text in asked["completions"]]}
        self.open = threading.Event()
        self.open.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers["Content-Length"])
                service.questions.append(json.loads(self.rfile.read(size)))
                service.keys.append(self.headers["Authorization"])
                service.open.wait(10)
                service.refusals -= 1
                answer = service.answer(service.questions[-1])
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(503 if service.refusals >= 0 else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
