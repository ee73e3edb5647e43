#!/usr/bin/env bash
#TASK description="Asks a URL and checks the answer" group="network" effect="read"
#TASK pattern.status="[1-5]([0-9][0-9]|xx)" type.retries="int" min.retries=0 max.retries=1000
#TASK type.interval="int" min.interval=0 max.interval=3600 type.timeout="int" min.timeout=1 max.timeout=3600
#TASK secret="token"
#TASK output.HTTP_STATUS="Status of the answer, 000 without one" output.ATTEMPTS="How often it asked"
#TASK output.TIME_S="Seconds that the last try took" output_type.ATTEMPTS="int" output_type.TIME_S="number"
#USAGE flag "--status <code>" help="Expected status: three digits, or a class such as 2xx" default="200"
#USAGE flag "--contains <text>" help="Text that the first MiB of the answer must hold"
#USAGE flag "--retries <n>" help="Further tries after a failed one" default="0"
#USAGE flag "--interval <seconds>" help="Wait between tries" default="2"
#USAGE flag "--timeout <seconds>" help="Limit of one try" default="10"
#USAGE flag "--follow" help="Follow redirects, up to 5" conflicts="--token"
#USAGE flag "--token <token>" help="Bearer token, for https:// and this host only"
#USAGE arg "<url>" help="http:// or https://"
# Asks a URL and checks the status, and the text if wanted, of the answer.
#
# Arguments:
#   --status CODE      expected status: three digits, or a class such as 2xx (default 200)
#   --contains TEXT    text that the first MiB of the answer must hold, to the letter
#   --retries N        further tries after a failed one (default 0)
#   --interval SECONDS wait between tries (default 2)
#   --timeout SECONDS  limit of one try (default 10)
#   --follow           follow redirects, up to 5
#   URL                http:// or https://
# A bearer token is read from the file that usage_token_file names, or where `usage bash` runs this from
# usage_token, never from an argument; it is not sent over plain http:// but to this host, and not along redirects.
# Output parameters: HTTP_STATUS (000 without an answer), ATTEMPTS, TIME_S (of the last try).
# Exit codes: 0 as expected, 1 not, 2 wrong use or no curl, nothing was asked.
set -euo pipefail
export LC_ALL=C

expected=200
contains=
retries=0
interval=2
limit=10
follow=0
token=

