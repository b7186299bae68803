"""Containers, batch systems and notebooks: no account, no temporary folder, no locks, a quota, settings of others."""

import errno
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from multiprocessing import process, util
from pathlib import Path

import matplotlib as mpl
import pytest
from finished import SMALL, run_of
from records_factory import full, quick_suite

from genbench import plots
from genbench.cli.streams import discard
from genbench.executors.local import available_cores, threads_for
from genbench.plots.style import svg
from genbench.support import cgroup, processes, store
from genbench.support.denials import denial
from genbench.support.errors import EnvironmentProblem
from genbench.support.lock import awaited, in_use, locked
from genbench.support.text import impersonal


def command(*words, at, **variables):
    """Run `genbench WORDS` in a process of its own."""
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'plugins'}", **variables}
    words = [sys.executable, "-m", "genbench", *map(str, words)]
    return subprocess.run(words, cwd=at, env=environment, capture_output=True, text=True, check=False)


# No account, no folder


@pytest.fixture
def nobody(monkeypatch):
    """A user without an account and without a home folder, as a container may have."""

    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME", "GENBENCH_CACHE", "GENBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_a_command_names_the_variable_that_helps(genbench, nobody, monkeypatch, tmp_path):
    result = genbench("plan", "-m", "gaussian", *SMALL)
    assert result.code == 4 and "no home folder" in result.err and "GENBENCH_CACHE" in result.err
    assert impersonal("/root/x: boom") == "/root/x: boom"
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    assert genbench("plan", "-m", "gaussian", *SMALL).code == 0


def test_the_doctor_shows_what_is_missing(genbench, nobody):
    states = {row["what"]: row["state"] for row in genbench("doctor", "--json").json}
    assert "no home folder" in states["cache"] and "no home folder" in states["data root"]
    assert states["cores"].startswith(f"{available_cores()} to use, of ")


