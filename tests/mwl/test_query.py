from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import pytest
from samples import NOW, compiled, data_set, element, entry, found, keys

from dulproto import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Element, ElementLimitError, encode_data_set
from mwl.item import Code, Entry, Issuer, PatientIdentifier
from mwl.query import IdentifierError, QueryPolicy, compile_query
from mwl.view import compile_view

STATEMENT = QueryPolicy(matching="statement", datetime_matching="independent")
INDEPENDENT = QueryPolicy(datetime_matching="independent")
STRICT = QueryPolicy(strict=True)


def matches(one: Entry, step: dict[str, Any] | None = None, policy: QueryPolicy | None = None, **root: Any) -> bool:
    return bool(found([one], compiled(step, policy, **root)))


def kind(keyword: str, step: dict[str, Any] | None = None, policy: QueryPolicy | None = None, **root: Any) -> str:
    (key,) = (key for key in compiled(step, policy, **root).keys if key.path.split("/")[-1] == keyword)
    return key.kind


# --- which list, which keys ---------------------------------------------------------------------------------------


def test_R_040_a_query_without_matching_keys_returns_the_filtered_list() -> None:
    assert found([entry(1), entry(2)], compiled({"Modality": ""}, PatientName="")) == ["SPS1", "SPS2"]


def test_R_041_keys_are_only_return_keys_if_they_are_not_honoured() -> None:
    deaf = QueryPolicy(honour_matching_keys=False)
    assert not matches(entry(), {"Modality": "MR"})
    assert matches(entry(), {"Modality": "MR"}, deaf)
    assert kind("Modality", {"Modality": "MR"}, deaf) == "ignored"


@pytest.mark.parametrize(
    ("step", "root"),
    [
        ({"ScheduledStationAETitle": "CT1"}, {}),
        ({"Modality": "CT"}, {}),
        ({"ScheduledProcedureStepStartDate": "20240705"}, {}),
        ({"ScheduledProcedureStepStartTime": "100000"}, {}),
        ({"ScheduledPerformingPhysicianName": "curie^m*"}, {}),
        (None, {"AccessionNumber": "ACC1"}),
        (None, {"PatientID": "1001"}),
        (None, {"PatientName": "doe^john1"}),
    ],
)
def test_R_042_the_statement_s_keys_match(step: dict[str, Any] | None, root: dict[str, Any]) -> None:
    other = entry(
        2,
        station_ae_titles=("MR1",),
        modality="MR",
        start_date=date(2024, 7, 9),
        start_time=time(11),
        performing_physician="Koch^Robert",
    )
    one = entry(1, performing_physician="Curie^Marie")
    assert found([one, other], compiled(step, STATEMENT, **root)) == ["SPS1"]


@pytest.mark.parametrize(
    ("step", "root"),
    [
        ({"ScheduledProcedureStepDescription": "other"}, {}),
        ({"ScheduledStationName": "other"}, {}),
        ({"ScheduledProcedureStepLocation": "other"}, {}),
        ({"ScheduledProcedureStepID": "other"}, {}),
        (None, {"RequestedProcedureID": "other"}),
        (None, {"StudyInstanceUID": "9.9"}),
        (None, {"PatientBirthDate": "19000101"}),
        (None, {"PatientSex": "O"}),
    ],
)
def test_R_042_every_other_key_is_ignored_by_the_statement_and_matched_in_mode_all(
    step: dict[str, Any] | None, root: dict[str, Any]
) -> None:
    assert matches(entry(), step, STATEMENT, **root)
    assert not matches(entry(), step, **root)


def test_all_keys_must_match() -> None:
    assert matches(entry(), {"Modality": "CT"}, PatientID="1001")
    assert not matches(entry(), {"Modality": "CT"}, PatientID="other")


def test_an_empty_stored_value_matches_only_universal_keys() -> None:
    one = entry(station_ae_titles=())
    assert not matches(one, {"ScheduledStationAETitle": "CT1"})
    assert not matches(one, {"ScheduledStationAETitle": "?*"})
    assert matches(one, {"ScheduledStationAETitle": ""})
    assert matches(one, {"ScheduledStationAETitle": "*"})


