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
    # From 22.05 to 23.02 srun does not take over the job's cores per task by itself.
    srun --kill-on-bad-exit=0 --wait=600 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" bash -c \
        'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID; exec "$@"' rank \
        python -u hdkd_dist/train.py --resume auto "$@"
}

# finish_or_requeue STATUS: requeue what was stopped (75) or has lost a rank: 76, or killed by the
# system or by a fault of its device or network (128 + signal; 253: out of memory). Losses count
# until a stop in good order; after MAX_LOSSES in a row the job ends.
finish_or_requeue() {
    local losses count=0
    losses=slurm-losses-$SLURM_JOB_ID
    case $1 in
    0)
        rm -f "$losses"
        echo "job $SLURM_JOB_ID is finished"
        ;;
    75)
        rm -f "$losses"
        requeue "$1"
        ;;
    76 | 134 | 135 | 137 | 138 | 139 | 140 | 143 | 253)
        [[ ! -f $losses ]] || count=$(<"$losses")
        if ((count >= ${MAX_LOSSES:-10})); then
            rm -f "$losses"
            die "the run has lost a rank $((count + 1)) times in a row: see above"
        fi
        echo "$((count + 1))" >"$losses" || die "cannot count losses in $PWD/$losses"
        requeue "$1"
        ;;
    esac
    exit "$1"
}

# requeue STATUS: the job begins again when Slurm has room for it.
requeue() {
    echo "job $SLURM_JOB_ID is requeued (exit status $1, restart $((${SLURM_RESTART_COUNT:-0} + 1)))"
    # The last task of an array has the array's own id, for which Slurm would requeue all tasks.
    local id=$SLURM_JOB_ID
    if [[ -n ${SLURM_ARRAY_JOB_ID:-} ]]; then id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
    scontrol requeue "$id" && sleep 60 # until Slurm ends this script
}
