#!/usr/bin/env bash
#TASK description="Waits until a TCP port is open, or closed" group="network" effect="read"
#TASK type.timeout="int" min.timeout=0 max.timeout=86400 type.interval="int" min.interval=1 max.interval=3600
#TASK type.port="int" min.port=1 max.port=65535
#TASK output.PORT_STATE="open, closed, or unknown for a name that was not resolved"
#TASK output.ATTEMPTS="How often it tried"
#USAGE flag "--state <state>" help="What to wait for" default="open" { choices "open" "closed" }
#USAGE flag "--timeout <seconds>" help="How long to wait in all; 0 tries once" default="30"
#USAGE flag "--interval <seconds>" help="Pause between tries" default="1"
#USAGE arg "<host>" help="Name or address"
#USAGE arg "<port>" help="Its number"
# Waits until a TCP port accepts connections, or until it no longer does.
#
# Arguments:
#   --state open|closed  what to wait for (default open)
#   --timeout SECONDS    how long to wait in all; 0 tries once (default 30)
#   --interval SECONDS   pause between tries (default 1)
#   HOST                 name or address
#   PORT                 1 to 65535
# Connects and closes at once; sends nothing.
# Output parameters: PORT_STATE (open, closed, unknown for a name that was not resolved), ATTEMPTS.
# Exit codes: 0 it is so, 1 it was not in time, 2 wrong use, nothing was tried.
set -euo pipefail
export LC_ALL=C

wanted=open
limit=30
interval=1

usage() {
    cat <<HELP
Usage: port_check.sh [OPTION]... HOST PORT

Waits until TCP port PORT of HOST is open, or closed, and ends with 0 then.

  --state open|closed  what to wait for (default $wanted)
  --timeout SECONDS    how long to wait in all, 0 to 86400; 0 tries once (default $limit)
  --interval SECONDS   pause between tries, 1 to 3600 (default $interval)
HELP
}

die() {
    printf 'port_check.sh: %s\n' "$1" >&2
    exit 2
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

# One connection. Sets state, and reason in the system's words. Nobody waits for an answer longer
# than 5 s, or than what is left.
try() {
    local left=$(((deadline - $(now) + 99) / 100)) answer code=0
    ((left >= 1)) || left=1
    ((left <= 5)) || left=5
    # A shell of its own: only so can a connection that is not answered be given up.
    # shellcheck disable=SC2016  # that shell expands them
    answer=$(timeout --foreground "$left" bash -c 'exec 3<>"/dev/tcp/$1/$2"' port_check "$host" "$port" 2>&1) || code=$?
    case $code in
        0) state=open reason='accepts connections' ;;
        124) state=closed reason="no answer within $left s" ;;
        *)
            state=closed reason=${answer##*: }
            # bash has no answer for a name that it cannot resolve but this; that says nothing of the port.
            if [[ $answer == *'/dev/tcp/'*': Invalid argument'* ]]; then
                state=unknown reason='the name cannot be resolved'
            elif [[ $answer == *'/dev/tcp/'*': No such file or directory'* ]]; then
                die 'this bash was built without /dev/tcp: use another bash'
            fi
            ;;
    esac
}

operands=()
while (($#)); do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --state | --state=*)
            take "$@"
            [[ $value == open || $value == closed ]] || die "--state takes open or closed, not ${value@Q}"
            wanted=$value
            shift "$took"
            ;;
        --timeout | --timeout=*)
            take "$@"
            limit=$(whole --timeout "$value" 0 86400)
            shift "$took"
            ;;
        --interval | --interval=*)
            take "$@"
            interval=$(whole --interval "$value" 1 3600)
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
((${#operands[@]} == 2)) || die "HOST and PORT are needed: see --help"
host=${operands[0]}
[[ $host =~ ^[A-Za-z0-9:]([A-Za-z0-9._:-]{0,252})$ ]] ||
    die "not a host name or address: ${host@Q}; letters, digits, dots, hyphens, colons, without brackets"
port=$(whole PORT "${operands[1]}" 1 65535)

start=$(now)
deadline=$((start + limit * 100))
attempt=0
verdict=1
while :; do
    attempt=$((attempt + 1))
    try
    if [[ $state == "$wanted" ]]; then
        verdict=0
        break
    fi
    printf 'attempt %d: %s port %d: %s\n' "$attempt" "$host" "$port" "$reason"
    left=$(((deadline - $(now) + 99) / 100))
    ((left > 0)) || break
    sleep "$((interval < left ? interval : left))"
done
put PORT_STATE "$state"
put ATTEMPTS "$attempt"
if ((verdict)); then
    printf 'port_check.sh: %s port %d was not %s within %d s: %s\n' "$host" "$port" "$wanted" "$limit" "$reason" >&2
else
    printf '%s port %d is %s (attempt %d)\n' "$host" "$port" "$wanted" "$attempt"
fi
exit "$verdict"
