#!/usr/bin/env bash
# ImageNet(X) for every method, size of the training set and seed of the paper's tables:
#
#     sbatch slurm/imagenet_subsets.sh
#
# An array of jobs, one per combination; each requeues itself until it is finished, and is done at
# once where its run is. With other lists, give sbatch the number of combinations:
#
#     METHODS="msdnet hdkd" SIZES=100 SEEDS=0 sbatch --array=0-1 slurm/imagenet_subsets.sh
#
# The data sets come first, one per size:
#
#     python data_prep/imagefolder.py --source /data/imagenet --out data/imagenet-100 --per_class 100
#SBATCH --job-name=hdkd-imagenet-subsets
#SBATCH --array=0-62
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=9
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%A-%a.log
set -euo pipefail

# Each of these may also be set in the environment.
PROJECT=${PROJECT:-$SLURM_SUBMIT_DIR}      # where this project is, on a file system of all nodes
CONFIG=${CONFIG:-ds_configs/imagenet.json} # the batch is divided among all GPUs
TABLE=1                                    # of the paper; see hdkd_dist/paper/
METHODS=${METHODS:-}                       # such as "msdnet hdkd"; without: the table's
SIZES=${SIZES:-100 300 500}                # images per class, 50 for meta-validation included
SEEDS=${SEEDS:-}
DATA=${DATA:-data/imagenet}                # of size X: $DATA-X
OUT=${OUT:-runs/imagenet}                  # of a run: $OUT-X-method-seedN
LOCAL_COPY=${LOCAL_COPY:-}                 # such as /tmp/data: copy the data to each node's disk
INTERFACE=${INTERFACE:-}                   # such as ib0: the network that the ranks use
MAX_LOSSES=${MAX_LOSSES:-10}               # lost ranks in a row after which the job ends
EXTRA=${EXTRA:-}                           # more arguments of train.py, without spaces in them

if [[ ! -f $PROJECT/slurm/array.sh ]]; then
    echo "error: PROJECT=$PROJECT does not hold this project: submit from its folder or set PROJECT" >&2
    exit 2
fi
# shellcheck source=slurm/array.sh
source "$PROJECT/slurm/array.sh"
