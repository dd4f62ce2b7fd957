"""Hypothesis strategies that several test modules share: PDUs, command sets, data sets, and streams of bytes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from dulproto.dimse import DATA_SET, NO_DATA_SET, REQUIRED_FIELDS, CommandField, CommandSet, encode_command
from dulproto.elements import DataSet, Element
from dulproto.items import (
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    Item,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from dulproto.pdu import (
    Abort,
    AssociateAc,
    AssociateRj,
    AssociateRq,
    PDataTf,
    Pdv,
    ReleaseRp,
    ReleaseRq,
    encode_ae_titles,
    encode_p_data_tf,
)
from dulproto.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, MODALITY_WORKLIST_FIND, VERIFICATION

SYNTAXES = (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE)

uint8 = st.integers(0, 0xFF)
uint16 = st.integers(0, 0xFFFF)
uint32 = st.integers(0, 0xFFFFFFFF)

uids = st.sampled_from((VERIFICATION, MODALITY_WORKLIST_FIND, *SYNTAXES)) | st.lists(
    st.integers(0, 10**9).map(str), min_size=2, max_size=6
).map(lambda components: ".".join(["1", "2", *components]))
names = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=16
)
ae_titles = st.builds(encode_ae_titles, names, names)


# --- items and PDUs ----------------------------------------------------------------------------------------------

proposed_contexts = st.builds(ProposedContext, uint8, st.just("") | uids, st.lists(uids, max_size=4).map(tuple))
context_results = st.builds(ContextResult, uint8, st.integers(0, 4), uids)
role_selections = st.builds(RoleSelection, uids, st.integers(0, 1), st.integers(0, 1))
extended_negotiations = st.builds(ExtendedNegotiation, uids, st.binary(max_size=8))
common_extended_negotiations = st.builds(
    CommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3).map(tuple), version=st.just(0)
)
user_identities = st.builds(
    UserIdentity, st.integers(1, 5), st.binary(min_size=1, max_size=20), st.binary(max_size=20), st.booleans()
)
unknown_items = st.builds(Item, st.integers(0x60, 0xFF), st.binary(max_size=12))


def user_informations(**fields: Any) -> st.SearchStrategy[UserInformation]:
    """User information as a requestor may send it; `fields` replace or add strategies."""
    return st.builds(
        UserInformation,
        **{
            "maximum_length": uint32,
            "implementation_class_uid": uids,
            "asynchronous_operations_window": st.none() | st.tuples(uint16, uint16),
            "role_selections": st.lists(role_selections, max_size=3).map(tuple),
            "implementation_version_name": st.just("") | names,
            "extended_negotiations": st.lists(extended_negotiations, max_size=3).map(tuple),
            "common_extended_negotiations": st.lists(common_extended_negotiations, max_size=2).map(tuple),
            "user_identity": st.none() | user_identities,
            **fields,
        },
    )


any_user_informations = user_informations(
    maximum_length=st.none() | uint32,
    implementation_class_uid=st.just("") | uids,
    user_identity_response=st.none() | st.binary(max_size=20),
    unknown=st.lists(unknown_items, max_size=2).map(tuple),
)
associate_rqs = st.builds(
    AssociateRq,
    titles=st.binary(min_size=64, max_size=64),
    presentation_contexts=st.lists(proposed_contexts, min_size=1, max_size=5).map(tuple),
    user_information=any_user_informations,
    application_context=uids,
    protocol_version=uint16,
    unknown=st.lists(unknown_items, max_size=2).map(tuple),
)
associate_acs = st.builds(
    AssociateAc,
    titles=st.binary(min_size=64, max_size=64),
    presentation_contexts=st.lists(context_results, min_size=1, max_size=5).map(tuple),
    user_information=any_user_informations,
    application_context=uids,
    protocol_version=uint16,
    unknown=st.lists(unknown_items, max_size=2).map(tuple),
)
associate_rjs = st.builds(AssociateRj, uint8, uint8, uint8)
p_data_tfs = st.builds(
    PDataTf,
    st.lists(st.builds(Pdv, uint8, st.integers(0, 3), st.binary(max_size=40)), min_size=1, max_size=4).map(tuple),
)
aborts = st.builds(Abort, uint8, uint8)
pdus = st.one_of(
    associate_rqs, associate_acs, associate_rjs, p_data_tfs, st.just(ReleaseRq()), st.just(ReleaseRp()), aborts
)


# --- command sets ------------------------------------------------------------------------------------------------

tags = st.lists(uint32, min_size=1, max_size=3).map(tuple)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "affected_sop_class_uid": uids,
    "requested_sop_class_uid": uids,
    "message_id": uint16,
    "message_id_being_responded_to": uint16,
    "move_destination": names,
    "priority": st.integers(0, 2),
    "status": uint16,
    "offending_element": tags,
    "error_comment": names,  # no backslash: pydicom takes it for a separator of values
    "error_id": uint16,
    "affected_sop_instance_uid": uids,
    "requested_sop_instance_uid": uids,
    "event_type_id": uint16,
    "attribute_identifier_list": tags,
    "action_type_id": uint16,
    "number_of_remaining_sub_operations": uint16,
    "number_of_completed_sub_operations": uint16,
    "number_of_failed_sub_operations": uint16,
    "number_of_warning_sub_operations": uint16,
    "move_originator_ae_title": names,
    "move_originator_message_id": uint16,
}


@st.composite
def command_sets(draw: st.DrawFn, field: int | None = None) -> CommandSet:
    """A command set with all that its message needs, and some of what it does not."""
    command_field = draw(st.sampled_from(CommandField)) if field is None else field
    needed = REQUIRED_FIELDS[command_field]
    extra = draw(st.sets(st.sampled_from(sorted(_FIELDS)), max_size=4))
    fields = {name: draw(_FIELDS[name]) for name in _FIELDS if name in needed or name in extra}
    return CommandSet(
        command_field=int(command_field),
        command_data_set_type=draw(st.sampled_from((NO_DATA_SET, DATA_SET, 0, 1))),
        **fields,
    )


# --- data sets ---------------------------------------------------------------------------------------------------

_EVEN = st.binary(max_size=6).map(lambda half: half + half)
_WORDS = {"US": 2, "SS": 2, "AT": 2, "OW": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4, "FD": 8, "OD": 8, "UV": 8}
_PLAIN_TAGS = {
    0x00080005: "CS",
    0x00080050: "SH",
    0x00080054: "AE",
    0x00081030: "LO",
    0x00089123: "UI",
    0x00100010: "PN",
    0x00100030: "DA",
    0x00101010: "AS",
    0x00104000: "LT",
    0x00181310: "US",
    0x00189073: "FD",
    0x00280009: "AT",
    0x00281101: "US",
    0x00400003: "TM",
    0x0040A120: "DT",
    0x0040A160: "UT",
    0x00720060: "AT",
    0x00720066: "LO",
    0x00091001: "UN",
    0x00111002: "UN",
}
_SEQUENCE_TAGS = (0x00081110, 0x00321064, 0x00400100, 0x00400008)


@st.composite
def _plain_elements(draw: st.DrawFn) -> Element:
    from dulproto.dictionary import VR_OF_TAG

    tag = draw(st.sampled_from(sorted(_PLAIN_TAGS)))
    vr = VR_OF_TAG.get(tag, "UN")
    size = _WORDS.get(vr)
    value = (
        draw(_EVEN)
        if size is None
        else draw(st.integers(0, 3).flatmap(lambda n: st.binary(min_size=n * size, max_size=n * size)))
    )
    return Element(tag, vr, value)


def _data_set(elements: list[Element]) -> DataSet:
    return {element.tag: element for element in sorted(elements, key=lambda element: element.tag)}


data_sets: st.SearchStrategy[DataSet] = st.recursive(
    st.lists(_plain_elements(), max_size=6).map(_data_set),
    lambda items: st.lists(
        _plain_elements()
        | st.builds(Element, st.sampled_from(_SEQUENCE_TAGS), st.just("SQ"), st.lists(items, max_size=2).map(tuple)),
        max_size=6,
    ).map(_data_set),
    max_leaves=6,
)


# --- streams of bytes --------------------------------------------------------------------------------------------


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a stream at some places; a place that is not in it cuts nothing."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(places)]


cuts = st.lists(st.integers(0, 600), max_size=12)


@st.composite
def fragmented(draw: st.DrawFn, context_id: int, control: int, data: bytes) -> list[Pdv]:
    """Cut a command set (control 1) or a data set (control 0) into PDVs, empty ones among them."""
    pieces = split(data, draw(st.lists(st.integers(1, max(1, len(data))), max_size=4)))
    if draw(st.booleans()):
        pieces.insert(draw(st.integers(0, len(pieces))), b"")
    last = len(pieces) - 1
    return [Pdv(context_id, control | (2 if n == last else 0), piece) for n, piece in enumerate(pieces)]


@st.composite
def message_pdvs(draw: st.DrawFn, context_id: int) -> list[Pdv]:
    """The PDVs of one message, in any fragments."""
    command = draw(command_sets())
    pdvs = draw(fragmented(context_id, 1, encode_command(command)))
    if command.has_data_set:
        pdvs += draw(fragmented(context_id, 0, draw(st.binary(max_size=60))))
    return pdvs


@st.composite
def p_data_streams(draw: st.DrawFn, context_ids: tuple[int, ...]) -> bytes:
    """Messages as P-DATA-TF PDUs: each PDU with one PDV or more, each message in any fragments."""
    out = b""
    for context_id in draw(st.lists(st.sampled_from(context_ids), max_size=3)):
        pdvs = draw(message_pdvs(context_id))
        while pdvs:
            count = draw(st.integers(1, len(pdvs)))
            out += encode_p_data_tf(PDataTf(tuple(pdvs[:count])))
            pdvs = pdvs[count:]
    return out


@st.composite
def mutated(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    """A valid stream after some edits: bytes changed, inserted, taken out, repeated, cut off."""
    stream = bytearray(draw(streams))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(stream)))
        size = draw(st.integers(1, 12))
        match draw(st.sampled_from(("change", "insert", "delete", "repeat", "cut"))):
            case "change":
                stream[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                stream[at:at] = draw(st.binary(min_size=1, max_size=size))
            case "delete":
                del stream[at : at + size]
            case "repeat":
                stream[at:at] = stream[at : at + size * 4]
            case _:
                del stream[at:]
    return bytes(stream)
