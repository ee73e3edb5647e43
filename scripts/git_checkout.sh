#!/usr/bin/env bash
#TASK description="Brings a git repository at a ref into the working folder" group="files" effect="write"
#TASK type.depth="int" min.depth=0 max.depth=1000000
#TASK output.COMMIT="What was checked out" output.REF="The ref that was asked for" output.PATH_="The folder"
#USAGE flag "--ref <ref>" help="Branch, tag or full commit" default="HEAD"
#USAGE flag "--dest <name>" help="Folder below the working folder; the URL's last part where nothing is said"
#USAGE flag "--depth <n>" help="Only the last N commits; 0 is all of them" default="0"
#USAGE flag "--clean" help="Remove files that are not in the repository, ignored ones too" effect="destructive"
#USAGE arg "<url>" help="https://, ssh://, git:// or file://"
# Brings a git repository at a ref into the working folder: clones it there, or updates it.
#
# Arguments:
#   --ref REF    branch, tag or full commit (default HEAD, the repository's default branch)
#   --dest NAME  folder below the working folder (default: the URL's last part without .git)
#   --depth N    only the last N commits of history; 0 is all of it (default 0)
#   --clean      remove files that are not in the repository, ignored ones too
#   URL          https://, ssh://, git:// or file://
# Changed files of an earlier checkout are overwritten, its configuration and hooks are removed: nothing
# that lies in the folder is executed. Nothing is asked for: credentials come from git's own
# configuration, an ssh agent or key. Submodules are left out.
# Output parameters: COMMIT, REF, PATH_ (the folder's absolute path).
# Exit codes: 0 checked out, 1 git failed, 2 wrong use or refused, nothing was changed.
set -euo pipefail
export LC_ALL=C

ref=HEAD
dest=
depth=0
clean=0

