"""The configuration: a TOML file, checked as a whole, and what it means for one pair of AE titles."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from dulproto import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, TRANSFER_SYNTAXES

from .attributes import BY_KEYWORD_PATH, Mode
from .charset import is_known_character_set
from .checked import decode, suggestion
from .errors import MwlError
from .hosts import host_fault, is_loopback
from .item import LISTABLE
from .process import cores

__all__ = ["Ae", "Config", "ConfigError", "Dicom", "Filter", "Hl7", "Http", "Policy", "Remote", "Rules", "Store"]
__all__ += ["from_table", "load"]

MOST_WORKERS: Final = 64

# Who and what is examined must never be made up, Q-76.
_IDENTIFYING: Final = frozenset(
    {"PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID", "RequestedProcedureID"}
    | {"ScheduledProcedureStepSequence/ScheduledProcedureStepID"}
)


class ConfigError(MwlError):
    """A configuration cannot be used: carries every fault, each with the path of its key."""

    def __init__(self, source: str, faults: list[str]) -> None:
        super().__init__("\n".join([f"{source}:", *(f"  {fault}" for fault in faults)]))
        self.faults = faults


# --- what values must look like -----------------------------------------------------------------------------------


def ae_title_fault(title: str) -> str | None:
    """Say what is wrong with an AE title, PS3.5 Table 6.2-1 and Q-48."""
    if len(title) > 16:
        return "longer than 16 characters"
    if title.strip(" ") != title or not title:
        return "is empty, or has spaces around it"
    if "\\" in title or not title.isascii() or not title.isprintable():
        return f"{title!r} has a character that is not allowed in an AE title"
    return None


def _station_fault(title: str) -> str | None:
    return ae_title_fault(title) if title else None


def _code_fault(value: str) -> str | None:
    return None if re.fullmatch(r"[A-Z0-9 _]{1,16}", value) else f"{value!r} is not of A-Z, 0-9, space and underscore"


def _location_fault(value: str) -> str | None:
    return None if 0 < len(value) <= 16 else "must have 1 to 16 characters"


def _status_fault(status: str) -> str | None:
    return None if status in LISTABLE else f"{status!r} is none of {', '.join(LISTABLE)}"


def _listen_fault(host: str) -> str | None:
    return f"{host!r} is a network, one address is wanted" if "/" in host else host_fault(host)


def _port_fault(port: int) -> str | None:
    return None if 0 <= port <= 65535 else f"{port} is no port"


def _workers_fault(number: int) -> str | None:
    if number != 1 and sys.platform != "linux":  # elsewhere SO_REUSEPORT is missing, or does not spread connections
        return "several processes can share a port on Linux only, 1 is the only value here"
    return None if 0 <= number <= MOST_WORKERS else f"must be 0, for one per core, or 1 to {MOST_WORKERS}"


def _negative_fault(number: float) -> str | None:
    return None if number >= 0 else "must not be negative"


def _positive_fault(number: float) -> str | None:
    return None if number > 0 else "must be more than 0"


def _uid_fault(uid: str) -> str | None:
    valid = len(uid) <= 64 and re.fullmatch(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", uid)
    return None if valid else f"{uid!r} is no UID"


def _version_name_fault(name: str) -> str | None:
    return None if 0 < len(name) <= 16 and name.isascii() and name.isprintable() else "must be 1 to 16 ASCII letters"


def _character_set_fault(terms: str) -> str | None:
    if is_known_character_set(terms):
        return None
    return f"unknown character set {terms!r}, a term like ISO_IR 100 or ISO_IR 192 is wanted"


def _answer_set_fault(terms: str) -> str | None:
    return None if terms == "auto" else _character_set_fault(terms)


def _transfer_syntaxes_fault(names: tuple[str, ...]) -> str | None:
    for name in names:
        if name not in TRANSFER_SYNTAXES:
            return f"unknown transfer syntax {name!r}{suggestion(name, list(TRANSFER_SYNTAXES))}"
    return None if names and len(set(names)) == len(names) else "at least one is wanted, and none of them twice"


def _users_fault(users: dict[str, str]) -> str | None:
    return "a user without a name" if "" in users else None


def _attribute_fault(keyword: str) -> str | None:
    if keyword in BY_KEYWORD_PATH:
        return None
    return f"{keyword!r} is no worklist attribute{suggestion(keyword, list(BY_KEYWORD_PATH))}"


def _always_empty_fault(keyword: str) -> str | None:
    if keyword in BY_KEYWORD_PATH and BY_KEYWORD_PATH[keyword].return_type == "1":
        return f"{keyword} must have a value, it is of type 1"
    return _attribute_fault(keyword)


def _default_values_fault(values: dict[str, str]) -> str | None:
    from .dataset import value_fault  # 100 ms to import, and hardly anybody has defaults

    for keyword, value in values.items():
        if keyword in _IDENTIFYING:
            return f"{keyword} identifies what is to be done, it has no default"
        if fault := _attribute_fault(keyword):
            return fault
        if fault := value_fault(BY_KEYWORD_PATH[keyword], value):
            return f"{keyword} {fault}"
    return None


AeTitle = Annotated[str, ae_title_fault]
Host = Annotated[str, host_fault]
ListenHost = Annotated[str, _listen_fault]
Port = Annotated[int, _port_fault]
Count = Annotated[int, _negative_fault]
Seconds = Annotated[float, _positive_fault]
CharacterSet = Annotated[str, _answer_set_fault]


# --- the tables of the file ---------------------------------------------------------------------------------------


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """`[store]`: where entries are kept.

    An entry that started more than `expire_days` ago leaves the index, and after `retain_days` the store; 0 = never.
    """

    path: Path = Path("worklist.db")
    expire_days: Count = 0
    retain_days: Count = 0


class Dicom(msgspec.Struct, frozen=True, kw_only=True):
    """`[dicom]`: the listener that all worklists share."""

    host: ListenHost = "0.0.0.0"
    port: Port = 11112
    workers: Annotated[int, _workers_fault] = 1  # 0 = one per core
    check_hosts: bool = True
    known_hosts: tuple[Host, ...] = ("127.0.0.1", "::1")
    check_calling_ae_titles: bool = False
    ae_title_ignore_case: bool = False
    artim_seconds: Seconds = 30.0
    idle_seconds: Annotated[float, _negative_fault] = 600.0
    send_seconds: Seconds = 60.0
    implementation_class_uid: Annotated[str, _uid_fault] = IMPLEMENTATION_CLASS_UID
    implementation_version_name: Annotated[str, _version_name_fault] = IMPLEMENTATION_VERSION_NAME

    @property
    def processes(self) -> int:
        """How many processes serve DICOM on this machine."""
        return self.workers or min(cores(), MOST_WORKERS)


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """`[http]`: REST, metrics and the operator's page; no such table, no HTTP."""

    host: ListenHost = "127.0.0.1"
    port: Port = 8080
    token: str = ""


