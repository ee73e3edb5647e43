#!/usr/bin/env bash
#TASK description="Packs a folder into a checked archive and keeps the last ones" group="files" effect="write"
#TASK type.keep="int" min.keep=1 max.keep=10000 type.source="path" type.target="path"
#TASK output.ARCHIVE="Path of the archive" output.SHA256="Its digest" output.BYTES="Its size"
#TASK output.REMOVED="How many older archives were removed"
#USAGE flag "--name <name>" help="Start of the archive's name; the folder's name where nothing is said"
#USAGE flag "--keep <n>" help="How many archives of this name to keep" default="7"
#USAGE flag "--format <format>" help="How to compress" default="gz" { choices "gz" "zst" }
#USAGE arg "<source>" help="Folder to pack"
#USAGE arg "<target>" help="Folder for the archives; made if it is absent"
# Packs a folder into an archive with its SHA-256 beside it, checks it, and keeps the last ones.
#
# Arguments:
#   --name NAME      start of the archive's name (default: the folder's name)
#   --keep N         how many archives of this name to keep, the new one among them (default 7)
#   --format FORMAT  gz or zst (default gz)
#   SOURCE           folder to pack
#   TARGET           folder for the archives; made if it is absent
# The archive NAME-YYYYMMDDTHHMMSS.ffffffZ.tar.FORMAT (UTC) appears whole or not at all, readable by its
# owner only. Older ones are removed only after the new one was read back and checked.
# Output parameters: ARCHIVE (path), SHA256, BYTES, REMOVED (older archives removed).
# Exit codes: 0 done, 1 failed, older archives untouched, 2 wrong use, nothing was done.
set -euo pipefail
export LC_ALL=C
umask 077

name=
keep=7
format=gz

usage() {
    cat <<HELP
Usage: backup_dir.sh [OPTION]... SOURCE TARGET

Packs the folder SOURCE into TARGET/NAME-<time>.tar.gz with a .sha256 file
beside it, reads it back, and removes all but the last N archives of that name.

  --name NAME      start of the archive's name (default: SOURCE's name)
  --keep N         archives to keep, 1 to 10000 (default $keep)
  --format FORMAT  gz or zst (default $format)
HELP
}