def test_one_of_several_stored_values_is_enough() -> None:
    assert matches(entry(station_ae_titles=("CT1", "CT2")), {"ScheduledStationAETitle": "CT2"})


# --- date and time ------------------------------------------------------------------------------------------------

IN_THREE_DAYS = {
    "ScheduledProcedureStepStartDate": "20240705-20240707",
    "ScheduledProcedureStepStartTime": "1000-1800",
}


def test_R_043_combined_date_and_time_are_one_period() -> None:
    evening = entry(start_date=date(2024, 7, 6), start_time=time(20))
    assert matches(evening, IN_THREE_DAYS)
    assert not matches(evening, IN_THREE_DAYS, INDEPENDENT)
    assert matches(entry(start_date=date(2024, 7, 5), start_time=time(10)), IN_THREE_DAYS)
    assert not matches(entry(start_date=date(2024, 7, 5), start_time=time(9, 59, 59, 999999)), IN_THREE_DAYS)
    assert matches(entry(start_date=date(2024, 7, 7), start_time=time(18, 0, 59, 999999)), IN_THREE_DAYS)
    assert not matches(entry(start_date=date(2024, 7, 7), start_time=time(18, 1)), IN_THREE_DAYS)


def test_R_043_independent_date_and_time_are_checked_each_on_its_own() -> None:
    assert matches(entry(start_date=date(2024, 7, 6), start_time=time(18, 0, 59)), IN_THREE_DAYS, INDEPENDENT)
    assert not matches(entry(start_date=date(2024, 7, 6), start_time=time(18, 1)), IN_THREE_DAYS, INDEPENDENT)


def test_days_between_two_dates_of_a_key_do_not_match() -> None:
    entries = [entry(day, start_date=date(2024, 7, day)) for day in range(1, 8)]
    assert found(entries, compiled({"ScheduledProcedureStepStartDate": "20240702\\20240705-20240706"})) == [
        "SPS2",
        "SPS5",
        "SPS6",
    ]


def test_ranges_of_different_forms_are_never_combined() -> None:
    mixed = {"ScheduledProcedureStepStartDate": "20240705-20240707", "ScheduledProcedureStepStartTime": "1000-"}
    assert not matches(entry(start_date=date(2024, 7, 6), start_time=time(9)), mixed)


def test_a_period_over_midnight_is_found_if_combined() -> None:
    night = {"ScheduledProcedureStepStartDate": "20240705-20240706", "ScheduledProcedureStepStartTime": "2200-0600"}
    assert matches(entry(start_date=date(2024, 7, 6), start_time=time(3)), night)
    assert not matches(entry(start_date=date(2024, 7, 6), start_time=time(3)), night, INDEPENDENT)


@pytest.mark.parametrize("times", ["0900-1100", "0900-", "-1100"])
def test_R_044_a_range_of_times_without_a_date_means_today(times: str) -> None:
    entries = [entry(1), entry(2, start_date=date(2024, 7, 6))]
    query = compiled({"ScheduledProcedureStepStartTime": times, "ScheduledProcedureStepStartDate": ""})
    assert found(entries, query) == ["SPS1"]
    assert found(entries, query, now=datetime(2024, 7, 6, 1)) == ["SPS2"]  # the same compiled query, a day later


@pytest.mark.parametrize("times", ["10", "*", ""])
def test_R_044_a_single_time_adds_no_date(times: str) -> None:
    query = compiled({"ScheduledProcedureStepStartTime": times})
    assert found([entry(1, start_date=date(2024, 8, 1))], query) == ["SPS1"]


def test_R_044_a_date_key_is_not_replaced() -> None:
    step = {"ScheduledProcedureStepStartTime": "0900-1100", "ScheduledProcedureStepStartDate": "20240801"}
    assert matches(entry(start_date=date(2024, 8, 1)), step)


