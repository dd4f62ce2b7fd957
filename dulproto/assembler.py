"""Messages from presentation data values, PS3.8 Annex E: fragments in any cut, bounded in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .dimse import CommandSet, decode_command
from .errors import AbortReason, RemoteProtocolError
from .pdu import COMMAND, LAST


class Message(msgspec.Struct, frozen=True, gc=False):
    """A DIMSE message: the presentation context it came on, its command set, its data set as bytes."""

    context_id: int
    command: CommandSet
    data: bytes = b""


class MessageAssembler:
    """Put PDVs together into messages; a fragment may itself come in pieces.

    `contexts` holds the accepted presentation contexts by id.  The limits count bytes of one command set and of
    one data set.
    """

    def __init__(self, contexts: Mapping[int, Any], command_limit: int, data_set_limit: int) -> None:
        self.contexts = contexts
        self.command_limit = command_limit
        self.data_set_limit = data_set_limit
        self._context_id = 0
        self._control = 0
        self.command: CommandSet | None = None  # complete, its data set still to come
        self._received: bytes | bytearray = b""

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and is not complete."""
        return bool(self._received) or self.command is not None

    def begin(self, context_id: int, control: int, length: int, offset: int) -> None:
        """Open a PDV whose fragment has `length` bytes; `offset` is its place in the PDU, for errors."""
        if context_id not in self.contexts:
            raise RemoteProtocolError(
                f"presentation context {context_id} was not accepted",
                AbortReason.INVALID_PDU_PARAMETER_VALUE,
                field="PDV.presentation-context-ID",
                offset=offset + 4,
            )
        if self.in_message and context_id != self._context_id:
            raise _unexpected(f"a PDV of context {context_id} inside a message of {self._context_id}", offset + 4)
        if control & COMMAND:
            if self.command is not None:
                raise _unexpected("a command fragment where a data set must follow", offset + 5)
            limit = self.command_limit
        elif self.command is None:
            if length or self._received:
                raise _unexpected("a data set fragment without a command", offset + 5)
            limit = 0  # an empty PDV behind a message without data set: some peers send one
        else:
            limit = self.data_set_limit
        if len(self._received) + length > limit:
            raise RemoteProtocolError(
                f"more than {limit} bytes of {'command' if control & COMMAND else 'data set'}",
                AbortReason.INVALID_PDU_PARAMETER_VALUE,
                field="PDV.message-fragment",
                offset=offset,
            )
        self._context_id, self._control = context_id, control

    def add(self, piece: bytes) -> None:
        """Take a piece of the fragment that `begin` opened."""
        if not self._received:
            self._received = piece  # most messages come in one piece, and are not copied
        elif isinstance(self._received, bytearray):
            self._received += piece
        else:
            self._received = bytearray(self._received) + piece

    def end(self) -> Message | None:
        """Close the PDV; return the message if it is complete now."""
        if not self._control & LAST:
            return None
        if self._control & COMMAND:
            command = decode_command(self._take())
            if command.has_data_set:
                self.command = command
                return None
            return Message(self._context_id, command)
        command_of_data, self.command = self.command, None
        if command_of_data is None:
            return None
        return Message(self._context_id, command_of_data, self._take())

    def _take(self) -> bytes:
        data, self._received = bytes(self._received), b""
        return data


def _unexpected(message: str, offset: int) -> RemoteProtocolError:
    return RemoteProtocolError(message, AbortReason.UNEXPECTED_PDU, field="PDV.message-control-header", offset=offset)
