"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from small_store import small_store

from rsca_torch import InputError
from rsca_torch.files.archives import require_honest_sizes
from rsca_torch.files.places import claimed, is_free, require_new_file, require_new_folder
from rsca_torch.files.tables import read_table
from rsca_torch.files.whole import (
    MACHINE,
    atomic_file,
    atomic_folder,
    beside,
    finish_moves,
    named_disk,
    part_of,
    updated_folder,
    write_json,
)

CLAIM = """
import sys, time
from pathlib import Path
from rsca_torch.files.places import claimed
with claimed(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["absent", "empty folder", "link", "link to nothing"])
def place(tmp_path, request):
    """What a result may be written to."""
    path, real = tmp_path / "out", tmp_path / "disk" / "results"
    real.parent.mkdir()
    if request.param == "empty folder":
        path.mkdir()
    elif request.param.startswith("link"):
        if request.param == "link":
            real.mkdir()
        path.symlink_to(real)
    return path


def half_a_result(path):
    with atomic_folder(path) as part:
        (part / "half").write_text("")
        raise ZeroDivisionError


def test_a_result_is_written_to_whatever_is_there(place, tmp_path):
    was_link, before = place.is_symlink(), sorted(tmp_path.rglob("*"))
    with claimed(place) as path:
        require_new_folder(path)
        with pytest.raises(ZeroDivisionError):
            half_a_result(path)
        assert is_free(path)
        with atomic_folder(path) as part:
            (part / "logs").mkdir()
            (part / "logs" / "fold.csv").write_text("1")
            (part / "results.json").write_text("{}")
    assert names(place) == ["logs", "results.json"]
    assert (place / "logs" / "fold.csv").read_text() == "1"
    assert place.is_symlink() == was_link
    added = {path for path in tmp_path.rglob("*") if path not in before}
    assert not [path for path in added if path.name.startswith(".")]  # no lock, no half result


def test_a_file_is_written_behind_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.txt").symlink_to(tmp_path / "disk" / "real.txt")
    with atomic_file(tmp_path / "out.txt") as part:
        part.write_text("1")
    assert (tmp_path / "disk" / "real.txt").read_text() == "1"
    assert (tmp_path / "out.txt").is_symlink()


def test_a_claim_keeps_others_out_until_its_process_ends(place):
    command = [sys.executable, "-c", CLAIM, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(InputError, match="is in use"), claimed(place):
            pass
        with claimed(place, or_another=True) as spare:
            assert spare == place.with_name("out-2")
        other.kill()
    with claimed(place) as path:  # whose lock is still there
        assert path == place
        require_new_folder(path)


def test_another_name_is_taken_where_a_result_is(tmp_path):
    for name in ("out", "out-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text("{}")
    with claimed(tmp_path / "out", or_another=True) as path:
        assert path == tmp_path / "out-3"


def ended_process():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_what_a_killed_run_or_a_new_disk_left_is_nothing(tmp_path):
    left = f".part.{MACHINE}-{ended_process()}-0123abcd"
    for name in (left, "lost+found", ".partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".lock").touch()
    assert is_free(tmp_path)
    with atomic_folder(tmp_path) as part:
        (part / "a").touch()
    assert left not in names(tmp_path)
    assert not is_free(tmp_path)


def fill_folder(path):
    with claimed(path), atomic_folder(path) as part:
        (part / "a").touch()


def fill_folder_that_is_there(path):
    path.mkdir()
    fill_folder(path)


def update(path):
    with updated_folder(path) as part:
        (part / "deep").mkdir()
        write_json(part / "a", {})
        (part / "deep" / "b").touch()


def write_file(path):
    with claimed(path), atomic_file(path) as part:
        part.touch()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("write", [fill_folder, fill_folder_that_is_there, update, write_file])
def test_what_is_written_has_the_permissions_that_the_umask_and_its_place_say(write, tmp_path):
    group = 54321 if os.geteuid() == 0 else tmp_path.stat().st_gid  # who is not root cannot give it away
    os.chown(tmp_path, -1, group)
    tmp_path.chmod(0o2775)
    before = os.umask(0o027)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(before)
    for made in tmp_path.rglob("*"):
        assert stat.S_IMODE(made.stat().st_mode) == (0o2750 if made.is_dir() else 0o640), made
        assert made.stat().st_gid == group, made


def test_what_a_killed_run_left_beside_its_place_goes(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from rsca_torch.files.whole import atomic_folder; "
        "from rsca_torch.files.places import claimed\n"
        "with claimed(Path('out [1]')) as place, atomic_folder(place) as part:\n"
        "    (part / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode != 0
    assert len(list(tmp_path.glob(".out*.*"))) == 2  # what is half done, and a lock that holds nobody up
    (tmp_path / ".out [1].abc").mkdir()
    (tmp_path / ".out [2].0123abcd").mkdir()
    fill_folder(tmp_path / "out [1]")
    assert names(tmp_path) == [".out [1].abc", ".out [2].0123abcd", "out [1]"]


def test_parts_of_processes_that_go_on_stay_and_those_of_ended_ones_go(tmp_path):
    path, gone = tmp_path / "out.fits", ended_process()
    assert part_of(tmp_path / "not made yet" / "out").name.startswith(f".out.{MACHINE}-{os.getpid()}-")
    mine = part_of(path)
    old, young = (tmp_path / f".out.fits.{machine * 8}-{gone}-0123abcd" for machine in "01")
    others = [f".other.fits.{MACHINE}-{gone}-0123abcd", f".out.fits.{MACHINE}-{gone}-0123", ".out.fits.lock"]
    ended = [f".out.fits.{MACHINE}-{gone}-{letter * 8}" for letter in "ab"]
    for place in (mine, old, young, *(tmp_path / name for name in (*others, ended[0]))):
        place.mkdir()
        (place / "half").touch()
    (tmp_path / ended[1]).touch()  # a checkpoint is a file
    os.utime(old, (0, 0))  # of another machine, where it may go on: it has a day
    with atomic_file(path) as part:
        part.touch()
    assert names(tmp_path) == sorted([mine.name, young.name, *others, path.name])


@pytest.mark.parametrize("require", [require_new_file, require_new_folder])
def test_what_a_run_that_was_killed_at_its_very_end_left_goes_where_its_result_is_refused(tmp_path, require):
    path, gone = tmp_path / "out", ended_process()
    path.touch()
    (tmp_path / ".out.lock").touch()
    (tmp_path / f".out.{MACHINE}-{gone}-0123abcd").mkdir()
    with pytest.raises(InputError, match="holds another run"):
        require(path)
    assert names(tmp_path) == ["out"]


def test_the_lock_of_a_run_that_goes_on_stays(tmp_path):
    with claimed(tmp_path / "out"):
        (tmp_path / "out").touch()
        with pytest.raises(InputError, match="holds another run"):
            require_new_file(tmp_path / "out")
        assert names(tmp_path) == [".out.lock", "out"]


def test_a_result_whose_place_was_taken_is_not_lost(tmp_path):
    def taken():
        with atomic_folder(tmp_path / "out") as part:
            (part / "a").write_text("work")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").touch()

    with pytest.raises(InputError, match="the result is in") as error:
        taken()
    kept = Path(str(error.value).rpartition(" ")[2])
    (tmp_path / "out" / "theirs").unlink()
    (tmp_path / "out").rmdir()
    fill_folder(tmp_path / "out")
    assert (kept / "a").read_text() == "work"


def test_a_result_that_cannot_be_given_its_name_is_said_to_be(tmp_path, monkeypatch):
    replace = Path.replace

    def full(path, target):
        if target.name == "out":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    def write():
        with atomic_folder(tmp_path / "out") as part:
            (part / "a").write_text("work")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"cannot be given its name \(No space left on device\): the result is in"):
        write()


def test_beside_a_folder_that_is_there_is_inside(tmp_path):
    assert beside(tmp_path / "new", ".partial") == tmp_path.resolve() / "new.partial"
    assert beside(tmp_path, ".partial") == tmp_path.resolve() / ".partial"


def test_a_folder_is_filled_at_the_end_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "kept.txt").write_text("mine")

    def stop():
        with updated_folder(tmp_path) as part:
            (part / "results.json").write_text("{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    moved, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: moved.append(target.name) or replace(self, target))
    with updated_folder(tmp_path) as part:
        (part / "results.json").write_text("{}")
        (part / "logs" / "fold").mkdir(parents=True)
        (part / "logs" / "fold" / "metrics.csv").write_text("1")
        (part / "set_aside.fits").write_text("2")
    assert moved[-1] == "results.json"  # what says that the run is finished
    assert (tmp_path / "logs" / "fold" / "metrics.csv").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kept.txt",
        "logs",
        "results.json",
        "set_aside.fits",
    ]


class _KilledError(BaseException):
    """Stands for a kill: nothing that follows is done."""


@pytest.fixture
def cut_off(tmp_path, monkeypatch):
    """A folder that was there, whose result of three files was being moved to it by a process that ended meanwhile."""
    place, replace = tmp_path / "disk", Path.replace
    place.mkdir()
    moved = []

    def dies(path, target):
        if Path(target).parent == place.resolve() and not Path(target).name.startswith(".whole."):
            moved.append(target)
            if len(moved) > 1:
                raise _KilledError
        return replace(path, target)

    def fill():
        with updated_folder(place) as part:
            for name in ("a", "b", "results.json"):
                (part / name).write_text(name)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", dies)
        with pytest.raises(_KilledError):
            fill()
    (whole,) = place.glob(".whole.*")
    whole.rename(whole.with_name(whole.name.replace(f"-{os.getpid()}-", f"-{ended_process()}-")))
    return place


def test_a_move_that_was_cut_off_is_made_to_its_end_by_whoever_claims_the_place(cut_off):
    assert not is_free(cut_off)
    with claimed(cut_off):
        assert names(cut_off) == [".lock", "a", "b", "results.json"]
    assert names(cut_off) == ["a", "b", "results.json"]
    assert (cut_off / "results.json").read_text() == "results.json"


def test_a_move_that_was_cut_off_is_made_to_its_end_before_its_place_is_refused(cut_off):
    with pytest.raises(InputError, match="holds another run"):
        require_new_folder(cut_off)
    assert names(cut_off) == ["a", "b", "results.json"]


def test_a_move_that_goes_on_is_left_to_its_process(cut_off):
    (whole,) = cut_off.glob(".whole.*")
    whole.rename(whole.with_name(f".whole.{MACHINE}-{os.getpid()}-0123abcd"))
    finish_moves(cut_off)
    assert len(names(cut_off)) == 2


def test_a_place_that_came_to_be_a_folder_is_still_claimed(tmp_path):
    """As `rsca reproduce` makes the folder of its results as soon as it has the place."""
    with claimed(tmp_path / "out") as place:
        place.mkdir()
        with pytest.raises(InputError, match="is in use"), claimed(tmp_path / "out"):
            pass
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_whose_neighbours_may_not_be_written_can_be_claimed(tmp_path):
    (tmp_path / "disk").mkdir()
    tmp_path.chmod(0o500)
    try:
        with claimed(tmp_path / "disk") as place, atomic_folder(place) as part:
            (part / "a").touch()
    finally:
        tmp_path.chmod(0o700)
    assert names(tmp_path / "disk") == ["a"]


def test_beside_a_disk_that_is_read_only_a_folder_can_be_claimed(tmp_path, monkeypatch):
    """Also as root, whom no permission stops."""
    (tmp_path / "disk").mkdir()
    module = sys.modules[claimed.__module__]
    acquired = module._acquired

    def refused(file):
        if file.parent == tmp_path.resolve():
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return acquired(file)

    monkeypatch.setattr(module, "_acquired", refused)
    with claimed(tmp_path / "disk"):
        assert names(tmp_path / "disk") == [".lock"]
    with pytest.raises(PermissionError), claimed(tmp_path / "new"):
        pass


@pytest.mark.parametrize("write", [fill_folder, fill_folder_that_is_there, write_file])
def test_a_full_disk_is_the_one_that_is_written_to(tmp_path, monkeypatch, write):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(OSError, match="No space left") as error:
        write(tmp_path / "out")
    assert error.value.filename == str((tmp_path / "out").resolve())
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError("35 requested and 0 written"), True),  # NumPy's, where the disk is full
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/other"), False),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False),
    ],
    ids=["numpy", "unnamed", "named", "no disk"],
)
def test_only_errors_of_disks_that_have_no_name_get_one(error, named):
    with pytest.raises(type(error), match=r"35|Errno"), named_disk(Path("/data/out")):
        raise error
    assert (error.filename == "/data/out") == named


def test_a_file_server_that_lost_its_answer_lost_nothing_else(tmp_path, monkeypatch):
    replace = Path.replace

    def done_and_not_said(path, target):
        replace(path, target)
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", done_and_not_said)
        fill_folder(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE, errno.EIO, errno.EMFILE])
def test_a_store_that_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch, code):
    store = small_store(tmp_path / "store")
    read_bytes = Path.read_bytes

    def refused(path):
        if path.name == "manifest.json":
            raise OSError(code, os.strerror(code), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(OSError, match=os.strerror(code)):
        type(store).open(store.path)


def announcing(path, shape, held):
    """An npz whose array announces a shape and holds so many numbers."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("flux.npy", header.getvalue() + bytes(8 * held))