class Hl7(msgspec.Struct, frozen=True, kw_only=True):
    """`[hl7]`: the MLLP listener; no such table, no HL7.

    With a certificate it speaks TLS; with `client_ca` as well, senders need a certificate of that authority.
    """

    host: ListenHost = "0.0.0.0"
    port: Port = 2575
    mapping: Path | None = None  # a site's own, over the one that ships with mwl
    idle_seconds: Annotated[float, _negative_fault] = 3600.0  # 0 = for ever
    max_connections: Annotated[int, _positive_fault] = 200
    in_flight: Annotated[int, _positive_fault] = 64  # messages of one connection that are not answered yet
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What is listed at all, R-040; an empty list and a missing number of days let everything through.

    Without any list of states, what is listed is what is still to be done, and has not been started.
    """

    modality: tuple[Annotated[str, _code_fault], ...] = ()
    station_ae_title: tuple[AeTitle, ...] = ()
    location: tuple[Annotated[str, _location_fault], ...] = ()
    status: tuple[Annotated[str, _status_fault], ...] = ()
    days_back: Count | None = None
    days_ahead: Count | None = None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How a query is matched and answered: an AE sets these keys, a remote AE overrides those that it names."""

    # Matching
    honour_matching_keys: bool = True
    attributes: Mode = "all"  # "statement": those of Table 3.7 alone
    matching: Mode = "all"
    datetime_matching: Literal["combined", "independent"] = "combined"
    strict: bool = False  # a key that cannot be read is an error
    wildcards_in_single_value_keys: bool = False  # Q-12, with matching = "statement"
    ae_key_ignore_case: bool = True
    use_calling_as_station: bool = False
    station_ae_title: Annotated[str, _station_fault] = ""
    step_keys_at_root: bool = True
    lenient_pn: bool = False
    ignore_accents: bool = False
    match_other_patient_ids: bool = False
    request_character_set: Annotated[str, _character_set_fault] = "ISO_IR 100"  # of a query that names none
    day_tolerance: Count = 0  # days by which dates of steps are widened

    # Answers
    character_set: CharacterSet = "ISO_IR 100"
    transliterate: bool = True  # `l` for a Polish l-stroke rather than `?`
    omit_ascii_character_set: bool = False
    primary_patient_id_issuer: str = ""
    other_patient_ids_separator: Literal["\\", ","] = "\\"  # F11
    upper_case_names: bool = False
    name_components: Annotated[int, lambda n: None if 1 <= n <= 5 else "must be 1 to 5"] = 5
    alphabetic_names_only: bool = False
    default_values: Annotated[dict[str, str], _default_values_fault] = {}  # Q-76, by keyword
    always_empty: tuple[Annotated[str, _always_empty_fault], ...] = ()  # R-063, by keyword
    max_results: Count = 0  # Q-66; 0 = no limit
    at_max_results: Literal["success", "out-of-resources"] = "success"
    always_ff00: bool = False