@pytest.mark.parametrize("text", ["*", "***"])
def test_R_045_an_asterisk_as_date_is_everything(text: str) -> None:
    assert matches(entry(), {"ScheduledProcedureStepStartDate": text})


@pytest.mark.parametrize("text", ["2024*", "202407??"])
def test_R_045_other_wild_cards_in_a_date_are_ignored_and_logged(text: str) -> None:
    query = compiled({"ScheduledProcedureStepStartDate": text}, STRICT)
    assert found([entry(start_date=date(2020, 1, 1))], query)
    assert "StartDate" in query.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "20240705",
        "20240705-20240705",
        "20240701 - 20240705",
        "20240705- ",
        "-20240705",
        "2024.07.05",
        "2024-07-05",
        "20240705101500",
        "-20240705101500",
        "20240704\\20240705",
        "20240705 ",
    ],
)
def test_dates_as_devices_write_them(text: str) -> None:
    assert matches(entry(), {"ScheduledProcedureStepStartDate": text})
    assert not matches(
        entry(start_date=date(2024, 7, 6)), {"ScheduledProcedureStepStartDate": text}
    ) or text.endswith("- ")


@pytest.mark.parametrize("text", ["20240706-20240705", "1100-1000"])
def test_Q_05_a_range_that_ends_before_it_starts_finds_nothing(text: str) -> None:
    keyword = "Date" if len(text) > 9 else "Time"
    assert not matches(entry(), {f"ScheduledProcedureStepStart{keyword}": text})


def test_Q_06_a_lone_hyphen_is_everything() -> None:
    query = compiled({"ScheduledProcedureStepStartDate": "-"})
    assert found([entry()], query)
    assert query.notes


@pytest.mark.parametrize(
    ("text", "hit", "miss"),
    [
        ("10", time(10, 59, 59, 999999), time(11)),
        ("1030", time(10, 30, 59), time(10, 31)),
        ("10:30:00", time(10, 30), time(10, 30, 1)),
        ("20240705103000", time(10, 30), time(10, 30, 1)),
        ("103000.5", time(10, 30, 0, 500000), time(10, 30, 0, 400000)),
        ("10-1130", time(11, 30, 59), time(11, 31)),
        ("2359-240000", time(23, 59), time(23, 58)),
        ("-1030", time(0), time(10, 31)),
        ("235959.999999", time(23, 59, 59, 999999), time(23, 59, 59)),
    ],
)
def test_Q_09_a_time_denotes_the_interval_of_its_precision(text: str, hit: time, miss: time) -> None:
    step = {"ScheduledProcedureStepStartDate": "20240705", "ScheduledProcedureStepStartTime": text}
    assert matches(entry(start_time=hit), step)
    assert not matches(entry(start_time=miss), step)


@pytest.mark.parametrize("text", ["yesterday", "20241345", "2024", "20240705-20240706-20240707"])
def test_Q_10_a_date_that_cannot_be_read_is_ignored_or_in_strict_mode_an_error(text: str) -> None:
    step = {"ScheduledProcedureStepStartDate": text}
    query = compiled(step)
    assert found([entry(start_date=date(1999, 1, 1))], query)
    assert query.notes
    with pytest.raises(IdentifierError) as caught:
        compiled(step, STRICT)
    assert (caught.value.status, caught.value.offending) == (0xA900, (0x00400002,))


def test_Q_77_dates_are_widened_by_the_tolerance() -> None:
    tolerant = QueryPolicy(day_tolerance=1)
    step = {"ScheduledProcedureStepStartDate": "20240706"}
    assert matches(entry(), step, tolerant)
    assert not matches(entry(), step)


def test_Q_77_the_tolerance_is_for_clocks_and_not_for_dates_of_birth() -> None:
    one = entry(birth_date=date(1970, 1, 2))
    assert not matches(one, None, QueryPolicy(day_tolerance=1), PatientBirthDate="19700101")


