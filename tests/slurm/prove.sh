#!/usr/bin/env bash
# The shipped job scripts on a real Slurm of two nodes, with nothing but their variables changed: a
# run is preempted, stopped by the time limit and robbed of a rank, requeues itself each time and
# finishes; an array trains a table. As root; `make slurm-test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PROJECT=$PWD
export OMP_NUM_THREADS=1 NUMBA_OPT=0 # the nodes share this machine's cores

say() { printf 'slurm-test: %s\n' "$*"; }

die() {
    printf 'slurm-test: %s\n' "$*" >&2
    exit 1
}

[[ $(id -u) == 0 ]] || die "needs root, for daemons and network namespaces: sudo make slurm-test"
missing=()
for tool in slurmctld slurmd munged ip; do
    command -v "$tool" >/dev/null || missing+=("$tool") # given several names it is content with one
done
if ((${#missing[@]})); then
    mkdir -p build
    say "installing slurm-wlm, munge and iproute2"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge iproute2; } \
        >build/slurm-install.log 2>&1 || die "that failed: see build/slurm-install.log"
fi

folder=$(mktemp -d /tmp/hdkd-slurm.XXXXXX)
# shellcheck source=tests/slurm/two_nodes.sh
source tests/slurm/two_nodes.sh
leave() {
    local status=$?
    set +e
    stop_cluster
    if ((status)); then
        tail -n 40 "$folder"/*.log >&2
        echo "slurm-test: failed; everything is in $folder" >&2
    else
        rm -rf "$folder"
    fi
}
trap leave EXIT
start_cluster "$folder/cluster"
say "a Slurm of two nodes: $(sinfo -h -o '%D %N %T')"

python data_prep/digits.py --out "$folder/digits" >/dev/null
python data_prep/digits.py --out "$folder/digits-100" --per_class 100 >/dev/null
python - "$folder" <<'PYTHON'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
config = json.loads(pathlib.Path("ds_configs/quickstart.json").read_text())
config["hdkd"]["schedule"] |= {"epochs": 250, "milestones": [125, 190]}  # beyond the limit
config["hdkd"]["run"] = {"wandb": "disabled", "log_every": 1}
(folder / "config.json").write_text(json.dumps(config))
config["hdkd"]["schedule"] |= {"epochs": 1, "milestones": []}
(folder / "short.json").write_text(json.dumps(config))
PYTHON

step() { # the last step that the run has recorded
    tail -n 3 "$folder/run/metrics.jsonl" 2>/dev/null |
        sed -nE 's/.*"event": "step", "step": ([0-9]+),.*/\1/p' | tail -n 1
}
field() { scontrol show job -o "$1" | sed -nE "s/.* $2=([^ ]+).*/\1/p"; }
wait_for() { # SECONDS WHAT COMMAND…
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < end)) || die "waited too long until $what; the job: $(scontrol show job -o "$job")"
        sleep 0.5
    done
}
trains_beyond() { [[ $(field "$job" JobState) == RUNNING ]] && (($(step || true) + 0 > $1)); }
has_restarted() { (($(field "$job" Restarts) >= $1)); }
is_completed() { [[ $(field "$job" JobState) =~ COMPLETED|FAILED|CANCELLED|TIMEOUT ]]; }
submit() { # OPTIONS… SCRIPT
    PROJECT=$PROJECT sbatch --parsable --gpus-per-node=0 --cpus-per-task=1 "$@"
}

say "data that are missing end the job early"
job=$(DATA=$folder/nowhere CONFIG=$folder/config.json submit --nodes=2 --ntasks-per-node=1 \
    --output="$folder/early.log" slurm/imagenet_full.sh)
wait_for 60 "the job has ended" is_completed
[[ $(field "$job" ExitCode) == 2:0 ]] || die "exit code $(field "$job" ExitCode) instead of 2:0"
grep -q "error: no prepared data set: $folder/nowhere does not exist" "$folder/early.log"

say "slurm/imagenet_full.sh, one rank on each node"
job=$(DATA=$folder/digits CONFIG=$folder/config.json OUT=$folder/run INTERFACE=eth0 submit \
    --nodes=2 --ntasks-per-node=1 --time=4 --signal=USR1@60 --output="$folder/full.log" \
    slurm/imagenet_full.sh)
wait_for 180 "training goes beyond step 20" trains_beyond 20
grep -q "2 ranks: 1 on n1, 1 on n2" "$folder/full.log"

say "step $(step): preempted by scancel --signal=TERM"
scancel --signal=TERM "$job"
wait_for 60 "the job is requeued" has_restarted 1
reached=$(step)
wait_for 180 "training goes on beyond step $reached" trains_beyond "$reached"

say "step $(step): one rank is killed"
kill -KILL "$(pgrep -f "hdkd_dist/train.py .*--out $folder/run" | tail -n 1)"
wait_for 120 "the job is requeued" has_restarted 2

say "then the time limit"
wait_for 400 "the job is requeued at the time limit" has_restarted 3
grep -q "stopped by SIGUSR1 at step" "$folder/full.log"
say "step $(step): requeued at the time limit"
scontrol update JobId="$job" TimeLimit=60
wait_for 1200 "the job is finished" is_completed
[[ $(field "$job" JobState) == COMPLETED ]] || die "the job ended as $(field "$job" JobState)"
say "finished after $(field "$job" Restarts) restarts"

python - "$folder/run" <<'PYTHON'
import json, pathlib, sys
run = pathlib.Path(sys.argv[1])
events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
steps = [event["step"] for event in events if event["event"] == "step"]
assert steps == list(range(1, 250 * 17 + 1)), "a step is missing or was recorded twice"
results = json.loads((run / "results.json").read_text())
assert results["world_size"] == 2 and len(set(results["gamma"]["sha256_by_rank"])) == 1
print("slurm-test: every step is recorded once; test top-1:", [row["top1"] for row in results["exits"]])
PYTHON

say "slurm/cifar100_tables.sh, an array of two methods"
job=$(METHODS="msdnet hdkd" SIZES=100 SEEDS=3 DATA=$folder/digits CONFIG=$folder/short.json \
    OUT=$folder/table submit --array=0-1 --output="$folder/array-%a.log" slurm/cifar100_tables.sh)
array_is_done() { [[ -z $(squeue -h -j "$job") ]]; }
wait_for 300 "the array is done" array_is_done
for method in msdnet hdkd; do
    [[ -f $folder/table-100-$method-seed3/results.json ]] || die "no result of $method in the array"
done

say "an array of two: the last task is preempted and requeues itself, not its sister"
job=$(METHODS="msdnet dbt" SIZES=100 SEEDS=4 DATA=$folder/digits CONFIG=$folder/config.json \
    OUT=$folder/table submit --array=0-1 --output="$folder/preempted-%a.log" slurm/cifar100_tables.sh)
both_train() { [[ -s $folder/table-100-msdnet-seed4/metrics.jsonl && -s $folder/table-100-dbt-seed4/metrics.jsonl ]]; }
wait_for 180 "both tasks train" both_train
scancel --signal=TERM "${job}_1"
task_has_restarted() { (($(field "${job}_1" Restarts) >= 1)); }
wait_for 60 "the task is requeued" task_has_restarted
[[ $(field "${job}_0" Restarts) == 0 ]] || die "the other task of the array was requeued as well"
[[ $(field "${job}_0" JobState) == RUNNING ]] || die "the other task ended: $(field "${job}_0" JobState)"
scancel "$job"
wait_for 90 "the array has ended" array_is_done
say "all as it should be"