class Ae(Rules, frozen=True, kw_only=True):
    """`[[ae]]`: one worklist."""

    title: AeTitle
    max_associations: Count = 5  # R-013; 0 = no limit
    transfer_syntaxes: Annotated[tuple[str, ...], _transfer_syntaxes_fault] = tuple(TRANSFER_SYNTAXES)
    requestor_order: bool = False  # of transfer syntaxes
    users: Annotated[dict[str, str], _users_fault] = {}  # passcodes by name
    filter: Filter = Filter()


class Remote(Rules, frozen=True, kw_only=True):
    """`[[remote]]`: what is known of one modality."""

    title: AeTitle
    hosts: tuple[Host, ...] = ()
    filter: Filter = Filter()
    verification_only: bool = False


class Policy(Rules, frozen=True, kw_only=True, eq=False):
    """The rules for one pair of AE titles.

    There is one object for each pair, compared by identity: what is computed for it is good until a reload.
    """

    ae_filter: Filter
    remote_filter: Filter
    verification_only: bool


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration, without faults."""

    store: Store = Store()
    dicom: Dicom = Dicom()
    http: Http | None = None
    hl7: Hl7 | None = None
    ae: tuple[Ae, ...] = ()
    remote: tuple[Remote, ...] = ()
    _given: tuple[frozenset[str], ...] = ()  # by each remote: the keys that stand in the file
    _policies: dict[tuple[str, str], Policy] = {}

    def find_ae(self, called: str) -> Ae | None:
        """Find the worklist of a Called AE title, R-010."""
        return next((ae for ae in self.ae if self._fold(ae.title) == self._fold(called)), None)

    def find_remote(self, calling: str) -> Remote | None:
        """Find what is known of a Calling AE title."""
        return next((remote for remote in self.remote if self._fold(remote.title) == self._fold(calling)), None)

    def policy(self, called: str, calling: str) -> Policy:
        """Look up the rules between one of our AE titles and any caller; one that is unknown gets the AE's own.

        Raises:
            KeyError: there is no worklist of this title.
        """
        called, calling = self._fold(called), self._fold(calling)
        return self._policies.get((called, calling)) or self._policies[called, ""]

    def in_force(self) -> dict[str, Any]:
        """Give the tables of a file that has every default written out; a remote has what it overrides.

        Neither the token nor a passcode is shown: what this gives is pasted into mails.
        """
        tables = {name: _written_out(getattr(self, name)) for name in self.__struct_fields__ if name[0] != "_"}
        for remote, given in zip(tables["remote"], self._given, strict=True):
            for name in set(Rules.__struct_fields__) - given:
                del remote[name]
        if self.http and self.http.token:
            tables["http"]["token"] = "(set)"
        for ae in tables["ae"]:
            ae["users"] = {name: passcode and "(set)" for name, passcode in ae["users"].items()}
        return {name: table for name, table in tables.items() if table}

    def _fold(self, title: str) -> str:
        title = title.strip(" ")
        return title.casefold() if self.dicom.ae_title_ignore_case else title


# --- load ---------------------------------------------------------------------------------------------------------


def load(path: Path | str) -> Config:
    """Read a configuration file; paths in it are relative to where it lies.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or has faults, each named with its key.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror}; -c names another file"]) from exc
    except ValueError as exc:  # of the TOML, or of its UTF-8
        raise ConfigError(str(path), [f"is no TOML: {exc}"]) from exc
    return from_table(raw, base=path.parent, source=str(path))


