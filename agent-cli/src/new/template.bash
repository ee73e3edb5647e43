#!/usr/bin/env bash
#TASK description="Says hello: write here in one sentence what this script does" effect="read" timeout="10m"
#TASK output.GREETED="Who was greeted"
#USAGE arg "<name>" help="Who is greeted"
#USAGE flag "-l --loud" help="Greet in capital letters"
# `effect` is "read", "write" or "destructive"; what is destructive has to be confirmed.
set -euo pipefail

# The agent has checked the arguments against the lines above, and gives each one as usage_NAME.
name=${usage_name:?run this by agent-cli run}
greeting="Hello $name"
if [[ ${usage_loud:-false} == true ]]; then
    greeting=${greeting^^}
fi
printf '%s\n' "$greeting"

# What others should know of the result.
printf 'GREETED=%s\n' "$name" >>"${TASK_OUTPUT:-/dev/null}"
