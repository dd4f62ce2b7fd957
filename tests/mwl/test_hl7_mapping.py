from datetime import date, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mwl.hl7.mapping import Mapping, load_mapping
from mwl.hl7.message import Location, Message, decode_message
from mwl.hl7.rules import Reading, Scope, apply_rules
from mwl.item import Code, Issuer, PatientIdentifier

BERLIN = timezone(timedelta(hours=2))
DEFAULT = load_mapping()


def message(*segments: str, application: str = "RIS", kind: str = "ORM^O01", version: str = "2.3.1") -> Message:
    header = rf"MSH|^~\&|{application}|HOSP|MWL|RAD|20240705093000||{kind}|M1|P|{version}"
    return decode_message("\r".join([header, *segments]).encode())


def readings(*segments: str, mapping: Mapping = DEFAULT, **header: str) -> dict[str, Reading]:
    one = message(*segments, **header)
    scope = Scope(one, [segment for segment in one.segments if segment.name not in ("MSH", "PID", "PV1", "AL1")])
    return {found.target.keyword: found for found in apply_rules(mapping.attributes(one.header), scope, BERLIN)}


def value(keyword: str, *segments: str, **header: str) -> Any:
    return readings(*segments, **header)[keyword].value


def site(tmp_path: Path, text: str) -> Mapping:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    return load_mapping(path)


def obr(**fields: str) -> str:
    """Write an OBR of `f4="..."` and so on."""
    numbers = {int(name[1:]): text for name, text in fields.items()}
    return "|".join(["OBR", *(numbers.get(number, "") for number in range(1, max(numbers) + 1))])


# --- each reader --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("Müller^Jörg", "Müller^Jörg"),
        ("Müller^Jörg^A^Jr^Dr^PhD", "Müller^Jörg^A^Dr^Jr PhD"),
        ("Müller^Jörg^^^^MD", "Müller^Jörg^^^MD"),
        ("van Beethoven&van&Beethoven^Ludwig", "van Beethoven^Ludwig"),
        ("Müller^Jörg^^^", "Müller^Jörg"),
        ("Alias^Al^^^^^A~Müller^Jörg^^^^^L", "Müller^Jörg"),
        ("Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("山田^太郎^^^^^L^I", "=山田^太郎"),
        ('Müller^""', "Müller"),
        (r"O\S\Neill^A=B", "O Neill^A B"),
        ("X" * 80 + "^Y", "X" * 64),
    ],
)
def test_a_name_is_put_in_the_order_of_dicom(field: str, name: str) -> None:
    assert value("PatientName", f"PID|||1||{field}") == name


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("1234^Haus^Greg^^Jr^Dr", "Haus^Greg^^Dr^Jr"),
        ("1234", None),
        ("SMITH", "SMITH"),
        ("1^Haus^Greg~2^Other^One", "Haus^Greg"),
    ],
)
def test_a_physician_has_an_identifier_before_the_name(field: str, name: str | None) -> None:
    found = readings(obr(f16=field)).get("RequestingPhysician")
    assert (found.value if found else None) == name


def test_a_performing_physician_is_one_component() -> None:
    assert value("ScheduledPerformingPhysicianName", obr(f34="99&Tech&Tina&&&Dr^20240705")) == "Tech^Tina^^Dr"


@pytest.mark.parametrize(
    ("field", "start"),
    [
        ("20240705", (date(2024, 7, 5), None)),
        ("202407051030", (date(2024, 7, 5), time(10, 30))),
        ("20240705103059.1234", (date(2024, 7, 5), time(10, 30, 59, 123400))),
        ("20240705233000+0000", (date(2024, 7, 6), time(1, 30))),
        ("20240705013000+0530", (date(2024, 7, 4), time(22, 0))),
        ("2024070524", (date(2024, 7, 6), time(0, 0))),
        ("20240705103060", (date(2024, 7, 5), time(10, 30, 59))),
    ],
)
def test_a_time_is_a_day_and_a_time_of_this_place(field: str, start: object) -> None:
    assert value("ScheduledProcedureStepStartDateTime", f"ORC|NW||||||^^^{field}") == start