def from_table(raw: dict[str, Any], base: Path = Path(), source: str = "configuration") -> Config:
    """Make a configuration of the tables of a file, or of the same as a plain `dict`.

    Raises:
        ConfigError: with every fault.
    """
    config, faults = decode(Config, raw)
    faults += _faults_between_keys(config)
    if faults:
        raise ConfigError(source, faults)
    store = msgspec.structs.replace(config.store, path=base / config.store.path)
    hl7 = config.hl7 and msgspec.structs.replace(config.hl7, **_placed(config.hl7, base))
    given = tuple(frozenset(table) for table in raw.get("remote", ()))
    found = dict(_policies(config, given))
    return msgspec.structs.replace(config, store=store, hl7=hl7, _given=given, _policies=found)


def _placed(hl7: Hl7, base: Path) -> dict[str, Path]:
    """Give the files that `[hl7]` names, from where the configuration lies."""
    names = ("mapping", "certificate", "private_key", "client_ca")
    return {name: base / path for name in names if (path := getattr(hl7, name))}


def _faults_between_keys(config: Config) -> Iterator[str]:
    """Find what is wrong although each key for itself is right."""
    if not config.ae:
        yield "ae: at least one [[ae]] is wanted"
    for table, entries in (("ae", config.ae), ("remote", config.remote)):
        titles = [config._fold(entry.title) for entry in entries if entry.title]
        yield from (f"{table}: title {title!r} is there {n} times" for title, n in Counter(titles).items() if n > 1)
    if config.http and not config.http.token and not is_loopback(config.http.host):
        yield f"http.token: is required when http.host is {config.http.host}, which others can reach"
    if config.hl7 and config.hl7.certificate is None and (config.hl7.private_key or config.hl7.client_ca):
        yield "hl7.certificate: is required with a private key or an authority for senders"
    if 0 < config.store.retain_days < config.store.expire_days:
        yield "store.retain_days: less than store.expire_days, entries would be removed while they are listed"


def _policies(config: Config, given: tuple[frozenset[str], ...]) -> Iterator[tuple[tuple[str, str], Policy]]:
    for ae in config.ae:
        rules = {name: getattr(ae, name) for name in Rules.__struct_fields__}
        called = config._fold(ae.title)
        yield (called, ""), Policy(**rules, ae_filter=ae.filter, remote_filter=Filter(), verification_only=False)
        for remote, keys in zip(config.remote, given, strict=True):
            overrides = {name: getattr(remote, name) for name in Rules.__struct_fields__ if name in keys}
            yield (
                (called, config._fold(remote.title)),
                Policy(
                    **{**rules, **overrides},
                    ae_filter=ae.filter,
                    remote_filter=remote.filter,
                    verification_only=remote.verification_only,
                ),
            )


def _written_out(value: Any) -> Any:
    """Turn tables into plain values, titles first, without what is not set."""
    if isinstance(value, msgspec.Struct):
        names = sorted(value.__struct_fields__, key=lambda name: name != "title")
        fields = {name: getattr(value, name) for name in names}
        return {name: _written_out(inner) for name, inner in fields.items() if inner is not None}
    if isinstance(value, tuple):
        return [_written_out(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
