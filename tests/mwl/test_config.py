import tomllib
from pathlib import Path
from typing import Any

import pytest

from mwl.config import Config, ConfigError, Filter, Policy, Remote, Rules, from_table, load

# Every table, with every key that is documented first.
WHOLE = r"""
[store]
path = "worklist.db"

[dicom]
host = "0.0.0.0"
port = 11112
workers = 1
check_hosts = true
known_hosts = ["127.0.0.1", "10.0.0.0/8", "ct1.example.org"]
artim_seconds = 30
idle_seconds = 600
implementation_class_uid = "2.25.1"
implementation_version_name = "DULPROTO_1"

[http]
host = "127.0.0.1"
port = 8080
token = ""

[hl7]
host = "0.0.0.0"
port = 2575

[[ae]]
title = "WORKLIST"
max_associations = 5
transfer_syntaxes = ["implicit-le", "explicit-le", "explicit-be"]
character_set = "ISO_IR 100"
datetime_matching = "combined"
matching = "all"
primary_patient_id_issuer = ""
other_patient_ids_separator = "\\"
filter = { modality = ["CT"], station_ae_title = [], location = [], status = ["SCHEDULED", "ARRIVED", "READY"], days_back = 1, days_ahead = 14 }

[[remote]]
title = "CT1"
hosts = ["10.1.2.3"]
honour_matching_keys = true
filter = { station_ae_title = ["CT1"] }
character_set = "ISO_IR 192"
max_results = 0
always_ff00 = false
"""  # noqa: E501


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mwl.toml"
    path.write_text(text, "utf-8")
    return path


def config_of(ae: dict[str, Any] | None = None, **tables: Any) -> Config:
    return from_table({"ae": [{"title": "WORKLIST", **(ae or {})}], **tables})


