"""Studies: each trial runs exactly once even if workers die; with SQLite and with PostgreSQL."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from featurewise.common.seal import sealed
from featurewise.study.queue import Queue
from featurewise.study.results import Measurement, Results, Trial
from featurewise.study.run import describe_run, train
from featurewise.study.study import Key, Study, _joined
from featurewise.training import ExperimentError
from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.state import flatten

# Without shape checks, as in the worker processes, whose results must be bit-identical.
pytestmark = pytest.mark.traced

optuna = pytest.importorskip("optuna", reason="Optuna is not installed (extra: study)")

SCRIPT = Path(__file__).with_name("sums.py")
ARMS, SEEDS = ("seeing", "blind"), (0, 1)
KEYS = [f"{arm}-s{seed}" for seed in SEEDS for arm in ARMS]


@pytest.fixture(scope="module")
def system():
    spec = importlib.util.spec_from_file_location("sums_for_studies", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["sums_for_studies"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module.SYSTEM
    del sys.modules["sums_for_studies"]


@pytest.fixture
def starts(tmp_path, monkeypatch):
    """Number of times that each training started, in all processes of this test."""
    path = tmp_path / "begun.txt"
    monkeypatch.setenv("FEATUREWISE_TEST_BEGUN", str(path))
    return lambda: Counter(path.read_text().split() if path.exists() else [])


@pytest.fixture(scope="module")
def reference(system, tmp_path_factory):
    """Measurement, steps and checkpoint of each trial, from an uninterrupted run."""
    folder, found = tmp_path_factory.mktemp("reference"), {}
    for key in KEYS:
        arm, seed = key.split("-s")
        run = describe_run(system, preset="tiny", arm=arm, seed=int(seed))
        trial = train(folder / key, system, run)
        found[key] = trial.measured, trial.steps, bits(folder / key)
    return found


def bits(folder):
    step, state = CheckpointStore(folder / "checkpoints").latest()
    del state["seconds"]
    text, tensors = flatten(state)
    raw = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return step, text, raw, (folder / "metrics.jsonl").read_bytes()


def outcome(study):
    return {
        f"{t.arm}-s{t.seed}": (t.measured, t.steps, bits(study.folder / f"{t.arm}-s{t.seed}"))
        for t in study.status().results.trials
    }


def study(system, folder, *, arms=ARMS, seeds=SEEDS, storage=None):
    return Study(
        system, preset="tiny", arms=arms, seeds=seeds, folder=folder, storage=storage, heartbeat=1
    )


@contextlib.contextmanager
def workers(count, folder, *, storage="", pause=0.0, arms=ARMS, seeds=SEEDS):
    """Worker processes of one study; killed on exit."""
    command = [sys.executable, "-W", "error", str(SCRIPT), str(folder), storage]
    command += [",".join(arms), ",".join(map(str, seeds))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FEATUREWISE_TEST_PAUSE": str(pause)}
    log = folder.parent / "workers.log"
    with log.open("ab") as out:
        started = [
            subprocess.Popen(command, env=environment, stdout=out, stderr=out) for _ in range(count)
        ]
    try:
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.wait()


def wait_for(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.02)


def test_all_trials_run_once_and_results_are_stored_in_the_database(
    system, tmp_path, reference, starts
):
    messages = []
    one = study(system, tmp_path / "out")
    one.begin()
    assert (one.status().remaining, one.status().results.trials) == (4, ())
    one.work(messages.append)
    assert outcome(one) == reference
    assert starts() == dict.fromkeys(KEYS, 1)
    names = [key.replace("-s", ", seed ") for key in KEYS]
    assert [message.split(":")[0] for message in messages[::2]] == names
    for key in KEYS:
        (tmp_path / "out" / key / "results.json").unlink()
    again = study(system, tmp_path / "out")
    again.begin()
    again.work()
    assert starts() == dict.fromkeys(KEYS, 1)
    results = again.status().results
    assert [(t.arm, t.seed) for t in results.trials] == [
        ("seeing", 0),
        ("seeing", 1),
        ("blind", 0),
        ("blind", 1),
    ]
    assert results.hardware == describe_run(system, preset="tiny").hardware
    assert set(again.sheets()) == set(ARMS)


def test_the_value_of_a_trial_in_optuna_is_the_score(system, tmp_path):
    one = study(system, tmp_path, seeds=(0,))
    one.work()
    stored = optuna.load_study(study_name="sums-tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert stored.direction == optuna.study.StudyDirection.MAXIMIZE
    accuracies = [trial.measured.number() for trial in one.status().results.trials]
    assert sorted(trial.value for trial in stored.trials) == sorted(accuracies)


def test_a_score_that_is_better_when_lower_is_minimised(system, tmp_path):
    score = dataclasses.replace(system.metrics[0], better="lower")
    wrong = dataclasses.replace(system, score=score, metrics=(score,))
    one = study(wrong, tmp_path, arms=("blind",), seeds=(0,))
    one.work()
    stored = optuna.load_study(study_name="sums-tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert stored.direction == optuna.study.StudyDirection.MINIMIZE
    (trial,) = one.status().results.trials
    assert [entry.value for entry in stored.trials] == [trial.measured.number("wrong")]


def test_the_sheet_of_an_arm_is_that_of_its_first_seed_that_has_one(system, tmp_path):
    one = study(system, tmp_path, seeds=(0, 1, 2))
    assert one.sheets() == {}
    paths = [tmp_path / key / "sheet.png" for key in ("seeing-s2", "seeing-s1", "blind-s2")]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    assert one.sheets() == {"seeing": paths[1], "blind": paths[2]}


@pytest.mark.parametrize("sealed_again", [True, False])
def test_damaged_results_and_those_of_fewer_steps_are_measured_again(
    system, tmp_path, starts, sealed_again
):
    arms, seeds = ("seeing",), (0,)
    study(system, tmp_path / "out", arms=arms, seeds=seeds).work()
    path = tmp_path / "out" / "seeing-s0" / "results.json"
    whole = path.read_text()
    assert whole.count('"steps": 24') == 1
    path.write_text(whole.replace('"steps": 24', '"steps": 12'))
    if sealed_again:
        content = json.loads(path.read_text())
        del content["seal"]
        path.write_bytes(sealed(content))
    (tmp_path / "out" / "study.db").unlink()
    again = study(system, tmp_path / "out", arms=arms, seeds=seeds)
    again.work()
    (trial,) = again.status().results.trials
    assert trial.steps == 24 and Results.load(path).trials == (trial,)


def test_results_are_ordered_by_arm_and_seed(system):
    found = [
        Results("sums", "tiny", (Trial(arm, seed, 24, 1.0, 58, Measurement()),), {"cpu": cpu})
        for arm, seed, cpu in [
            ("blind", 1, "old"),
            ("seeing", 2, "new"),
            ("blind", 0, "new"),
            ("seeing", 0, "old"),
        ]
    ]
    joined = _joined(system, "tiny", found)
    order = [("seeing", 0), ("seeing", 2), ("blind", 0), ("blind", 1)]
    assert [(trial.arm, trial.seed) for trial in joined.trials] == order
    assert joined.hardware == {"cpu": "old / new"}
    assert [each.hardware["cpu"] for each in joined.trials] == ["old", "new", "new", "old"]
    rendered = [dataclasses.replace(each, data_versions={"pen": "2"}) for each in found]
    assert _joined(system, "tiny", rendered).data_versions == {"pen": "2"}


def test_a_study_can_be_extended(system, tmp_path, starts):
    study(system, tmp_path / "out", arms=("seeing",), seeds=(0,)).work()
    larger = study(system, tmp_path / "out")
    larger.work()
    assert starts() == dict.fromkeys(KEYS, 1)
    assert len(larger.status().results.trials) == 4
    smaller = study(system, tmp_path / "out", arms=("blind",), seeds=(1,))
    assert smaller.status().remaining == 0


def test_two_workers_share_the_trials(system, tmp_path, reference, starts):
    with workers(2, tmp_path / "out", pause=0.01) as two:
        assert [worker.wait(250) for worker in two] == [0, 0]
    assert outcome(study(system, tmp_path / "out")) == reference
    assert starts() == dict.fromkeys(KEYS, 1)
    assert "Experimental" not in (tmp_path / "workers.log").read_text()
    assert "[I " not in (tmp_path / "workers.log").read_text()


def test_a_study_that_was_killed_resumes_with_the_same_command(system, tmp_path, reference, starts):
    with workers(1, tmp_path / "out", pause=0.1) as (one,):
        wait_for(lambda: any((tmp_path / "out" / KEYS[0] / "checkpoints").glob("step-*8")))
        one.send_signal(signal.SIGKILL)
        one.wait()
    rest = study(system, tmp_path / "out")
    assert rest.status().running == (Key("seeing", 0),)
    steps = CheckpointStore(tmp_path / "out" / KEYS[0] / "checkpoints").steps()
    assert 0 < steps[-1] < 24
    rest.work()
    assert starts() == {**dict.fromkeys(KEYS, 1), KEYS[0]: 2}
    assert outcome(rest) == reference


@pytest.mark.slow
def test_workers_that_are_killed_repeatedly(system, tmp_path, reference, starts):
    rng, kills = random.Random(3), 0
    while study(system, tmp_path / "out").status().remaining:
        (tmp_path / "begun.txt").unlink(missing_ok=True)
        with workers(2, tmp_path / "out", pause=0.05) as two:
            wait_for(lambda: starts() or two[0].poll() is not None)
            time.sleep(rng.uniform(0, 1.5))
            rng.choice(two).kill()
            kills += 1
    assert kills > 3
    assert outcome(study(system, tmp_path / "out")) == reference


def test_a_worker_that_gets_sigterm_releases_its_trial(system, tmp_path):
    with workers(1, tmp_path / "out", pause=0.1) as (one,):
        wait_for(lambda: any((tmp_path / "out" / KEYS[0] / "checkpoints").glob("step-*4")))
        one.send_signal(signal.SIGTERM)
        assert one.wait(100) == 143
    status = study(system, tmp_path / "out").status()
    assert (status.running, len(status.waiting)) == ((), 4)


def test_a_live_worker_keeps_its_trial(system, tmp_path, starts):
    with workers(1, tmp_path / "out", pause=0.1, arms=("seeing",), seeds=(0,)) as (one,):
        wait_for(lambda: starts() == {"seeing-s0": 1})
        study(system, tmp_path / "out", arms=("seeing",), seeds=(0,)).work()
        assert one.wait(100) == 0
    assert starts() == {"seeing-s0": 1}


def test_a_failed_trial_does_not_stop_the_others(system, tmp_path, starts):
    arms = ("broken", "blind")
    one = study(system, tmp_path / "out", arms=arms, seeds=(0,))
    one.work()
    status = one.status()
    assert status.failed == {Key("broken", 0): "the ruler is broken"}
    assert [trial.arm for trial in status.results.trials] == ["blind"]
    assert "ExperimentError" in (tmp_path / "out" / "broken-s0" / "error.txt").read_text()
    one.work()
    assert starts()["broken-s0"] == 1, "a worker must not retry a failed trial"
    again = study(system, tmp_path / "out", arms=arms, seeds=(0,))
    again.begin()
    assert again.status().waiting == (Key("broken", 0),)
    again.work()
    assert starts() == {"broken-s0": 2, "blind-s0": 1}


def test_other_settings_are_refused(system, tmp_path):
    study(system, tmp_path).work()
    presets = {**system.presets, "tiny": dataclasses.replace(system.presets["tiny"], width=9)}
    changed = dataclasses.replace(system, presets=presets)
    with pytest.raises(ExperimentError, match=r"sums-tiny was started with width 8, not 9"):
        study(changed, tmp_path)


@pytest.mark.parametrize("kept", ["nothing", "failure", "lease", "worker", "log"])
def test_a_study_without_any_trial_may_have_other_settings(system, tmp_path, kept):
    """One that was killed before its first result; unless a worker or a log is there."""
    begun = study(system, tmp_path)
    begun.begin()
    (name, *_) = begun._names
    with contextlib.ExitStack() as stack:
        if kept == "failure":
            with begun._queue.lease([name]) as lease:
                lease.failed("the ruler is broken")
        if kept == "lease":  # whose worker died
            begun._queue._set(begun._queue._current()[name][0], optuna.trial.TrialState.RUNNING)
        if kept == "worker":
            stack.enter_context(begun._queue.lease([name]))
        if kept == "log":
            (tmp_path / name).mkdir()
            (tmp_path / name / "metrics.jsonl").write_text("{}")
        presets = {**system.presets, "tiny": dataclasses.replace(system.presets["tiny"], width=9)}
        changed = dataclasses.replace(system, presets=presets)
        if kept in ("worker", "log"):
            with pytest.raises(ExperimentError, match="was started with width 8, not 9; choose"):
                study(changed, tmp_path)
            return
        with pytest.warns(UserWarning, match="width 8, not 9. Nothing of it was kept: it begins"):
            again = study(changed, tmp_path)
    again.begin()
    again.work()
    assert len(again.status().results.trials) == len(again.keys)
    with pytest.raises(ExperimentError, match="was started with width 9, not 8; choose"):
        study(system, tmp_path)


def test_errors_of_wrong_arguments(system, tmp_path, monkeypatch):
    with pytest.raises(ExperimentError, match="arm 'none' is unknown"):
        study(system, tmp_path, arms=("none",))
    with pytest.raises(ExperimentError, match="at least one arm and one seed"):
        study(system, tmp_path, seeds=())
    with pytest.raises(ExperimentError, match="'nonsense' is not the URL of a database"):
        study(system, tmp_path, storage="nonsense")
    with pytest.raises(ExperimentError, match="its driver is not installed"):
        study(system, tmp_path, storage="postgresql+pg8000://me@here/x")
    monkeypatch.setattr("featurewise.study.database._OPEN_TIMEOUT", 0.0)
    with pytest.raises(
        ExperimentError, match=r"me:\*\*\*@127.0.0.1:1/x: this database cannot be"
    ) as caught:
        study(system, tmp_path, storage="postgresql+psycopg://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ExperimentError, match=r"pip install 'featurewise\[study\]'"):
        study(system, tmp_path)


@pytest.mark.parametrize("lock", [".workers/.lock", ".workers/a/.lock"])
def test_a_lock_that_is_a_link_is_refused_immediately(tmp_path, lock):
    (tmp_path / "target").write_text("unchanged")
    path = tmp_path / "out" / lock
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "target")
    with pytest.raises(ExperimentError, match=r"\.lock: cannot be locked: .* a symbolic link"):
        queue = Queue("links", folder=tmp_path / "out")
        queue.add(["a"])
        with queue.lease(["a"]):
            pass
    assert (tmp_path / "target").read_text() == "unchanged"


def test_an_error_text_does_not_follow_a_link(system, tmp_path):
    (tmp_path / "target").write_text("unchanged")
    (tmp_path / "out/broken-s0").mkdir(parents=True)
    (tmp_path / "out/broken-s0/error.txt").symlink_to(tmp_path / "target")
    study(system, tmp_path / "out", arms=("broken",), seeds=(0,)).work()
    assert (tmp_path / "target").read_text() == "unchanged"
    assert not (tmp_path / "out/broken-s0/error.txt").is_symlink()  # replaced, not followed


def test_only_the_first_of_two_entries_is_valid(tmp_path):
    """Two workers may add the same item at the same time to a server."""
    queue = Queue("twice", folder=tmp_path)
    queue.add(["a"])
    entry = optuna.trial.create_trial(
        state=optuna.trial.TrialState.WAITING, user_attrs={"key": "a"}
    )
    queue._storage.create_new_trial(queue._id, entry)
    with queue.lease(["a"]) as lease:
        lease.done(1.0, "first")
    with queue.lease(["a"]) as lease:
        assert lease is None
    assert queue.items()["a"].text == "first"


def test_an_entry_that_is_added_while_the_first_is_leased_is_ignored(tmp_path):
    queue = Queue("twice", folder=tmp_path)
    queue.add(["a"])
    entry = optuna.trial.create_trial(
        state=optuna.trial.TrialState.WAITING, user_attrs={"key": "a"}
    )
    with queue.lease(["a"]) as lease:
        queue._storage.create_new_trial(queue._id, entry)
        assert queue.items()["a"].state == "running"
        lease.done(1.0, "first")
    assert queue.items()["a"].state == "done"
    with queue.lease(["a"]) as lease:
        assert lease is None


# --- a server -------------------------------------------------------------------------------------


class Server:
    """A PostgreSQL server of this test module, which can be stopped and restarted."""

    def __init__(self, programs, folder, port, user):
        self.programs, self.folder, self.port, self.user = programs, folder, port, user
        self.process = None

    def run(self, *words):
        subprocess.run(
            list(map(str, words)), check=True, capture_output=True, cwd=self.folder, **self.user
        )

    def start(self):
        with (self.folder / "log").open("ab") as log:
            options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", self.folder]
            command = [self.programs / "postgres", "-D", self.folder / "data", "-p", self.port]
            self.process = subprocess.Popen(
                list(map(str, [*command, *options])),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self.user,
            )
        wait_for(lambda: connects(self.port), 60)

    def stop(self):
        """Stops the server; open connections break."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def address(self, database):
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running PostgreSQL server."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra: study)")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql (Debian: postgresql)")
    # Under root the server needs another user, who cannot access pytest's temporary folders.
    folder = Path(tmp_path_factory.mktemp("server").anchor, "tmp", f"fw-pg-{os.getpid()}")
    folder.mkdir()
    user = {}
    if os.geteuid() == 0:
        name = next(n for n in ("postgres", "nobody") if known_user(n))
        shutil.chown(folder, name)
        user = {"user": name}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one = Server(found[-1].parent, folder, port, user)
    try:
        one.run(
            one.programs / "initdb", "-D", folder / "data", "-U", "tester",
            "--auth", "trust", "--no-sync",
        )  # fmt: skip
        one.start()
        yield one
    finally:
        if one.process is not None:
            one.stop()
        shutil.rmtree(folder, ignore_errors=True)


