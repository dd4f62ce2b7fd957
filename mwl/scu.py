"""Query another worklist provider: what `mwl echo` and `mwl find` do once their arguments are read."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from io import BytesIO
from typing import Any, Final

import msgspec

import dulproto
from dulproto import CommandField, CommandSet, DataSet, Status, StatusCategory, Timeouts, category

__all__ = ["Address", "Answer", "echo", "find", "to_csv", "to_json", "to_table"]


class Address(msgspec.Struct, frozen=True):
    """Where an AE is: `WORKLIST@HOST:PORT`, the title and the port may be left out."""

    host: str
    port: int = 11112
    ae_title: str = "WORKLIST"

    @classmethod
    def decode(cls, text: str) -> Address:
        """Read an address; raises ValueError that says what is wanted."""
        match = re.fullmatch(r"(?:(.+)@)?(\[[0-9A-Fa-f:.]+\]|[^:@\s]+)(?::(\d{1,5}))?", text)
        title, host, port = match.groups() if match else ("", "", "")
        if not host or (port and not 0 < int(port) < 65536):
            raise ValueError(f"{text!r}: TITLE@HOST:PORT is wanted, as in WORKLIST@127.0.0.1:11112")
        if title:
            dulproto.check_ae_title(title)
        return cls(host.strip("[]"), int(port or 11112), title or "WORKLIST")

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


class Answer(msgspec.Struct, frozen=True):
    """The end of a query: its final status and what the provider said to it."""

    status: int
    comment: str = ""

    @property
    def ok(self) -> bool:
        """Whether the query went through, or was cancelled as asked."""
        return category(self.status) in (StatusCategory.SUCCESS, StatusCategory.CANCEL)

    def __str__(self) -> str:
        try:
            name = Status(self.status).name.lower().replace("_", " ")
        except ValueError:
            name = category(self.status).value
        return f"{self.status:04X}H {name}" + (f": {self.comment}" if self.comment else "")


def connection(
    address: Address, calling: str, transfer_syntaxes: Iterable[str], maximum_length: int, seconds: float
) -> dulproto.connect:
    """Prepare the association of a query."""
    return dulproto.connect(
        address.host,
        address.port,
        called_ae_title=address.ae_title,
        calling_ae_title=calling,
        contexts=dulproto.propose(
            dulproto.VERIFICATION, dulproto.MODALITY_WORKLIST_FIND, transfer_syntaxes=transfer_syntaxes
        ),
        maximum_length=maximum_length,
        timeouts=Timeouts(connect=seconds, associate=seconds, response=seconds, release=seconds),
    )


async def echo(association: dulproto.ClientAssociation) -> Answer:
    """Verify an association, PS3.7 9.1.5."""
    return Answer(await association.c_echo())


async def find(
    association: dulproto.ClientAssociation, keys: DataSet, cancel_after: int | None = None
) -> AsyncIterator[DataSet | Answer]:
    """Query, and yield each match, then the answer; after `cancel_after` matches the query is cancelled."""
    context = association.context_for(dulproto.MODALITY_WORKLIST_FIND)
    command = CommandSet(
        command_field=CommandField.C_FIND_RQ, affected_sop_class_uid=context.abstract_syntax, priority=0
    )
    count = 0
    async for response in association.request(
        context, command, dulproto.encode_data_set(keys, context.transfer_syntax)
    ):
        if response.command.has_data_set:
            yield dulproto.decode_data_set(response.data, context.transfer_syntax)
            count += 1
            if count == cancel_after:
                association.c_cancel()
        else:
            yield Answer(response.command.status or 0, response.command.error_comment or "")


# --- what people and programs read ----------------------------------------------------------------------------

# Heading and keyword path of a column; an attribute that no answer has a value of gets none.
_COLUMNS: Final = (
    ("Date", "SPS/ScheduledProcedureStepStartDate"),
    ("Time", "SPS/ScheduledProcedureStepStartTime"),
    ("Station", "SPS/ScheduledStationAETitle"),
    ("Modality", "SPS/Modality"),
    ("Patient", "PatientName"),
    ("ID", "PatientID"),
    ("Birth date", "PatientBirthDate"),
    ("Sex", "PatientSex"),
    ("Accession", "AccessionNumber"),
    ("Procedure", "RequestedProcedureDescription"),
    ("Step", "SPS/ScheduledProcedureStepDescription"),
    ("Status", "SPS/ScheduledProcedureStepStatus"),
)


def to_json(match: DataSet) -> dict[str, Any]:
    """Give a match in the DICOM JSON model, PS3.18 F."""
    model: dict[str, Any] = _read(match).to_json_dict()
    return model


def to_csv(matches: Sequence[DataSet]) -> str:
    """Give matches as comma-separated values, the columns in the order of the table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([heading for heading, _ in _COLUMNS])
    writer.writerows(to_row(match) for match in matches)
    return out.getvalue()


def to_table(matches: Sequence[DataSet]) -> tuple[list[str], list[list[str]]]:
    """Give headings and rows, without the columns that are empty in every row."""
    rows = [to_row(match) for match in matches]
    used = [n for n in range(len(_COLUMNS)) if any(row[n] for row in rows)]
    return [_COLUMNS[n][0] for n in used], [[row[n] for n in used] for row in rows]


def to_row(match: DataSet) -> list[str]:
    """Give the values of the columns."""
    from pydicom.multival import MultiValue

    dataset = _read(match)
    step = dataset.get("ScheduledProcedureStepSequence") or [None]
    row = []
    for _, path in _COLUMNS:
        source = step[0] if path.startswith("SPS/") else dataset
        value = source.get(path.removeprefix("SPS/"), "") if source is not None else ""
        row.append("\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or ""))
    return row


def _read(match: DataSet) -> Any:
    """Decode the text of a match, by way of pydicom, which knows every character set."""
    from pydicom.filereader import read_dataset

    data = dulproto.encode_data_set(match, dulproto.EXPLICIT_LE)
    dataset = read_dataset(BytesIO(data), is_implicit_VR=False, is_little_endian=True)
    dataset.decode()
    return dataset
