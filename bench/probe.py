"""A plain blocking requestor: asks a server once, to see that its answers are right and to record them."""

from __future__ import annotations

import socket
from types import TracebackType

import dulproto
from dulproto import (
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    AssociateRq,
    CommandField,
    CommandSet,
    UserInformation,
    decode_data_set,
    encode_ae_titles,
    encode_message,
    propose,
)
from dulproto.dimse import DATA_SET
from dulproto.pdu import PDU_HEADER, decode_p_data_tf, encode_associate_rq

from .canned import ECHO_CONTEXT, FIND_CONTEXT, Canned
from .sample import Query

MAXIMUM_LENGTH = 65536
RELEASE_RQ = bytes.fromhex("05000000000400000000")
_ACCESSION_NUMBER = 0x00080050
_ANSWERED_ID = bytes.fromhex("0000200102000000")  # (0000,0120), 2 bytes


class WrongAnswer(Exception):
    """A server did not answer what it should have."""


def associate_rq(calling: str = "BENCH", called: str = "WORKLIST") -> bytes:
    """Encode the association request of a modality: Verification and Modality Worklist, Implicit VR Little Endian."""
    contexts = propose(VERIFICATION, MODALITY_WORKLIST_FIND, transfer_syntaxes=(IMPLICIT_LE,))
    assert [context.context_id for context in contexts] == [ECHO_CONTEXT, FIND_CONTEXT]
    user = UserInformation(
        maximum_length=MAXIMUM_LENGTH,
        implementation_class_uid=dulproto.IMPLEMENTATION_CLASS_UID,
        implementation_version_name=dulproto.IMPLEMENTATION_VERSION_NAME,
    )
    return encode_associate_rq(AssociateRq(encode_ae_titles(called, calling), contexts, user))


def echo_rq(message_id: int) -> bytes:
    """Encode a C-ECHO-RQ, as one PDU."""
    command = CommandSet(
        command_field=CommandField.C_ECHO_RQ, affected_sop_class_uid=VERIFICATION, message_id=message_id
    )
    return encode_message(ECHO_CONTEXT, command, b"", MAXIMUM_LENGTH)


def find_rq(message_id: int, identifier: bytes) -> bytes:
    """Encode a C-FIND-RQ, as two PDUs."""
    command = CommandSet(
        command_field=CommandField.C_FIND_RQ,
        affected_sop_class_uid=MODALITY_WORKLIST_FIND,
        message_id=message_id,
        priority=0,
        command_data_set_type=DATA_SET,
    )
    return encode_message(FIND_CONTEXT, command, identifier, MAXIMUM_LENGTH)


class Probe:
    """An association with a server of this machine."""

    def __init__(self, port: int, seconds: float = 60) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._message_id = 0
        self._socket.sendall(associate_rq())
        self.associate_ac = self._receive_pdu(2)

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def release(self) -> bytes:
        """Release the association; return the A-RELEASE-RP."""
        self._socket.sendall(RELEASE_RQ)
        return self._receive_pdu(6)

    def echo(self) -> list[bytes]:
        """Verify; return the segments of the answer."""
        self._message_id += 1
        self._socket.sendall(echo_rq(self._message_id))
        return self._answer()[0]

    def find(self, identifier: bytes) -> tuple[list[bytes], list[bytes]]:
        """Query; return the answer cut at the message ids, and the identifiers in it."""
        self._message_id += 1
        self._socket.sendall(find_rq(self._message_id, identifier))
        return self._answer()

    def check(self, query: Query) -> None:
        """Raise WrongAnswer unless the answer has the very matches that are expected."""
        found = [
            decode_data_set(raw, IMPLICIT_LE)[_ACCESSION_NUMBER].raw.decode().strip(" ")
            for raw in self.find(query.identifier)[1]
        ]
        if len(found) != len(query.matches) or set(found) != query.matches:
            raise WrongAnswer(
                f"{len(found)} matches, {len(set(found) & query.matches)} of them right, "
                f"where {len(query.matches)} were expected"
            )

    def _answer(self) -> tuple[list[bytes], list[bytes]]:
        segments, since, identifiers = [], bytearray(), []
        while True:
            pdu = self._receive_pdu(4)
            command = None
            for pdv in decode_p_data_tf(pdu).pdvs:
                if pdv.control & 1:
                    command = dulproto.decode_command(pdv.fragment)
                    place = pdu.index(_ANSWERED_ID) + len(_ANSWERED_ID)
                    segments.append(bytes(since + pdu[:place]))
                    since, pdu = bytearray(), pdu[place + 2 :]
                elif pdv.control & 2:
                    identifiers.append(pdv.fragment)
            since += pdu
            if command is not None and not command.has_data_set:
                if command.status != dulproto.Status.SUCCESS:
                    raise WrongAnswer(f"the final status is {command.status:04X}H")
                return [*segments, bytes(since)], identifiers

    def _receive_pdu(self, expected: int) -> bytes:
        data = self._rest
        while len(data) < 6 or len(data) < 6 + PDU_HEADER.unpack_from(data)[1]:
            more = self._socket.recv(1 << 20)
            if not more:
                raise WrongAnswer("the connection was closed")
            data += more
        size = 6 + PDU_HEADER.unpack_from(data)[1]
        if data[0] != expected:
            raise WrongAnswer(f"PDU {data[0]:02X}H where {expected:02X}H was expected")
        self._rest = data[size:]
        return data[:size]


def record(port: int, query: Query) -> Canned:
    """Record what a server answers, to be written again by a server that does not look."""
    with Probe(port) as probe:
        echo = probe.echo()
        find, identifiers = probe.find(query.identifier)
        assert len(identifiers) == len(query.matches)
        return Canned(probe.associate_ac, probe.release(), echo, find)