@pytest.mark.parametrize("field", ["soon", "202407", "20241305", "20240230", "2024070525", "05.07.2024", "99999999"])
def test_what_is_no_time_is_a_fault(field: str) -> None:
    found = readings(f"ORC|NW||||||^^^{field}")["ScheduledProcedureStepStartDateTime"]
    assert found.is_refused
    assert found.location == Location("ORC", 1, 7, 0, 4)


@pytest.mark.parametrize("field", ["1960", "196004", "19600400", "19600000"])
def test_a_birth_date_that_is_not_known_exactly_is_left_out_and_told(field: str) -> None:
    found = readings(f"PID|||1||A^B||{field}")["PatientBirthDate"]
    assert (found.value, found.fault, found.is_refused) == (None, "is no whole day", False)


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ("12.4.1960", "is no date: YYYYMMDD is wanted"),
        ("1960-04-12", "is no date: YYYYMMDD is wanted"),
        ("19600431", "is no day of the calendar"),
        ("00000412", "is no day of the calendar"),
    ],
)
def test_what_is_no_birth_date_is_a_fault(field: str, fault: str) -> None:
    found = readings(f"PID|||1||A^B||{field}")["PatientBirthDate"]
    assert (found.fault, found.is_refused) == (fault, True)


def test_a_birth_date_is_not_moved_by_an_offset() -> None:
    assert value("PatientBirthDate", "PID|||1||A^B||19600412000000+1200") == date(1960, 4, 12)


@pytest.mark.parametrize(
    ("sent", "sex"), [("M", "M"), ("f", "F"), ("O", "O"), ("A", "O"), ("N^x", "O"), ("U", ""), ("?", "")]
)
def test_sex_is_one_that_dicom_knows(sent: str, sex: str) -> None:
    assert value("PatientSex", f"PID|||1||A^B|||{sent}") == sex


@pytest.mark.parametrize(
    ("sent", "priority"),
    [
        *[("S", "STAT"), ("A", "HIGH"), ("P", "HIGH"), ("C", "HIGH"), ("R", "ROUTINE"), ("T", "MEDIUM")],
        *[("Z9", "ROUTINE"), ("", "ROUTINE")],
    ],
)
def test_priority_is_one_that_dicom_knows(sent: str, priority: str) -> None:
    assert value("RequestedProcedurePriority", f"ORC|NW||||||^^^20240705^^{sent}") == priority


def test_identifiers_keep_their_authorities_and_order() -> None:
    field = "4711^^^HOSP&1.2.3&ISO^MR~^^^X~999^5^M11^SSA~4711^^^HOSP&1.2.3&ISO"
    assert value("PatientID", f"PID||22|{field}||A^B") == (
        PatientIdentifier("4711", "HOSP", "1.2.3", "ISO"),
        PatientIdentifier("999", "SSA"),
    )
    assert value("PatientID", "PID||22^^^OLD|||A^B") == (PatientIdentifier("22", "OLD"),)


def test_codes_have_a_value_a_meaning_and_a_scheme() -> None:
    found = readings(obr(f4="CT1^CT chest^LOCAL^P1^Protocol^99P", f44="R1^Chest"))
    assert found["ScheduledProtocolCodeSequence"].value == (Code("P1", "99P", "Protocol"),)
    assert found["RequestedProcedureCodeSequence"].value == Code("R1", "99LOCAL", "Chest")
    assert found["ScheduledProcedureStepDescription"].value == "Protocol"
    without = readings(obr(f4="CT1^CT chest^LOCAL"))
    assert without["ScheduledProtocolCodeSequence"].value == (Code("CT1", "LOCAL", "CT chest"),)
    assert without["RequestedProcedureCodeSequence"].value == Code("CT1", "LOCAL", "CT chest")


def test_an_issuer_is_a_hierarchic_designator() -> None:
    found = readings("ORC|NW", obr(f4="A"), "IPC|A1^RIS^1.2.3^ISO|RP1|1.2.3|S1|CT", kind="OMI^O23", version="2.5.1")
    assert found["IssuerOfAccessionNumberSequence"].value == Issuer("RIS", "1.2.3", "ISO")
    assert found["AccessionNumber"].value == "A1"


