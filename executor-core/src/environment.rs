//! The script's environment, built from nothing: the agent's own variables do not pass.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::problem::Problem;
use crate::request::string_problem_beside;

/// Variables that make a loader, shell, interpreter or tool run or read something else than it was told to, and
/// those that the agent sets itself. A name that ends in `*` stands for all that begin so.
const REFUSED: &[&str] = &[
    // The agent's own.
    "HOME",
    "LOGNAME",
    "PATH",
    "TASK_*",
    "TMPDIR",
    "USER",
    "usage_*",
    // Loader and C library.
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LD_*",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_*",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_*",
    "RES_OPTIONS",
    "TZDIR",
    // Shells.
    "BASHOPTS",
    "BASH_*",
    "CDPATH",
    "ENV",
    "FPATH",
    "GLOBIGNORE",
    "IFS",
    "KSH_ENV",
    "NULLCMD",
    "POSIXLY_CORRECT",
    "PROMPT_COMMAND",
    "PS4",
    "READNULLCMD",
    "SHELL",
    "SHELLOPTS",
    "TERMCAP",
    "TERMINFO*",
    "TERMPATH",
    "ZDOTDIR",
    // Interpreters.
    "CLASSPATH",
    "GEM_*",
    "BUNDLE_*",
    "DOTNET_STARTUP_HOOKS",
    "ERL_*",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "JULIA_*",
    "LUA_*",
    "NODE_*",
    "PERL5*",
    "PERLLIB",
    "PERL_*",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PYTHON*",
    "RUBY*",
    "R_ENVIRON*",
    "R_PROFILE*",
    "TCLLIBPATH",
    "_JAVA_OPTIONS",
    // Tools that read commands or code from their environment.
    "AWKPATH",
    "AWKLIBPATH",
    "BROWSER",
    "CURL_HOME",
    "EDITOR",
    "GIT_*",
    "GREP_OPTIONS",
    "GZIP",
    "HGRCPATH",
    "LESS",
    "LESSCLOSE",
    "LESSOPEN",
    "MAKEFILES",
    "MAKEFLAGS",
    "MANPAGER",
    "OPENSSL_*",
    "PAGER",
    "RSYNC_RSH",
    "SSH_ASKPASS",
    "SUDO_*",
    "TAR_OPTIONS",
    "VISUAL",
    "WGETRC",
    "XDG_CONFIG_*",
];

/// Whether callers may not set a variable of this name.
pub fn is_refused_variable(name: &str) -> bool {
    REFUSED.iter().any(|refused| match refused.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *refused,
    })
}

/// Whether a text is the name of a variable: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_variable_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|&b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Checks the variables that a caller sets.
pub(crate) fn check_callers(env: &[(String, OsString)], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (name, value) in env {
        let field = field(name);
        if check_one(name, value, problems) && is_refused_variable(name) {
            let expected = "another name: this one changes what a loader, shell, interpreter or tool does, or is \
                set by the agent";
            problems.push(Problem::new(field, "refused_variable", expected));
        } else if !seen.insert(name) {
            problems.push(Problem::new(field, "duplicate", "each variable once"));
        }
    }
}

/// Checks the variables that the operator sets for every script: any name that is one, the last value counts.
pub(crate) fn check_names(env: &[(String, OsString)], problems: &mut Vec<Problem>) {
    for (name, value) in env {
        check_one(name, value, problems);
    }
}

/// Whether the name is one; a value that execve(2) cannot pass is a problem too.
fn check_one(name: &str, value: &OsStr, problems: &mut Vec<Problem>) -> bool {
    let is_name = is_variable_name(name);
    if !is_name {
        let expected = "a name of letters, digits and '_' that does not start with a digit";
        problems.push(Problem::new(field(name), "variable_name", expected));
    }
    problems.extend(string_problem_beside(&field(name), value, name.len() + "=".len()));
    is_name
}

fn field(name: &str) -> String {
    format!("env.{}", name.escape_debug())
}

/// An environment in the making; a name set again replaces the earlier value.
#[derive(Debug, Default, Clone)]
pub(crate) struct Environment(Vec<Variable>);

/// A variable as execve(2) takes it, `NAME=value`.
#[derive(Debug, Clone)]
struct Variable {
    string: CString,
    name_bytes: usize,
}

impl Environment {
    /// A value with a null byte cannot occur: everything that is set was checked, or comes from paths and names that
    /// cannot hold one; should it occur, it ends there.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let value = value.as_ref().as_bytes();
        let mut string = Vec::with_capacity(name.len() + value.len() + 2);
        string.extend_from_slice(name.as_bytes());
        string.push(b'=');
        string.extend_from_slice(value);
        self.0.push(Variable { string: c_string(string), name_bytes: name.len() });
    }

    /// Names and values, sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.variables().map(|variable| (variable.name(), variable.value()))
    }

    /// The strings that execve(2) takes, sorted by name.
    pub(crate) fn strings(&self) -> Vec<&CStr> {
        self.variables().map(|variable| variable.string.as_c_str()).collect()
    }

    /// What was set last under each name.
    fn variables(&self) -> impl Iterator<Item = &Variable> {
        let mut sorted: Vec<&Variable> = self.0.iter().rev().collect();
        sorted.sort_by_key(|variable| variable.name());
        sorted.dedup_by_key(|variable| variable.name());
        sorted.into_iter()
    }
}

impl Variable {
    fn name(&self) -> &str {
        std::str::from_utf8(&self.string.as_bytes()[..self.name_bytes]).unwrap_or_default()
    }

    fn value(&self) -> &OsStr {
        OsStr::from_bytes(self.string.as_bytes().get(self.name_bytes + 1..).unwrap_or_default())
    }
}

/// A C string of what stands before the first null byte.
pub(crate) fn c_string(mut bytes: Vec<u8>) -> CString {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    CString::new(bytes).unwrap_or_default()
}

/// The user that scripts run as: what HOME, USER and LOGNAME say (passwd(5)).
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) home: OsString,
}

impl Account {
    /// The account of the agent's effective user; one without an entry is named by its number and lives in `/`.
    pub(crate) fn of_this_process() -> Self {
        let uid = nix::unistd::geteuid();
        match nix::unistd::User::from_uid(uid) {
            Ok(Some(user)) => {
                Self { name: user.name, home: OsString::from_vec(user.dir.into_os_string().into_vec()) }
            }
            _ => Self { name: uid.to_string(), home: "/".into() },
        }
    }
}