def faults_of(ae: dict[str, Any] | None = None, **tables: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_of(ae, **tables)
    return caught.value.faults


def test_the_documented_configuration_is_read(tmp_path: Path) -> None:
    config = load(written(tmp_path, WHOLE))
    assert config.dicom.known_hosts == ("127.0.0.1", "10.0.0.0/8", "ct1.example.org")
    assert config.ae[0].filter.days_ahead == 14
    assert config.remote[0].filter == Filter(station_ae_title=("CT1",))
    assert config.hl7 is not None
    assert config.http is not None
    assert config.policy("WORKLIST", "CT1").character_set == "ISO_IR 192"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert load(written(tmp_path, WHOLE)).store.path == tmp_path / "worklist.db"


def test_a_title_is_enough_and_no_table_means_no_listener(tmp_path: Path) -> None:
    config = load(written(tmp_path, '[[ae]]\ntitle = "WORKLIST"\n'))
    assert (config.http, config.hl7) == (None, None)
    assert config.ae[0].max_associations == 5
    assert config.dicom.check_hosts


def test_every_fault_is_named_with_its_key_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(
            {
                "dicom": {"port": 70000, "artim_seconds": "long", "prot": 1, "known_hosts": ["10.0.0.1/8", "a b"]},
                "http": {"host": "0.0.0.0"},
                "ae": [{"title": "A" * 17, "transfer_syntaxes": ["jpeg"]}, {"max_associations": -1}],
                "remote": [{"title": "CT1", "matching": "some"}],
                "colour": {},
            }
        )
    assert sorted(fault.split(": ")[0] for fault in caught.value.faults) == [
        "ae[0].title",
        "ae[0].transfer_syntaxes",
        "ae[1].max_associations",
        "ae[1].title",
        "colour",
        "dicom.artim_seconds",
        "dicom.known_hosts[0]",
        "dicom.known_hosts[1]",
        "dicom.port",
        "dicom.prot",
        "http.token",
        "remote[0].matching",
    ]


@pytest.mark.parametrize(
    ("ae", "key", "fault"),
    [
        ({"title": "A" * 17}, "title", "longer than 16 characters"),
        ({"title": ""}, "title", "is empty, or has spaces around it"),
        ({"title": "A\tB"}, "title", r"'A\tB' has a character that is not allowed in an AE title"),
        ({"max_asociations": 1}, "max_asociations", 'unknown key, did you mean "max_associations"?'),
        (
            {"character_set": "ISO_IR 1"},
            "character_set",
            "unknown character set 'ISO_IR 1', a term like ISO_IR 100 or ISO_IR 192 is wanted",
        ),
        (
            {"transfer_syntaxes": ["implicit"]},
            "transfer_syntaxes",
            "unknown transfer syntax 'implicit', did you mean \"implicit-le\"?",
        ),
        ({"transfer_syntaxes": []}, "transfer_syntaxes", "at least one is wanted, and none of them twice"),
        ({"datetime_matching": "both"}, "datetime_matching", "'both' is none of 'combined', 'independent'"),
        ({"filter": {"days_back": -1}}, "filter.days_back", "must not be negative"),
        ({"filter": {"modality": ["ct"]}}, "filter.modality[0]", "'ct' is not of A-Z, 0-9, space and underscore"),
        (
            {"filter": {"status": ["CANCELED"]}},
            "filter.status[0]",
            "'CANCELED' is none of SCHEDULED, ARRIVED, READY, STARTED",
        ),
        ({"filter": []}, "filter", "a table is wanted, list is given"),
        (
            {"default_values": {"PatientID": "0"}},
            "default_values",
            "PatientID identifies what is to be done, it has no default",
        ),
        ({"default_values": {"PatientWeight": 0}}, "default_values.PatientWeight", "expected `str`, got `int`"),
        (
            {"always_empty": ["Alergies"]},
            "always_empty[0]",
            "'Alergies' is no worklist attribute, did you mean \"Allergies\"?",
        ),
    ],
)
def test_a_fault_says_what_is_wrong(ae: dict[str, Any], key: str, fault: str) -> None:
    assert faults_of(ae) == [f"ae[0].{key}: {fault}"]


def test_an_ae_title_can_be_there_only_once() -> None:
    assert faults_of(remote=[{"title": "CT1"}, {"title": "CT1"}]) == ["remote: title 'CT1' is there 2 times"]


def test_titles_that_differ_in_case_are_one_when_case_is_ignored() -> None:
    remote = [{"title": "CT1"}, {"title": "ct1"}]
    assert config_of(remote=remote)
    assert faults_of(remote=remote, dicom={"ae_title_ignore_case": True}) == ["remote: title 'ct1' is there 2 times"]


def test_entries_are_not_removed_while_they_are_listed() -> None:
    assert faults_of(store={"expire_days": 30, "retain_days": 7})[0].startswith("store.retain_days")


def test_at_least_one_worklist_is_wanted() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        from_table({})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_http_on_loopback_needs_no_token(host: str) -> None:
    assert config_of(http={"host": host})


def test_a_user_has_a_name_and_a_passcode_that_is_text() -> None:
    assert faults_of({"users": {"": "x"}}) == ["ae[0].users: a user without a name"]
    (fault,) = faults_of({"users": {"adam": 4711}})
    assert fault.startswith("ae[0].users.adam: ")
    assert "4711" not in fault


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "ris.example.org"])
def test_http_that_others_can_reach_needs_a_token(host: str) -> None:
    assert faults_of(http={"host": host})[0].startswith("http.token: is required")
    assert config_of(http={"host": host, "token": "secret"})


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_no_toml_is_a_fault_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        load(written(tmp_path, "[dicom]\nport = \n"))


def test_a_file_that_is_no_utf_8_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "mwl.toml"
    path.write_bytes(b'[[ae]]\ntitle = "\xff"')
    with pytest.raises(ConfigError):
        load(path)


# --- policy -------------------------------------------------------------------------------------------------------


def test_a_remote_overrides_what_it_names_and_nothing_else() -> None:
    config = config_of(
        {"character_set": "ISO_IR 192", "strict": True, "max_results": 10},
        remote=[{"title": "CT1", "strict": False, "max_results": 0}],
    )
    policy = config.policy("WORKLIST", "CT1")
    assert (policy.strict, policy.max_results, policy.character_set) == (False, 0, "ISO_IR 192")


