"""What a peer makes an association remember is bounded, however long it goes on."""

from __future__ import annotations

import asyncio
import gc

from wire import settle

import dulproto
from dulproto.acceptor import Acceptor
from dulproto.acse import DEFAULT_TRANSFER_SYNTAXES, Policy
from dulproto.dimse import CommandSet, ResponseTemplate, encode_message
from dulproto.events import Limits
from dulproto.items import ProposedContext
from dulproto.pdu import AssociateRq, encode_ae_titles, encode_associate_rq
from dulproto.server import Server
from dulproto.uids import IMPLICIT_LE, VERIFICATION


class Sink(asyncio.Transport):
    """A transport that remembers how much was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False


def templates() -> int:
    gc.collect()
    return sum(isinstance(thing, ResponseTemplate) for thing in gc.get_objects())


async def test_command_fields_that_a_peer_invents_are_answered_and_forgotten() -> None:
    policy = Policy(abstract_syntaxes={VERIFICATION: DEFAULT_TRANSFER_SYNTAXES})
    at_first = templates()
    server = Server(
        {"*": policy}, {dulproto.VERIFICATION: {dulproto.CommandField.C_ECHO_RQ: dulproto.answer_echo}}, Limits(), 60
    )
    acceptor, sink = Acceptor(server), Sink()
    acceptor.connection_made(sink)
    contexts = (ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)),)
    acceptor.data_received(encode_associate_rq(AssociateRq(encode_ae_titles("ANY", "CT1"), contexts)))
    for field in range(0x1000, 0x1400):
        command = CommandSet(command_field=field, message_id=1, affected_sop_class_uid=VERIFICATION)
        before = sink.written
        acceptor.data_received(encode_message(1, command, b"", 0))
        await settle()
        assert sink.written > before
    assert templates() - at_first < 64
    acceptor.connection_lost(None)