def test_a_step_without_a_time_matches_no_time_key() -> None:
    assert not matches(entry(start_time=None), {"ScheduledProcedureStepStartTime": "0000-2359"})


# --- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [" ", "\0", "  \0 ", "\0garbage"])
def test_Q_02_padding_of_a_value_does_not_count(padding: str) -> None:
    assert matches(entry(), None, PatientID="1001" + padding)


@pytest.mark.parametrize("text", ["*", "**", "***"])
def test_Q_03_asterisks_alone_are_everything_even_what_is_empty(text: str) -> None:
    assert matches(entry(name=""), None, PatientName=text)


@pytest.mark.parametrize("text", ["*^*", "?*", "*^*^*"])
def test_Q_03_other_patterns_find_any_name_but_none_that_is_empty(text: str) -> None:
    assert matches(entry(name="Cher"), None, PatientName=text)
    assert not matches(entry(name=""), None, PatientName=text)


def test_Q_11_several_values_of_a_key_are_alternatives() -> None:
    entries = [entry(1), entry(2, modality="MR"), entry(3, modality="US")]
    assert found(entries, compiled({"Modality": "CT\\MR"})) == ["SPS1", "SPS2"]


@pytest.mark.parametrize("text", ["C*", "?T", "CT*"])
def test_Q_12_wild_cards_in_single_value_keys(text: str) -> None:
    assert not matches(entry(), {"Modality": text}, STATEMENT)
    assert matches(
        entry(), {"Modality": text}, QueryPolicy(matching="statement", wildcards_in_single_value_keys=True)
    )
    assert matches(entry(), {"Modality": text})
    assert matches(entry(), {"Modality": "*"}, STATEMENT)


def test_Q_13_case_does_not_count_in_cs_and_can_be_made_to_count_in_ae() -> None:
    exact = QueryPolicy(ae_key_ignore_case=False)
    assert matches(entry(), {"Modality": "ct"}, exact)
    assert matches(entry(), {"ScheduledStationAETitle": "ct1"})
    assert not matches(entry(), {"ScheduledStationAETitle": "ct1"}, exact)
    assert not matches(entry(), {"ScheduledStationAETitle": "ct*"}, exact)
    assert matches(entry(), {"ScheduledStationAETitle": "CT*"}, exact)


def test_case_counts_in_other_text() -> None:
    assert not matches(entry(), None, AccessionNumber="acc1")


def test_Q_14_the_configured_station_stands_in_place_of_the_device_s() -> None:
    fixed = QueryPolicy(station_ae_title="CT1")
    entries = [entry(1), entry(2, station_ae_titles=("CT2",))]
    for step in ({"Modality": ""}, {"ScheduledStationAETitle": ""}, {"ScheduledStationAETitle": "WRONG"}, None):
        assert found(entries, compiled(step, fixed, PatientName="")) == ["SPS1"]


def test_Q_15_step_keys_at_the_root_are_taken_if_the_sequence_has_none() -> None:
    entries = [entry(1), entry(2, modality="MR")]
    assert found(entries, compiled(None, Modality="MR")) == ["SPS2"]
    assert found(entries, compiled({"Modality": ""}, Modality="MR")) == ["SPS2"]
    assert found(entries, compiled({"Modality": "CT"}, Modality="MR")) == ["SPS1"]
    assert found(entries, compiled(None, QueryPolicy(step_keys_at_root=False), Modality="MR")) == ["SPS1", "SPS2"]
    code = data_set([element("CodeValue"), element("CodeMeaning", "  ")])
    blank = {"ScheduledProtocolCodeSequence": [code], "ScheduledStationAETitle": "  "}
    assert found(entries, compiled(blank, Modality="MR")) == ["SPS2"]


def test_Q_16_what_devices_add_is_never_matched_and_no_unsupported_key() -> None:
    query = compiled(None, QueryRetrieveLevel="PATIENT", SOPClassUID="1.2", SOPInstanceUID="1.2.3", PatientName="")
    assert found([entry()], query)
    assert query.pending_status == 0xFF00
    assert [tag for tag, _ in query.shape] == [0x00100010]


