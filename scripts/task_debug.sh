#!/usr/bin/env bash
#TASK description="Prints what a script gets when it is run" group="agent" effect="read"
#TASK output.ARGUMENT_COUNT="How many arguments it got"
#USAGE unknown_flags "value"
#USAGE arg "[args]…" help="Any; they are printed one by one"
# Prints what a script gets when it is run: arguments, environment, working folder, umask, limits,
# open descriptors and signals.
#
# Arguments: any; they are printed one by one. --help as the only one shows the help.
# Changes nothing. A run that is reproduced by hand with the same arguments, environment and working
# folder prints the same text: no time, process number or host load is in it, and of what lies in the
# task's scratch folder it says only that it is there.
# Output parameters: ARGUMENT_COUNT.
# Exit codes: 0 printed, 1 /proc could not be read.
set -euo pipefail

usage() {
    cat <<'HELP'
Usage: task_debug.sh [ARGUMENT]...

Prints what a script gets: its arguments one by one, its environment sorted by
name, its working folder, umask, limits, open descriptors and signal state.
Values are quoted as a shell would read them. The text holds nothing that
differs between two runs with the same arguments, environment and folder; of
TMPDIR, TASK_OUTPUT and secret files it says only whether they can be used.
_, OLDPWD, PWD and SHLVL are left out, because each shell in between sets them.
HELP
}

die() {
    printf 'task_debug.sh: %s\n' "$1" >&2
    exit 1
}

arguments() {
    local number=0 argument
    printf 'arguments: %d\n' "$#"
    for argument in "$@"; do
        number=$((number + 1))
        printf '  %d: %s\n' "$number" "${argument@Q}"
    done
}

# A path in scratch differs from run to run, so it is judged and not shown.
place() {
    if [[ $1 == write && -w $2 ]]; then
        printf '(set, writable)'
    elif [[ $1 == read && -r $2 ]]; then
        printf '(set, readable)'
    else
        printf '(set, but cannot be used: no %s permission, or not there)' "$1"
    fi
}

# The kernel's copy of what was handed over, not the shell's own, which has more in it by now.
environment() {
    local entry key value
    printf 'environment:\n'
    while IFS= read -r -d '' entry; do
        key=${entry%%=*} value=${entry#*=}
        case $key in
            _ | OLDPWD | PWD | SHLVL) continue ;;
            TMPDIR) value=$(place write "$value") ;;
            # It need not exist before the first parameter is written: its folder decides.
            TASK_OUTPUT)
                if [[ -e $value ]]; then
                    value=$(place write "$value")
                else
                    value=$(place write "$(dirname -- "$value")")
                fi
                ;;
            usage_*_file)
                if [[ $value == /* ]]; then value=$(place read "$value"); else value=${value@Q}; fi
                ;;
            *) value=${value@Q} ;;
        esac
        printf '  %s=%s\n' "$key" "$value"
    done < <(LC_ALL=C sort --zero-terminated <"/proc/$$/environ")
}

# Numbers only: what stands behind 0, 1 and 2 is another thing in a task than at a terminal.
descriptors() {
    local path number
    local -a numbers=()
    for path in "/proc/$$/fd"/*; do
        number=${path##*/}
        # The listing's own descriptor is closed by now; and bash keeps the script itself open.
        if [[ -L $path && ! $path -ef ${BASH_SOURCE[0]} ]]; then
            numbers+=("$number")
        fi
    done
    printf 'open descriptors: %s\n' "$(printf '%s\n' "${numbers[@]}" | sort -n | paste -s -d ' ')"
}

# The signals of a mask of /proc/PID/status by name.
signal_names() {
    local mask=$((16#$1)) number name
    local -a names=()
    for ((number = 1; number <= 64; number++)); do
        if ((mask >> (number - 1) & 1)); then
            name=$(kill -l "$number")
            names+=("${name:-$number}")
        fi
    done
    printf '%s' "${names[*]:-none}"
}

# Read by a child: bash ignores QUIT for itself and gives its children what it was started with.
signals() {
    local key value
    while read -r key value; do
        case $key in
            SigBlk:) printf 'blocked signals: %s\n' "$(signal_names "$value")" ;;
            SigIgn:) printf 'ignored signals: %s\n' "$(signal_names "$value")" ;;
        esac
    done <<<"$(cat /proc/self/status)"
}

if (($# == 1)) && [[ $1 == --help ]]; then
    usage
    exit 0
fi
[[ -r /proc/$$/environ ]] || die "cannot read /proc/$$/environ: /proc must be mounted and readable"

arguments "$@"
environment
printf 'working folder: %s\n' "$(pwd -P)"
printf 'umask: %s\n' "$(umask)"
printf 'limits:\n'
sed 's/^/  /; s/ *$//' "/proc/$$/limits"
descriptors
signals

[[ -z ${TASK_OUTPUT:-} ]] || printf 'ARGUMENT_COUNT=%d\n' "$#" >>"$TASK_OUTPUT"
