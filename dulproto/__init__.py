"""The DICOM upper layer, association negotiation and DIMSE on asyncio, written by hand.

A provider of Verification and of a worklist, to any caller:

    import asyncio
    from collections.abc import Iterator

    import dulproto
    from dulproto import CommandField, DataSet, Element, Operation

    ENTRIES: list[DataSet] = [
        {0x00100010: Element(0x00100010, "PN", b"Doe^Jane"), 0x00100020: Element(0x00100020, "LO", b"4711")},
        {0x00100010: Element(0x00100010, "PN", b"Roe^Rachel"), 0x00100020: Element(0x00100020, "LO", b"0815")},
    ]

    def find(operation: Operation) -> Iterator[bytes]:
        keys = operation.data_set()
        for entry in ENTRIES:
            yield operation.pending({tag: entry.get(tag, key) for tag, key in keys.items()})

    async def provide() -> None:
        services = {
            dulproto.VERIFICATION: {CommandField.C_ECHO_RQ: dulproto.answer_echo},
            dulproto.MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: find},
        }
        async with await dulproto.serve(services, port=11112) as server:
            await server.serve_forever()

    asyncio.run(provide())

And a user of it:

    import asyncio

    import dulproto
    from dulproto import Element

    async def query() -> None:
        keys = {0x00100010: Element(0x00100010, "PN"), 0x00100020: Element(0x00100020, "LO")}
        async with dulproto.connect("127.0.0.1", 11112, called_ae_title="ANY") as association:
            print("echo", await association.c_echo())
            async for status, entry in association.c_find(keys):
                if entry is not None:
                    print(f"{status:04X}", entry[0x00100010].raw.decode(), entry[0x00100020].raw.decode())

    asyncio.run(query())

Below these two stand `Association`, which does no I/O, `negotiate`, which is a pure function, and a pair of
functions for each PDU, item, command set and data set: see the modules of the same names.
"""

from __future__ import annotations

from .acse import (
    DEFAULT_TRANSFER_SYNTAXES,
    Check,
    ContextDecision,
    Decision,
    Policy,
    PresentationContext,
    Requestor,
    negotiate,
)
from .assembler import Message
from .association import Association
from .client import ClientAssociation, Timeouts, connect, propose
from .dictionary import KEYWORD_OF_TAG, TAG_OF_KEYWORD, VR_OF_TAG, tag_text
from .dimse import CommandField, CommandSet, ResponseTemplate, decode_command, encode_command, encode_message
from .elements import DataSet, Element, decode_data_set, encode_data_set, encode_element
from .errors import (
    AbortReason,
    AbortSource,
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    AssociationTimeout,
    DulError,
    ElementError,
    ElementLimitError,
    LocalProtocolError,
    RejectResult,
    RejectSource,
    RemoteProtocolError,
    abort_text,
    reject_text,
)
from .events import Aborted, Accepted, Associate, AssociationEvent, Limits, Rejected, Release, Released, Tolerated
from .fsm import Action, Event, State
from .items import ProposedContext, UserIdentity, UserInformation
from .pdu import AssociateAc, AssociateRj, AssociateRq, PduType, check_ae_title, encode_ae_titles
from .repeat import Answer
from .server import Associations, Server, serve
from .service import Handler, Operation, Services, answer_echo
from .status import Status, StatusCategory, category
from .uids import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    uid_name,
)

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_TRANSFER_SYNTAXES",
    "EXPLICIT_BE",
    "EXPLICIT_LE",
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "IMPLICIT_LE",
    "KEYWORD_OF_TAG",
    "MODALITY_WORKLIST_FIND",
    "TAG_OF_KEYWORD",
    "TRANSFER_SYNTAXES",
    "VERIFICATION",
    "VR_OF_TAG",
    "AbortReason",
    "AbortSource",
    "Aborted",
    "Accepted",
    "Action",
    "Answer",
    "Associate",
    "AssociateAc",
    "AssociateRj",
    "AssociateRq",
    "Association",
    "AssociationAborted",
    "AssociationError",
    "AssociationEvent",
    "AssociationRejected",
    "AssociationTimeout",
    "Associations",
    "Check",
    "ClientAssociation",
    "CommandField",
    "CommandSet",
    "ContextDecision",
    "DataSet",
    "Decision",
    "DulError",
    "Element",
    "ElementError",
    "ElementLimitError",
    "Event",
    "Handler",
    "Limits",
    "LocalProtocolError",
    "Message",
    "Operation",
    "PduType",
    "Policy",
    "PresentationContext",
    "ProposedContext",
    "RejectResult",
    "RejectSource",
    "Rejected",
    "Release",
    "Released",
    "RemoteProtocolError",
    "Requestor",
    "ResponseTemplate",
    "Server",
    "Services",
    "State",
    "Status",
    "StatusCategory",
    "Timeouts",
    "Tolerated",
    "UserIdentity",
    "UserInformation",
    "abort_text",
    "answer_echo",
    "category",
    "check_ae_title",
    "connect",
    "decode_command",
    "decode_data_set",
    "encode_ae_titles",
    "encode_command",
    "encode_data_set",
    "encode_element",
    "encode_message",
    "negotiate",
    "propose",
    "reject_text",
    "serve",
    "tag_text",
    "uid_name",
]
