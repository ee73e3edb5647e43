#!/usr/bin/env bash
#TASK description="Says what this host is" group="host" effect="read"
#TASK output.HOST="Its name" output.KERNEL="Its kernel" output.ARCHITECTURE="Its architecture"
#TASK output.DISTRIBUTION="Its distribution" output.CPUS="Processors that may be used"
#TASK output.MEMORY_KIB="Its memory" output.UPTIME_S="Seconds since it started"
#USAGE about "Says what this host is"
# Says what this host is: name, kernel, distribution, CPU, memory, load, uptime, file systems.
#
# Arguments: none (--help shows the help).
# Changes nothing.
# Output parameters: HOST, KERNEL, ARCHITECTURE, DISTRIBUTION, CPUS, MEMORY_KIB, UPTIME_S.
# Exit codes: 0 said, 1 the host could not be read, 2 wrong use, nothing was done.
set -euo pipefail

usage() {
    cat <<'HELP'
Usage: system_info.sh

Says what this host is: name, kernel, distribution, CPU, memory, load, uptime
and local file systems. Takes no arguments.
HELP
}

die() {
    printf 'system_info.sh: %s\n' "$1" >&2
    exit "${2:-2}"
}

# Adds an output parameter to the task's result; by hand, without TASK_OUTPUT, there is none.
put() {
    [[ -z ${TASK_OUTPUT:-} ]] || printf '%s=%s\n' "$1" "$2" >>"$TASK_OUTPUT"
}

show() {
    printf '%-13s %s\n' "$1" "$2"
}

# The name that the distribution gives itself. The file is read, not sourced: it is data.
distribution() {
    local file line name=
    for file in /etc/os-release /usr/lib/os-release; do
        [[ -r $file ]] || continue
        while IFS= read -r line || [[ -n $line ]]; do
            [[ $line != PRETTY_NAME=* ]] || name=${line#PRETTY_NAME=}
        done <"$file"
        break
    done
    name=${name#[\"\']}
    name=${name%[\"\']}
    printf '%s' "${name:-unknown}"
}

# Not every architecture states a model; then the architecture is all that is known.
cpu_model() {
    local key value
    while IFS=: read -r key value; do
        if [[ $key == "model name"* ]]; then
            printf '%s' "${value# }"
            return
        fi
    done </proc/cpuinfo
    uname -m
}

# One figure of /proc/meminfo in KiB, 0 where the kernel does not state it.
memory_kib() {
    local key value rest
    while read -r key value rest; do
        if [[ $key == "$1:" ]]; then
            printf '%s' "$value"
            return
        fi
    done </proc/meminfo
    printf '0'
}

for argument in "$@"; do
    case $argument in
        --help)
            usage
            exit 0
            ;;
        *) die "unexpected argument ${argument@Q}: it takes none, see --help" ;;
    esac
done
for file in /proc/cpuinfo /proc/meminfo /proc/loadavg /proc/uptime; do
    [[ -r $file ]] || die "cannot read $file: /proc must be mounted and readable" 1
done

host=$(uname -n)
kernel=$(uname -r)
architecture=$(uname -m)
name=$(distribution)
cpus=$(nproc)
total=$(memory_kib MemTotal)
available=$(memory_kib MemAvailable)
swap_total=$(memory_kib SwapTotal)
swap_free=$(memory_kib SwapFree)
read -r load1 load5 load15 _ </proc/loadavg
read -r up _ </proc/uptime
up=${up%.*}

show host "$host"
show kernel "$(uname -s) $kernel $architecture"
show distribution "$name"
show cpu "$cpus x $(cpu_model)"
show memory "$((total / 1024)) MiB, $((available / 1024)) MiB available"
show swap "$((swap_total / 1024)) MiB, $((swap_free / 1024)) MiB free"
show load "$load1 $load5 $load15 (1, 5, 15 minutes)"
show up "$(printf '%d days %02d:%02d' $((up / 86400)) $((up % 86400 / 3600)) $((up % 3600 / 60)))"

printf '\nlocal file systems\n'
# The limit is for a dead mount, on which df would hang for ever.
if ! timeout --foreground 20 df --local --human-readable --print-type -x devtmpfs -x squashfs; then
    printf 'system_info.sh: df could not read every file system\n' >&2
fi

put HOST "$host"
put KERNEL "$kernel"
put ARCHITECTURE "$architecture"
put DISTRIBUTION "$name"
put CPUS "$cpus"
put MEMORY_KIB "$total"
put UPTIME_S "$up"