def test_Q_17_an_identifier_is_no_number() -> None:
    assert not matches(entry(), None, PatientID="01001")


def test_Q_21_a_key_may_be_longer_than_its_vr_and_not_longer_than_1_kib() -> None:
    assert not matches(entry(), None, PatientID="A" * 1024)
    with pytest.raises(IdentifierError) as caught:
        compiled(None, PatientID="A" * 1026)
    assert (caught.value.status, caught.value.offending) == (0xA900, (0x00100020,))


def test_Q_22_a_value_of_the_wrong_type_is_everything() -> None:
    query = compiled(None, PregnancyStatus=b"0001")
    assert found([entry()], query)
    assert query.notes


def test_numbers_match_by_their_value() -> None:
    one = entry(patient_weight=70.0, pregnancy_status=3)
    assert matches(one, None, PatientWeight="70.00")
    assert not matches(one, None, PatientWeight="71")
    assert matches(one, None, PregnancyStatus=b"\3\0")
    assert not matches(one, None, PregnancyStatus=b"\1\0")


def test_a_wild_card_is_a_character_and_not_a_byte() -> None:
    one = entry(location="Raum µ")
    assert matches(one, {"ScheduledProcedureStepLocation": "Raum ?"})
    assert not matches(one, {"ScheduledProcedureStepLocation": "Raum ??"})


def test_there_is_no_escape_from_a_wild_card() -> None:
    assert matches(entry(location="a.b[c]"), {"ScheduledProcedureStepLocation": "a.b[?]"})
    assert not matches(entry(location="axb[c]"), {"ScheduledProcedureStepLocation": "a.b[?]"})
    assert matches(
        entry(location="a*"), {"ScheduledProcedureStepLocation": "a\\*"}
    )  # two values: `a`, and everything


def test_two_quotation_marks_are_plain_text() -> None:
    assert not matches(entry(location=""), {"ScheduledProcedureStepLocation": '""'})


def test_a_backslash_is_text_where_there_is_one_value_only() -> None:
    assert kind("RequestedProcedureComments", None, RequestedProcedureComments="a\\*") == "wildcard"


# --- uids, sequences ----------------------------------------------------------------------------------------------


def test_a_list_of_uids_finds_each_of_them() -> None:
    entries = [entry(1), entry(2), entry(3)]
    assert found(entries, compiled(None, StudyInstanceUID="1.2.3.1\\1.2.3.3")) == ["SPS1", "SPS3"]


@pytest.mark.parametrize("uid", ["1.2.3.1\0", "1.2.3.1 "])
def test_a_uid_may_be_padded_with_nul_or_space(uid: str) -> None:
    assert matches(entry(), None, StudyInstanceUID=uid)


def test_R_048_a_sequence_without_items_or_with_one_empty_item_is_everything() -> None:
    for items in ([], [{}]):
        identifier = encode_data_set(data_set([element("ScheduledProcedureStepSequence", items)]), IMPLICIT_LE)
        query = compile_query(identifier, IMPLICIT_LE, QueryPolicy())
        assert found([entry()], query)
        ((_, inner),) = query.shape
        assert inner is not None
        assert {0x00080060, 0x00400001, 0x00400002, 0x00400008} <= {tag for tag, _ in inner}


def test_one_item_of_a_sequence_has_to_satisfy_all_its_keys() -> None:
    one = entry(protocol_codes=(Code("A", "X"), Code("B", "Y")))

    def query(code: str, scheme: str) -> Any:
        item = data_set([element("CodeValue", code), element("CodingSchemeDesignator", scheme)])
        return compiled({"ScheduledProtocolCodeSequence": [item]})

    assert found([one], query("A", "X"))
    assert not found([one], query("A", "Y"))