@pytest.mark.parametrize(
    ("keyword", "obx", "number"),
    [
        ("PatientWeight", "OBX|1|NM|29463-7^Weight^LN||82,5|kg", 82.5),
        ("PatientWeight", "OBX|1|NM|X^Body Weight||3500|g", 3.5),
        ("PatientSize", "OBX|1|NM|8302-2^Body Height^LN||175|cm", 1.75),
        ("PatientSize", "OBX|1|NM|L^Body Height||1.75|m", 1.75),
    ],
)
def test_size_and_weight_come_in_metres_and_kilograms(keyword: str, obx: str, number: float) -> None:
    assert value(keyword, "OBX|1|NM|718-7^Hb^LN||9|g/dL", obx) == number


def test_size_and_weight_in_other_units_are_not_taken() -> None:
    found = readings("OBX|1|NM|29463-7^Weight^LN||180|lb")
    assert "PatientWeight" not in found


def test_notes_belong_to_the_segment_before_them() -> None:
    found = readings("PID|||1||A^B", "NTE|1||of the patient", "ORC|NW", "NTE|1||of the order", obr(f4="A"))
    more = readings(obr(f4="A"), "NTE|1||first~second", "NTE|2||third ^ with", "OBX|1", "NTE|1||of the result")
    assert found["ImagingServiceRequestComments"].value == "of the order"
    assert found["PatientComments"].value == "of the patient"
    assert "RequestedProcedureComments" not in found
    assert more["RequestedProcedureComments"].value == "first\nsecond\nthird ^ with"


def test_several_allergies_are_several_values() -> None:
    assert value("Allergies", "PID|||1", "AL1|1||^Iodine", "AL1|2||P1^Penicillin", "AL1|3||^Iodine") == (
        "Iodine",
        "Penicillin",
    )


def test_an_address_is_one_line() -> None:
    address = value("PatientAddress", "PID|||1||A^B||||||Hauptstr. 1&Hauptstr.^2. OG^Köln^NW^50667^DE")
    assert address == "Hauptstr. 1, 2. OG, 50667 Köln, NW, DE"


@pytest.mark.parametrize(
    ("keyword", "segment", "value", "longest"),
    [
        ("PatientTransportArrangements", obr(f30="x" * 70), "x" * 64, 64),
        ("Allergies", "AL1|1||^" + "x" * 70, ("x" * 64,), 64),
        ("RequestedProcedureComments", f"{obr(f4='A')}\rNTE|1||" + "x" * 10246, "x" * 10240, 10240),
        ("PatientName", "PID|||1||" + "x" * 70, "x" * 64, 64),
        ("ReferringPhysicianName", "PV1||O||||||" + "x" * 70, "x" * 64, 64),
        ("PatientAddress", "PID|||1||A^B||||||" + "x" * 70, "x" * 64, 64),
        ("RequestedProcedureCodeSequence", obr(f4=f"C^{'x' * 70}^L"), Code("C", "L", "x" * 64), 64),
        ("RequestedProcedureCodeSequence", obr(f4=f"C^T^{'L' * 70}"), Code("C", "L" * 16, "T"), 16),
        ("PatientID", f"PID|||1^^^{'x' * 70}||A^B", (PatientIdentifier("1", "x" * 64),), 64),
    ],
)
def test_text_that_is_cut_is_told(keyword: str, segment: str, value: object, longest: int) -> None:
    found = readings(*segment.split("\r"))[keyword]
    sent = longest + 6 if longest != 16 else 70
    assert (found.value, found.note) == (value, f"is cut to {longest} of {sent} characters")


def test_an_identifier_is_never_cut() -> None:
    found = readings(obr(f18="A" * 17))["AccessionNumber"]
    assert (found.fault, found.location) == ("has 17 characters, SH holds 16", Location("OBR", 1, 18))


def test_a_backslash_and_a_line_break_cannot_stand_in_a_line() -> None:
    assert value("PatientTransportArrangements", obr(f30=r"a\E\b\.br\c")) == "a/b c"


def test_spaces_of_other_kinds_become_spaces_and_invisible_marks_go() -> None:
    assert value("PatientTransportArrangements", obr(f30="a\u00a0b\u200ec\u2003d\x85")) == "a bc d"


@pytest.mark.parametrize("uid", ["1.2.03", "abc", "1.2.", "1." + "2" * 64])
def test_what_is_no_uid_is_a_fault(uid: str) -> None:
    assert readings(f"ZDS|{uid}^^Application^DICOM")["StudyInstanceUID"].fault == "is no UID"