def test_a_working_folder_that_is_gone_is_told_before_anything_else(genbench, monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = genbench("doctor")
    monkeypatch.chdir(tmp_path)
    assert result.code == 4 and "working folder is gone" in result.err


@contextmanager
def no_temporary():
    """No folder may be written; pytest needs one itself when the block has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_candidate_tempdir_list", list)
        yield


def test_without_a_temporary_folder_a_command_names_the_variable(genbench, runs, tmp_path):
    with no_temporary():
        result = genbench("report", runs, "-o", "page.html", "--single-file")
    assert result.code == 4 and "temporary files" in result.err and "TMPDIR" in result.err
    assert not (tmp_path / "page.html").exists()


def test_a_bug_is_shown_where_its_traceback_cannot_be_kept(genbench, monkeypatch):
    from genbench.commands import doctor

    monkeypatch.setattr(doctor, "doctor_rows", lambda: 1 / 0)
    with no_temporary():
        result = genbench("doctor")
    assert result.code == 70 and "in <lambda>" in result.err and "traceback above" in result.err


def test_sockets_lie_elsewhere_if_the_temporary_folder_is_too_deep(monkeypatch, tmp_path):
    deep = tmp_path / ("scratch_of_a_cluster_job" * 4)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.setattr(process.current_process(), "_config", {})
    monkeypatch.setattr(processes, "SHORT_FOLDERS", ())
    with pytest.raises(EnvironmentProblem, match=f"TMPDIR={deep}") as problem:
        processes.shorten_sockets()
    assert "at most 70" in problem.value.hint
    monkeypatch.setattr(processes, "SHORT_FOLDERS", ("/nowhere", "/tmp"))
    processes.shorten_sockets()
    assert len(util.get_temp_dir()) < 70 and tempfile.gettempdir() == str(deep)


# No locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_is_told_and_not_waited_for(monkeypatch, tmp_path, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    for name in ("lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, refuse)
    begin = time.monotonic()
    for hold in (locked, awaited):
        with pytest.raises(EnvironmentProblem, match="no locks on this file system") as problem, hold(tmp_path):
            pass
        assert str(tmp_path) in problem.value.message and "GENBENCH_CACHE" in problem.value.hint
    with pytest.raises(EnvironmentProblem):
        in_use(tmp_path)
    assert time.monotonic() - begin < 1


def test_runs_are_verified_without_locks(genbench, runs, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    for name in ("lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, refuse)
    (run_of(runs, "mine") / "record.json").unlink()
    result = genbench("verify", runs)
    assert result.code == 0 and "unfinished" in result.out
    assert genbench("table", runs).code == 0


def test_a_file_system_that_cannot_flush_a_folder_is_written_all_the_same(monkeypatch, tmp_path):
    def fsync(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    store.write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


# Quotas


def machine(folder, groups, files):
    """The files of a kernel that describe control groups: /proc/self/cgroup, and limits below /sys/fs/cgroup."""
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


MACHINES = {
    "version 2": ("0::/slurm/job\n",
                  {"slurm/cpu.max": "250000 100000\n", "slurm/memory.max": "4096\n",
                   "slurm/job/cpu.max": "max 100000\n", "slurm/job/memory.max": "max\n"}, [2.5], [4096]),
    "version 1": ("4:memory:/job\n2:cpuset:/\n1:cpu,cpuacct:/job\n",
                  {"cpu/job/cpu.cfs_quota_us": "50000\n", "cpu/job/cpu.cfs_period_us": "100000\n",
                   "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
                   "memory/job/memory.limit_in_bytes": "8192\n"}, [0.5], [8192]),
    "a container's own root": ("0::/docker/abc\n", {"cpu.max": "300000 100000", "memory.max": "1024"}, [3.0], [1024]),
    "none": ("", {}, [], []),
    "nonsense": ("0::/\nx\n", {"cpu.max": "1 0\n", "memory.max": "much\n"}, [], []),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_limits_of_control_groups(monkeypatch, tmp_path, name):
    groups, files, cpus, memory = MACHINES[name]
    monkeypatch.setattr(cgroup, "SYSTEM", machine(tmp_path, groups, files))
    assert (cgroup.cpu_limits(), cgroup.memory_limits()) == (cpus, memory)


def test_jobs_share_no_more_cores_than_the_quota_leaves_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for quota, cores in (("max", 64), ("750000", 7), ("50000", 1), ("9900000", 64)):
        monkeypatch.setattr(cgroup, "SYSTEM", machine(tmp_path, "0::/\n", {"cpu.max": f"{quota} 100000"}))
        assert available_cores() == cores and threads_for(2) == max(1, cores // 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_cores() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "²")
    assert available_cores() == 64


# Somebody else's settings


def test_a_figure_is_the_same_under_any_matplotlibrc():
    """As a reader's own settings would change it: fonts, sizes, colours, grids, ticks and TeX."""
    own = {
        "text.usetex": True, "font.size": 30, "axes.labelsize": 24, "xtick.labelsize": 20, "axes.facecolor": "black",
        "axes.prop_cycle": mpl.cycler(color=["red"]), "lines.linewidth": 9, "figure.dpi": 30, "savefig.dpi": 30,
        "svg.fonttype": "path", "axes.formatter.use_locale": True, "path.sketch": (1, 100, 2), "axes.xmargin": 0.4,
        "legend.loc": "center", "axes.grid.which": "minor", "xtick.bottom": True, "image.interpolation": "bicubic",
    }  # fmt: skip
    mpl.get_backend()  # settles it, if nothing in this process has
    plain = svg(plots.fid_against_sampling(full(quick_suite())))
    with mpl.rc_context(own):
        before = mpl.rcParams.copy()
        assert svg(plots.fid_against_sampling(full(quick_suite()))) == plain
        assert mpl.rcParams == before


def test_the_backend_of_a_notebook_s_kernel_is_left_to_the_notebook(tmp_path):
    """It need not be installed where genbench is; then nothing in this process could import matplotlib."""
    script = "import sys; from genbench.cli.main import main; sys.argv[1:] = ['--version']\n"
    script += "try: main()\nexcept SystemExit: import matplotlib"
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


@pytest.mark.slow
def test_a_report_from_a_notebook_with_settings_in_the_working_folder_has_the_same_bytes(finished_runs, tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.labelsize: 24\n")
    (tmp_path / "elsewhere").mkdir()
    for at, backend in ((tmp_path, "module://matplotlib_inline.backend_inline"), (tmp_path / "elsewhere", "agg")):
        done = command("report", finished_runs, "--archive", "-o", "a.zip", at=at, MPLBACKEND=backend)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "elsewhere" / "a.zip").read_bytes()


@pytest.mark.slow
def test_settings_that_matplotlib_cannot_read_cost_a_report_and_no_run(tmp_path):
    """Whose temporary folder is too deep for the address of a socket, too."""
    deep = tmp_path / ("scratch_of_a_cluster_job" * 4)
    deep.mkdir()
    (tmp_path / "matplotlibrc").write_bytes(b"axes.labelsize: 24 # caf\xe9\n")
    done = command("run", "-m", "gaussian", *SMALL, "--report", "pages", at=tmp_path, TMPDIR=str(deep))
    assert done.returncode == 4 and "matplotlib does not load" in done.stderr and "matplotlibrc" in done.stderr
    assert "gaussian" in done.stdout and len(list(tmp_path.glob("runs/*/record.json"))) == 4
    (tmp_path / "matplotlibrc").unlink()
    assert command("report", "runs", "-o", "pages", at=tmp_path).returncode == 0


# What the system refuses


def test_what_the_system_refuses_is_told_with_its_path_and_what_helps():
    said = {}
    for number in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.EIO):
        problem = denial(OSError(number, os.strerror(number), "/a/b"))
        assert problem.exit_code == 4 and problem.message.startswith("/a/b: ")
        said[number] = problem.hint
    assert len(set(said.values())) == 7 and "ulimit -n" in said[errno.EMFILE] and "chmod" in said[errno.EACCES]
    for ours in (
        FileNotFoundError(errno.ENOENT, "x", "/a/b"),
        OSError("image file is truncated"),
        OSError(errno.EBADF, "x"),
    ):
        assert denial(ours) is None