def test_an_array_that_announces_more_than_it_holds_is_refused_before_room_is_made(tmp_path):
    announcing(tmp_path / "right.npz", (3, 4), 12)
    require_honest_sizes(tmp_path / "right.npz")
    announcing(tmp_path / "huge.npz", (10**12,), 12)
    with pytest.raises(ValueError, match="flux announces an array of 8000000000128 bytes and holds 224"):
        require_honest_sizes(tmp_path / "huge.npz")


def test_a_member_of_an_archive_that_claims_more_than_its_bytes_is_refused(tmp_path):
    path = tmp_path / "claims.npz"
    np.savez(path, flux=np.zeros(12))
    content = path.read_bytes()
    size = len(np.zeros(12).tobytes()) + 128
    directory = content.rindex(b"PK\x01\x02")
    at = content.index(size.to_bytes(4, "little") * 2, directory) + 4  # the size when it is unpacked
    path.write_bytes(content[:at] + (2**31).to_bytes(4, "little") + content[at + 4 :])
    with pytest.raises(ValueError, match=r"flux\.npy claims 2147483648 bytes, in a file of"):
        require_honest_sizes(path)


@pytest.mark.parametrize("version", [(3, 0)])
def test_an_array_of_a_newer_format_is_refused(tmp_path, version):
    held = io.BytesIO()
    np.lib.format.write_array(held, np.zeros(3), version=version)
    with zipfile.ZipFile(tmp_path / "new.npz", "w") as archive:
        archive.writestr("flux.npy", held.getvalue())
    with pytest.raises(ValueError, match=r"npy of version 3\.0: 1\.0 or 2\.0 expected"):
        require_honest_sizes(tmp_path / "new.npz")


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_that_announces_more_rows_than_its_file_holds_is_refused_before_room_is_made(tmp_path, packed):
    path = tmp_path / "features.fits"
    Table({"id": np.arange(500), "FEATURES": np.ones((500, 3))}).write(path)
    content = path.read_bytes()
    said = f"NAXIS2  = {500:20}".encode()
    assert content.count(said) == 1
    name = tmp_path / ("features.fits.gz" if packed else "features.fits")
    for rows, refused in ((500, False), (2**31, True)):
        changed = content.replace(said, f"NAXIS2  = {rows:20}".encode())
        name.write_bytes(gzip.compress(changed) if packed else changed)
        if not refused:
            assert len(read_table(name)) == rows
            continue
        with pytest.raises(ValueError, match="truncated file: a header announces data up to byte 687"):
            read_table(name)