def test_a_field_that_is_null_deletes_what_comes_from_any_part_of_it() -> None:
    found = readings('PV1||O|""' + "|" * 16 + '""', obr(f4='""', f31='""'))
    assert {keyword for keyword, reading in found.items() if reading.deletes} == {
        *("ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence", "ReasonForTheRequestedProcedure"),
        *("RequestedProcedureDescription", "RequestedProcedureCodeSequence", "CurrentPatientLocation"),
        *("AdmissionID", "IssuerOfAdmissionIDSequence"),
    }


def test_a_null_counts_where_no_other_field_has_a_value() -> None:
    null = obr(f16='""')
    assert readings('ORC|NW||||||||||""', null)["RequestingPhysician"].deletes
    assert value("RequestingPhysician", "ORC|NW" + "|" * 11 + "1^Weber^Ute", null) == "Weber^Ute"


def test_null_deletes_and_nothing_says_nothing() -> None:
    found = readings('PID|||1||A^B||""|""', obr(f31='""'))
    for keyword in ("PatientBirthDate", "PatientSex", "ReasonForTheRequestedProcedure"):
        assert found[keyword].deletes
    assert "PatientTransportArrangements" not in found


@pytest.mark.parametrize(("sent", "status"), [("B6", 3), ("A0", None), ("", None)])
def test_pregnancy_is_known_from_the_ambulatory_status(sent: str, status: int | None) -> None:
    found = readings(f"PV1||O|||||||||||||{sent}").get("PregnancyStatus")
    assert (found.value if found else None) == status


def test_R_062_a_site_says_what_its_codes_of_pregnancy_mean(tmp_path: Path) -> None:
    mapping = site(
        tmp_path,
        """
        [attributes]
        PregnancyStatus = { from = "OBR-13", map = "pregnancy" }
        [maps.pregnancy]
        NO = "1"
        MAYBE = "2"
        YES = "3"
        """,
    )
    found = [readings(obr(f13=code), mapping=mapping).get("PregnancyStatus") for code in ("NO", "MAYBE", "YES", "?")]
    assert [each and each.value for each in found] == [1, 2, 3, None]


# --- which field, on what condition -------------------------------------------------------------------------------


def test_the_first_field_that_has_something_wins() -> None:
    found = readings("ORC|NW|||||||||||9^Later^L", obr(f16="1^First^F"))["RequestingPhysician"]
    assert (found.value, found.rule.text) == ("First^F", "OBR-16")
    found = readings("ORC|NW|||||||||||9^Later^L", obr(f15="x"))["RequestingPhysician"]
    assert (found.value, found.rule.text, found.location) == ("Later^L", "ORC-12", Location("ORC", 1, 12))


def test_an_omi_has_rules_of_its_own() -> None:
    ipc = "IPC|A1|RP1|1.2.3^^Application^DICOM|S1|MR|P1^Knee^L|R1^Room 1|L1^Wing|MR1"
    found = readings("ORC|NW", "TQ1|||||||20240705", ipc, kind="OMI^O23^OMI_O23", version="2.5.1")
    expected = {
        "AccessionNumber": "A1",
        "RequestedProcedureID": "RP1",
        "StudyInstanceUID": "1.2.3",
        "ScheduledProcedureStepID": "S1",
        "Modality": "MR",
        "ScheduledProcedureStepDescription": "Knee",
        "ScheduledStationName": ("Room 1",),
        "ScheduledProcedureStepLocation": "Wing",
        "ScheduledStationAETitle": ("MR1",),
        "ScheduledProcedureStepStartDateTime": (date(2024, 7, 5), None),
    }
    assert {keyword: found[keyword].value for keyword in expected} == expected


