//! How the command line, and the scripts that ship with the agent, behave.

mod shipped_scripts;
