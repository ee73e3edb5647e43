//! What the first bytes of a script's file say about how the kernel will run it (execve(2), "Interpreter scripts").

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::ScriptFault;

/// First bytes of a compiled program (elf(5)).
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Checks that the kernel can run a file that begins with `head`, up to 256 bytes of it.
///
/// # Errors
/// With a code of its own for each way in which it cannot.
pub(crate) fn check_head(head: &[u8]) -> Result<(), ScriptFault> {
    if head.is_empty() {
        return Err(first_line(
            "script_empty",
            "it is empty; start it with a line such as #!/usr/bin/env bash",
        ));
    }
    if head.starts_with(ELF_MAGIC) {
        return Ok(());
    }
    let Some(rest) = head.strip_prefix(b"#!") else {
        let message =
            "its first line does not name an interpreter; start it with a line such as #!/usr/bin/env bash";
        return Err(first_line("script_no_shebang", message));
    };
    let line = rest.split(|&b| b == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        let message = "its lines end with a carriage return, which becomes part of the interpreter's name; \
            convert it (sed -i 's/\\r$//')";
        return Err(first_line("script_crlf", message));
    }
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let interpreter = line.split(is_blank).find(|word| !word.is_empty()).unwrap_or_default();
    check_interpreter(Path::new(std::ffi::OsStr::from_bytes(interpreter)))
}

fn check_interpreter(path: &Path) -> Result<(), ScriptFault> {
    let shown = path.display().to_string().escape_debug().to_string();
    if !path.is_absolute() {
        let message = format!("its first line names the interpreter '{shown}', which is no absolute path");
        return Err(first_line("interpreter_missing", message));
    }
    let message = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            format!("its first line names {shown} as its interpreter, which is a folder")
        }
        Ok(_) => return Ok(()),
        Err(_) => {
            format!(
                "its interpreter {shown} does not exist on this host; install it or correct the first line"
            )
        }
    };
    Err(first_line("interpreter_missing", message))
}

fn first_line(code: &'static str, message: impl Into<String>) -> ScriptFault {
    ScriptFault::FirstLine { code, message: message.into() }
}