def test_a_sites_rule_stands_in_place_of_the_shipped_one(tmp_path: Path) -> None:
    mapping = site(
        tmp_path,
        """
        [attributes]
        AccessionNumber = ["ZXX-1", { from = "OBR-3.1", pattern = "^ACC([0-9]+)" }]
        ScheduledStationAETitle = "ORC-18"
        ReasonForTheRequestedProcedure = []
        InstitutionName = { value = "St. Elsewhere", when = { "MSH-4" = "HO*" } }
        [attributes_of.OMI]
        Modality = { from = "IPC-5", map = "modality" }
        [maps.modality]
        KERN = "MR"
        """,
    )
    one = obr(f3="ACC123^RIS", f18="999", f31="^cough")
    found = readings("ORC|NW" + "|" * 16 + "|CT1~CT2", one, mapping=mapping)
    assert found["AccessionNumber"].value == "123"
    assert found["ScheduledStationAETitle"].value == ("CT1", "CT2")
    assert found["InstitutionName"].value == "St. Elsewhere"
    assert "ReasonForTheRequestedProcedure" not in found
    assert readings(one, "ZXX|7", mapping=mapping)["AccessionNumber"].value == "7"
    omi = readings("IPC|A1||||KERN", mapping=mapping, kind="OMI^O23")
    assert omi["Modality"].value == "MR"
    assert "AccessionNumber" not in omi  # the site's word for all messages beats the shipped one for OMI


def test_a_range_of_components_that_were_not_sent_is_nothing(tmp_path: Path) -> None:
    mapping = site(tmp_path, '[attributes]\nPatientTransportArrangements = "OBR-4.4-6"\n')
    assert "PatientTransportArrangements" not in readings(obr(f4="CT1"), mapping=mapping)
    assert readings(obr(f4="a^b^c^d^e"), mapping=mapping)["PatientTransportArrangements"].value == "d"


def test_a_sender_may_need_something_else(tmp_path: Path) -> None:
    mapping = site(
        tmp_path,
        """
        [[sender]]
        application = "OLD*"
        character_set = "8859/15"
        attributes = { AccessionNumber = "OBR-2.1" }
        """,
    )
    assert readings(obr(f2="X1", f18="A1"), mapping=mapping, application="OLDRIS")["AccessionNumber"].value == "X1"
    assert readings(obr(f2="X1", f18="A1"), mapping=mapping)["AccessionNumber"].value == "A1"
    assert mapping.forced_character_set("OLDRIS", "") == "8859/15"
    assert mapping.forced_character_set("RIS", "") == ""


def test_the_first_station_that_fits_is_taken(tmp_path: Path) -> None:
    mapping = site(
        tmp_path,
        """
        [[station]]
        modality = "CT"
        location = "RAD-*"
        ae_titles = ["CT1", "CT2"]
        names = ["Room 1", "Room 2"]
        [[station]]
        application = "RIS"
        ae_titles = ["ANY"]
        """,
    )
    header = message().header
    titles = [
        station.ae_titles if station else None
        for station in (
            mapping.station(header, "CT", "RAD-A", ""),
            mapping.station(header, "MR", "RAD-A", ""),
            mapping.station(message(application="HIS").header, "MR", "", ""),
        )
    ]
    assert titles == [("CT1", "CT2"), ("ANY",), None]


@pytest.mark.parametrize(
    ("rules", "keyword", "value"),
    [
        ("PatientID = { from = 'PID-3', pattern = '[0-9]+' }", "PatientID", (PatientIdentifier("4711"),)),
        ("PatientName = { from = 'PID-5', pattern = '[A-Z]+' }", "PatientName", "A"),
        ("PatientID = 'PID-3.4.2'", "PatientID", (PatientIdentifier("1.2"),)),
        ("PatientName = { value = 'Anonymous' }", "PatientName", "Anonymous"),
        ("PatientAddress = { from = 'PID-11', pattern = '.*' }", "PatientAddress", "Street"),
    ],
)
def test_a_value_of_parts_may_be_made_of_one(tmp_path: Path, rules: str, keyword: str, value: object) -> None:
    mapping = site(tmp_path, f"[attributes]\n{rules}\n")
    assert readings("PID|||X4711^^^HOSP&1.2||A^B||||||Street", mapping=mapping)[keyword].value == value


def test_actions_are_looked_up_exactly_and_then_for_any_status(tmp_path: Path) -> None:
    mapping = site(tmp_path, '[order_control]\n"PA_*" = { action = "status", status = "ARRIVED" }\n')
    assert mapping.action("PA", "IP") == mapping.action("PA", "") == mapping.order_control["PA_*"]
    assert mapping.action("CA", "CA") == mapping.order_control["CA_CA"]
    assert mapping.action("CA", "CM") is None
