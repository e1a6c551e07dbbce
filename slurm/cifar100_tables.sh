#!/usr/bin/env bash
# CIFAR(X) for every method, size of the training set and seed of the paper's tables:
#
#     sbatch slurm/cifar100_tables.sh
#
# An array of jobs on one GPU each, one per combination; each requeues itself until it is finished,
# and is done at once where its run is. With other lists, give sbatch the number of combinations:
#
#     METHODS="msdnet hdkd" SIZES=150 SEEDS=0 sbatch --array=0-1 slurm/cifar100_tables.sh
#
# The data sets come first, one per size:
#
#     python data_prep/cifar100.py --source cifar-100-python.tar.gz --out data/cifar100-150 --per_class 150
#SBATCH --job-name=hdkd-cifar100
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
PROJECT=${PROJECT:-$SLURM_SUBMIT_DIR}     # where this project is, on a file system of all nodes
CONFIG=${CONFIG:-ds_configs/cifar100.json}
TABLE=2                                   # of the paper; see hdkd_dist/paper/
METHODS=${METHODS:-}                      # such as "msdnet hdkd"; without: the table's
SIZES=${SIZES:-}                          # images per class, 50 for meta-validation included
SEEDS=${SEEDS:-}
DATA=${DATA:-data/cifar100}               # of size X: $DATA-X
OUT=${OUT:-runs/cifar100}                 # of a run: $OUT-X-method-seedN
LOCAL_COPY=${LOCAL_COPY:-}                # such as /tmp/data: copy the data to each node's disk
INTERFACE=${INTERFACE:-}                  # such as ib0: the network that the ranks use
MAX_LOSSES=${MAX_LOSSES:-10}              # lost ranks in a row after which the job ends
EXTRA=${EXTRA:-}                          # more arguments of train.py, without spaces in them

if [[ ! -f $PROJECT/slurm/array.sh ]]; then
    echo "error: PROJECT=$PROJECT does not hold this project: submit from its folder or set PROJECT" >&2
    exit 2
fi
# shellcheck source=slurm/array.sh
source "$PROJECT/slurm/array.sh"
