//! `[[hook]]`: what a program starts by signed requests, and how its section is read.

mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::grammar;
use crate::input::{Checked, Input};
use crate::keys::HOOKS;
use crate::repeated::{Claim, Field, Repeated};
use crate::settings::Settings;
use crate::token::{NAME, own, requests_per_minute};

/// A script that a program starts by requests that it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The last segment of its address, `/hooks/{name}`; its tasks carry `hook:` and this name as `created_by`.
    pub name: String,
    /// The script that it runs.
    pub script: String,
    /// How requests are signed.
    pub scheme: HookScheme,
    /// The file with the secrets; absolute when the current folder is.
    pub secret_file: PathBuf,
    /// The script's parameters, and where each comes from.
    pub params: BTreeMap<String, HookParam>,
    /// Rules that all must hold; where one does not the request starts nothing.
    pub when: Vec<HookRule>,
    /// Where the script runs; none is this agent.
    pub target: Option<HookTarget>,
    /// Labels of its tasks.
    pub labels: BTreeMap<String, String>,
    /// The script's name again, where it is destructive.
    pub confirm: Option<String>,
    /// Most requests in a minute, at once too; none is any number.
    pub requests_per_minute: Option<u32>,
}

/// How requests are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookScheme {
    /// `X-Hub-Signature-256`, an HMAC of the body: GitHub, Gitea, Forgejo.
    GitHub,
    /// `X-Gitlab-Token`, the secret itself.
    GitLab,
    /// Standard Webhooks: `webhook-signature`, an HMAC of id, time and body.
    Standard,
}

/// Where a parameter comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookParam {
    /// The same for each request.
    Fixed(HookValue),
    /// From the request.
    From(HookPlace),
}

/// A place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookPlace {
    /// What a JSON pointer (RFC 6901) leads to in the body.
    Body(String),
    /// A header, one of [those of the scheme](HookScheme::headers).
    Header(String),
}

/// A rule that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRule {
    /// Where it looks.
    pub place: HookPlace,
    /// What must be there.
    pub test: HookTest,
}

/// What a rule asks of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookTest {
    /// It is one of these, of the same type.
    OneOf(Vec<HookValue>),
    /// It is a text that begins so.
    StartsWith(String),
}

/// A value that is written in the settings. Its `Debug` form does not show it, since it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum HookValue {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Truth(bool),
    /// Several, for a parameter that may be repeated.
    List(Vec<Self>),
}

/// Where a hook's script runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookTarget {
    /// On the node of this name.
    Node(String),
    /// On a node that has all these labels.
    Labels(BTreeMap<String, String>),
}

impl HookScheme {
    /// Every scheme there is.
    pub const ALL: [Self; 3] = [Self::GitHub, Self::GitLab, Self::Standard];

    /// The word that the configuration uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Standard => "standard",
        }
    }

    /// The headers that parameters and rules may name: those that say what an event is, and no secret.
    pub fn headers(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &[
                "X-GitHub-Event",
                "X-GitHub-Delivery",
                "X-GitHub-Hook-ID",
                "X-GitHub-Hook-Installation-Target-Type",
                "X-GitHub-Hook-Installation-Target-ID",
                "X-Gitea-Event",
                "X-Gitea-Event-Type",
                "X-Forgejo-Event",
                "X-Forgejo-Event-Type",
            ],
            Self::GitLab => &[
                "X-Gitlab-Event",
                "X-Gitlab-Event-UUID",
                "X-Gitlab-Webhook-UUID",
                "X-Gitlab-Instance",
                "Idempotency-Key",
            ],
            Self::Standard => &["webhook-id", "webhook-timestamp"],
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == word)
    }
}

impl Hook {
    /// The first header that it names and that its scheme does not have.
    pub(crate) fn foreign_header(&self) -> Option<&str> {
        let of_params = self.params.values().filter_map(|param| match param {
            HookParam::From(place) => Some(place),
            HookParam::Fixed(_) => None,
        });
        let of_rules = self.when.iter().map(|rule| &rule.place);
        let mut headers = of_params.chain(of_rules).filter_map(|place| match place {
            HookPlace::Header(name) => Some(name.as_str()),
            HookPlace::Body(_) => None,
        });
        let known = self.scheme.headers();
        headers.find(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }
}

impl fmt::Debug for HookValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookValue(..)")
    }
}

/// What is known of a hook while its section is read.
#[derive(Debug, Default)]
pub(crate) struct HookDraft {
    name: Option<String>,
    script: Option<String>,
    scheme: Option<HookScheme>,
    secret_file: Option<PathBuf>,
    params: BTreeMap<String, HookParam>,
    when: Vec<HookRule>,
    target: Option<HookTarget>,
    labels: BTreeMap<String, String>,
    confirm: Option<String>,
    requests_per_minute: Option<u32>,
}

impl Repeated for Hook {
    const KEY: &'static str = HOOKS;
    const WORD: &'static str = "hook";
    const FIELDS: &'static [Field<HookDraft>] = &[
        Field { name: "name", required: true, set: set_name },
        Field { name: "script", required: true, set: set_script },
        Field { name: "scheme", required: true, set: set_scheme },
        Field { name: "secret_file", required: true, set: set_secret_file },
        Field { name: "params", required: false, set: set_params },
        Field { name: "when", required: false, set: set_when },
        Field { name: "target", required: false, set: set_target },
        Field { name: "labels", required: false, set: set_labels },
        Field { name: "confirm", required: false, set: set_confirm },
        Field { name: "requests_per_minute", required: false, set: set_requests_per_minute },
    ];
    const ONE_OF: &'static [&'static str] = &[];
    type Draft = HookDraft;

    fn finish(draft: HookDraft) -> Option<Self> {
        Some(Self {
            name: draft.name?,
            script: draft.script?,
            scheme: draft.scheme?,
            secret_file: draft.secret_file?,
            params: draft.params,
            when: draft.when,
            target: draft.target,
            labels: draft.labels,
            confirm: draft.confirm,
            requests_per_minute: draft.requests_per_minute,
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn claims(&self) -> impl Iterator<Item = Claim> {
        std::iter::once(Claim::Name(self.name.clone()))
    }

    fn all(settings: &mut Settings) -> &mut Vec<Self> {
        &mut settings.hooks
    }
}

const SCRIPT: &str = "the name of a script, such as \"deploy/web.sh\"";

fn set_name(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.name = Some(input.text(NAME, own(grammar::is_name))?);
    Ok(())
}

fn set_script(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.script = Some(input.text(SCRIPT, own(grammar::is_script_name))?);
    Ok(())
}

fn set_scheme(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    let right = format!("one of {}", HookScheme::ALL.map(HookScheme::as_str).join(", "));
    draft.scheme = Some(input.text(&right, HookScheme::parse)?);
    Ok(())
}

fn set_secret_file(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.secret_file = Some(input.path()?);
    Ok(())
}

fn set_params(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.params = read::params(input)?;
    Ok(())
}

fn set_when(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.when = read::rules(input)?;
    Ok(())
}

fn set_target(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.target = Some(read::target(input)?);
    Ok(())
}

fn set_labels(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.labels = read::labels(input)?;
    Ok(())
}

fn set_confirm(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.confirm = Some(input.text(SCRIPT, own(grammar::is_script_name))?);
    Ok(())
}

fn set_requests_per_minute(draft: &mut HookDraft, input: Input<'_>) -> Checked<()> {
    draft.requests_per_minute = requests_per_minute(input)?;
    Ok(())
}
