"""The OpenAPI document of a node's JSON routes, which it serves at /openapi.json.

The msgpack routes, over which nodes exchange models, and the stream of events are in docs/protocol.md:
OpenAPI has no words for them.
Objects may get more properties: clients ignore what they do not know.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from p2pfl import __version__
from p2pfl.config import SETTABLE
from p2pfl.gossip.messages import NodeState, Standing
from p2pfl.network import problems

JSON = "application/json"
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
MAYBE_NUMBER = {"type": ["number", "null"]}
POINT: dict[str, object] = {"n": COUNT, "t": NUMBER}
DIGEST = {"type": "string", "pattern": "^[0-9a-f]{32}$"}


def _object(description: str, **properties: object) -> dict[str, object]:
    """A schema of an object that has all of these properties, and perhaps more."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


def _array(items: object) -> dict[str, object]:
    return {"type": "array", "items": items}


def _the(name: str) -> dict[str, object]:
    return {"$ref": f"#/components/schemas/{name}"}


STATES = [*get_args(NodeState), None]
SHOWN_STATES = [*get_args(NodeState), "paused"]
SETTINGS = _object("Settings by name; of local_steps and local_epochs one is null.", **SETTABLE)
STANDINGS = [*get_args(Standing), None]
CALLER = _object(
    "A member that calls this node.",
    id=TEXT,
    standing={"type": "string"},
    node_state={"type": ["string", "null"], "enum": STATES},
)

GONE = _object("A member that is held for dead or has left.", id=TEXT, url=TEXT, standing=TEXT)

