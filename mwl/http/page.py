"""The operator's page: the worklist, what is open, and why a list is empty.  Works without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from dulproto import EXPLICIT_LE, __version__

from ..explain import Explanation, explain
from ..item import STATUSES, Entry, PatientIdentifier
from ..report import Report
from .listing import Listing, ListingError, decode_listing, find

if TYPE_CHECKING:
    from ..server import Running

__all__ = ["ROWS", "render_page"]

ROWS: Final = 100

_TEMPLATE: Final = files(__package__).joinpath("page.html").read_text("utf-8")
_SCRIPT: Final = _TEMPLATE.partition("<script>")[2].partition("</script>")[0]
_HASH: Final = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self';"
    f" script-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FIELDS: Final = ("PatientName", "PatientID", "AccessionNumber", "Modality", "ScheduledStationAETitle")
_STATUS: Final = "ScheduledProcedureStepStatus"
_ALL: Final = "all"

Parameters = Sequence[tuple[str, str]]


def render_page(running: Running, report: Report, parameters: Parameters) -> tuple[str, int, dict[str, str]]:
    """Write the page; gives its HTML, status and headers."""
    now = running.provider.now()
    if not parameters:
        today = now.date().isoformat()
        parameters = [("from", today), ("to", today)]
    given = dict(parameters)
    keys = _query_parameters(parameters)
    status, total, offset, shown = 200, 0, 0, 0
    try:
        own = [("limit", str(ROWS)), ("offset", given.get("offset", ""))]
        listing = decode_listing([*keys, *own], running.config)
    except ListingError as exc:
        status = 422
        entries = _note("These keys cannot be used:", map(str, exc.faults), "bad")
    else:
        total, slots = find(listing, running.worklist, now)
        offset, shown = listing.offset, len(slots)
        rows = (_row(slot.entry) for slot in slots)
        entries = _table(_HEADINGS, rows) if slots else _why_empty(running, listing, now)
    config = running.config
    html = Template(_TEMPLATE).substitute(
        {name: escape(given.get(name, "")) for name in ("from", "to", "remote", *_FIELDS)},
        keys=escape(urlencode(keys)),
        statuses=_options(
            given.get(_STATUS, ""), {"": "to be done", _ALL: "all", **{each: each for each in STATUSES}}
        ),
        aes=_options(given.get("ae", ""), {"": "(any)", **{each.title: each.title for each in config.ae}}),
        remotes="".join(f'<option value="{escape(remote.title)}">' for remote in config.remote),
        state=_state(running, report),
        count=f"<b>{total:,}</b> {'entry' if total == 1 else 'entries'}",
        pages=_pages(parameters, offset, shown, total),
        entries=entries,
        worklists=_worklists(running, report),
        associations=_associations(report),
        version=f"mwl {escape(__version__)}",
        now=f"{now:%Y-%m-%d %H:%M:%S}",
    )
    return html, status, _HEADERS


def _query_parameters(parameters: Parameters) -> list[tuple[str, str]]:
    """Turn the fields of the form into parameters of GET /mwlitems; an empty field is none."""
    given = {name: value.strip() for name, value in parameters if value.strip()}
    first, last = (given.pop(name, "").replace("-", "") for name in ("from", "to"))
    if first or last:
        given["ScheduledProcedureStepStartDate"] = first if first == last else f"{first}-{last}"
    name = given.get("PatientName", "")
    if name and not set("*?=^") & set(name):
        given["PatientName"] = f"{name}*"  # as the consoles of modalities do
    if given.get(_STATUS) == _ALL:
        del given[_STATUS]
        if not given.keys() & {"ae", "remote"}:
            given["all"] = "true"
    given.pop("offset", None)
    given.pop("limit", None)
    return list(given.items())


# --- entries ------------------------------------------------------------------------------------------------------

_HEADINGS: Final = (
    *("Start", "Patient", "Patient ID", "Born", "Station", "Modality"),
    *("Procedure", "Accession", "Step", "Status"),
)


def _row(entry: Entry) -> tuple[str, ...]:
    patient, step = entry.patient, entry.step
    first, *others = patient.identifiers or (PatientIdentifier(""),)
    start = (
        f"{step.start_date or ''}<small>{step.start_time:%H:%M}</small>" if step.start_time else str(step.start_date)
    )
    issuer = escape(first.issuer) + (f" and {len(others)} more" if others else "")
    description = step.description or entry.procedure.description
    address = "mwlitems/" + "/".join(quote(part, safe="") for part in entry.key)
    return (
        f'<span class="n">{start}</span>',
        _name(patient.name),
        f'<span class="n">{escape(first.value)}</span><small>{issuer}</small>',
        f'<span class="n">{patient.birth_date or ""}</span><small>{escape(patient.sex)}</small>',
        escape(", ".join(step.station_ae_titles)),
        escape(step.modality),
        f"{escape(description)}<small>{escape(step.location)}</small>",
        f'<span class="n">{escape(entry.request.accession_number)}</span>',
        f'<a class="n" href="{escape(address)}">{escape(step.step_id)}</a>',
        f'<span class="status {escape(step.status)}">{escape(step.status)}</span>',
    )


def _name(name: str) -> str:
    """Write a name as people do: family name first, other writings below."""
    groups = []
    for group in name.split("="):
        family, _, others = group.partition("^")
        rest = " ".join(part for part in others.split("^") if part)
        groups.append(f"<bdi>{escape(', '.join(part for part in (family, rest) if part))}</bdi>")
    first, *more = [group for group in groups if group != "<bdi></bdi>"] or [""]
    return first + (f"<small>{' '.join(more)}</small>" if more else "")


def _why_empty(running: Running, listing: Listing, now: datetime) -> str:
    explanation = explain(listing.identifier, EXPLICIT_LE, listing.policy, listing.view, running.worklist, now)
    return _note("Nothing is listed.", _reasons(explanation))


def _reasons(explanation: Explanation) -> Iterator[str]:
    if not explanation.entries:
        yield "The worklist has no entries at all."
    for hidden in explanation.hidden:
        values = f" ({', '.join(hidden.values)})" if hidden.values else ""
        yield f"{hidden.entries:,} that the keys find are not shown because of the filter on {hidden.filter}{values}"
    yield from (near.text for near in explanation.near_misses)
    if explanation.unheeded:
        yield explanation.unheeded


# --- the provider -------------------------------------------------------------------------------------------------


def _state(running: Running, report: Report) -> str:
    trouble = f' · <b class="bad">{escape(running.why_not_ready)}</b>' if running.why_not_ready else ""
    addresses = " · ".join(f"{name} {address}" for name, address in running.addresses.items())
    counts = f"{len(running.worklist):,} entries, revision {running.revision:,} · {report.operations:,} requests"
    return f"{escape(addresses)} · {counts}{trouble}"


def _worklists(running: Running, report: Report) -> str:
    rows = [
        (
            escape(ae.title),
            f"{running.associations.get(ae.title, 0)} of {ae.max_associations or 'any number'}",
            f"{report.accepted.get(ae.title, 0):,}",
        )
        for ae in running.config.ae
    ]
    refused = sum(report.refused.values())
    if refused:
        rows.append(("<span class=dim>refused</span>", "", f"{refused:,}"))
    return _table(("AE title", "Open associations", "Since the start"), rows)


def _associations(report: Report) -> str:
    rows = [
        (escape(each.calling_ae_title), escape(each.called_ae_title), escape(each.peer), f"{each.operations:,}")
        for each in sorted(report.associations)
    ]
    if not rows:
        return '<p class="note dim">None</p>'
    more = [(f"and {len(rows) - ROWS:,} more", "", "", "")] if len(rows) > ROWS else []
    return _table(("Calling", "Called", "From", "Requests"), [*rows[:ROWS], *more])


# --- pieces of HTML -----------------------------------------------------------------------------------------------


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; the cells are HTML."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _note(text: str, lines: Iterable[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="note {kind}"><p>{escape(text)}</p><ul>{items}</ul></div>'


def _options(chosen: str, options: dict[str, str]) -> str:
    return "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(text)}</option>'
        for value, text in options.items()
    )


def _pages(parameters: Parameters, offset: int, shown: int, total: int) -> str:
    others = [(name, value) for name, value in parameters if name != "offset"]

    def link(start: int, text: str) -> str:
        return f'<a href="?{escape(urlencode([*others, ("offset", str(start))]))}">{text}</a>'

    parts = [f"{offset + 1:,} to {offset + shown:,}"] if shown < total else []
    if offset:
        parts.append(link(max(0, offset - ROWS), "earlier"))
    if offset + shown < total:
        parts.append(link(offset + ROWS, "later"))
    return " · ".join(parts)
