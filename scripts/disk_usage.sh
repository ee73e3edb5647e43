#!/usr/bin/env bash
#TASK description="Finds full file systems and big folders" group="host" effect="read"
#TASK type.threshold="int" min.threshold=0 max.threshold=100 type.path="path"
#TASK type.top="int" min.top=1 max.top=1000 type.depth="int" min.depth=1 max.depth=100
#TASK output.WORST_PERCENT="How full the fullest file system is" output.WORST_MOUNT="Where it is mounted"
#TASK output.OVER_COUNT="How many are at or over the threshold" output.PATH_KIB="Size of the path"
#TASK output.BIGGEST_FOLDER="The biggest folder below it" output.BIGGEST_KIB="Its size"
#USAGE flag "--threshold <percent>" help="Space or inodes in use from which one is reported" default="90"
#USAGE flag "--top <n>" help="How many folders to list" default="10"
#USAGE flag "--depth <n>" help="How many levels below the path" default="2"
#USAGE arg "[path]" help="Folder whose biggest folders are listed"
# Finds file systems that are nearly full, and the biggest folders below a path.
#
# Arguments:
#   --threshold PERCENT  space or inodes in use from which a file system is reported (default 90)
#   --top N              how many folders to list (default 10)
#   --depth N            how many levels below PATH to list (default 2)
#   PATH                 folder whose biggest folders are listed; none means no list
# Changes nothing. Local file systems only; the folders are measured without crossing into others.
# Output parameters: WORST_PERCENT, WORST_MOUNT, OVER_COUNT; with PATH also PATH_KIB and
# BIGGEST_FOLDER with BIGGEST_KIB where there is a folder below it.
# Exit codes: 0 all below the threshold, 1 some at or over it or not readable, 2 wrong use.
set -euo pipefail

threshold=90
top=10
depth=2
path=

usage() {
    cat <<HELP
Usage: disk_usage.sh [--threshold PERCENT] [--top N] [--depth N] [PATH]

Lists the local file systems whose space or inodes are in use to PERCENT or
more, and ends with 1 when there is one. With PATH, lists the biggest folders
below it too.

  --threshold PERCENT  0 to 100 (default $threshold)
  --top N              folders to list, 1 to 1000 (default $top)
  --depth N            levels below PATH, 1 to 100 (default $depth)
HELP
}

die() {
    printf 'disk_usage.sh: %s\n' "$1" >&2
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

# Judges each line of df: space in use, inodes in use, mount point.
file_systems() {
    local space inodes mount percent worst=-1 worst_mount='' over=0 line reader
    local -a lines
    # The limit is for a dead mount, on which df would hang for ever. Read-only images are always full.
    mapfile -t lines < <(timeout --foreground 60 df --local --output=pcent,ipcent,target \
        -x devtmpfs -x squashfs -x iso9660 -x erofs)
    reader=0
    wait "$!" || reader=$?
    ((${#lines[@]} > 1)) || die "df listed no file system (it ended with $reader)" 1
    ((reader == 0)) || printf 'disk_usage.sh: df could not read every file system\n' >&2
    for line in "${lines[@]:1}"; do
        read -r space inodes mount <<<"$line"
        percent=${space%\%}
        [[ $percent =~ ^[0-9]+$ ]] || continue
        inodes=${inodes%\%}
        if [[ $inodes =~ ^[0-9]+$ ]] && ((inodes > percent)); then
            percent=$inodes
        fi
        if ((percent > worst)); then
            worst=$percent worst_mount=$mount
        fi
        if ((percent >= threshold)); then
            over=$((over + 1))
            printf '%3d%%  %s (space %s, inodes %s)\n' "$percent" "$mount" "$space" "${inodes}%"
        fi
    done
    ((worst >= 0)) || die 'df stated no percentage for any file system' 1
    printf 'file systems at or over %d%%: %d; the fullest is %s with %d%%\n' \
        "$threshold" "$over" "$worst_mount" "$worst"
    put WORST_PERCENT "$worst"
    put WORST_MOUNT "$worst_mount"
    put OVER_COUNT "$over"
    over_count=$over
}

# Lists the folders below `path` by size. Names may hold anything, so lines end in NUL here.
biggest_folders() {
    local entry kib name first=1
    local -a entries
    # Of equal sizes the shorter name comes first, so that `path` itself always does. sed reads to the
    # end where head would stop and break the pipe.
    mapfile -d '' -t entries < <(du --one-file-system --null --block-size=1K --max-depth="$depth" \
        -- "$path" | LC_ALL=C sort --zero-terminated -k 1,1nr -k 2 | sed --null-data -n "1,$((top + 1))p")
    wait "$!" || printf 'disk_usage.sh: some folders below %s could not be read\n' "${path@Q}" >&2
    printf '\nbiggest folders below %s, in KiB\n' "${path@Q}"
    for entry in "${entries[@]}"; do
        kib=${entry%%$'\t'*} name=${entry#*$'\t'}
        if [[ $name == "$path" ]]; then
            total=$kib
            continue
        fi
        printf '%12d  %s\n' "$kib" "${name@Q}"
        # An output parameter is one line; a name that is not cannot be given as one.
        if ((first)) && [[ $name != *$'\n'* ]]; then
            biggest=$name biggest_kib=$kib
        fi
        first=0
    done
    printf '%12d  in all\n' "$total"
}

operands=()
while (($#)); do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --threshold | --threshold=*)
            take "$@"
            threshold=$(whole --threshold "$value" 0 100)
            shift "$took"
            ;;
        --top | --top=*)
            take "$@"
            top=$(whole --top "$value" 1 1000)
            shift "$took"
            ;;
        --depth | --depth=*)
            take "$@"
            depth=$(whole --depth "$value" 1 100)
            shift "$took"
            ;;
        --)
            shift
            operands+=("$@")
            break
            ;;
        -*) die "unknown flag ${1@Q}: see --help; a path that begins with - goes behind --" ;;
        *)
            operands+=("$1")
            shift
            ;;
    esac
done
((${#operands[@]} <= 1)) || die 'one PATH at most'
path=${operands[0]:-}
[[ ${#operands[@]} == 0 || -d $path ]] || die "no folder ${path@Q}: PATH must be a folder"

file_systems
total='' biggest='' biggest_kib=''
if [[ -n $path ]]; then
    total=0
    biggest_folders
fi
put PATH_KIB "$total"
put BIGGEST_FOLDER "$biggest"
put BIGGEST_KIB "$biggest_kib"
((over_count == 0))
