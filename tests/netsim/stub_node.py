"""Looks like `p2pfl node start --config FILE` from outside, and learns nothing. Environment variables:

STUB_CRASH: index of a node that fails before it listens.  STUB_DEAD: of one that dies after that.
STUB_LOST: of one that does not come back to a second life.
STUB_BUSY: nodes never get done.  STUB_STUBBORN: they ignore SIGTERM.
STUB_ALIVE: a FIFO that each node writes its pid to and keeps open until it ends; after a SIGHUP it writes its
peers there.
A node with a state directory notes its lives there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.gossip.codec import encode_model, encode_weights
from p2pfl.gossip.messages import Layout, ModelHead, Sender, Task, TensorSpec

TASK = Task("stub", ("a", "b"), (2,), (0.0,), (1.0,))
LAYOUT = Layout("stub", (TensorSpec("weight", (2, 2)), TensorSpec("bias", (2,))))


def main() -> None:
    config = read_config()
    index = int(config["shard"].partition("/")[0])
    alive = os.environ.get("STUB_ALIVE")
    if alive:
        fifo = os.open(alive, os.O_WRONLY)
        signal.signal(
            signal.SIGHUP, lambda *_: os.write(fifo, (" ".join(read_config()["peers"]) + "\n").encode())
        )
        os.write(fifo, f"{os.getpid()}\n".encode())
    if os.environ.get("STUB_CRASH") == str(index):
        sys.exit("some warning\np2pfl: error: out of luck\n")
    if os.environ.get("STUB_LOST") == str(index) and config["journal"].endswith(".2.jsonl"):
        sys.exit("p2pfl: error: forgot everything\n")
    if os.environ.get("STUB_STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    host, _, port = config["listen"].partition(":")
    with HTTPServer((host, int(port)), handler(index)) as server:
        write_journal(config, index)
        print(f"listening on http://{config['listen']}", flush=True)
        if os.environ.get("STUB_DEAD") == str(index):
            os.kill(os.getpid(), signal.SIGKILL)
        server.serve_forever()


def read_config() -> dict[str, Any]:
    return tomllib.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())


def write_journal(config: dict[str, Any], index: int) -> None:
    """Node i is done i milliseconds after its start, and goes on."""
    lives = 1
    if "state-dir" in config:
        state = Path(config["state-dir"])
        state.mkdir(exist_ok=True)
        with (state / "lives").open("a") as file:
            file.write(f"{config['journal']}\n")
        lives = len((state / "lives").read_text().splitlines())
    events: list[tuple[float, dict[str, object]]] = [
        (0.0, {"event": "served", "mode": "hello", "peer": "x", "received": 3, "sent": 4}),
        (
            0.5,
            {
                "event": "started",
                "id": f"id{index}-{config['seed']}",
                "name": "",
                "url": "",
                "task": "stub",
                "model": "stub",
                "fingerprint": "",
                "parameters": 6,
                "samples": 3,
                "labels": [1, 2],
                "resumed_round": lives - 1,
            },
        ),
        (0.5, {"event": "state-changed", "state": "training"}),
        (0.5, {"event": "trained", "round": lives, "steps": 1, "samples": 3, "loss": None, "seconds": 0.1}),
        (0.5, {"event": "published", "version": 1, "round": lives, "age": 3.0}),
        (0.5, {"event": "round-completed", "round": lives, "age": 3.0}),
        (
            0.5,
            {
                "event": "evaluated",
                "round": lives,
                "age": 3.0,
                "samples": 2,
                "loss": 1.0,
                "accuracy": 0.9,
                "balanced_accuracy": 0.9,
                "confusion": [],
            },
        ),
        (1000.0, {"event": "published", "version": 2, "round": 1, "age": 3.0}),
    ]
    if not os.environ.get("STUB_BUSY"):
        events.append((0.5 + index / 1000, {"event": "state-changed", "state": "done"}))
    lines = [json.dumps({"t": t, **event}) for t, event in sorted(events, key=lambda item: item[0])]
    Path(config["journal"]).write_text("\n".join(lines) + "\n")


def handler(index: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            if self.path == "/v1/layout":
                return json.dumps({"task": TASK.as_dict(), **LAYOUT.as_dict()}).encode()
            head = ModelHead(Sender(f"id{index}", "", "done"), TASK, LAYOUT.fingerprint, 1, 1, 3.0, 3)
            return b"".join(encode_model(head, encode_weights(np.full(6, index, np.float32))))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


if __name__ == "__main__":
    main()
