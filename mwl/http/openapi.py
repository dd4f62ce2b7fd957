"""The operations of the HTTP service as one table: routes are made from it, and so is the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dulproto import __version__

from ..attributes import ATTRIBUTES
from ..item import STATUSES

__all__ = ["DICOM_JSON", "OPERATIONS", "Operation", "document"]

DICOM_JSON: Final = "application/dicom+json"

_TEXT: Final = {"type": "string"}


class Operation(msgspec.Struct, frozen=True):
    """One method of a path; `answers` has the status codes, what each means, and the name of its content."""

    name: str
    method: str
    path: str
    summary: str
    answers: dict[int, tuple[str, str]]
    parameters: tuple[str, ...] = ()
    body: str = ""
    is_open: bool = False


# Content of bodies and answers: media type, and schema.
_CONTENT: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "entry": (DICOM_JSON, {"$ref": "#/components/schemas/Entry"}),
    "entries": (DICOM_JSON, {"type": "array", "items": {"$ref": "#/components/schemas/Entry"}}),
    "entry or entries": (
        DICOM_JSON,
        {
            "oneOf": [
                {"$ref": "#/components/schemas/Entry"},
                {"type": "array", "items": {"$ref": "#/components/schemas/Entry"}},
            ]
        },
    ),
    "status": ("application/json", {"$ref": "#/components/schemas/Status"}),
    "problem": ("application/problem+json", {"$ref": "#/components/schemas/Problem"}),
    "object": ("application/json", {"type": "object"}),
    "metrics": ("text/plain", _TEXT),
    "page": ("text/html", _TEXT),
}

_REFUSED: Final[dict[int, tuple[str, str]]] = {
    401: ("a token is configured, and the request has not got it", "problem"),
    403: ("the request comes from a web page of somebody else", "problem"),
}
_NOT_FOUND: Final = {404: ("there is no such entry", "problem")}
_UNREADABLE: Final[dict[int, tuple[str, str]]] = {
    400: ("the body is no JSON", "problem"),
    408: ("the body did not come", "problem"),
    413: ("the body is too large", "problem"),
    415: ("the body is not declared as JSON", "problem"),
}
_FAULTY: Final = {422: ("something is wrong, and each fault is named", "problem")}
_NOT_KEPT: Final = {503: ("the store cannot be written, and nothing was kept", "problem")}
_OF_ENTRY: Final = ("study_uid", "sps_id")
_KEYS: Final = ("keys", "all", "ae", "remote")

# fmt: off
OPERATIONS: Final = (
    Operation("list_entries", "GET", "/mwlitems", "List entries, in the order of their start.",
              {200: ("the entries; X-Total-Count has how many match in all", "entries")} | _FAULTY,
              (*_KEYS, "limit", "offset")),
    Operation("put_entries", "POST", "/mwlitems", "Take in entries: all of them, or none.",
              {201: ("kept, on disk and listed, as it stands here", "entry or entries"),
               409: ("there is such an entry already", "problem")} | _UNREADABLE | _FAULTY | _NOT_KEPT,
              ("replace",), "entry or entries"),
    Operation("get_entry", "GET", "/mwlitems/{study_uid}/{sps_id}", "Show an entry.",
              {200: ("the entry", "entry")} | _NOT_FOUND, _OF_ENTRY),
    Operation("put_entry", "PUT", "/mwlitems/{study_uid}/{sps_id}", "Put an entry in place of what is there.",
              {200: ("replaced", "entry"), 201: ("new", "entry")} | _UNREADABLE | _FAULTY | _NOT_KEPT,
              _OF_ENTRY, "entry"),
    Operation("remove_entry", "DELETE", "/mwlitems/{study_uid}/{sps_id}", "Remove an entry.",
              {204: ("removed", "")} | _NOT_FOUND | _NOT_KEPT, _OF_ENTRY),
    Operation("set_status", "POST", "/mwlitems/{study_uid}/{sps_id}/status", "Set the status of a step.",
              {200: ("the entry as it is now", "entry")} | _NOT_FOUND | _UNREADABLE | _FAULTY | _NOT_KEPT,
              _OF_ENTRY, "status"),
    Operation("explain_query", "GET", "/explain", "Say why a query of a modality finds what it finds.",
              {200: ("what each key does, what the filters hide, what was nearly found", "object")} | _FAULTY, _KEYS),
    Operation("reload", "POST", "/reload", "Read the configuration again.",
              {200: ("it is in force", "object"), 422: ("it is refused as a whole, the old one stays", "problem")}),
    Operation("healthz", "GET", "/healthz", "Tell that the program runs.", {200: ("it does", "object")},
              is_open=True),
    Operation("readyz", "GET", "/readyz", "Tell whether queries are answered from a worklist that is up to date.",
              {200: ("they are", "object"), 503: ("they are not", "problem")}, is_open=True),
    Operation("metrics", "GET", "/metrics", "Count, as Prometheus reads it.", {200: ("metrics", "metrics")}),
    Operation("openapi", "GET", "/openapi.json", "Describe the service: this document.",
              {200: ("OpenAPI 3.1", "object")}),
    Operation("show_page", "GET", "/", "Show the worklist to people.",
              {200: ("the operator's page", "page"), 422: ("the same, with what is wrong in the keys", "page")},
              (*_KEYS, "limit", "offset")),
)
# fmt: on


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _in_path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": description}


_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_KEYWORDS: Final = {attribute.keyword: _TEXT for attribute in ATTRIBUTES if attribute.vr != "SQ"}
_PARAMETERS: Final = {
    "keys": {
        "name": "keys",
        "in": "query",
        "required": False,
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "properties": _KEYWORDS, "additionalProperties": _TEXT},
        "description": "What entries must have, matched as in C-FIND: PatientName=DOE*, 0010,0020=4711,"
        " ScheduledProcedureStepStartDate=20260101-20260131.  Each key is a parameter of its own: a keyword, a tag,"
        " or a path like SPS/Modality.",
    },
    "all": _query("all", {"type": "boolean"}, "Also what is over, or has been started."),
    "ae": _query("ae", _TEXT, "Show what this worklist, one of our AE titles, shows to a modality."),
    "remote": _query("remote", _TEXT, "Show what the modality of this AE title is shown."),
    "limit": _query("limit", _NUMBER, "How many entries at the most."),
    "offset": _query("offset", _NUMBER, "How many entries to pass over."),
    "replace": _query("replace", {"type": "boolean"}, "Take the place of entries with the same key."),
    "study_uid": _in_path("study_uid", "Study Instance UID"),
    "sps_id": _in_path("sps_id", "Scheduled Procedure Step ID"),
}

_SCHEMAS: Final = {
    "Entry": {
        "type": "object",
        "description": "A scheduled procedure step with its procedure, request and patient, PS3.18 Annex F. Study"
        " Instance UID, Requested Procedure ID and Scheduled Procedure Step ID are generated where they are missing.",
        "patternProperties": {
            "^[0-9A-Fa-f]{8}$": {
                "type": "object",
                "properties": {"vr": {"type": "string"}, "Value": {"type": "array"}},
            }
        },
        "example": {
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
            "00100020": {"vr": "LO", "Value": ["4711"]},
            "00400100": {
                "vr": "SQ",
                "Value": [
                    {"00080060": {"vr": "CS", "Value": ["CT"]}, "00400002": {"vr": "DA", "Value": ["20260102"]}}
                ],
            },
        },
    },
    "Status": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "enum": list(STATUSES)}},
    },
    "Problem": {
        "type": "object",
        "description": "Problem details, RFC 9457.",
        "required": ["title", "status"],
        "properties": {
            "title": _TEXT,
            "status": {"type": "integer"},
            "faults": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["attribute", "reason"],
                    "properties": {
                        "item": {"type": "integer", "description": "the place in an array, from 0"},
                        "attribute": _TEXT,
                        "reason": _TEXT,
                    },
                },
            },
        },
    },
}


def document() -> dict[str, Any]:
    """Make the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Modality Worklist", "version": __version__, "license": {"name": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    answers = operation.answers if operation.is_open else operation.answers | _REFUSED
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {str(status): _response(*answers[status]) for status in sorted(answers)},
    }
    if operation.parameters:
        described["parameters"] = [_PARAMETERS[name] for name in operation.parameters]
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    if operation.is_open:
        described["security"] = [{}]
    return described


def _response(description: str, content: str) -> dict[str, Any]:
    return {"description": description, **({"content": _content(content)} if content else {})}


def _content(name: str) -> dict[str, Any]:
    media_type, schema = _CONTENT[name]
    same_as = ["application/json"] if media_type == DICOM_JSON else []
    return {each: {"schema": schema} for each in [media_type, *same_as]}
