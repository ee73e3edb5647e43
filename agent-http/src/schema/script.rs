//! Scripts as lists show them, and what stands behind them.

use serde_json::Value;
use utoipa::ToSchema;

/// A script.
#[derive(ToSchema)]
pub(crate) struct Script {
    name: String,
    /// SHA-256 of its file; empty where the script is broken.
    sha256: String,
    /// Whether a manifest vouches for it.
    verified: bool,
    /// Why it cannot be run, if it cannot.
    broken: Vec<BrokenReason>,
    /// What should be otherwise in its header.
    warnings: Vec<BrokenReason>,
    /// Whether it says what it takes; one that does not takes any arguments.
    described: bool,
    /// What it does, in a sentence.
    #[schema(required)]
    description: Option<String>,
    /// The group that lists show it in.
    #[schema(required)]
    group: Option<String>,
    /// Words for filters.
    tags: Vec<String>,
    /// What it does to the world; null where it does not say.
    #[schema(required)]
    effect: Option<Effect>,
    /// Its parameters as JSON Schema (2020-12); null where it does not say.
    #[schema(required)]
    parameters: Option<serde_json::Map<String, Value>>,
    /// The output parameters that it says it writes.
    outputs: Vec<ScriptOutput>,
    /// Which nodes have what, most nodes first; only where no single node was asked for.
    versions: Option<Vec<ScriptVersion>>,
}

/// What a script does to the world: nothing, something that can be changed back, or something that cannot.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Effect {
    Read,
    Write,
    Destructive,
}

/// An output parameter that a script says it writes.
#[derive(ToSchema)]
pub(crate) struct ScriptOutput {
    name: String,
    /// What it holds.
    description: String,
    /// What its value is: `string`, `int`, `number`, `bool`, `duration` or `path`.
    r#type: String,
}

/// Why a script cannot be run, or what should be otherwise in it.
#[derive(ToSchema)]
pub(crate) struct BrokenReason {
    /// The line that is wrong, where it is one.
    #[schema(required)]
    line: Option<u64>,
    /// What is wrong and what would be right.
    reason: String,
}

/// The scripts that the token sees.
#[derive(ToSchema)]
pub(crate) struct ScriptPage {
    scripts: Vec<Script>,
    /// The `cursor` of the next page; null when this is the last one.
    #[schema(required)]
    next: Option<String>,
    /// Null for scripts of nodes, which know themselves what stands behind them.
    #[schema(required)]
    verification: Option<Verification>,
}

/// What stands behind the scripts that would run now.
#[derive(ToSchema)]
pub(crate) struct Verification {
    /// Whether scripts are verified at all.
    verification: bool,
    /// Digest of the manifest in use.
    #[schema(required)]
    manifest: Option<String>,
    /// What is wrong with the folder now; a verified copy in use stays in use all the same.
    problems: Vec<String>,
    /// The command that mends it.
    #[schema(required)]
    mend: Option<String>,
    /// Why changes of the folder are seen only when somebody asks; null where they are seen by themselves.
    #[schema(required)]
    unwatched: Option<String>,
}

/// A script's file, as it is on some nodes.
#[derive(ToSchema)]
pub(crate) struct ScriptVersion {
    /// SHA-256 of the file.
    sha256: String,
    /// How many of the nodes have it.
    count: u64,
    /// The first hundred of them, by name.
    nodes: Vec<String>,
}
