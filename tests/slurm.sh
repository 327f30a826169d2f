#!/usr/bin/env bash
# A real Slurm of one node on the loopback address for the tests: munged, slurmctld and slurmd, without systemd.
#   tests/slurm.sh start    starts what does not run and waits until the node takes jobs
#   tests/slurm.sh status   exits with 0 when the node takes jobs
#   tests/slurm.sh stop     cancels the jobs, stops the daemons and removes all that start made
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

CONF=/etc/slurm/slurm.conf  # srun inside a job reads no other one
MARK="# Written by ed2d's tests/slurm.sh"
RUN=/run/ed2d-slurm LIB=/var/lib/ed2d-slurm LOG=/var/log/ed2d-slurm
WAIT=30  # s, for the node to take jobs and for cancelled jobs to end; both take about one
NODE=$(hostname -s)

fail() { echo "tests/slurm.sh: $1" >&2; exit 1; }

taken() { [[ -e $CONF ]] && [[ $(head -n 1 "$CONF") != "$MARK" ]]; }

alive() {  # not a zombie, and not another process with the number of a killed one
    pgrep --pidfile "$RUN/$1.pid" --exact "$1" --runstates RSD >/dev/null 2>&1
}

ready() {
    alive slurmctld && timeout 5 sinfo --noheader --format %T 2>/dev/null | grep -qxE "idle|mixed|allocated"
}

within() {  # whether a command succeeds within WAIT seconds
    local end=$((SECONDS + WAIT))
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

configure() {
    install -d "$RUN" "$LIB" "$LIB/slurmctld" "$LIB/slurmd" "$LOG" "$(dirname "$CONF")"
    [[ -e $LIB/key ]] || install -m 400 <(head -c 128 /dev/urandom) "$LIB/key"
    cat >"$CONF" <<CONF
$MARK
ClusterName=ed2d
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$RUN/munge
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$LIB/slurmctld
SlurmdSpoolDir=$LIB/slurmd
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
PartitionName=test Nodes=$NODE Default=YES MaxTime=60
CONF
}

daemon() {  # starts a daemon that does not run; the jobs' environment is that of sbatch, not of the caller of this
    alive "$1" || env -i PATH="$PATH" "${@:2}" </dev/null >"$LOG/$1.start" 2>&1 || explain "$1 did not start"
}

explain() {
    tail --quiet -n 5 "$LOG"/*.start "$LOG"/*.log >&2 || true
    fail "$1; the last lines of its logs stand above"
}

start() {
    ! ready || return 0
    configure
    daemon munged munged --key-file "$LIB/key" --socket "$RUN/munge" --pid-file "$RUN/munged.pid" \
        --seed-file "$LIB/seed" --log-file "$LOG/munged.log"
    daemon slurmctld slurmctld
    daemon slurmd slurmd -N "$NODE"
    within ready || explain "no idle node after $WAIT s"
}

empty() {
    local jobs
    jobs=$(timeout 5 squeue --noheader 2>/dev/null) && [[ -z $jobs ]]
}

gone() { ! alive slurmd && ! alive slurmctld && ! alive munged; }

stop() {
    if [[ -e $CONF ]] && (start); then  # the jobs of a killed Slurm live on, and end only by a Slurm
        scancel --user root && within empty || true
    fi
    for name in slurmd slurmctld munged; do
        ! alive "$name" || pkill --pidfile "$RUN/$name.pid" --exact "$name"
    done
    within gone || fail "the daemons did not stop within $WAIT s"
    [[ ! -e $CONF ]] || rm "$CONF"
    rm -rf "$RUN" "$LIB" "$LOG"
}

((EUID == 0)) || fail "needs root"
for name in munged slurmctld slurmd sbatch; do
    command -v "$name" >/dev/null || fail "needs $name of the Debian packages slurm-wlm and munge"
done
! taken || fail "$CONF belongs to another Slurm"
case ${1-} in
start | stop) "$1" ;;
status) ready ;;
*) fail "start, status or stop?" ;;
esac
