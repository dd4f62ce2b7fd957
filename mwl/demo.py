"""A generated worklist to try things with: invented patients, and the days around today of a radiology department.

The same arguments give the same entries.  Nobody in it is real.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from random import Random
from typing import Final, NamedTuple
from uuid import UUID

from .item import Code, Entry, ImagingServiceRequest, Patient, PatientIdentifier, RequestedProcedure
from .item import ScheduledProcedureStep as Step

__all__ = ["STATIONS", "sample_entries"]


class Culture(NamedTuple):
    """Names as one culture has them; where they have more than one writing, the parts are joined by `=`."""

    families: str
    women: str
    men: str
    language: str  # code and name


_OWN_LANGUAGES: Final = ("German", "English")  # of the staff, who need no interpreter for them

# fmt: off
_CULTURES: Final = (
    Culture("Müller Schäfer Weiß Krüger Jäger", "Rösli Käthe Anna Grete", "Jörg Björn Günther Paul", "de German"),
    Culture("Adams Baker Carter Dixon Ellis O'Neill", "Alice Emma Grace", "Arthur Henry Oliver", "en English"),
    Culture("Lefèvre Béranger François Noël", "Zoé Hélène Amélie", "André Jérôme Benoît", "fr French"),
    Culture("Núñez García Ibáñez Peña", "Inés Lucía Begoña", "José Ramón Íñigo", "es Spanish"),
    Culture("Åström Björk Sjögren Öberg", "Åsa Märta Elin", "Göran Håkan Nils", "sv Swedish"),
    Culture("Wójcik Łukasiewicz Żak Dąbrowski", "Małgorzata Zofia", "Łukasz Paweł", "pl Polish"),
    Culture("Çelik Şahin Yıldız Öztürk", "Ayşe Gülşen", "Çağrı İbrahim", "tr Turkish"),
    Culture("Иванов Кузнецов Соколов Лебедев", "Ольга Юлия", "Дмитрий Сергей", "ru Russian"),
    Culture("Παπαδόπουλος Νικολάου Γεωργίου", "Ελένη Σοφία", "Γιώργος Νίκος", "el Greek"),
    Culture("Yamada=山田=やまだ Suzuki=鈴木=すずき Tanaka=田中=たなか", "Hanako=花子=はなこ Yuki=由紀=ゆき",
            "Tarou=太郎=たろう Kenji=健二=けんじ", "ja Japanese"),
    Culture("Hong=洪=홍 Kim=金=김 Park=朴=박", "Jiyoung=智英=지영",
            "Gildong=吉洞=길동 Minho=敏浩=민호", "ko Korean"),
    Culture("Wang=王 Zhang=张 Li=李", "Xiaodong=小东 Mei=美", "Wei=伟 Jun=军", "zh Chinese"),
    Culture("قباني حداد منصور", "ليلى فاطمة", "نزار سامي", "ar Arabic"),
    Culture("כהן לוי פרידמן", "שרה רבקה", "דוד יוסף", "he Hebrew"),
    Culture("Nguyễn Trần Phạm", "Thị-Hương Mỹ-Linh", "Văn-Đức Quốc-Bảo", "vi Vietnamese"),
)
# fmt: on


class Station(NamedTuple):
    """A place of examination: its AE title gets a number, and an examination takes so many minutes."""

    title: str
    modality: str
    location: str
    minutes: int
    procedures: tuple[tuple[str, str, str], ...]  # code, description, body part


STATIONS: Final = (
    Station(
        "CT",
        "CT",
        "RAD-A",
        20,
        (
            ("CTHEAD", "CT head without contrast", "HEAD"),
            ("CTCHE", "CT chest with contrast", "CHEST"),
            ("CTABD", "CT abdomen and pelvis with contrast", "ABDOMEN"),
            ("CTSPL", "CT lumbar spine", "LSPINE"),
        ),
    ),
    Station(
        "MR",
        "MR",
        "RAD-B",
        40,
        (
            ("MRHEAD", "MR brain with and without contrast", "BRAIN"),
            ("MRKNEE", "MR knee", "KNEE"),
            ("MRSPL", "MR lumbar spine", "LSPINE"),
        ),
    ),
    Station(
        "DX",
        "DX",
        "RAD-C",
        10,
        (
            ("XRCHE", "Chest two views", "CHEST"),
            ("XRHAND", "Hand three views", "HAND"),
            ("XRANK", "Ankle two views", "ANKLE"),
            ("XRHIP", "Hip two views", "HIP"),
        ),
    ),
    Station(
        "US",
        "US",
        "OUTPAT",
        20,
        (
            ("USABD", "Ultrasound abdomen", "ABDOMEN"),
            ("USTHY", "Ultrasound thyroid", "THYROID"),
            ("USVEN", "Doppler leg veins", "LEG"),
        ),
    ),
    Station("MG", "MG", "BREAST", 15, (("MGSCR", "Mammography screening", "BREAST"),)),
    Station("XA", "XA", "CATHLAB", 60, (("XACOR", "Coronary angiography", "HEART"),)),
    Station(
        "NM",
        "NM",
        "NUCMED",
        60,
        (("NMBONE", "Bone scintigraphy", "WHOLEBODY"), ("NMTHY", "Thyroid scintigraphy", "THYROID")),
    ),
    Station("PT", "PT", "NUCMED", 45, (("PTFDG", "FDG PET/CT whole body", "WHOLEBODY"),)),
)

_OPEN, _CLOSE = 7 * 60 + 30, 17 * 60  # minutes of the day
# Which part of the entries lies how many days from today.
_SHARES: Final = {0: 0.45, 1: 0.2, -1: 0.1, 2: 0.1, 3: 0.05, 4: 0.05, 7: 0.05}
_FIRST, *_OTHERS = _SHARES

_PHYSICIANS: Final = ("Hartmann^Eva^^Dr.", "Okafor^Chidi^^Dr.", "Lindqvist^Maja^^Dr.", "Rossi^Paolo^^Prof.")
_SERVICES: Final = ("Neurology", "Surgery", "Internal medicine", "Emergency", "Orthopaedics", "Paediatrics")
_REASONS: Final = ("pain", "follow-up", "trauma", "suspected fracture", "staging", "pre-operative", "dyspnoea")
_WARDS: Final = ("W1", "W2", "ICU", "ER", "OUTPAT")
_STATUSES_TODAY: Final = ("SCHEDULED",) * 14 + ("ARRIVED",) * 3 + ("READY", "STARTED", "CANCELED")
_STATUSES_BEFORE: Final = ("COMPLETED",) * 6 + ("DEPARTED", "SCHEDULED", "SCHEDULED", "DISCONTINUED")
_PRIORITIES: Final = ("ROUTINE",) * 8 + ("HIGH", "STAT")


def sample_entries(count: int, today: date, seed: int = 1) -> list[Entry]:
    """Invent a worklist of `count` entries, most of them today, in the order of their start.

    There are as many stations of each kind as that many examinations need.
    """
    random = Random(seed)
    wanted = {days: int(count * share) for days, share in _SHARES.items()}
    wanted[_FIRST] = count - sum(wanted[days] for days in _OTHERS)
    day_of_a_room = [(minute, station) for station in STATIONS for minute in range(_OPEN, _CLOSE, station.minutes)]
    rooms = 1 + 5 * wanted[_FIRST] // (4 * len(day_of_a_room))  # four of five slots are taken at the most
    day_of_all = [(minute, station, room) for minute, station in day_of_a_room for room in range(1, rooms + 1)]
    slots = [
        (datetime.combine(today + timedelta(days), time(minute // 60, minute % 60)), station, room)
        for days, number in wanted.items()
        for minute, station, room in random.sample(day_of_all, number)
    ]
    slots.sort(key=lambda slot: (slot[0], slot[1].title, slot[2]))
    return [
        _entry(random, number, start, station, room, today) for number, (start, station, room) in enumerate(slots, 1)
    ]


def _entry(random: Random, number: int, start: datetime, station: Station, room: int, today: date) -> Entry:
    code, description, body_part = random.choice(station.procedures)
    procedure_code = Code(code, "99DEMO", description)
    patient = _patient(random, number, station, today)
    day = start.date()
    statuses = _STATUSES_BEFORE if day < today else _STATUSES_TODAY if day == today else ("SCHEDULED",)
    contrast = "iodine" if "with contrast" in description else "gadolinium" if "and without" in description else ""
    weight = round(random.gauss(76, 14)) if random.random() < 0.7 else None
    return Entry(
        patient,
        RequestedProcedure(
            study_instance_uid=f"2.25.{UUID(int=random.getrandbits(128), version=4).int}",
            procedure_id=f"RP{number:06}",
            description=description,
            code=procedure_code,
            priority=random.choice(_PRIORITIES),
            reason=random.choice(_REASONS),
            transport_arrangements=random.choice(("", "walking", "wheelchair", "bed")),
        ),
        Step(
            step_id=f"SPS{number:06}",
            station_ae_titles=(f"{station.title}{room}",),
            start_date=day,
            start_time=start.time(),
            modality=station.modality,
            performing_physician=random.choice(_PHYSICIANS),
            description=description,
            protocol_codes=(Code(f"{code}-STD", "99DEMO", f"{description}, standard protocol"),),
            station_names=(f"{station.location}-{room}",),
            location=station.location,
            contrast_agent=contrast,
            body_part_examined=body_part,
            status=random.choice(statuses),
        ),
        ImagingServiceRequest(
            accession_number=f"A{number:07}",
            placer_order_number=f"PL{number:07}",
            filler_order_number=f"FI{number:07}",
            requesting_physician=random.choice(_PHYSICIANS),
            requesting_service=random.choice(_SERVICES),
            referring_physician=random.choice(_PHYSICIANS),
            institution_name="Demo Hospital",
            admission_id=f"V{number:07}",
            current_patient_location=random.choice(_WARDS),
            pregnancy_status=random.choice((None, 1, 4)) if patient.sex == "F" else None,
            patient_size=round(random.gauss(1.71, 0.09), 2) if weight else None,
            patient_weight=float(max(weight, 35)) if weight else None,
        ),
    )


def _patient(random: Random, number: int, station: Station, today: date) -> Patient:
    sex, youngest, oldest = ("F", 45, 75) if station.modality == "MG" else (random.choice("FM"), 0, 95)
    culture = random.choice(_CULTURES)
    language, language_name = culture.language.split()
    family = random.choice(culture.families.split()).split("=")
    given = random.choice((culture.women if sex == "F" else culture.men).split()).split("=")
    name = "=".join(f"{one}^{other}" for one, other in zip(family, given, strict=True))
    identifiers = [PatientIdentifier(f"{4_000_000 + number}", "DEMO")]
    if random.random() < 0.2:
        identifiers.append(PatientIdentifier(f"X{random.randrange(10**6):06}", "REGION", "2.25.4711", "ISO"))
    return Patient(
        name=name,
        identifiers=tuple(identifiers),
        birth_date=today - timedelta(days=random.randrange(youngest * 365, oldest * 365)),
        sex=sex,
        languages=(Code(language, "RFC5646", language_name),),
        allergies=("iodinated contrast",) if random.random() < 0.05 else (),
        medical_alerts=("cardiac pacemaker",) if random.random() < 0.05 else (),
        special_needs="interpreter" if language_name not in _OWN_LANGUAGES and random.random() < 0.3 else "",
    )
