#!/usr/bin/env bash
#TASK description="Shows, and with --apply deletes or compresses, old log files" group="files" effect="read"
#TASK type.days="int" min.days=1 max.days=36500 pattern.pattern="[^/]+" type.folder="path"
#TASK output.FILES="How many files" output.BYTES="Their size before" output.APPLIED="true or false"
#USAGE flag "--days <n>" help="Age in days since the last write" default="30"
#USAGE flag "--action <action>" help="What to do with them" default="delete" { choices "delete" "compress" }
#USAGE flag "--pattern <glob>" help="Names to take instead of *.log, *.log.* and *.log-*"
#USAGE flag "--apply" help="Do it; without this flag nothing is changed" effect="destructive"
#USAGE arg "<folder>" help="Where to look, with all folders below"
# Deletes or compresses log files that were last written long ago. Shows only what it would do until
# --apply is given.
#
# Arguments:
#   --days N           age in days since the last write, 1 or more (default 30)
#   --action ACTION    delete or compress (with gzip, default delete)
#   --pattern GLOB     names to take instead of *.log, *.log.* and *.log-*
#   --apply            do it; without this flag nothing is changed
#   FOLDER             where to look, with all folders below
# Regular files only: no link is followed, no other file system entered. System folders are refused.
# Output parameters: FILES, BYTES (of these files, before compression), APPLIED (true, false).
# Exit codes: 0 done, or shown, 1 some files could not be read or changed, 2 wrong use or refused.
set -euo pipefail

days=30
action=delete
pattern=
apply=0

usage() {
    cat <<HELP
Usage: log_cleanup.sh [OPTION]... FOLDER

Lists the log files below FOLDER that were last written more than N days ago;
with --apply it deletes or compresses them. System folders are refused.

  --days N         age in days, 1 to 36500 (default $days)
  --action ACTION  delete or compress (default $action)
  --pattern GLOB   names to take instead of *.log, *.log.* and *.log-*
  --apply          do it; without this flag nothing is changed
HELP
}

die() {
    printf 'log_cleanup.sh: %s\n' "$1" >&2
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

# Goes into the folder, if it may be cleaned. From here on names count from there, so that nobody
# can put a link in the place of the folder that was checked.
enter() {
    local real system
    [[ -d $folder ]] || die "no folder ${folder@Q}: FOLDER must be a folder"
    real=$(realpath --canonicalize-existing -- "$folder")
    [[ $(realpath --no-symlinks --canonicalize-existing -- "$folder") == "$real" ]] ||
        die "there is a link in ${folder@Q}: name the folder itself, ${real@Q}"
    # Refused with everything below them.
    for system in /bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /run /sbin /sys /usr; do
        [[ $real/ != "$system"/* ]] || die "refused: ${real@Q} belongs to the system folder $system"
    done
    # Refused themselves, under whatever name: too much lies below them.
    for system in / /home /media /mnt /opt /root /srv /tmp /var /var/cache /var/lib /var/spool /var/tmp; do
        [[ ! $real -ef $system ]] || die "refused: ${real@Q} is too much; name the one folder below it that holds the logs"
    done
    cd -P -- "$folder"
    [[ $(pwd -P) == "$real" ]] || die "${folder@Q} was replaced while it was checked: try again"
}

# Prints for each file, ended by NUL: what became of it, a blank, its size, a blank, its name.
handle() {
    local -a test=(-xdev -type f -mmin "+$((days * 1440))") names=('(' -name '*.log' -o -name '*.log.*' -o -name '*.log-*' ')')
    [[ -z $pattern ]] || names=(-name "$pattern")
    # A file with a second name would keep its place on the disk, and gzip refuses it.
    [[ $action != compress ]] || test+=(-links 1 ! -name '*.gz' ! -name '*.xz' ! -name '*.zst' ! -name '*.bz2')
    local -a deed=(-printf 'would %s %p\0')
    if ((apply)) && [[ $action == compress ]]; then
        deed=('(' -execdir gzip --no-name -- '{}' ';' -printf 'done %s %p\0' -o -printf 'failed %s %p\0' ')')
    elif ((apply)); then
        deed=('(' -delete -printf 'done %s %p\0' -o -printf 'failed %s %p\0' ')')
    fi
    find -P . "${test[@]}" "${names[@]}" "${deed[@]}"
}

operands=()
while (($#)); do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --days | --days=*)
            take "$@"
            days=$(whole --days "$value" 1 36500)
            shift "$took"
            ;;
        --action | --action=*)
            take "$@"
            [[ $value == delete || $value == compress ]] || die "--action takes delete or compress, not ${value@Q}"
            action=$value
            shift "$took"
            ;;
        --pattern | --pattern=*)
            take "$@"
            [[ -n $value && $value != */* ]] || die "--pattern takes a file name pattern such as 'app-*.log', not ${value@Q}"
            pattern=$value
            shift "$took"
            ;;
        --apply)
            apply=1
            shift
            ;;
        --)
            shift
            operands+=("$@")
            break
            ;;
        -*) die "unknown flag ${1@Q}: see --help; a folder that begins with - goes behind --" ;;
        *)
            operands+=("$1")
            shift
            ;;
    esac
done
((${#operands[@]} == 1)) || die "exactly one FOLDER is needed, not ${#operands[@]}: see --help"
folder=${operands[0]}
for program in find gzip; do
    command -v "$program" >/dev/null || die "$program is needed and not on PATH: install it"
done
enter

files=0 bytes=0 failed=0
while IFS= read -r -d '' line; do
    state=${line%% *} line=${line#* }
    size=${line%% *} name=${line#* }
    if [[ $state == failed ]]; then
        failed=$((failed + 1))
        printf 'log_cleanup.sh: could not %s %s\n' "$action" "${name@Q}" >&2
        continue
    fi
    files=$((files + 1)) bytes=$((bytes + size))
    printf '%s: %s %s (%d bytes)\n' "$state" "$action" "${name@Q}" "$size"
done < <(handle)
wait "$!" || failed=$((failed + 1))

put FILES "$files"
put BYTES "$bytes"
if ((apply)); then
    put APPLIED true
    printf 'in all %d files, %d bytes\n' "$files" "$bytes"
else
    put APPLIED false
    printf 'in all %d files, %d bytes; nothing was changed: --apply does it\n' "$files" "$bytes"
fi
((failed == 0)) || die "not everything below ${folder@Q} could be read or changed" 1
