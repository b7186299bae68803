"""Child processes: messages arrive in order, errors keep their kind, and none outlives its block or its parent."""

import os
import signal
import threading
import time
from multiprocessing import forkserver

import psutil
import pytest

from genbench.support.errors import Busy, EnvironmentProblem
from genbench.support.processes import Child


def talk(say, *words, then=""):
    for word in words:
        say(word)
    if then == "fail":
        raise Busy("in use", "wait")
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if then == "linger":
        time.sleep(600)


def leave_an_orphan(say):
    """End while a process that was forked from this one, and so holds its end of the pipe, lives on."""
    orphan = os.fork()
    if not orphan:
        time.sleep(600)
    say(orphan)


def die_as_a_parent(say):
    say(Child("grandchild", talk, then="linger").process.pid)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_it_says_arrives_in_order_until_it_ends():
    with Child("talker", talk, 1, {"two": [2]}, None) as child:
        assert list(child.said(None)) == [1, {"two": [2]}, None]
        child.process.join()
        assert child.process.exitcode == 0 and child.ending() == "exited with code 0"


def test_an_error_follows_what_was_said_before_it_with_its_kind_hint_and_traceback():
    with Child("talker", talk, 1, then="fail") as child:
        said = child.said(None)
        assert next(said) == 1
        with pytest.raises(Busy, match="in use") as caught:
            next(said)
        child.process.join()
    assert caught.value.hint == "wait" and "in talk" in caught.value.__notes__[0]
    assert child.process.exitcode == 1


def test_silence_ends_the_listening_and_leaving_the_block_the_process():
    with Child("talker", talk, 1, then="linger") as child:
        assert child.wait(60) and list(child.said(0.2)) == [1]
        assert child.process.is_alive() and child.ending() == "" and not child.wait(0.1)
    assert child.ending() == "was ended by SIGKILL, possibly out of memory"


def test_a_death_is_noticed_after_the_last_word():
    with Child("talker", talk, 1, then="die") as child:
        assert list(child.said(None)) == [1]
        child.process.join()
        assert "SIGKILL" in child.ending()


def test_an_end_is_noticed_even_if_an_orphan_holds_the_pipe_open():
    with Child("parent", leave_an_orphan) as child:
        began = time.monotonic()
        (orphan,) = child.said(60.0)
        assert time.monotonic() - began < 30
        assert child.ending() == "exited with code 0"
        os.kill(orphan, signal.SIGKILL)


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_starts_a_process_is_no_bug_and_the_next_one_starts():
    with Child("first", talk):
        server = psutil.Process(forkserver._forkserver._forkserver_pid)
    server.suspend()
    threading.Timer(0.5, server.kill).start()
    with pytest.raises(EnvironmentProblem, match="killed"):
        Child("lost", talk)
    time.sleep(0.5)
    with Child("next", talk, 1) as child:
        assert list(child.said(None)) == [1]


def test_a_child_ends_with_its_parent():
    with Child("parent", die_as_a_parent) as child:
        (grandchild,) = child.said(None)
    end = time.monotonic() + 20
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.05)