def test_the_next_file_is_not_the_stream_that_was_closed(tmp_path):
    """Whatever is printed after that would be written into it."""
    script = "from genbench.cli.streams import open_streams; open_streams(); import os; file = open('a', 'w'); "
    script += "os.write(1, b'result'); os.write(2, b'progress'); print('more', flush=True); assert file.fileno() > 2"
    (tmp_path / "script.py").write_text(script)
    subprocess.run(f"{sys.executable} script.py <&- >&- 2>&-", shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "a").read_text() == ""


def test_nobody_need_read_the_progress(genbench, runs, monkeypatch):
    (run_of(runs, "mine") / "record.json").unlink()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", pipe)
        result = genbench("table", runs)
        discard(pipe)
    assert result.code == 0 and "noise" in result.out


# Names


def test_a_run_in_a_folder_whose_name_is_not_utf8_is_read_whole(genbench, prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(prepared / "cache"))
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(prepared / "runs", folder)
    assert genbench("table", folder).code == 0
    assert genbench("sample", folder / "model", "-n", "2", "-o", folder / "x.npy").code == 0
    assert genbench("verify", folder).code == 0


def test_a_name_as_long_as_the_file_system_takes_it_is_written(tmp_path):
    file = tmp_path / ("n" * 255)
    store.write_text(file, "whole")
    assert file.read_text() == "whole" and list(tmp_path.iterdir()) == [file]


def test_what_is_written_of_a_name_that_is_not_utf8_can_be_read(tmp_path):
    store.write_text(tmp_path / "a.txt", "caf\udce9: boom")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "caf\\udce9: boom"
