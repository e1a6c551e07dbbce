# shellcheck shell=bash
# One task of an array over the runs of the paper's TABLE, or over those with other METHODS, SIZES
# and SEEDS; read by the job scripts with `source`.

# shellcheck source=slurm/ranks.sh
source "$PROJECT/slurm/ranks.sh"
check_environment
task=${SLURM_ARRAY_TASK_ID:?"this is an array: submit it with sbatch --array=0-N"}
# shellcheck disable=SC2153  # the scripts set them
chosen=$(python hdkd_dist/reproduce.py task --number "$task" --table "$TABLE" \
    ${METHODS:+--methods "$METHODS"} ${SIZES:+--sizes "$SIZES"} ${SEEDS:+--seeds "$SEEDS"}) ||
    exit 2
read -r method size seed combinations <<<"$chosen"
((SLURM_ARRAY_TASK_MAX == combinations - 1)) ||
    echo "warning: of $combinations combinations the array has those up to $SLURM_ARRAY_TASK_MAX" >&2
echo "task $task: $method, $size images per class, seed $seed"

# shellcheck disable=SC2206  # words
run=(--ds_config "$CONFIG" --method "$method" --seed "$seed" --data "$DATA-$size"
    --out "$OUT-$size-$method-seed$seed" $EXTRA)
if [[ -n $LOCAL_COPY ]]; then run+=(--set "hdkd.data.local_copy=$LOCAL_COPY"); fi
check_run "${run[@]}"

status=0
run_ranks "${run[@]}" || status=$?
finish_or_requeue "$status"