def test_an_unknown_caller_gets_the_rules_of_the_ae() -> None:
    config = config_of({"character_set": "ISO_IR 192"}, remote=[{"title": "CT1", "character_set": "ISO_IR 100"}])
    assert config.policy("WORKLIST", "OTHER").character_set == "ISO_IR 192"


def test_the_same_pair_has_the_same_policy_object() -> None:
    config = config_of(remote=[{"title": "CT1"}])
    assert config.policy("WORKLIST", "CT1") is config.policy(" WORKLIST", "CT1 ")
    assert config.policy("WORKLIST", "A") is config.policy("WORKLIST", "B")
    assert config.policy("WORKLIST", "CT1") != config_of(remote=[{"title": "CT1"}]).policy("WORKLIST", "CT1")


def test_both_filters_are_kept_apart() -> None:
    config = config_of(
        {"filter": {"modality": ["CT"]}}, remote=[{"title": "CT1", "filter": {"station_ae_title": ["CT1"]}}]
    )
    policy = config.policy("WORKLIST", "CT1")
    assert policy.ae_filter.modality == ("CT",)
    assert policy.remote_filter == Filter(station_ae_title=("CT1",))


def test_titles_are_compared_by_case_unless_told_otherwise() -> None:
    assert config_of().find_ae("worklist") is None
    assert config_of(dicom={"ae_title_ignore_case": True}).find_ae("worklist") is not None


def test_a_remote_and_a_policy_know_every_rule() -> None:
    assert set(Rules.__struct_fields__) <= set(Remote.__struct_fields__) & set(Policy.__struct_fields__)


def test_what_is_computed_is_no_key() -> None:
    assert faults_of(_policies={}) == ["_policies: unknown key"]


# --- documents ----------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def test_the_reference_names_every_key_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    reference = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])
    tables = {"http": {}, "hl7": {}, "ae": [{"title": "WORKLIST"}], "remote": [{"title": "CT1"}]}
    defaults = from_table(tables).in_force()
    for name in ("store", "dicom", "http", "hl7"):
        assert reference[name] == defaults[name], name
    (ae,), (remote,) = defaults["ae"], defaults["remote"]
    assert reference["ae"][0] == {**ae, "filter": reference["ae"][0]["filter"]}
    assert set(reference["ae"][0]["filter"]) == set(Filter.__struct_fields__)
    assert set(reference["remote"][0]) > set(remote)
    assert from_table(reference)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_is_right(path: Path) -> None:
    assert load(path).ae


def test_the_connectivity_hub_is_as_its_statement_says() -> None:
    config = load(ROOT / "examples" / "connectivity-hub.toml")
    (ae,) = config.ae
    policy = config.policy(ae.title, "ANY")
    assert (policy.matching, policy.datetime_matching) == ("statement", "independent")
    assert (policy.character_set, policy.other_patient_ids_separator) == ("ISO_IR 100", ",")  # R-050, F11
    assert (ae.max_associations, config.dicom.check_hosts) == (5, True)
    assert ae.transfer_syntaxes == ("implicit-le", "explicit-le", "explicit-be")
    assert config.dicom.implementation_class_uid == "1.2.826.0.1.3680043.2.60.0.1"
    assert config.dicom.implementation_version_name == "Wjdt260_2"
    assert "Allergies" in policy.always_empty


@pytest.mark.parametrize("number", [0, 1, 2, 64])
def test_there_may_be_several_workers(number: int) -> None:
    assert from_table({"dicom": {"workers": number}, "ae": [{"title": "WORKLIST"}]}).dicom.workers == number


@pytest.mark.parametrize("number", [-1, 65])
def test_there_is_a_limit_to_workers(number: int) -> None:
    with pytest.raises(ConfigError, match=r"dicom\.workers: must be 0, for one per core, or 1 to 64"):
        from_table({"dicom": {"workers": number}, "ae": [{"title": "WORKLIST"}]})


def test_several_workers_are_refused_where_they_cannot_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert from_table({"dicom": {"workers": 1}, "ae": [{"title": "WORKLIST"}]})
    for number in (0, 2):
        with pytest.raises(ConfigError, match=r"dicom\.workers: several processes can share a port on Linux only"):
            from_table({"dicom": {"workers": number}, "ae": [{"title": "WORKLIST"}]})
