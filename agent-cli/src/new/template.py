#!/usr/bin/env python3
#TASK description="Says hello: write here in one sentence what this script does" effect="read" timeout="10m"
#TASK output.GREETED="Who was greeted"
#USAGE arg "<name>" help="Who is greeted"
#USAGE flag "-l --loud" help="Greet in capital letters"
# `effect` is "read", "write" or "destructive"; what is destructive has to be confirmed.
import os

# The agent has checked the arguments against the lines above, and gives each one as usage_NAME.
name = os.environ["usage_name"]
greeting = f"Hello {name}"
if os.environ.get("usage_loud") == "true":
    greeting = greeting.upper()
print(greeting)

# What others should know of the result.
with open(os.environ.get("TASK_OUTPUT", os.devnull), "a", encoding="utf-8") as output:
    print(f"GREETED={name}", file=output)