usage() {
    cat <<HELP
Usage: http_check.sh [OPTION]... URL

Asks URL (http:// or https://) and ends with 0 when the answer is as expected.

  --status CODE      three digits, or a class such as 2xx (default $expected)
  --contains TEXT    text that the first MiB of the answer must hold
  --retries N        further tries after a failed one, 0 to 1000 (default $retries)
  --interval SECONDS wait between tries, 0 to 3600 (default $interval)
  --timeout SECONDS  limit of one try, 1 to 3600 (default $limit)
  --follow           follow redirects, up to 5

With the environment variable usage_token_file the bearer token in that file is
sent; only over https://, or to this host, and not together with --follow. Under
the agent: agent-cli run --secret token=@FILE http_check.sh URL
HELP
}

die() {
    printf 'http_check.sh: %s\n' "$1" >&2
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

# Refuses what is not plainly a web address, so that curl and this script cannot read it differently.
check_url() {
    local rest authority
    [[ $url =~ ^https?://[^[:space:][:cntrl:]\\]+$ ]] ||
        die "not a URL that can be checked: ${url@Q}; it must start with http:// or https:// and hold no blanks"
    rest=${url#*://}
    authority=${rest%%[/?#]*}
    [[ $authority != *@* ]] || die 'the URL holds a user or password: give a token by usage_token_file'
    [[ $authority =~ ^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?$ ]] ||
        die "the URL's host is not a name or address: ${authority@Q}"
    host=${authority%:*}
    [[ $authority =~ :[0-9]+$ ]] || host=$authority
}

# Reads the bearer token and refuses to send it where others could read it.
read_token() {
    local file=${usage_token_file:-}
    if [[ -n $file ]]; then
        [[ -f $file && -r $file ]] || die "usage_token_file names no readable file: ${file@Q}"
        IFS= read -r token <"$file" || [[ -n $token ]] || die "the token file ${file@Q} is empty"
    else
        token=$usage_token
    fi
    [[ $token =~ ^[[:graph:]]+$ ]] || die 'the first line of the token holds blanks or control characters'
    ((!follow)) || die '--follow and a token: a redirect could carry the token elsewhere; leave one out'
    if [[ $url == http:* && ! $host =~ ^(localhost|127(\.[0-9]{1,3}){3}|\[::1\])$ ]]; then
        die "a token is not sent over plain http:// to ${host@Q}: use https://"
    fi
}

# One try. Sets status, seconds and reason; the answer's first MiB is in $scratch/body.
try() {
    local -a options=(--disable --silent --show-error --globoff --proto '=http,https'
        --max-time "$limit" --header @- --write-out '%{stderr}\n%{http_code} %{time_total}\n')
    local headers='' codes line
    ((!follow)) || options+=(--location --max-redirs 5 --proto-redir '=http,https')
    if [[ -n $token ]]; then
        # On standard input, since arguments can be read by every user of the host.
        headers="Authorization: Bearer $token"
        [[ $url != http:* ]] || options+=(--noproxy '*')
    fi
    printf '%s\n' "$headers" | curl "${options[@]}" --url "$url" 2>"$scratch/talk" |
        head -c 1048576 >"$scratch/body" && codes=(0 0 0) || codes=("${PIPESTATUS[@]}")
    reason='' status=000 seconds=0
    while IFS= read -r line; do
        if [[ $line =~ ^([0-9]{3})\ ([0-9.]+)$ ]]; then
            status=${BASH_REMATCH[1]} seconds=${BASH_REMATCH[2]}
        elif [[ -n $line ]]; then
            reason=$line
        fi
    done <"$scratch/talk"
    # 23: curl could not write on, because more than the first MiB came. That is enough to judge.
    [[ ${codes[1]} != 23 ]] || return 0
    ((codes[1] == 0))
}

# Whether the last try's answer is the expected one; sets reason when it is not.
as_expected() {
    if [[ $status != "$expected" && ! ($expected == ?xx && $status == "${expected%xx}"??) ]]; then
        reason="status $status, expected $expected"
        return 1
    fi
    if [[ -n $contains ]] && ! grep -F -a -q -e "$contains" -- "$scratch/body"; then
        reason="status $status as expected, but the answer does not hold ${contains@Q}"
        return 1
    fi
}

operands=()
while (($#)); do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --status | --status=*)
            take "$@"
            [[ $value =~ ^[1-5]([0-9][0-9]|xx)$ ]] || die "--status takes three digits or a class such as 2xx, not ${value@Q}"
            expected=$value
            shift "$took"
            ;;
        --contains | --contains=*)
            take "$@"
            [[ -n $value && $value != *$'\n'* ]] || die '--contains takes one line of text that is not empty'
            contains=$value
            shift "$took"
            ;;
        --retries | --retries=*)
            take "$@"
            retries=$(whole --retries "$value" 0 1000)
            shift "$took"
            ;;
        --interval | --interval=*)
            take "$@"
            interval=$(whole --interval "$value" 0 3600)
            shift "$took"
            ;;
        --timeout | --timeout=*)
            take "$@"
            limit=$(whole --timeout "$value" 1 3600)
            shift "$took"
            ;;
        --follow)
            follow=1
            shift
            ;;
        --token | --token=*)
            take "$@"
            # `usage bash` hands over both; typed by hand it would stand in every list of processes.
            [[ -n ${usage_token:-} ]] ||
                die '--token shows the token to every user of this host: name a file with it in usage_token_file'
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
((${#operands[@]} == 1)) || die "exactly one URL is needed, not ${#operands[@]}: see --help"
url=${operands[0]}
check_url
[[ -z ${usage_token_file:-}${usage_token:-} ]] || read_token
export -n usage_token
for program in curl grep; do
    command -v "$program" >/dev/null || die "$program is needed and not on PATH: install it"
done

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

attempt=0
verdict=1
while ((attempt <= retries)); do
    ((attempt == 0)) || sleep "$interval"
    attempt=$((attempt + 1))
    if try && as_expected; then
        verdict=0
        printf 'attempt %d: status %s after %s s, as expected\n' "$attempt" "$status" "$seconds"
        break
    fi
    printf 'attempt %d of %d: %s\n' "$attempt" "$((retries + 1))" "$reason"
done
put HTTP_STATUS "$status"
put ATTEMPTS "$attempt"
put TIME_S "$seconds"
((verdict == 0)) || printf 'http_check.sh: %s did not answer as expected\n' "$url" >&2
exit "$verdict"