def test_sequences_at_the_root_match_too_but_not_by_the_statement() -> None:
    item = [data_set([element("CodeValue", "70450")])]
    one = entry(code=Code("70450", "CPT"))
    assert matches(one, None, RequestedProcedureCodeSequence=item)
    assert not matches(entry(), None, RequestedProcedureCodeSequence=item)
    assert matches(entry(), None, STATEMENT, RequestedProcedureCodeSequence=item)


def test_a_single_item_that_is_missing_matches_nothing() -> None:
    item = [data_set([element("LocalNamespaceEntityID", "RIS")])]
    assert matches(entry(accession_issuer=Issuer("RIS")), None, IssuerOfAccessionNumberSequence=item)
    assert not matches(entry(), None, IssuerOfAccessionNumberSequence=item)


def test_Q_26_of_several_items_in_a_key_the_first_counts() -> None:
    items = [data_set([element("Modality", modality)]) for modality in ("CT", "MR")]
    identifier = encode_data_set(data_set([element("ScheduledProcedureStepSequence", items)]), IMPLICIT_LE)
    assert found([entry(1), entry(2, modality="MR")], compile_query(identifier, IMPLICIT_LE, QueryPolicy())) == [
        "SPS1"
    ]
    with pytest.raises(IdentifierError):
        compile_query(identifier, IMPLICIT_LE, STRICT)


