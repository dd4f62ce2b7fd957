import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from mwl.cli import COMMANDS, main
from mwl.config import from_table, load
from mwl.demo import sample_entries
from mwl.files import write_json, write_wl_file
from mwl.process import cores
from mwl.store import Put, Store, StoreReader

ENTRIES = sample_entries(5, date(2024, 7, 5))


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Mwl = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mwl.toml").write_text('[store]\npath = "worklist.db"\n[[ae]]\ntitle = "WORKLIST"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mwl(folder: Path, capsys: pytest.CaptureFixture[str]) -> Mwl:
    """Run a command in a folder with a configuration."""

    def run(*arguments: object) -> Outcome:
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def filled(folder: Path) -> Path:
    store = Store(folder / "worklist.db")
    store.commit_now([Put(entry) for entry in ENTRIES])
    store.close()
    return folder


def stored(folder: Path) -> dict[tuple[str, str], str]:
    reader = StoreReader(folder / "worklist.db")
    found = {entry.key: entry.step.status for entry in reader.load()[1]}
    reader.close()
    return found


# --- the command itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [[], ["lst"], ["list", "--colour"], ["import"], ["show"], ["demo", "--entries", "-1"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: mwl" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name}" in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: mwl {name}" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("mwl 0.")


def in_python(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *arguments], env=environment, text=True, timeout=60, **options)


def test_the_module_is_the_command_and_help_imports_nothing_heavy() -> None:
    assert "COMMAND" in in_python("-m", "mwl", "--help", stdout=subprocess.PIPE).stdout
    script = (
        "import atexit, sys, mwl.cli\n"
        "atexit.register(lambda: print(sys.modules.keys() & {'pydicom', 'apsw', 'dulproto', 'rich', 'msgspec'}))\n"
        "mwl.cli.main(['--help'])"
    )
    assert in_python("-c", script, stdout=subprocess.PIPE).stdout.endswith("set()\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind")