SCHEMAS: dict[str, dict[str, object]] = {
    "Problem": _object(
        "Why a request was refused (RFC 9457).",
        type={"type": "string", "pattern": f"^{problems.URN}[a-z][a-z0-9-]*$"},
        title=TEXT,
        status={"type": "integer", "minimum": 400, "maximum": 599},
        detail={"type": "string", "description": "One line for people: what is wrong and what to do."},
    ),
    "BadSetting": {
        **_object("A problem document that names what is wrong.", field=TEXT),
        "allOf": [_the("Problem")],
    },
    "Task": _object(
        "What is learnt. Nodes exchange only if all of it is equal.",
        name=TEXT,
        classes={**_array(TEXT), "description": "In the order of the labels 0, 1, ..."},
        input_shape=_array({"type": "integer", "minimum": 1}),
        mean={**_array(NUMBER), "description": "Of each channel; inputs are (x - mean) / std."},
        std=_array(NUMBER),
    ),
    "Tensor": _object("A part of the flat vector.", name=TEXT, shape=_array(COUNT), dtype=TEXT),
    "Layout": _object(
        "What the numbers of the flat vector mean: what a client of another make needs.",
        task=_the("Task"),
        task_digest=DIGEST,
        model=TEXT,
        tensors=_array(_the("Tensor")),
        size={**COUNT, "description": "Elements of the flat vector."},
        fingerprint=DIGEST,
    ),
    "Peer": _object(
        "A node that this one knows.",
        id={"type": "string", "description": 'What it answered as; "" before that.'},
        name=TEXT,
        url=TEXT,
        state={"type": "string", "description": "How it stands: new, live, unreachable, refused."},
        verified={"type": "boolean", "description": "Whether what it says is signed."},
        node_state={"type": ["string", "null"], "enum": STATES},
        round=COUNT,
        age={**MAYBE_NUMBER, "description": "Of the last model that it sent; null before that."},
        accuracy={**MAYBE_NUMBER, "description": "Of its model by its own word; null if it does not say."},
        bytes_in=COUNT,
        bytes_out=COUNT,
        exchanges_in=COUNT,
        exchanges_out=COUNT,
        failures={**COUNT, "description": "In a row."},
        detail={"type": "string", "description": "What was wrong when it was called last."},
        standing={
            "type": ["string", "null"],
            "enum": STANDINGS,
            "description": "What this node holds of it; null before it answered.",
        },
    ),
    "Refusal": _object("Something that was refused.", reason=TEXT, source=TEXT, peer=TEXT, detail=TEXT),
    "Status": _object(
        "A node. round, age, loss and accuracy belong to one completed round.",
        id=TEXT,
        name=TEXT,
        url=TEXT,
        state={
            "type": "string",
            "enum": SHOWN_STATES,
            "description": "`paused`, which peers are not told, of one that an operator keeps from training.",
        },
        paused={"type": "boolean", "description": "As its operator wants it; it ends a round first."},
        round=COUNT,
        age={
            "type": ["number", "null"],
            "description": "Training samples that the model's lineage has seen.",
        },
        loss=MAYBE_NUMBER,
        accuracy=MAYBE_NUMBER,
        version={**COUNT, "description": "Of the published snapshot."},
        task=_the("Task"),
        task_digest=DIGEST,
        model=TEXT,
        fingerprint=DIGEST,
        parameters=COUNT,
        samples=COUNT,
        merge={"type": "string", "description": "The merge rule, as it was given."},
        kept_own={
            **COUNT,
            "description": "Times that a robust rule had too few models and kept the own weights.",
        },
        data_fingerprint=TEXT,
        storage={"type": ["object", "null"], "description": "How saving goes; null without --state-dir."},
        thrift={
            "type": ["object", "null"],
            "description": "What it spares; null: nothing.",
        },
        peers=_array(_the("Peer")),
        callers={**_array(CALLER), "description": "Members that call, and cannot be called."},
        gone={**_array(GONE), "description": "Members that are not there any more, as far as is known."},
        health={**COUNT, "description": "0: well; more: slow to answer, and doubts itself."},
        signs={"type": "boolean", "description": "Whether the node signs what it says."},
        requires_signatures={"type": "boolean"},
        unverified={**_array(TEXT), "description": "Ids that were taken at their word lately."},
        rejected={"type": "object", "additionalProperties": COUNT, "description": "Refusals by reason."},
        refusals=_array(_the("Refusal")),
    ),
    "History": _object(
        "What the node remembers. Curves keep their span and lose points; the rest is the latest.",
        sequence={**COUNT, "description": "Of the newest change; `n` of an entry is that which made it."},
        seconds={**NUMBER, "description": "Now, since the node started; `t` of an entry is the same."},
        rounds={**_array(_the("RoundPoint")), "description": "The node's own curves."},
        peers={**_array(_the("PeerPoint")), "description": "Accuracies by the peers' own word."},
        traffic={**_array(_the("TrafficPoint")), "description": "Bytes since the start."},
        received=COUNT,
        sent=COUNT,
        exchanges={**_array(_the("RecentExchange")), "description": "Of models, the latest."},
        log={**_array(_the("LogLine")), "description": "Notable events, the latest."},
    ),
    "RoundPoint": _object(
        "A completed round, or an evaluation after the last one.",
        **POINT,
        round=COUNT,
        age=MAYBE_NUMBER,
        training_loss=MAYBE_NUMBER,
        loss={**MAYBE_NUMBER, "description": "On held-out data, as the accuracies."},
        accuracy=MAYBE_NUMBER,
        balanced_accuracy=MAYBE_NUMBER,
    ),
    "PeerPoint": _object("A peer's accuracy.", **POINT, peer=TEXT, round=COUNT, accuracy=NUMBER),
    "TrafficPoint": _object("Bytes until then.", **POINT, received=COUNT, sent=COUNT),
    "RecentExchange": _object(
        "A model that went to a peer, came from it, or both.",
        **POINT,
        peer=TEXT,
        mode=TEXT,
        direction={"type": "string", "enum": ["in", "out"], "description": "in: the peer asked."},
        received=COUNT,
        sent=COUNT,
        outcome={"type": "string", "description": "ok, or why it failed."},
    ),
    "LogLine": _object("An event.", **POINT, event=TEXT, text=TEXT),
    "Controls": _object(
        "What the node's operator has set, and may set.",
        state={"type": "string", "enum": SHOWN_STATES},
        round=COUNT,
        paused={"type": "boolean", "description": "As it was set; the state says when it is so."},
        settings=_the("Settings"),
        in_force={
            **_the("Settings"),
            "description": "Of the round under way; the next has `settings`.",
        },
        warnings={**_array(TEXT), "description": "What is set and will not do what one may expect."},
        choices={
            "type": "object",
            "additionalProperties": {"type": "object"},
            "description": "What each setting may be: its JSON Schema.",
        },
        kept={"type": "boolean", "description": "Whether a restart finds it so."},
    ),
    "Settings": SETTINGS,
    "Change": {
        "type": "object",
        "description": "What is to be changed; all of it is, or nothing. Giving local_steps or local_epochs "
        "takes the other back.",
        "properties": {"paused": {"type": "boolean"}, **SETTABLE},
        "additionalProperties": False,
    },
    "Nothing": {"type": "object", "additionalProperties": False},
    "Stopping": _object("The node says farewell, saves its state and ends.", stopping={"const": True}),
    "Alive": _object("The node's process answers.", healthy={"const": True}),
    "Ready": _object(
        "Whether the node is of use to others.",
        ready={"type": "boolean"},
        lacks={**_array({"type": "string"}), "description": "What it has not got: data, peer."},
    ),
}

Page = tuple[str, str, dict[str, object], dict[str, object]]

PAGES: dict[str, Page] = {  # path -> (operation, summary, schema of 200, other answers in JSON)
    "/healthz": ("health", "Is the process alive? Always open.", _the("Alive"), {}),
    "/readyz": (
        "readiness",
        "Does the node serve, hold data, and know a live peer (or was it told of none)?",
        _the("Ready"),
        {
            "503": {
                "description": "It does not, yet or any more.",
                "content": {JSON: {"schema": _the("Ready")}},
            }
        },
    ),
    "/v1/status": ("status", "What the node does, and what it refused.", _the("Status"), {}),
    "/v1/peers": ("peers", "Whom the node knows.", _array(_the("Peer")), {}),
    "/v1/history": ("history", "What the node remembers of its past.", _the("History"), {}),
    "/v1/layout": ("layout", "Task and layout of the model.", _the("Layout"), {}),
    "/openapi.json": ("openapi", "This document.", {"type": "object", "required": ["openapi", "paths"]}, {}),
}

