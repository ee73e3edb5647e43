#!/usr/bin/env bash
#TASK description="Restarts a systemd unit and waits until it is well" group="host" effect="write"
#TASK type.timeout="int" min.timeout=1 max.timeout=3600 type.settle="int" min.settle=0 max.settle=600
#TASK type.lines="int" min.lines=0 max.lines=10000
#TASK output.UNIT="The unit" output.ACTIVE_STATE="Its state in the end"
#USAGE flag "--timeout <seconds>" help="Limit for the restart in all" default="60"
#USAGE flag "--settle <seconds>" help="How long the unit must stay active" default="3"
#USAGE flag "--lines <n>" help="Journal lines to print when it fails" default="50"
#USAGE arg "<unit>" help="A service, socket, timer or path unit; .service may be left out"
# Restarts a systemd unit and waits until it is active and stays so.
#
# Arguments:
#   --timeout SECONDS  limit for the restart in all (default 60)
#   --settle SECONDS   how long the unit must stay active (default 3)
#   --lines N          journal lines to print when it fails (default 50)
#   UNIT               a service, socket, timer or path unit; .service may be left out
# Output parameters: UNIT, ACTIVE_STATE.
# Exit codes: 0 active, 1 not, 2 wrong use or no such unit, nothing was restarted.
set -euo pipefail
export LC_ALL=C

limit=60
settle=3
lines=50

usage() {
    cat <<HELP
Usage: service_restart.sh [OPTION]... UNIT

Restarts a systemd unit (service, socket, timer or path; .service may be left
out), waits until it is active, and prints its last journal lines when it fails.

  --timeout SECONDS  limit for the restart in all, 1 to 3600 (default $limit)
  --settle SECONDS   how long it must stay active, 0 to 600 (default $settle)
  --lines N          journal lines to print, 0 to 10000 (default $lines)
HELP
}

die() {
    printf 'service_restart.sh: %s\n' "$1" >&2
    exit "${2:-2}"
}

# Adds an output parameter to the task's result; by hand, without TASK_OUTPUT, there is none.
put() {
    [[ -z ${TASK_OUTPUT:-} ]] || printf '%s=%s\n' "$1" "$2" >>"$TASK_OUTPUT"
}

