import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from mwl.demo import sample_entries
from mwl.lock import lock
from mwl.store import Put, Store, StoreError

_HOLDER = """
import sys
from pathlib import Path
from mwl.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_holds_the_lock_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process id {holder.pid}"), lock(path):
            pass
        holder.kill()
    with lock(path):
        pass


def test_the_lock_can_be_taken_again_after_it_was_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with lock(tmp_path / "worklist.db"):
            pass


def test_a_store_that_is_served_can_be_written_by_commands(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    with lock(path):
        store = Store(path)
        assert store.commit_now([Put(sample_entries(1, date(2024, 7, 5))[0])]) == 1
        store.close()


def test_a_lock_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"), lock(tmp_path / "none" / "worklist.db"):
        pass
