#!/usr/bin/env bash
# The runs of a table of the paper, or of another study, divided among the jobs of an array:
#
#     sbatch slurm/paper_tables.sh                                    # Table 2
#     TABLE=controls sbatch --array=0-8 slurm/paper_tables.sh
#     PARTS=84 sbatch --array=5,17 slurm/paper_tables.sh              # two of Table 2's again
#
# One GPU each. A job works through its part one run after the other and requeues itself until it is
# finished; a run stays with what it builds on. See docs/reproducing.md.
#SBATCH --job-name=hdkd-paper
#SBATCH --array=0-83
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=6
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%A-%a.log
set -euo pipefail

# Each of these may also be set in the environment.
PROJECT=${PROJECT:-$SLURM_SUBMIT_DIR} # where this project is, on a file system of all nodes
TABLE=${TABLE:-2}                     # see hdkd_dist/reproduce.py plan --help
SCALE=${SCALE:-paper}
DATA=${DATA:-data}                    # holds the prepared data sets: data/cifar100-150, …
OUT=${OUT:-runs/$SCALE}               # gets the runs' folders
JOBS=${JOBS:-1}                       # runs side by side on the GPU: a small network leaves it idle
PARTS=${PARTS:-}                      # of the whole array, where only some of its tasks are submitted

if [[ ! -f $PROJECT/slurm/ranks.sh ]]; then
    echo "error: PROJECT=$PROJECT does not hold this project: submit from its folder or set PROJECT" >&2
    exit 2
fi
# shellcheck source=slurm/ranks.sh
source "$PROJECT/slurm/ranks.sh"
check_environment

status=0
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" python -u hdkd_dist/reproduce.py run --table "$TABLE" --scale "$SCALE" --data "$DATA" \
    --out "$OUT" --jobs "$JOBS" --per_device "$JOBS" ${PARTS:+--part "$SLURM_ARRAY_TASK_ID/$PARTS"} || status=$?
finish_or_requeue "$status"
