"""Jobs of Slurm, played by scripts that start local processes."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from src.trainer import slurm
from src.utils.files import read_jsonl
from tests.demo import ENVIRONMENT, ROOT
from tests.test_strategies import BASELINE, OPTIONS

COMMANDS = {
    "sbatch": """
script=${@: -1}
id=$(($(cat $FAKE/number) + 1)); echo $id > $FAKE/number
run() {
    export SLURM_JOB_ID=$1 SLURM_RESTART_COUNT=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=127.0.0.1
    while true; do
        bash $script
        rm $FAKE/requeued.$1 || break
        SLURM_RESTART_COUNT=$((SLURM_RESTART_COUNT + 1))
    done
    touch $FAKE/ended.$1
}
last=$(sed -n 's/#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' $script)
if [ -z "$last" ]; then
    run $id > /dev/null 2>&1 &
else
    (for i in $(seq 0 $last); do
        SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$i run ${id}_$i
    done) > /dev/null 2>&1 &
fi
echo Submitted batch job $id
""",
    "srun": """
while [[ $1 == -* ]]; do
    case $1 in --output | --error) shift ;; --kill-on-bad-exit=1) strict=yes ;; esac
    shift
done
export SLURM_STEP_NUM_TASKS=$TASKS SLURM_NTASKS=$TASKS SLURM_STEP_TASKS_PER_NODE=$TASKS
export SLURM_NODEID=0 SLURM_STEP_NODELIST=127.0.0.1
for i in $(seq 0 $((TASKS - 1))); do
    SLURM_PROCID=$i SLURM_LOCALID=$i "$@" >> $FAKE/printed.$i 2>&1 &
    pids+=($!)
    echo $! >> $FAKE/pids
done
for _ in ${pids[@]}; do
    wait -n || [ -z "$strict" ] || kill -KILL ${pids[@]} 2> /dev/null
done
""",
    "scontrol": "sleep 3; [ $1 == requeue ] && touch $FAKE/requeued.$2",
    "sacct": """
echo 'JobID|State|NodeList'
number=$(cat $FAKE/number)
for i in 0 1; do
    [ -e $FAKE/ended.${number}_$i ] && state=COMPLETED || state=RUNNING
    echo "${number}_$i|$state|node"
done
""",
}


@pytest.fixture
def cluster(tmp_path):
    """Variables of a shell in which the commands of Slurm are there."""
    folder = tmp_path / "cluster"
    (folder / "bin").mkdir(parents=True)
    (folder / "number").write_text("100")
    for name, text in COMMANDS.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return ENVIRONMENT | {"PATH": path, "FAKE": str(folder), "TASKS": "2"}, folder


def options_of(corpus, runs):
    own = [f"datasets.train.folder={corpus}", f"runs={runs}", "dataloader.num_workers=0"]
    return [*own, "writer=nothing", "device=cpu", "cluster=slurm", *BASELINE, *OPTIONS]


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_preempted_job_is_requeued_and_goes_on(corpus, tmp_path, cluster):
    environment, folder = cluster
    options = [*options_of(corpus, tmp_path / "runs"), "trainer.steps_per_epoch=60"]
    command = [sys.executable, "train.py", "-cn=asr_baseline", *options]
    script = tmp_path / "job.sh"
    script.write_text(f"cd {ROOT}\nsrun --kill-on-bad-exit=1 {' '.join(command)}\n")
    subprocess.run(["sbatch", str(script)], env=environment, check=True, stdout=subprocess.DEVNULL)
    run = tmp_path / "runs" / "asr_baseline" / "slurm_101"
    wait_for((run / "metrics.jsonl").exists)
    for pid in (folder / "pids").read_text().split():
        os.kill(int(pid), signal.SIGUSR1)
    wait_for((folder / "ended.101").exists)
    printed = (folder / "printed.0").read_text()
    assert "Stopped by SIGUSR1 at step " in printed
    assert re.search(rf"Going on with \S*{run.name} at step \d+, epoch ", printed)
    assert printed.count("Job 101 is requeued and will go on.") == 1
    assert "requeued" not in (folder / "printed.1").read_text()
    steps = [row["step"] for row in read_jsonl(run / "metrics.jsonl") if "train/loss" in row]
    assert steps == list(range(1, 61))
    assert [path.name for path in run.parent.iterdir()] == ["slurm_101"]


def test_a_sweep_is_submitted(corpus, tmp_path, cluster):
    pytest.importorskip("submitit")
    environment, _ = cluster
    options = [*options_of(corpus, tmp_path / "runs"), "seed=1,2", f"hydra.sweep.dir={tmp_path}/s"]
    command = [sys.executable, "train.py", "-m", "-cn=asr_baseline", *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"TASKS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = (tmp_path / "s" / "sweep.tsv").read_text().splitlines()
    assert len(rows) == 3 and "failed" not in done.stdout
    assert all((tmp_path / "s" / str(number) / "last").exists() for number in range(2))


def test_processes_of_srun(monkeypatch):
    """Steps of a job that run at the same time don't meet."""
    told = {"STEP_NUM_TASKS": 3, "NODEID": 1, "PROCID": 2, "LOCALID": 0, "JOB_ID": 39_999}
    told |= {"STEP_TASKS_PER_NODE": "2,1", "STEP_NODELIST": "node7", "STEP_ID": 0}
    monkeypatch.setattr(os, "environ", {f"SLURM_{name}": str(one) for name, one in told.items()})
    steps = []
    for step in range(2):
        for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
            os.environ.pop(name, None)
        os.environ["SLURM_STEP_ID"] = str(step)
        slurm.adopt_processes()
        steps.append(dict(os.environ))
    assert steps[0]["RANK"] == "2" and steps[0]["WORLD_SIZE"] == "3"
    assert steps[0]["LOCAL_WORLD_SIZE"] == "1" and steps[0]["MASTER_ADDR"] == "node7"
    assert steps[0]["MASTER_PORT"] == "34999" != steps[1]["MASTER_PORT"]
    del os.environ["WORLD_SIZE"], os.environ["SLURM_NODEID"]
    with pytest.raises(ValueError, match="srun started 3 processes, but SLURM_NODEID isn't set"):
        slurm.adopt_processes()


def test_notation_of_slurm():
    assert slurm.tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    assert slurm.first_host("node7") == "node7"