usage() {
    cat <<HELP
Usage: git_checkout.sh [OPTION]... URL

Clones the repository at URL (https://, ssh://, git:// or file://) into the
working folder, or updates the checkout that is there, and prints the commit.

  --ref REF    branch, tag or full commit (default $ref, the default branch)
  --dest NAME  folder below the working folder (default: the URL's last part)
  --depth N    only the last N commits; 0 is all of them (default $depth)
  --clean      remove files that are not in the repository, ignored ones too
HELP
}

die() {
    printf 'git_checkout.sh: %s\n' "$1" >&2
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

# Allows plain addresses of four kinds. Others, `ext::` above all, can name a command to run.
check_url() {
    local host='(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?'
    local user='([A-Za-z0-9_][A-Za-z0-9._-]*@)?' path='/[^[:space:][:cntrl:]]+'
    # A token can stand in the place of the user too; only for ssh is that a plain name.
    [[ ! $url =~ ^(https|git)://[^/]*@ && ! $url =~ ^ssh://[^/]*:[^/@]*@ ]] ||
        die 'the URL holds a user or password: leave it out and use a credential helper or an ssh key'
    [[ $url =~ ^(https|git)://$host$path$ || $url =~ ^ssh://$user$host$path$ || $url =~ ^file://$path$ ]] ||
        die "not a URL that is allowed: ${url@Q}; use https://host/path, ssh://user@host/path, git://host/path or file:///path"
}

check_ref() {
    if [[ ! $ref =~ ^[A-Za-z0-9_][A-Za-z0-9._/@-]*$ ]] || ! git check-ref-format --allow-onelevel "$ref"; then
        die "not a ref: ${ref@Q}; use a branch, a tag or a full commit, as in main or v1.2 or refs/heads/main"
    fi
}

# The folder must be a plain name below the working folder, with no link on the way to it.
check_dest() {
    local segment='[A-Za-z0-9_][A-Za-z0-9._-]*' way=. part
    if [[ -z $dest ]]; then
        dest=${url%/}
        dest=${dest##*/}
        dest=${dest%.git}
    fi
    [[ $dest =~ ^$segment(/$segment)*$ ]] ||
        die "not a folder below the working folder: ${dest@Q}; give --dest NAME of letters, digits, . _ - and /"
    local -a parts
    IFS=/ read -r -a parts <<<"$dest"
    for part in "${parts[@]}"; do
        way=$way/$part
        [[ ! -L $way ]] || die "$way is a link: give a --dest that is none"
        [[ ! -e $way || -d $way ]] || die "$way is not a folder: give another --dest"
    done
    dest=$(pwd -P)/$dest
}

# Makes the folder, and keeps others that run this script out of it until the end.
lock_dest() {
    mkdir -p -- "$dest" || die "$dest could not be made" 1
    exec {lock}<"$dest"
    # One that failed may have removed the folder in between.
    if ! flock --nonblock "$lock" || [[ ! $dest -ef /proc/self/fd/$lock ]]; then
        die "another checkout into $dest is running: try again when it has ended" 1
    fi
}

# Whether there is a checkout of this URL already; refuses folders that hold anything else.
is_checkout() {
    local known
    [[ -n $(ls -A -- "$dest") ]] || return 1
    [[ -d $dest/.git && ! -L $dest/.git && -f $dest/.git/config && ! -L $dest/.git/config ]] ||
        die "$dest holds something else than a checkout: empty it or give another --dest"
    [[ -O $dest/.git && -O $dest/.git/config ]] || die "$dest/.git belongs to another user: give another --dest"
    # With this file git would take its configuration from elsewhere.
    [[ ! -e $dest/.git/commondir && ! -L $dest/.git/commondir ]] ||
        die "$dest is a worktree of another repository: give another --dest"
    known=$(git config --file "$dest/.git/config" --no-includes --get remote.origin.url) || known=
    [[ $known == "$url" ]] || die "$dest is a checkout of $(shown "$known"), not of $url: give another --dest"
}

# Prints somebody else's URL without what may be a user and password.
shown() {
    if [[ $1 =~ ^([A-Za-z0-9+.-]*://)?[^/]*@(.*)$ ]]; then
        printf '%s' "${BASH_REMATCH[1]}${BASH_REMATCH[2]}"
    else
        printf '%s' "${1:-an unknown repository}"
    fi
}

# git on this checkout only, with everything off that could run a command or leave one running.
repository() {
    git --git-dir="$dest/.git" --work-tree="$dest" \
        -c core.hooksPath=/dev/null -c core.fsmonitor=false -c submodule.recurse=false \
        -c gc.autoDetach=false -c maintenance.autoDetach=false -c advice.detachedHead=false "$@"
}

# Makes the repository's own files anew, so that no configuration or hook in the folder takes effect. Locks are what a
# killed git left, which would make every later one fail: while ours is held nobody else is at work.
prepare() {
    rm -f -- "$dest/.git"/*.lock
    rm -rf -- "$dest/.git/config" "$dest/.git/config.worktree" "$dest/.git/hooks"
    git -c init.defaultBranch=main init --quiet --template= -- "$dest" || die "git could not make $dest" 1
    repository config remote.origin.url "$url" || die "git could not write $dest/.git/config" 1
}

bring() {
    local -a fetch=(--quiet --no-tags --force --no-recurse-submodules)
    if ((depth > 0)); then
        fetch+=(--depth "$depth")
    elif [[ -e $dest/.git/shallow ]]; then
        fetch+=(--unshallow)
    fi
    # Without the lock: a connection or credentials that are kept for later must not hold it.
    (exec {lock}<&- && repository fetch "${fetch[@]}" -- "$url" "$ref") || die "git could not fetch $ref from $url" 1
    commit=$(repository rev-parse --verify --quiet 'FETCH_HEAD^{commit}') || die "$ref of $url is no commit" 1
    repository checkout --quiet --force --detach "$commit" -- || die "git could not check out $commit" 1
    if ((clean)); then
        repository clean --quiet -d -x --force --force || die "git could not clean $dest" 1
    fi
}

operands=()
while (($#)); do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --ref | --ref=*)
            take "$@"
            ref=$value
            shift "$took"
            ;;
        --dest | --dest=*)
            take "$@"
            [[ -n $value ]] || die '--dest must not be empty: give a folder name'
            dest=$value
            shift "$took"
            ;;
        --depth | --depth=*)
            take "$@"
            depth=$(whole --depth "$value" 0 1000000)
            shift "$took"
            ;;
        --clean)
            clean=1
            shift
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
((${#operands[@]} == 1)) || die "exactly one URL is needed, not ${#operands[@]}: see --help"
url=${operands[0]}
for program in git flock; do
    command -v "$program" >/dev/null || die "$program is needed and not on PATH: install it"
done

# Variables of a surrounding git command would point git at another repository.
mapfile -t inherited < <(git rev-parse --local-env-vars)
unset "${inherited[@]}"
export GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=true SSH_ASKPASS_REQUIRE=never
export GIT_SSH_COMMAND='ssh -oBatchMode=yes' GIT_ALLOW_PROTOCOL=https:ssh:git:file

check_url
check_ref
check_dest

made=
trap '[[ -z $made ]] || rm -rf -- "$made"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
lock_dest
if ! is_checkout; then
    made=$dest # A first checkout that could not be completed is removed again.
fi
prepare
bring
made=

printf '%s is at %s of %s\n' "$dest" "$ref" "$url"
repository log -1 --no-show-signature --format='commit %H%nauthor %an%ndate   %cI%n%n    %s'
put COMMIT "$commit"
put REF "$ref"
put PATH_ "$dest"
