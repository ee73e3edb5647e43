# Completion of agent-cli for fish: agent-cli completions fish >~/.config/fish/completions/agent-cli.fish
function __agent_cli_complete
    set -l current (commandline -ct)
    set -l answer (command agent-cli __complete fish -- (commandline -opc) "$current" 2>/dev/null)
    switch "$answer[1]"
        case files
            set -l option (string match -r -- '^-[^=]*=' "$current")
            set -l path (string replace -r -- '^-[^=]*=' '' "$current")
            printf '%s\n' "$option"(__fish_complete_path "$path")
        case folders
            set -l option (string match -r -- '^-[^=]*=' "$current")
            set -l path (string replace -r -- '^-[^=]*=' '' "$current")
            printf '%s\n' "$option"(__fish_complete_directories "$path" '')
        case '*'
            printf '%s\n' $answer[2..]
    end
end
complete -c agent-cli -f -k -a '(__agent_cli_complete)'