def known_user(name):
    import pwd

    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def connects(port):
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"postgresql://tester@127.0.0.1:{port}/postgres").close()
        return True
    return False


@pytest.fixture
def database(server, request):
    """URL of an empty database."""
    import psycopg

    name = f"d{abs(hash(request.node.name)) % 10**8}"
    plain = server.address("postgres").replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return server.address(name)


def test_two_workers_on_a_server(system, tmp_path, reference, starts, database):
    with workers(2, tmp_path / "out", storage=database, pause=0.01) as two:
        assert [worker.wait(250) for worker in two] == [0, 0]
    assert starts() == dict.fromkeys(KEYS, 1)
    assert outcome(study(system, tmp_path / "out", storage=database)) == reference
    text = (tmp_path / "workers.log").read_text()
    assert "Traceback" not in text and "Warning" not in text and "[I " not in text


def test_the_trial_of_a_dead_worker_is_resumed_by_another(
    system, tmp_path, reference, starts, database
):
    with workers(1, tmp_path / "out", storage=database, pause=0.2) as (one,):
        wait_for(lambda: any((tmp_path / "out" / KEYS[0] / "checkpoints").glob("step-*4")))
        one.kill()
        one.wait()
    rest = study(system, tmp_path / "out", storage=database)
    assert rest.status().running == (Key("seeing", 0),)
    rest.work()
    assert starts() == {**dict.fromkeys(KEYS, 1), KEYS[0]: 2}
    assert outcome(rest) == reference