# --- person names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        ("smith^john", "Smith^John", True),
        ("SMITH^JOHN^^^", "Smith^John", True),
        ("Smith ^ John", "Smith^John", True),
        ("Smith", "Smith^John", False),  # single value matching
        ("SMITH*", "Smith^John", True),
        ("SMITH^*", "Smith^John", True),
        ("SMITH^*", "Smith", True),
        ("SMITH^*", "Smithson^John", False),
        ("*^JOHN", "Smith^John", True),
        ("*MIT*", "Smith^John", True),
        ("SM?TH^J*", "Smith^John", True),
        ("SM?TH*", "Smth^John", False),
        ("müller*", "MÜLLER^Jörg", True),
        ("muller*", "MÜLLER^Jörg", False),
        ("strasse", "Straße", True),
        ("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),  # any group
        ("=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("Yamada*=山田*", "Yamada^Tarou=山田^太郎", True),
        ("Yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
        ("山田*=", "Yamada^Tarou=山田^太郎", False),
        ("*=*", "Smith^John", False),
        ("A\\Smith^John", "Smith^John", True),
        ("İSMAİL^IŞIK", "İsmail^Işık", True),  # capitals by Turkish rules
        ("ISMAIL*", "İsmail^Işık", True),
        ("İSM*", "I\u0307smail", True),
        ("MU\u0308LLER", "Müller", True),  # decomposed
        ("\u03aa\u0301*", "\u0390^", True),  # Greek, where the small letter is one and the capital two
        ("علیرضا", "\u200fعلی\u200cرضا", True),  # marks that nobody sees
        ("x?y", "x\u0302y", True),  # a letter with an accent that Unicode has no composed form for
    ],
)
def test_person_names(key: str, name: str, expected: bool) -> None:
    assert matches(entry(name=name), None, PatientName=key) is expected
    step = {"ScheduledPerformingPhysicianName": key}
    assert matches(entry(performing_physician=name), step) is expected


@pytest.mark.parametrize("key", ["*A" * 30 + "*B", "**********MITH**********X", "A*" * 500])
def test_a_key_of_many_wild_cards_is_answered_like_any_other(key: str) -> None:
    long = entry(name="A" * 60 + "MITH^B C", comments="A" * 10_000)
    assert not matches(long, None, PatientName=key + "^B*D")
    assert not matches(long, None, PatientComments=key + "B")


def test_wild_cards_fit_wherever_they_can() -> None:
    for key, name in (("a*b*b", "axbb"), ("*ab*ab", "abab"), ("a?*b", "acb"), ("*a?c*c", "aabcxc"), ("a**b", "ab")):
        assert matches(entry(name=name), None, PatientName=key)
    for key, name in (("a*b*b", "axb"), ("*ab*ab", "ab"), ("a?*b", "ab"), ("a*ba", "aba "), ("ab*bc", "abc")):
        assert not matches(entry(name=name + "x"), None, PatientName=key)
        assert matches(entry(name=name), None, PatientName=key) is (key == "a*ba")


def test_Q_18_names_without_a_caret_are_found_if_so_configured() -> None:
    lenient = QueryPolicy(lenient_pn=True)
    for key in ("SMITH, JOHN", "SMITH JOHN", "SMITH JO*"):
        assert not matches(entry(name="Smith^John"), None, PatientName=key)
        assert matches(entry(name="Smith^John"), None, lenient, PatientName=key)


def test_Q_20_accents_do_not_count_if_so_configured() -> None:
    lenient = QueryPolicy(ignore_accents=True)
    for key in ("MULLER^JORG", "mul*", "*JÖRG"):
        assert matches(entry(name="Müller^Jörg"), None, lenient, PatientName=key)
    for key in ("WALESA^LECH", "wa?e*"):
        assert matches(entry(name="Wałęsa^Lech"), None, lenient, PatientName=key)
        assert not matches(entry(name="Wałęsa^Lech"), None, PatientName=key.replace("?", "l"))


# --- patient identifiers ------------------------------------------------------------------------------------------

TWO_IDS = entry(identifiers=(PatientIdentifier("1", "CITY"), PatientIdentifier("2", "TRUST")))


def test_R_058_patient_id_matches_the_primary_identifier_only() -> None:
    assert matches(TWO_IDS, None, PatientID="1")
    assert not matches(TWO_IDS, None, PatientID="2")
    trust = QueryPolicy(primary_patient_id_issuer="TRUST")
    assert matches(TWO_IDS, None, trust, PatientID="2")
    assert not matches(TWO_IDS, None, trust, PatientID="1")


def test_R_058_other_identifiers_match_if_so_configured_and_an_issuer_belongs_to_its_identifier() -> None:
    every = QueryPolicy(match_other_patient_ids=True)
    assert matches(TWO_IDS, None, every, PatientID="2")
    assert matches(TWO_IDS, None, every, PatientID="2", IssuerOfPatientID="TRUST")
    assert not matches(TWO_IDS, None, every, PatientID="2", IssuerOfPatientID="CITY")
    assert not matches(TWO_IDS, None, every, PatientID="3")
    assert matches(TWO_IDS, None, every, PatientID="2*")


# --- character sets -----------------------------------------------------------------------------------------------


def test_R_051_the_request_s_character_set_decodes_and_is_never_matched() -> None:
    one = entry(name="Иванов^Пётр")
    identifier = keys(None, "iso8859_5", SpecificCharacterSet="ISO_IR 144", PatientName="Иванов*")
    assert found([one], compile_query(identifier, IMPLICIT_LE, QueryPolicy()))


def test_Q_36_utf_8_without_a_character_set_is_recognised_and_anything_else_is_the_default() -> None:
    one = entry(name="Müller")
    for encoding in ("utf_8", "latin_1"):
        identifier = keys(None, encoding, PatientName="Müller")
        assert found([one], compile_query(identifier, IMPLICIT_LE, QueryPolicy())), encoding
    cyrillic = keys(None, "iso8859_5", PatientName="Иванов")
    policy = QueryPolicy(request_character_set="ISO_IR 144")
    assert found([entry(name="Иванов")], compile_query(cyrillic, IMPLICIT_LE, policy))


@pytest.mark.parametrize("term", ["", "ISO-IR 100", "ISO IR 100", "ISO_IR_100", "ISO_IR100", "NONSENSE"])
def test_Q_37_an_empty_or_misspelt_character_set_is_understood(term: str) -> None:
    identifier = keys(None, "latin_1", SpecificCharacterSet=term, PatientName="Müller")
    assert found([entry(name="Müller")], compile_query(identifier, IMPLICIT_LE, QueryPolicy()))


def test_Q_38_utf_8_declared_as_latin_1_is_read_both_ways() -> None:
    for declared in ("ISO_IR 100", "ISO_IR 192"):
        for encoding in ("utf_8", "latin_1"):
            identifier = keys(None, encoding, SpecificCharacterSet=declared, PatientName="Müller*")
            query = compile_query(identifier, IMPLICIT_LE, QueryPolicy())
            assert found([entry(name="Müller^X")], query), (declared, encoding)


# --- unsupported keys and faults ----------------------------------------------------------------------------------


def test_an_unsupported_key_makes_every_pending_status_ff01() -> None:
    query = compiled(None, PatientName="", KVP="")
    assert (query.pending_status, [tag for tag, _ in query.shape]) == (0xFF01, [0x00100010])
    assert compiled(None, QueryPolicy(always_ff00=True), KVP="").pending_status == 0xFF00


def test_a_private_key_is_unsupported() -> None:
    identifier = encode_data_set({0x00091001: Element(0x00091001, "LO", b"x ")}, EXPLICIT_LE)
    query = compile_query(identifier, EXPLICIT_LE, QueryPolicy())
    assert (query.pending_status, query.shape) == (0xFF01, ())
    assert found([entry()], query)


def test_a_key_that_is_only_not_matched_keeps_ff00() -> None:
    assert compiled({"ScheduledProcedureStepLocation": "x"}, STATEMENT).pending_status == 0xFF00


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
def test_R_071_what_cannot_be_read_is_c003(transfer_syntax: str) -> None:
    for garbage in (b"\x08", b"\x10\x00\x10\x00\xff\xff\xff\x7f", b"garbage garbage"):
        with pytest.raises(IdentifierError) as caught:
            compile_query(garbage, transfer_syntax, QueryPolicy())
        assert caught.value.status == 0xC003
        assert len(caught.value.comment) <= 64


def test_Q_40_a_bomb_is_left_to_the_association() -> None:
    nested: list[Any] = []
    for _ in range(20):
        nested = [data_set([element("ScheduledProtocolCodeSequence", nested)])]
    identifier = encode_data_set(data_set([element("ScheduledProtocolCodeSequence", nested)]), IMPLICIT_LE)
    with pytest.raises(ElementLimitError):
        compile_query(identifier, IMPLICIT_LE, QueryPolicy())


def test_an_empty_identifier_lists_everything() -> None:
    assert found([entry()], compile_query(b"", IMPLICIT_LE, QueryPolicy())) == ["SPS1"]


def test_equal_requests_compile_to_equal_return_keys() -> None:
    assert compiled({"Modality": "CT"}).shape == compiled({"Modality": "MR"}).shape
    assert hash(compiled({"Modality": "CT"}).shape) == hash(compiled({"Modality": ""}).shape)


def test_notes_and_comments_hold_no_values() -> None:
    query = compiled({"ScheduledProcedureStepStartDate": "Secret^Name"}, PatientName="Secret^Name", Modality="Secret")
    assert "Secret" not in " ".join(query.notes)


def test_notes_are_few_however_odd_an_identifier_is() -> None:
    odd = b"".join(
        encode_data_set({tag: Element(tag, "LO", b"x ")}, IMPLICIT_LE) for tag in range(0x00060001, 0x00060100)
    )
    notes = compile_query(odd, IMPLICIT_LE, QueryPolicy()).notes
    assert (len(notes), notes[-1]) == (17, "and 239 more")


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
def test_the_transfer_syntax_makes_no_difference(transfer_syntax: str) -> None:
    item = data_set([element("Modality", "CT"), element("ScheduledProcedureStepStartDate", "20240705")])
    wanted = data_set([element("ScheduledProcedureStepSequence", [item]), element("PregnancyStatus", b"\4\0")])
    query = compile_query(encode_data_set(wanted, transfer_syntax), transfer_syntax, QueryPolicy())
    assert found([entry()], query, NOW, compile_view()) == ["SPS1"]
