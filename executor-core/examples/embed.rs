//! Embeds the engine in another tokio program: runs the script that is named on the command line from the folder
//! `scripts`, shows its output while it is written, and prints the result as JSON.
//!
//! ```text
//! cargo run --package executor-core --example embed -- system_info.sh
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::time::Duration;

use executor_core::{ExecuteScriptRequest, ScriptExecutor};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let script = words.next().ok_or("expected the name of a script in the folder scripts")?;

    let executor = ScriptExecutor::builder().script_dir("scripts").work_dir("workspace").build()?;
    let request = ExecuteScriptRequest::new(script)
        .args(words)
        .timeout(Duration::from_secs(30))
        .debug_script(true)
        .log_callback(|bytes| print!("{}", String::from_utf8_lossy(bytes)));
    let execution = executor.start(request).await?;

    // The program goes on with its own work meanwhile; Ctrl-C ends the script first.
    let result = tokio::select! {
        result = execution.wait() => result,
        _ = tokio::signal::ctrl_c() => {
            execution.cancel();
            execution.wait().await
        }
    };
    println!("{}", serde_json::to_string_pretty(&*result)?);
    executor.close().await;
    Ok(())
}