def test_a_reader_that_goes_away_is_no_error_message(filled: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = in_python("-m", "mwl", "list", cwd=filled, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("command", [["list"], ["show", "S1"], ["export"]])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_is_written_to_a_file_or_a_pipe_is_utf_8_whatever_the_locale_is(
    folder: Path, command: list[str], encoding: str
) -> None:
    entry = replace(ENTRIES[0], patient=replace(ENTRIES[0].patient, name="Łukasz^Jürgen=洪"))
    store = Store(folder / "worklist.db")
    store.commit_now([Put(replace(entry, step=replace(entry.step, step_id="S1")))])
    store.close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding}
    program = [sys.executable, "-m", "mwl", *command]
    done = subprocess.run(program, env=environment, cwd=folder, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "Łukasz^Jürgen" in done.stdout.decode("utf-8")


@pytest.mark.parametrize("command", [["list"], ["show", "X"], ["export"], ["backup", "x.db"], ["check"]])
def test_a_configuration_that_is_not_there_is_named_with_what_to_do(mwl: Mwl, command: list[str]) -> None:
    status, out, err = mwl(*command, "-c", "none.toml")
    assert (status, out) == (1, "")
    assert "none.toml" in err
    assert "-c names another file" in err


@pytest.mark.parametrize("command", [["list"], ["show", "X"], ["export"], ["backup", "x.db"]])
def test_a_store_that_is_not_there_is_named_and_not_made(mwl: Mwl, folder: Path, command: list[str]) -> None:
    status, _, err = mwl(*command)
    assert status == 1
    assert "worklist.db cannot be opened: no such file" in err
    assert not (folder / "worklist.db").exists()


# --- import and export --------------------------------------------------------------------------------------------


def test_files_are_imported_and_counted(mwl: Mwl, folder: Path) -> None:
    (folder / "wl").mkdir()
    for entry in ENTRIES[:3]:
        write_wl_file(entry, folder / "wl")
    with (folder / "more.json").open("w", encoding="utf-8") as file:
        write_json(ENTRIES[2:], file)
    assert mwl("import", "wl", "more.json") == (0, "6 read: 5 new, 0 changed, 1 unchanged, 0 refused\n", "")
    assert stored(folder).keys() == {entry.key for entry in ENTRIES}
    assert mwl("import", "wl") == (0, "3 read: 0 new, 0 changed, 3 unchanged, 0 refused\n", "")


def test_a_refused_file_is_named_with_the_reason_and_the_others_are_kept(mwl: Mwl, folder: Path) -> None:
    (folder / "bad.wl").write_bytes(b"no DICOM here")
    good = write_wl_file(ENTRIES[0], folder)
    status, out, err = mwl("import", "bad.wl", good)
    assert status == 1
    assert out == "2 read: 1 new, 0 changed, 0 unchanged, 1 refused\n"
    assert err.startswith("refused bad.wl: file is no DICOM file")
    assert stored(folder).keys() == {ENTRIES[0].key}


def test_an_import_can_be_read_by_programs(mwl: Mwl, folder: Path) -> None:
    (folder / "bad.json").write_text('[{"00100010": {"vr": "PN"}}]')
    status, out, _ = mwl("import", "--json", "bad.json")
    summary = json.loads(out)
    assert status == 1
    assert (summary["new"], summary["refused"][0]["where"]) == (0, "bad.json[0]")
    assert {"attribute": "PatientID", "reason": "is missing"} in summary["refused"][0]["faults"]


def test_a_changed_entry_is_taken_over(mwl: Mwl, filled: Path) -> None:
    mwl("cancel", ENTRIES[0].step.step_id)
    path = write_wl_file(ENTRIES[0], filled)
    assert "1 changed" in mwl("import", path).out
    assert stored(filled)[ENTRIES[0].key] == ENTRIES[0].step.status


def test_a_folder_without_worklist_files_is_refused(mwl: Mwl, folder: Path) -> None:
    (folder / "empty").mkdir()
    status, _, err = mwl("import", "empty")
    assert (status, err) == (1, "mwl import: there are no worklist files in empty\n")


def test_the_log_tells_which_file_an_entry_came_from(mwl: Mwl, folder: Path) -> None:
    path = write_wl_file(ENTRIES[0], folder)
    mwl("import", path)
    assert str(path) in mwl("show", "--history", ENTRIES[0].step.step_id).out


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_an_import_shows_its_progress_on_a_terminal_only(folder: Path) -> None:
    import pty

    path = write_wl_file(ENTRIES[0], folder)
    terminal, end = pty.openpty()
    done = in_python("-m", "mwl", "import", str(path), cwd=folder, stdout=subprocess.PIPE, stderr=end)
    os.close(end)
    assert b"importing" in os.read(terminal, 10_000)
    os.close(terminal)
    assert done.stdout.startswith("1 read")


@pytest.mark.parametrize("target", [["-o", "all.json"], ["--wl", "out/wl"]])
def test_what_is_exported_and_imported_into_an_empty_store_is_equal(
    mwl: Mwl, filled: Path, target: list[str]
) -> None:
    before = stored(filled)
    assert mwl("export", *target).status == 0
    for file in filled.glob("worklist.db*"):
        file.unlink()
    assert mwl("import", target[1]).out.startswith("5 read: 5 new")
    assert stored(filled) == before


def test_an_export_to_the_terminal_is_json(mwl: Mwl, filled: Path) -> None:
    assert len(json.loads(mwl("export").out)) == len(ENTRIES)


# --- entries ------------------------------------------------------------------------------------------------------


def test_entries_are_listed_in_the_order_of_their_start(mwl: Mwl, filled: Path) -> None:
    headings, *lines = mwl("list").out.splitlines()
    assert headings.startswith("Date")
    assert headings.endswith("Status")
    assert [line[:16] for line in lines] == sorted(line[:16] for line in lines)
    for entry, line in zip(ENTRIES, lines, strict=True):
        assert entry.patient.name in line
        assert entry.step.step_id in line


def test_a_list_is_narrowed_by_the_keys_of_a_query(mwl: Mwl, filled: Path) -> None:
    wanted = ENTRIES[2]
    _, *lines = mwl(
        "list", "-k", f"Modality={wanted.step.modality}", "-k", f"PatientID={wanted.patient.identifiers[0].value}"
    ).out.splitlines()
    assert [wanted.step.step_id in line for line in lines] == [True]
    assert len(mwl("list", "-k", f"PatientName={wanted.patient.name.split('^')[0]}*").out.splitlines()) >= 2


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("Modalty=CT", "Modalty is no DICOM attribute"),
        ("StudyDescription=x", "StudyDescription"),
        ("ScheduledProcedureStepStartDate=soon", "ScheduledProcedureStepStartDate"),
        ("PatientName=" + "x" * 2000, "a key has over 1024 bytes"),
    ],
)
def test_a_key_that_would_be_ignored_is_a_fault(mwl: Mwl, filled: Path, key: str, fault: str) -> None:
    status, out, err = mwl("list", "-k", key)
    assert (status, out) == (1, "")
    assert fault in err


def test_a_list_can_be_read_by_programs(mwl: Mwl, filled: Path) -> None:
    first = json.loads(mwl("list", "--json").out)[0]
    assert first["00100010"]["Value"][0]["Alphabetic"] == ENTRIES[0].patient.name.split("=")[0]


@pytest.mark.parametrize(
    "name",
    [ENTRIES[1].step.step_id, "/".join(ENTRIES[1].key), ENTRIES[1].request.accession_number],
    ids=["step id", "key", "accession number"],
)
def test_an_entry_is_found_by_each_of_its_names(mwl: Mwl, filled: Path, name: str) -> None:
    status, out, _ = mwl("show", name)
    assert status == 0
    assert ENTRIES[1].patient.identifiers[0].value in out
    assert json.loads(mwl("show", "--json", name).out)["0020000D"]["Value"] == [ENTRIES[1].key[0]]