@pytest.mark.slow
def test_workers_wait_for_an_unreachable_server_and_lose_nothing(
    system, tmp_path, reference, starts, server, database
):
    """The server is down for 10 s; leases expire after 6 s without heartbeats."""
    with workers(3, tmp_path / "out", storage=database, pause=0.3) as three:
        wait_for(lambda: len(starts()) >= 3)
        server.stop()
        try:
            time.sleep(10)
            assert [worker.poll() for worker in three] == [None] * 3
        finally:
            server.start()
        assert [worker.wait(250) for worker in three] == [0] * 3
    assert starts() == dict.fromkeys(KEYS, 1)
    assert outcome(study(system, tmp_path / "out", storage=database)) == reference


@pytest.mark.parametrize("call", ["open", "add", "items", "lease", "done", "failed", "release"])
def test_every_call_waits_for_an_unreachable_server(tmp_path, server, database, call):
    def opened():
        return Queue("outage", folder=tmp_path, storage=database, heartbeat=1)

    queue = opened()
    queue.add(["a"])
    restart = threading.Timer(1.5, server.start)

    @contextlib.contextmanager
    def outage():
        server.stop()
        restart.start()
        start = time.monotonic()
        yield
        assert time.monotonic() - start > 1
        restart.join()

    if call in ("open", "add", "items"):
        with outage():
            {"open": opened, "add": lambda: queue.add(["b"]), "items": queue.items}[call]()
    elif call == "lease":
        with outage(), queue.lease(["a"]) as lease:
            assert lease.key == "a"
    else:
        with queue.lease(["a"]) as lease:
            server.stop()
            restart.start()
            if call == "done":
                lease.done(1.0, "result")
            elif call == "failed":
                lease.failed("reason")
        restart.join()
    state = {"done": "done", "failed": "failed"}.get(call, "waiting")
    assert queue.items()["a"].state == state


