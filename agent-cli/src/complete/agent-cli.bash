# Completion of agent-cli for bash: source <(agent-cli completions bash)
_agent_cli() {
    local -a answer
    mapfile -t answer < <(agent-cli __complete bash -- "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    COMPREPLY=("${answer[@]:1}")
    case ${answer[0]-} in
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
        more) compopt -o nospace ;;
    esac
}
complete -o nosort -F _agent_cli agent-cli
