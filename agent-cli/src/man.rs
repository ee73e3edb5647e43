//! `agent-cli man`: the manual, made from the grammar of the command line, so that both say the same.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Cli, ManArgs};
use crate::failure::Failure;
use crate::output::{self, count};

/// A section beside those that the grammar gives: terms and what they mean.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

const SECTIONS: [Section; 4] = [
    (
        "EXIT STATUS",
        &[
            (
                "0",
                "Success. Of run: the script's own exit code, and so for task submit and logs with --follow.",
            ),
            ("1", "The command failed, or lint found something broken."),
            ("2", "The command line is wrong; of run, that is 125."),
            ("124", "The script's time was over."),
            ("125", "The agent failed."),
            ("126", "The script was refused, is not executable, or is not verified; nothing was run."),
            ("127", "There is no such script."),
            ("128+n", "Signal n ended the script."),
            ("130", "Cancelled."),
        ],
    ),
    (
        "FILES",
        &[
            (
                "etc/application.toml",
                "The settings, where the current folder has them and nobody else may write them.",
            ),
            ("/etc/devops-agent/application.toml", "The settings otherwise."),
            (
                "scripts/MANIFEST.sha256",
                "The list that vouches for the scripts, and MANIFEST.sha256.minisig its signature.",
            ),
            (
                "state/token",
                "The token that a service made at its first start; it is used where none is named.",
            ),
            (
                "state/tasks/ID",
                "The record of a run: task.json, stdout.txt, result.json, and debug.sh where asked for.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "DEVOPS_AGENT__SECTION__KEY",
                "A setting, such as DEVOPS_AGENT__HTTP__PORT=9000; it wins over the file.",
            ),
            ("NO_COLOR", "Set to anything but nothing: no colour on a terminal."),
            ("RUST_LOG", "What the agent's parts log to standard error, such as debug."),
            ("HTTPS_PROXY", "A proxy for https:// addresses of --server."),
        ],
    ),
    (
        "EXAMPLES",
        &[
            ("agent-cli list", "What there is to run."),
            ("agent-cli run deploy/web.sh --replicas 3", "Runs a script and ends with its exit code."),
            ("agent-cli run --dry-run deploy/web.sh", "Shows what would run."),
            ("agent-cli new deploy/web.sh && agent-cli lint deploy/web.sh", "Begins a script."),
            ("agent-cli manifest create", "Vouches for the scripts as they are now."),
            ("agent-cli task submit --follow deploy/web.sh", "Has the service run it, and follows its log."),
        ],
    ),
];

/// Prints the manual page, or writes all of them into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        write_main(&mut page)?;
        output::write(&page);
        return Ok(ExitCode::SUCCESS);
    };
    let pages = write_all(folder).map_err(|error| {
        Failure::new(format!("cannot write the manual pages into {}: {error}", folder.display()))
    })?;
    output::say(&format!("{} in {}", count(pages, "manual page"), folder.display()));
    Ok(ExitCode::SUCCESS)
}

fn write_all(folder: &Path) -> io::Result<u64> {
    fs::create_dir_all(folder)?;
    let mut root = grammar();
    root.build();
    write_main(&mut File::create(folder.join("agent-cli.1"))?)?;
    let mut pages = 1;
    let mut waiting: Vec<&Command> = root.get_subcommands().collect();
    while let Some(command) = waiting.pop() {
        if command.is_hide_set() {
            continue;
        }
        Man::new(command.clone()).generate_to(folder)?;
        pages += 1;
        waiting.extend(command.get_subcommands());
    }
    Ok(pages)
}

/// The page of the program itself.
fn write_main(out: &mut impl Write) -> io::Result<()> {
    let man = Man::new(grammar());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_subcommands_section(out)?;
    man.render_options_section(out)?;
    let mut roff = Roff::default();
    for (title, terms) in SECTIONS {
        roff.control("SH", [title]);
        for (term, meaning) in terms {
            roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
        }
    }
    roff.to_writer(out)?;
    man.render_version_section(out)
}

/// The grammar without the command `help`, which has no page.
fn grammar() -> Command {
    Cli::command().disable_help_subcommand(true)
}