REFUSALS = {
    "Unauthorised": "The network has a token, and the request does not show it.",
    "NoCertificate": "Only clients with a certificate may see this page.",
    "NoSuchRoute": "There is no such path.",
    "WrongMethod": "The path takes other methods.",
    "TooManyRequests": "More than one address may ask; Retry-After says when it may again.",
    "Busy": "Too many others are served; Retry-After says when to try again.",
}
# Of the operator's routes, besides; several errors may share a status.
OPERATORS_REFUSALS = {
    "400": ("The body is not the JSON object that is wanted.", "Problem"),
    "403": (
        "The operator's token is missing or another, a foreign page asks, or there is no certificate.",
        "Problem",
    ),
    "408": ("The body did not come in time.", "Problem"),
    "413": ("The body is too large.", "Problem"),
    "415": ("The body is not application/json.", "Problem"),
    "422": ("A setting that cannot be; nothing was changed.", "BadSetting"),
}
WITH_RETRY_AFTER = ("TooManyRequests", "Busy")


def _refusal(name: str) -> dict[str, object]:
    answer: dict[str, object] = {
        "description": REFUSALS[name],
        "content": {problems.MEDIA_TYPE: {"schema": _the("Problem")}},
    }
    if name in WITH_RETRY_AFTER:
        seconds = {"type": "integer", "minimum": 1}
        answer["headers"] = {"Retry-After": {"schema": seconds, "description": "Seconds."}}
    return answer


def operation(page: Page) -> dict[str, object]:
    operation, summary, schema, others = page
    busy: dict[str, object] = {"$ref": "#/components/responses/Busy"}
    if "503" in others:  # there the same status has two meanings, told apart by the media type
        both: Any = others["503"]
        busy = {
            "description": f"{both['description']} Or: {REFUSALS['Busy']}",
            "content": {**both["content"], problems.MEDIA_TYPE: {"schema": _the("Problem")}},
        }
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {JSON: {"schema": schema}}},
            "401": {"$ref": "#/components/responses/Unauthorised"},
            "403": {"$ref": "#/components/responses/NoCertificate"},
            "404": {"$ref": "#/components/responses/NoSuchRoute"},
            "405": {"$ref": "#/components/responses/WrongMethod"},
            "429": {"$ref": "#/components/responses/TooManyRequests"},
            "503": busy,
        },
    }


def _control(operation: str, summary: str, answers: str, code: str, takes: str | None) -> dict[str, object]:
    """An operation of the operator. answers, takes: names of schemas, None: it has no body."""
    refusals: dict[str, object] = {
        status: {"description": text, "content": {problems.MEDIA_TYPE: {"schema": _the(schema)}}}
        for status, (text, schema) in OPERATORS_REFUSALS.items()
        if takes is not None or status == "403"
    }
    others = {"404": "NoSuchRoute", "405": "WrongMethod", "429": "TooManyRequests", "503": "Busy"}
    common = {status: {"$ref": f"#/components/responses/{name}"} for status, name in others.items()}
    body = (
        {}
        if takes is None
        else {"requestBody": {"required": True, "content": {JSON: {"schema": _the(takes)}}}}
    )
    return {
        "operationId": operation,
        "summary": summary,
        "security": [{"operator": []}, {"operator": [], "certificate": []}],
        **body,
        "responses": {
            code: {"description": summary, "content": {JSON: {"schema": _the(answers)}}},
            **refusals,
            **common,
        },
    }


CONTROLS: dict[str, dict[str, object]] = {
    "/v1/controls": {
        "get": _control("controls", "What is set.", "Controls", "200", None),
        "post": _control("control", "Pause, resume, set.", "Controls", "200", "Change"),
    },
    "/v1/stop": {"post": _control("stop", "Leave the network and end.", "Stopping", "202", "Nothing")},
}


@cache
def document() -> dict[str, object]:
    """The whole of it; not to be modified."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "p2pfl node",
            "version": __version__,
            "description": "The pages of a gossip-learning node for people and tools.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "./"}],
        # A node asks for neither, for one of them, or for both, as it was started.
        "security": [{}, {"token": []}, {"certificate": []}, {"token": [], "certificate": []}],
        "paths": {**{path: {"get": operation(page)} for path, page in PAGES.items()}, **CONTROLS},
        "components": {
            "schemas": SCHEMAS,
            "responses": {name: _refusal(name) for name in REFUSALS},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The network's shared secret."},
                "operator": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "p2pfl-control",
                    "description": "The secret of whoever operates this one node.",
                },
                "certificate": {"type": "mutualTLS", "description": "Of an authority that the node trusts."},
            },
        },
    }