def test_canceled_entries_stay_with_their_history(mwl: Mwl, filled: Path) -> None:
    names = [entry.step.step_id for entry in ENTRIES[:2]]
    status, out, _ = mwl("cancel", *names)
    assert (status, out.count("canceled")) == (0, 2)
    assert [stored(filled)[entry.key] for entry in ENTRIES[:2]] == ["CANCELED", "CANCELED"]
    history = json.loads(mwl("show", "--history", "--json", names[0]).out)
    assert [line["origin"] for line in history] == ["", "mwl cancel"]


def test_removed_entries_are_gone(mwl: Mwl, filled: Path) -> None:
    assert mwl("remove", ENTRIES[0].step.step_id).status == 0
    assert ENTRIES[0].key not in stored(filled)
    assert mwl("show", ENTRIES[0].step.step_id).status == 1


@pytest.mark.parametrize("command", ["cancel", "remove"])
def test_nothing_is_changed_if_one_of_the_entries_is_not_there(mwl: Mwl, filled: Path, command: str) -> None:
    before = stored(filled)
    status, _, err = mwl(command, ENTRIES[0].step.step_id, "NONE", "OTHER")
    assert status == 1
    assert "there is no entry NONE" in err
    assert "there is no entry OTHER" in err
    assert stored(filled) == before


def test_a_name_of_several_entries_is_refused_with_the_choice(mwl: Mwl, filled: Path) -> None:
    from msgspec.structs import replace

    one, other = ENTRIES[0], ENTRIES[1]
    twin = replace(other, request=replace(other.request, accession_number=one.request.accession_number))
    store = Store(filled / "worklist.db")
    store.commit_now([Put(twin)])
    store.close()
    status, _, err = mwl("remove", one.request.accession_number)
    assert status == 1
    assert "/".join(one.key) in err
    assert "/".join(twin.key) in err


# --- check and backup ---------------------------------------------------------------------------------------------


def test_what_is_in_force_is_a_configuration_that_means_the_same(mwl: Mwl, folder: Path) -> None:
    (folder / "mwl.toml").write_text(
        '[http]\nport = 0\n[[ae]]\ntitle = "A"\nstrict = true\ndefault_values = { PatientSex = "O" }\n'
        'filter = { days_back = 1 }\n[[remote]]\ntitle = "CT1"\nstrict = false\nhosts = ["::1"]\n'
    )
    status, out, _ = mwl("check")
    assert status == 0
    before, after = load("mwl.toml"), from_table(tomllib.loads(out))
    assert after.in_force() == before.in_force()
    assert (after.dicom, after.ae, after.remote) == (before.dicom, before.ae, before.remote)
    assert [after.policy("A", title).strict for title in ("CT1", "OTHER")] == [False, True]


def test_every_fault_of_a_configuration_is_printed(mwl: Mwl, folder: Path) -> None:
    (folder / "mwl.toml").write_text('[dicom]\nport = 70000\n[[ae]]\ntitle = "MUCH TOO LONG A TITLE"\n')
    status, out, err = mwl("check")
    assert (status, out) == (1, "")
    assert "dicom.port: 70000 is no port" in err
    assert "ae[0].title: longer than 16 characters" in err
    assert len(json.loads(mwl("check", "--json").out)["faults"]) == 2


def test_a_secret_is_never_printed(mwl: Mwl, folder: Path) -> None:
    right = """
        [http]
        host = "0.0.0.0"
        token = "s3cret"
        [[ae]]
        title = "A"
        users = { adam = "s3cret", eve = "" }
    """
    for text in (right, right.replace('title = "A"', "")):
        (folder / "mwl.toml").write_text(text)
        assert "s3cret" not in "".join(f"{mwl('check', *form)}" for form in ((), ("--json",)))
    (folder / "mwl.toml").write_text(right)
    assert 'users = {adam = "(set)", eve = ""}' in mwl("check").out


@pytest.mark.skipif(sys.platform != "linux", reason="several processes share a port on Linux only")
def test_a_check_tells_how_many_processes_there_would_be(mwl: Mwl, folder: Path) -> None:
    (folder / "mwl.toml").write_text('[dicom]\nworkers = 0\n[[ae]]\ntitle = "A"\n')
    status, out, err = mwl("check")
    assert "workers = 0\n" in out
    assert (status, err) == (0, f"# dicom.workers = 0 are {min(cores(), 64)} here, one per core.\n")


def test_a_check_opens_the_store_too(mwl: Mwl, filled: Path) -> None:
    assert "has 5 entries" in mwl("check").err
    (filled / "worklist.db").write_text("no store" * 1000)
    status, _, err = mwl("check")
    assert status == 1
    assert "is not a worklist store" in err


def test_a_backup_is_counted_and_never_overwrites(mwl: Mwl, filled: Path) -> None:
    assert mwl("backup", "copy.db") == (0, "copy.db: 5 entries up to revision 5\n", "")
    status, _, err = mwl("backup", "copy.db")
    assert status == 1
    assert "copy.db exists already" in err


def test_a_file_that_cannot_be_written_is_named(mwl: Mwl, filled: Path) -> None:
    status, _, err = mwl("export", "-o", "none/all.json")
    assert (status, err) == (1, "mwl export: none/all.json: No such file or directory\n")
