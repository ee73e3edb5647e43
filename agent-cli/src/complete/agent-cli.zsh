#compdef agent-cli
# Completion of agent-cli for zsh: source <(agent-cli completions zsh), behind compinit; or as the file _agent-cli in a
# folder of $fpath.
_agent-cli() {
    local -a answer values helps shown
    local -i width=0 at
    local line
    answer=("${(@f)$(command agent-cli __complete zsh -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in "${(@)answer[2,-1]}"; do
        values+=("${line%%$'\t'*}")
        helps+=("${${line#"${line%%$'\t'*}"}#$'\t'}")
        ((${#values[-1]} <= width)) || width=${#values[-1]}
    done
    for ((at = 1; at <= $#values; at++)); do
        line="${(r:width:)values[at]}${helps[at]:+  $helps[at]}"
        shown+=("${line[1,COLUMNS-1]}")
    done
    case $answer[1] in
        files) compset -P '--[^=]#=' || compset -P '-*='; _files ;;
        folders) compset -P '--[^=]#=' || compset -P '-*='; _files -/ ;;
        more) compadd -V scripts -S '' -l -d shown -a values ;;
        *) compadd -V scripts -l -d shown -a values ;;
    esac
}
if [[ ${funcstack[1]} == _agent-cli ]]; then
    _agent-cli "$@"
else
    compdef _agent-cli agent-cli
fi
