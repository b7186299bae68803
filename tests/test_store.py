"""Writing: whole or not at all, also on a full disk; and the lock that dies with its holder."""

import errno
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from rights import unprivileged

from genbench.data.array_file import read_arrays
from genbench.records import checkpoint
from genbench.records.training_state import TrainingState
from genbench.support import store
from genbench.support.errors import BadInput, Busy, CorruptData, EnvironmentProblem, Unreadable, as_error, plain_error
from genbench.support.lock import locked
from genbench.support.sealed import check_digest, read_sealed, write_sealed
from genbench.training.optimizer_state import optimizer_tensors, restore_optimizers


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.json"
    store.write_json(file, {"a": 1})
    with pytest.raises(ValueError):
        store.write_json(file, {"a": float("nan")})
    with pytest.raises(RuntimeError), store.atomic_file(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(file.read_text()) == {"a": 1} and [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    for text in ("old", "new"):
        try:
            with store.atomic_folder(tmp_path / "folder") as temporary:
                (temporary / "file").write_text(text)
                if text == "new":
                    raise RuntimeError
        except RuntimeError:
            pass
    assert (tmp_path / "folder" / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_an_environment_problem(tmp_path):
    script = f"""
import resource, numpy as np
from pathlib import Path
from genbench.support import store
from genbench.support.errors import EnvironmentProblem
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    store.write_array(Path({str(tmp_path)!r}) / "a.npy", np.zeros(100000))
except EnvironmentProblem as problem:
    print(problem.message)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "a.npy" in result.stdout and "no space" in result.stdout
    assert not list(tmp_path.iterdir())


def test_an_error_without_a_number_is_no_full_disk(tmp_path):
    with pytest.raises(OSError, match="image file is truncated"), store.atomic_folder(tmp_path / "folder"):
        raise OSError("image file is truncated")
    assert not list(tmp_path.iterdir())


def test_folders_that_several_make_at_once_are_whole_and_nobody_fails(tmp_path):
    def make(number):
        with store.atomic_folder(tmp_path / "folder", flushed=False) as folder:
            (folder / "number").write_text(str(number))
            ready.wait(timeout=60)

    for _ in range(50):
        ready = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(8)))
        assert [file.name for file in tmp_path.iterdir()] == ["folder"]
        assert int((tmp_path / "folder" / "number").read_text()) in range(8)
        store.remove(tmp_path / "folder")


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"file/below: cannot write: .*/file is a file"):
        store.write_text(tmp_path / "file" / "below", "text")


@pytest.mark.parametrize(
    "error",
    [
        OSError("image file is truncated (3 bytes not processed)"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/image.png"),
        OSError(errno.ENOSPC, "No space left on device", "/elsewhere/download"),
    ],
)
def test_what_fails_while_a_file_is_written_need_not_be_its_disk(tmp_path, error):
    """An error without a number, or of another path that is read for it."""
    with pytest.raises(OSError) as raised, store.atomic_folder(tmp_path / "prepared"):
        raise error
    assert raised.value is error and not list(tmp_path.iterdir())


def test_what_may_not_be_read_may_be_whole(tmp_path):
    """So nothing has it removed, and the exit code is that of a permission."""
    write_sealed(tmp_path / "a.json", {"a": 1})
    np.save(tmp_path / "a.npy", np.zeros(3))
    save(tmp_path / "checkpoint", 1)
    for file in (tmp_path / "a.json", tmp_path / "a.npy", tmp_path / "checkpoint" / "latest" / "model.safetensors"):
        file.chmod(0)
    reads = (
        lambda: read_sealed(tmp_path / "a.json", "`rm -rf a`"),
        lambda: check_digest(tmp_path / "a.npy", "0" * 64, "", "`rm -rf a`"),
        lambda: store.read_array(tmp_path / "a.npy"),
        lambda: checkpoint.load(tmp_path / "checkpoint"),
    )
    for read in reads:
        with unprivileged(), pytest.raises(Unreadable, match="Permission denied") as problem:
            read()
        assert problem.value.exit_code == 4 and problem.value.hint.startswith("`chmod u+rX ")
        assert as_error(plain_error(problem.value)).exit_code == 4


def test_corrupt_files_are_named(tmp_path):
    for name, read in (("a.json", store.read_json), ("a.npy", store.read_array), ("a.safetensors", store.read_tensors)):
        (tmp_path / name).write_bytes(b"\x93garbage")
        with pytest.raises(CorruptData, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize(("read", "told"), [(store.read_array, CorruptData), (read_arrays, BadInput)])
def test_any_flipped_bit_of_an_array_s_header_is_told(tmp_path, read, told):
    """numpy reads the header as Python text, and what Python says of bad text is no ValueError."""
    file, refused = tmp_path / "a.npy", 0
    np.save(file, np.zeros((3, 4), np.int64))
    content = file.read_bytes()
    for place in range(8 * 128):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        try:
            read(file)
        except told:
            refused += 1
    assert refused > 500


def test_no_pickle_is_read(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptData, match="evil"):
        store.read_array(tmp_path / "evil.npy")


def test_a_lock_keeps_others_out_and_dies_with_its_holder(tmp_path):
    script = f"""
import time
from pathlib import Path
from genbench.support.lock import locked
with locked(Path({str(tmp_path)!r})):
    print("locked", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(Busy, match=str(holder.pid)), locked(tmp_path):
            pass
        holder.kill()
    begin = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - begin < 2


def save(folder, value):
    checkpoint.save(folder, {"model": {"w": torch.full((3,), float(value))}}, TrainingState(logged=value))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    assert checkpoint.load(tmp_path) is None
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert checkpoint.load(tmp_path)[1].logged == 2
    file = tmp_path / "latest" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    tensors, state = checkpoint.load(tmp_path)
    assert state.logged == 1 and tensors["model"]["w"].tolist() == [1, 1, 1]
    (tmp_path / "previous" / "manifest.json").write_text("{")
    with pytest.raises(CorruptData, match=r"model\.safetensors"):
        checkpoint.load(tmp_path)


def test_optimizer_state_survives_as_tensors():
    def make():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer, optimizer):
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    layer, optimizer = make()
    step(layer, optimizer)
    weights, tensors = layer.state_dict(), optimizer_tensors({"a": optimizer})
    tensors = {name: value.clone() for name, value in tensors.items()}
    other, restored = make()
    other.load_state_dict({name: value.clone() for name, value in weights.items()})
    restore_optimizers({"a": restored}, tensors)
    step(layer, optimizer)
    step(other, restored)
    assert torch.equal(layer.weight, other.weight)
