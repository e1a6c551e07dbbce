# shellcheck shell=bash
# What the job scripts share: checks that fail early with a clear line, and one task per rank.
# Read by them with `source`; uses PROJECT and, where it is set, INTERFACE.

die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# check_environment: the project has been set up; enter it.
check_environment() {
    [[ -x $PROJECT/.venv/bin/python ]] ||
        die "there is no environment in $PROJECT/.venv: run make setup there first"
    cd "$PROJECT" || die "cannot enter $PROJECT"
    export PATH=$PROJECT/.venv/bin:$PATH PYTHONPATH=$PROJECT
}

# check_run ARGUMENTS…: configuration, data and sizes, as training itself checks them.
check_run() {
    WORLD_SIZE=$SLURM_NTASKS RANK=0 python hdkd_dist/train.py --check true "$@" || exit 2
}

# first_address: of the node with rank 0; its name where that can be looked up.
first_address() {
    local name
    name=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    if getent hosts "$name" >/dev/null; then
        echo "$name"
    else
        scontrol show node -o "$name" | sed -nE 's/.* NodeAddr=([^ ]+).*/\1/p'
    fi
}

# run_ranks ARGUMENTS…: train.py, one task per rank; its exit status.
run_ranks() {
    export MASTER_ADDR MASTER_PORT LOCAL_SIZE WORLD_SIZE
    MASTER_ADDR=$(first_address)
    MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a node
    WORLD_SIZE=$SLURM_NTASKS
    LOCAL_SIZE=$((SLURM_NTASKS / SLURM_JOB_NUM_NODES))
    if [[ -n ${INTERFACE:-} ]]; then
        export NCCL_SOCKET_IFNAME=$INTERFACE GLOO_SOCKET_IFNAME=$INTERFACE
    fi
    # The ranks watch over each other; --wait ends what does not even hear that.
    # shellcheck disable=SC2016  # the variables are the tasks'
    srun --kill-on-bad-exit=0 --wait=600 bash -c \
        'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID; exec "$@"' rank \
        python -u hdkd_dist/train.py --resume auto "$@"
}

# finish_or_requeue STATUS: requeue what was stopped (75), or has lost a rank (76, or killed by the
# system: 137), the latter at most MAX_LOSSES times.
finish_or_requeue() {
    local restarts=${SLURM_RESTART_COUNT:-0}
    case $1 in
    0) echo "job $SLURM_JOB_ID is finished" ;;
    75 | 76 | 137)
        if (($1 != 75 && restarts >= ${MAX_LOSSES:-10})); then
            die "the run has been restarted $restarts times and has lost a rank again: see above"
        fi
        echo "job $SLURM_JOB_ID is requeued (exit status $1, restart $((restarts + 1)))"
        scontrol requeue "$SLURM_JOB_ID" && sleep 60 # until Slurm ends this script
        ;;
    esac
    exit "$1"
}
