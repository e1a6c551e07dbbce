# shellcheck shell=bash
# A Slurm of two nodes on this machine, each in a network namespace with an address and a host name
# of its own, so that ranks on them meet over a real network. Read with `source`, as root.
#
#   start_cluster FOLDER    all its files, keys and logs are there; exports SLURM_CONF
#   stop_cluster            ends what start_cluster has started, and nothing else

NODES=(n1 n2)
NETWORK=10.213.77 # .254 is the controller's address, .1 and .2 are the nodes'
BRIDGE=hdkdbr0

cluster=    # the folder
started=()  # process ids

# in_node NODE COMMAND…: become the command there. Not by `ip netns exec`, whose fresh /sys lacks the
# cgroups that slurmd asks for.
in_node() {
    # shellcheck disable=SC2016  # the arguments are the inner shell's
    exec nsenter --net="/run/netns/hdkd-$1" unshare --uts --mount bash -c \
        'hostname "$1"; mount --bind "$2" /etc/hosts; shift 2; exec "$@"' \
        in_node "$1" "$cluster/hosts" "${@:2}"
}

start_network() {
    local number=0 node
    ip link add "$BRIDGE" type bridge
    ip address add "$NETWORK.254/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    for node in "${NODES[@]}"; do
        number=$((number + 1))
        ip netns add "hdkd-$node"
        ip link add "hdkd-$node" type veth peer name eth0 netns "hdkd-$node"
        ip link set "hdkd-$node" master "$BRIDGE" up
        ip -n "hdkd-$node" link set lo up
        ip -n "hdkd-$node" address add "$NETWORK.$number/24" dev eth0
        ip -n "hdkd-$node" link set eth0 up
    done
    printf '%s\n' "127.0.0.1 localhost" "$NETWORK.1 n1" "$NETWORK.2 n2" >"$cluster/hosts"
}

stop_network() {
    local node
    for node in "${NODES[@]}"; do
        ip netns delete "hdkd-$node" 2>/dev/null || true
    done
    ip link delete "$BRIDGE" 2>/dev/null || true
}

write_configuration() {
    local cpus memory
    cpus=$(nproc --all)
    memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
    cat >"$cluster/slurm.conf" <<CONF
ClusterName=hdkd
SlurmctldHost=$(hostname)($NETWORK.254)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket,cred_expire=15
CryptoType=crypto/munge
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool-%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd-%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd-%n.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=20
JobRequeue=1
NodeName=n1 NodeHostname=n1 NodeAddr=$NETWORK.1 CPUs=$cpus RealMemory=$memory
NodeName=n2 NodeHostname=n2 NodeAddr=$NETWORK.2 CPUs=$cpus RealMemory=$memory
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
}

background() { # LOG COMMAND…: a process that stop_cluster ends
    local log=$1
    shift
    "$@" >>"$cluster/$log" 2>&1 &
    started+=("$!")
}

start_cluster() {
    local node
    cluster=$1
    mkdir -p "$cluster"/{state,spool-n1,spool-n2}
    chmod 755 "$cluster"
    dd if=/dev/urandom of="$cluster/munge.key" bs=1024 count=1 status=none
    chmod 400 "$cluster/munge.key"
    stop_network
    start_network
    write_configuration
    export SLURM_CONF=$cluster/slurm.conf
    background munged.log munged --foreground --force --key-file "$cluster/munge.key" \
        --socket "$cluster/munge.socket" --pid-file "$cluster/munged.pid" \
        --log-file "$cluster/munged.log" --seed-file "$cluster/munged.seed"
    sleep 1
    background slurmctld.out slurmctld -D -c
    for node in "${NODES[@]}"; do
        background "slurmd-$node.out" in_node "$node" env SLURM_CONF="$SLURM_CONF" slurmd -D -N "$node"
    done
    for _ in {1..60}; do
        if [[ $(sinfo -h -t idle -o %D 2>/dev/null) == 2 ]]; then return 0; fi
        sleep 1
    done
    tail -n 20 "$cluster"/*.log "$cluster"/*.out >&2
    echo "error: the two nodes did not come up" >&2
    return 1
}

stop_cluster() {
    local process
    [[ -n $cluster ]] || return 0
    scancel --full --signal=KILL --state=RUNNING 2>/dev/null || true
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    for process in "${started[@]}"; do wait "$process" 2>/dev/null || true; done
    stop_network
}