def test_a_server_that_stays_unreachable_is_an_error(tmp_path, server, database, monkeypatch):
    monkeypatch.setattr("featurewise.study.database.SERVER_TIMEOUT", 0.5)
    address = database.replace("tester@", "tester:quite/secret@").replace("quite/", "quite%2F")
    queue = Queue("outage", folder=tmp_path, storage=address, heartbeat=1)
    server.stop()
    try:
        with pytest.raises(
            ExperimentError, match=r"tester:\*\*\*@.*cannot be used \(tried for"
        ) as caught:
            queue.items()
    finally:
        server.start()
    assert "secret" not in str(caught.value) and caught.value.__cause__ is None


@pytest.mark.slow
def test_a_slow_worker_keeps_its_lease(system, tmp_path, starts, database):
    one = ("seeing",), (0,)
    with workers(1, tmp_path / "out", storage=database, pause=0.4, arms=one[0], seeds=one[1]) as w:
        wait_for(lambda: starts() == {"seeing-s0": 1})
        other = study(system, tmp_path / "other", arms=one[0], seeds=one[1], storage=database)
        other.work()  # waits about 10 s; leases expire after 6 s without heartbeats
        assert w[0].wait(100) == 0
    assert starts() == {"seeing-s0": 1}
    assert len(other.status().results.trials) == 1


def test_a_result_after_an_expired_lease_is_ignored(tmp_path, database):
    queue = Queue("late", folder=tmp_path, storage=database, heartbeat=1)
    queue.add(["a"])
    with queue.lease(["a"]) as late:
        number = next(iter(queue._current().values()))[0]
        queue._storage.set_trial_state_values(number, optuna.trial.TrialState.FAIL)
        queue.add(["a"])
        with queue.lease(["a"]) as lease:
            lease.done(1.0, "in time")
        late.done(0.0, "too late")
    assert queue.items()["a"].text == "in time"


@pytest.mark.slow
def test_four_workers_start_together_on_an_empty_database(system, tmp_path, starts, database):
    (tmp_path / "out").mkdir()
    with workers(4, tmp_path / "out", storage=database) as four:
        assert [worker.wait(250) for worker in four] == [0] * 4
    assert starts() == dict.fromkeys(KEYS, 1)
