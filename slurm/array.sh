# shellcheck shell=bash
# One task of an array over METHODS × SIZES × SEEDS; read by the job scripts with `source`.
# The seed changes fastest, the method slowest.

# shellcheck source=slurm/ranks.sh
source "$PROJECT/slurm/ranks.sh"
check_environment
# shellcheck disable=SC2153  # the scripts set them
read -ra methods <<<"$METHODS"
# shellcheck disable=SC2153
read -ra sizes <<<"$SIZES"
# shellcheck disable=SC2153
read -ra seeds <<<"$SEEDS"
combinations=$((${#methods[@]} * ${#sizes[@]} * ${#seeds[@]}))
task=${SLURM_ARRAY_TASK_ID:?"this is an array: submit it with sbatch --array=0-$((combinations - 1))"}
((task < combinations)) ||
    die "task $task of the array is beyond the $combinations combinations: submit with" \
        "sbatch --array=0-$((combinations - 1))"
seed=${seeds[task % ${#seeds[@]}]}
size=${sizes[task / ${#seeds[@]} % ${#sizes[@]}]}
method=${methods[task / ${#seeds[@]} / ${#sizes[@]}]}
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
