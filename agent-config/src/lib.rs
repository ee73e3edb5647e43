//! The one reader of `application.toml`, environment and flags.
//!
//! [`Settings::load`] takes the [`Sources`], which a program hands over, and gives plain data, where each value comes from, and
//! warnings; or every mistake at once, each with its place, what was found and what would be right. Defaults have one home:
//! the commented `etc/application.toml`, which is built in.

mod apply;
mod check;
mod document;
mod draft;
mod find;
mod grammar;
mod hook;
mod input;
mod keys;
mod load;
mod mistake;
mod nearest;
mod new_token;
mod repeated;
mod settings;
mod sources;
mod token;
mod units;

pub use hook::{Hook, HookParam, HookPlace, HookRule, HookScheme, HookTarget, HookTest, HookValue};
pub use load::{ConfigError, Loaded, Warning};
pub use mistake::{Mistake, Origin};
pub use new_token::NewToken;
pub use settings::{
    App, Audit, Auth, Http, Limits, Log, LogFormat, Node as NodeSettings, Retention, ScriptExecutor,
    Settings, SiteVariables, Tls,
};
pub use sources::{Flags, Sources};
pub use token::{Scope, Token, TokenDigest};