# The value of a flag, from `--flag=value` or `--flag value`, and how many words that took.
take() {
    if [[ $1 == *=* ]]; then
        value=${1#*=} took=1
    elif (($# >= 2)); then
        value=$2 took=2
    else
        die "$1 needs a value: $1 VALUE"
    fi
}

# Prints a whole number between two bounds, without leading zeros, which a shell reads as octal.
whole() {
    if [[ ! $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        die "$1 takes a whole number from $3 to $4, not ${2@Q}"
    fi
    printf '%d' "$((10#$2))"
}

# Hundredths of a second since the host started: a clock that nobody sets.
now() {
    local up
    read -r up _ </proc/uptime
    printf '%d' "$((10#${up/./}))"
}

# Ends the script when a unit takes the host or the service manager down, or opens a shell to whoever sits in front.
refuse_fatal() {
    case $1 in
        systemd-reboot.service | systemd-soft-reboot.service | systemd-poweroff.service | systemd-halt.service | \
            systemd-kexec.service | systemd-exit.service | systemd-suspend.service | systemd-hibernate.service | \
            systemd-hybrid-sleep.service | systemd-suspend-then-hibernate.service | system-update-cleanup.service | \
            rescue.service | emergency.service | debug-shell.service)
            die "refused: $unit takes the host down or opens it"
            ;;
    esac
}

# A unit is what systemd calls it, whatever alias it was given; and its own settings may take the host down.
check_loaded() {
    local action does
    refuse_fatal "$(property Id)"
    for action in SuccessAction FailureAction StartLimitAction JobTimeoutAction; do
        does=$(property "$action")
        [[ ${does:-none} == none ]] || die "refused: $unit has $action=$does, which takes the host down"
    done
}

# A name without patterns, of a kind that can be restarted without taking the host down.
check_unit() {
    [[ $unit =~ ^[A-Za-z0-9_][A-Za-z0-9:_.@\\-]{0,245}$ ]] ||
        die "not a unit name: ${unit@Q}; letters, digits and : _ . @ \\ - only, as in nginx.service"
    case $unit in
        *.service | *.socket | *.timer | *.path) ;;
        *.target | *.slice | *.scope | *.mount | *.automount | *.swap | *.device)
            die "refused: $unit is no service, socket, timer or path unit"
            ;;
        *) unit=$unit.service ;;
    esac
    refuse_fatal "$unit"
}

# One property of the unit as systemd states it.
property() {
    systemctl show --property="$1" --value -- "$unit"
}

fail() {
    printf 'service_restart.sh: %s\n' "$1" >&2
    put UNIT "$unit"
    put ACTIVE_STATE "$(property ActiveState || true)"
    if ((lines > 0)); then
        if command -v journalctl >/dev/null; then
            printf '\nlast journal lines of %s\n' "$unit"
            journalctl --no-pager --output=short-iso --lines="$lines" --unit="$unit" || true
        else
            printf 'service_restart.sh: journalctl is not on PATH, so no journal lines are shown\n' >&2
        fi
    fi
    exit 1
}

# Ends when the unit is active, or was a one-shot that is through with its work.
wait_until_active() {
    local state
    while :; do
        state=$(property ActiveState) || fail 'systemctl could not be asked for the state'
        case $state in
            active) return ;;
            failed) fail "$unit failed" ;;
            inactive)
                [[ $(property Type) != oneshot || $(property Result) != success ]] || return 0
                fail "$unit stopped again"
                ;;
        esac
        (($(now) < deadline)) || fail "$unit was still ${state:-in no state} after $limit s"
        sleep 1
    done
}

# A service that crashes soon after its start, or is started anew by systemd, is not well.
stays_active() {
    local first until
    first=$(property InvocationID)
    until=$(($(now) + settle * 100))
    while (($(now) < until)); do
        sleep 1
        [[ $(property ActiveState) == active ]] || fail "$unit did not stay active for $settle s"
        [[ $(property InvocationID) == "$first" ]] || fail "$unit ended and was started anew within $settle s"
    done
}

operands=()
while (($#)); do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --timeout | --timeout=*)
            take "$@"
            limit=$(whole --timeout "$value" 1 3600)
            shift "$took"
            ;;
        --settle | --settle=*)
            take "$@"
            settle=$(whole --settle "$value" 0 600)
            shift "$took"
            ;;
        --lines | --lines=*)
            take "$@"
            lines=$(whole --lines "$value" 0 10000)
            shift "$took"
            ;;
        --)
            shift
            operands+=("$@")
            break
            ;;
        -*) die "unknown flag ${1@Q}: see --help" ;;
        *)
            operands+=("$1")
            shift
            ;;
    esac
done
((${#operands[@]} == 1)) || die "exactly one UNIT is needed, not ${#operands[@]}: see --help"
unit=${operands[0]}
check_unit
command -v systemctl >/dev/null || die 'systemctl is needed and not on PATH: this host does not run systemd'
loaded=$(property LoadState) || die 'systemctl could not be asked: is systemd running, and may this user speak to it?'
[[ $loaded == loaded ]] || die "no unit $unit that can be started: systemd says ${loaded:-nothing}"
check_loaded

printf 'restarting %s\n' "$unit"
deadline=$(($(now) + limit * 100))
code=0
timeout --foreground "$limit" systemctl --no-ask-password restart -- "$unit" || code=$?
((code != 124)) || fail "the restart of $unit took longer than $limit s"
((code == 0)) || fail "systemctl could not restart $unit (it ended with $code)"
wait_until_active
state=$(property ActiveState)
if [[ $state == active ]]; then
    stays_active
fi
printf '%s is %s\n' "$unit" "$state"
put UNIT "$unit"
put ACTIVE_STATE "$state"