die() {
    printf 'backup_dir.sh: %s\n' "$1" >&2
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

# Sets source and target to real paths, and the archive's name.
check_folders() {
    [[ -d $source && ! -L ${source%/} ]] || die "no folder ${source@Q}: SOURCE must be a folder and no link"
    source=$(realpath --canonicalize-existing -- "$source")
    [[ $source != / ]] || die 'SOURCE is /: name the folder to keep'
    [[ -n $name ]] || name=${source##*/}
    [[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9._-]{0,100}$ ]] ||
        die "cannot name archives ${name@Q}: give --name of letters, digits and . _ -"
    target=$(realpath --canonicalize-missing -- "$target")
    [[ $target != *$'\n'* ]] || die "TARGET's path holds a line break: give another TARGET"
    [[ $target/ != "$source"/* ]] || die "TARGET $target is in SOURCE $source: give one outside"
    [[ ! -e $target || -d $target ]] || die "TARGET $target is not a folder: give another"
}

# Whoever else may rename or remove what lies in the target could put another archive in the place of this one. In a
# folder with the sticky bit only owners can.
check_target() {
    local owner mode
    read -r owner mode <<<"$(stat --format='%u %a' -- "$target")"
    [[ $owner == 0 || $owner == "$EUID" ]] || die "TARGET $target belongs to another user: give one of your own"
    if ((8#$mode & 8#022)) && ! ((8#$mode & 8#1000)); then
        die "TARGET $target may be written by others (mode $mode): chmod go-w it, or give another"
    fi
}

# Packs into the file $partial and reads it back: every byte, through the decompressor's checksum.
pack() {
    local code=0 listed
    entries=$(tar --create --verbose --file "$partial" --use-compress-program="$compressor" --numeric-owner \
        --sort=name --directory="${source%/*}/" -- "${source##*/}" | wc -l) || code=$?
    # 1: a file changed while it was read. The archive is whole; the file in it may be a mix.
    if ((code == 1)); then
        printf 'backup_dir.sh: files changed while they were read; their copies may be mixed\n' >&2
    elif ((code > 1)); then
        die "tar could not pack $source (it ended with $code)" 1
    fi
    sync -- "$partial"
    listed=$(tar --list --file "$partial" --use-compress-program="$compressor" | wc -l) ||
        die 'the archive could not be read back: it does not count' 1
    ((listed == entries)) || die "the archive holds $listed entries of $entries: it does not count" 1
}

# The checksum goes first, so that no archive is ever seen without one.
publish() {
    local line
    line=$(sha256sum -- "$partial")
    sha256=${line%% *}
    sha256=${sha256#\\}
    printf '%s  %s\n' "$sha256" "${archive##*/}" >"$partial.sha256"
    sync -- "$partial.sha256"
    mv --no-target-directory -- "$partial.sha256" "$archive.sha256"
    mv --no-target-directory -- "$partial" "$archive"
    sync -- "$target"
}

# Prints this user's other archives of exactly this name, oldest first: their names hold the time.
others() {
    local path
    for path in "$target/$name"-*; do
        if [[ $path != "$archive" && -f $path && ! -L $path && -O $path &&
            ${path##*/} =~ ^"$name"-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.tar\.(gz|zst)$ ]]; then
            printf '%s\n' "$path"
        fi
    done
}

# The new archive is one of those that are kept, whatever time the others have: clocks jump.
remove_old() {
    local -a old
    local path
    mapfile -t old < <(others)
    removed=0
    for path in "${old[@]}"; do
        ((${#old[@]} - removed > keep - 1)) || break
        rm -f -- "$path" "$path.sha256"
        removed=$((removed + 1))
        printf 'removed %s\n' "$path"
    done
}

operands=()
while (($#)); do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --name | --name=*)
            take "$@"
            [[ -n $value ]] || die '--name must not be empty: give the start of a file name'
            name=$value
            shift "$took"
            ;;
        --keep | --keep=*)
            take "$@"
            keep=$(whole --keep "$value" 1 10000)
            shift "$took"
            ;;
        --format | --format=*)
            take "$@"
            [[ $value == gz || $value == zst ]] || die "--format takes gz or zst, not ${value@Q}"
            format=$value
            shift "$took"
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
((${#operands[@]} == 2)) || die "SOURCE and TARGET are needed, not ${#operands[@]} operands: see --help"
source=${operands[0]}
target=${operands[1]}
case $format in
    gz) compressor=gzip ;;
    *) compressor=zstd ;;
esac
for program in tar flock "$compressor"; do
    command -v "$program" >/dev/null || die "$program is needed and not on PATH: install it"
done
check_folders

mkdir -p -- "$target" || die "TARGET $target could not be made" 1
check_target
exec {lock}<"$target"
flock --nonblock "$lock" || die "another backup into $target is running: try again when it has ended" 1
# What a killed run left; nobody else can be at work on it while the lock is held.
for left in "$target/.$name".*.partial; do
    [[ ! -O $left || -L $left ]] || rm -rf -- "$left"
done

archive=$target/$name-$(date -u +%Y%m%dT%H%M%S.%6NZ).tar.$format
work=
trap '[[ -z $work ]] || rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# A folder of our own, made anew: in a target that others may write too, a name could be taken already.
work=$(mktemp -d -- "$target/.$name.XXXXXXXXXX.partial") || die "no folder could be made in TARGET $target" 1
partial=$work/archive

pack
publish
remove_old

bytes=$(stat --format=%s -- "$archive")
printf 'packed %s into %s\n%d entries, %d bytes, sha256 %s\n' "$source" "$archive" "$entries" "$bytes" "$sha256"
put ARCHIVE "$archive"
put SHA256 "$sha256"
put BYTES "$bytes"
put REMOVED "$removed"
