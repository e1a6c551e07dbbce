#!/usr/bin/env bash
# Train on the whole of ImageNet until it is finished, over preemptions, time limits and lost nodes:
#
#     sbatch slurm/imagenet_full.sh
#
# One task per GPU. Before the time limit and when it is preempted the run saves a checkpoint and
# the job requeues itself; the next start goes on from there. See docs/cluster.md.
#SBATCH --job-name=hdkd-imagenet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=9
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.log
set -euo pipefail

# Each of these may also be set in the environment.
PROJECT=${PROJECT:-$SLURM_SUBMIT_DIR}       # where this project is, on a file system of all nodes
CONFIG=${CONFIG:-ds_configs/imagenet.json}  # the batch is divided among all GPUs
METHOD=${METHOD:-hdkd}
SEED=${SEED:-0}
DATA=${DATA:-data/imagenet}
OUT=${OUT:-runs/imagenet-$METHOD-seed$SEED} # on a file system of all nodes
LOCAL_COPY=${LOCAL_COPY:-}                  # such as /tmp/data: copy the data to each node's disk
INTERFACE=${INTERFACE:-}                    # such as ib0: the network that the ranks use
MAX_LOSSES=${MAX_LOSSES:-10}                # lost ranks in a row after which the job ends
EXTRA=${EXTRA:-}                            # more arguments of train.py, without spaces in them

if [[ ! -f $PROJECT/slurm/ranks.sh ]]; then
    echo "error: PROJECT=$PROJECT does not hold this project: submit from its folder or set PROJECT" >&2
    exit 2
fi
# shellcheck source=slurm/ranks.sh
source "$PROJECT/slurm/ranks.sh"
check_environment
# shellcheck disable=SC2206  # words
run=(--ds_config "$CONFIG" --method "$METHOD" --seed "$SEED" --data "$DATA" --out "$OUT" $EXTRA)
if [[ -n $LOCAL_COPY ]]; then run+=(--set "hdkd.data.local_copy=$LOCAL_COPY"); fi
check_run "${run[@]}"

status=0
run_ranks "${run[@]}" || status=$?
finish_or_requeue "$status"
