//! The task spec: what is asked. Read from JSON with every mistake named at once.

mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use executor_core::{DURATION_EXPECTED, Problem, Problems, TaskId, WorkspaceName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::binding;
use crate::secrets::Secrets;

pub use target::Target;

/// Most arguments, parameters, variables or labels in one spec.
const MAX_ENTRIES: usize = 1024;

/// What to do when the shared workspace is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// Wait in the queue. The default.
    #[default]
    Wait,
    /// Refuse the submission.
    Refuse,
}

/// What is asked: a script or runner by name, with everything that shapes its run.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSpec {
    /// The script's or runner's name.
    pub name: String,
    /// The wanted id; the agent makes one where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
    /// Parameters by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Secret parameters, which are written and shown by name only.
    #[serde(skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
    /// Arguments, passed as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables that the caller sets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// A shared workspace; without one the task has a folder of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<WorkspaceName>,
    /// Time limit; without one the setting's default.
    #[serde(skip_serializing_if = "Option::is_none", with = "duration_text")]
    pub timeout: Option<Duration>,
    /// Whether to leave a script that reproduces the run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub debug_script: bool,
    /// Free labels for filters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For whom the caller asks; kept, never trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// What the script reads from its standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// What to do when the shared workspace is in use.
    #[serde(skip_serializing_if = "is_default")]
    pub on_busy: OnBusy,
    /// Where it is to run; without it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// For how long its node may be away before it is given up; without it until somebody gives it up.
    #[serde(skip_serializing_if = "Option::is_none", with = "duration_text")]
    pub unreachable_after: Option<Duration>,
    /// How often it is tried again; without it what the script declares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// The script's name again, where it is destructive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

impl TaskSpec {
    /// A spec that only names what to run.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Moves parameters of these names from `params` to `secrets`.
    pub fn keep_secret<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        names.into_iter().for_each(|name| self.secrets.take_from(&mut self.params, name));
    }

    /// Reads a spec from JSON. `secrets` lists parameters that the caller holds to be secret, with their values in `params`.
    ///
    /// # Errors
    /// Every field that is unknown, of the wrong type, or breaks a rule that needs no catalogue. The first hundred are
    /// told.
    pub fn from_json(value: Value) -> Result<Self, Vec<Problem>> {
        let Value::Object(mut fields) = value else {
            return Err(vec![Problem::new("body", "object", "a JSON object with at least `name`")]);
        };
        let mut reader = Reader { problems: Problems::default() };
        let mut spec = reader.spec(&mut fields);
        let secrets = reader.strings("secrets", fields.remove("secrets").filter(|value| !value.is_null()));
        spec.keep_secret(secrets.iter().map(String::as_str));
        for field in fields.keys() {
            reader.problem(field, "unknown_field", "a field of the task spec; this one is not known");
        }
        reader.check_as_request(&spec);
        if reader.problems.is_empty() { Ok(spec) } else { Err(reader.problems.into_vec()) }
    }
}

impl fmt::Debug for TaskSpec {
    /// Leaves values out: parameters, arguments, variables and input may hold what nobody should read in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSpec")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("params", &self.params.keys().collect::<Vec<_>>())
            .field("secrets", &self.secrets)
            .field("args", &self.args.len())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("work_dir", &self.work_dir)
            .field("timeout", &self.timeout)
            .field("labels", &self.labels)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Reads one field after another and collects what is wrong with them.
struct Reader {
    problems: Problems,
}

impl Reader {
    fn spec(&mut self, fields: &mut Map<String, Value>) -> TaskSpec {
        let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
        TaskSpec {
            name: self.name(take("name")),
            id: self.parsed("id", take("id")),
            params: self.object("params", take("params")),
            secrets: Secrets::default(),
            args: self.strings("args", take("args")),
            env: self.string_map("env", take("env")),
            work_dir: self.parsed("work_dir", take("work_dir")),
            timeout: self.duration("timeout", take("timeout")),
            debug_script: self.boolean("debug_script", take("debug_script").as_ref()),
            labels: self.string_map("labels", take("labels")),
            on_behalf_of: self.string("on_behalf_of", take("on_behalf_of")),
            stdin: self.string("stdin", take("stdin")),
            on_busy: self.on_busy(take("on_busy")),
            target: self.target(take("target")),
            unreachable_after: self.duration("unreachable_after", take("unreachable_after")),
            retries: self.retries(take("retries").as_ref()),
            confirm: self.string("confirm", take("confirm")),
        }
    }

    /// What the engine would refuse whatever the script is, so that it is named together with everything else.
    fn check_as_request(&mut self, spec: &TaskSpec) {
        if spec.unreachable_after.is_some() && spec.target.is_none() && !self.problems.is_about("target") {
            let expected = "left out, or a `target`: a task of this agent is never out of its reach";
            self.problem("unreachable_after", "needs_target", expected);
        }
        let Err(problems) = binding::undescribed(&spec.name, spec).args(&spec.args).check() else { return };
        for problem in problems {
            if !self.problems.is_about(&problem.field) {
                self.problems.push(problem);
            }
        }
    }

    fn problem(&mut self, field: &str, rule: &str, expected: &str) {
        self.problems.push(Problem::new(field, rule, expected));
    }

    fn name(&mut self, value: Option<Value>) -> String {
        match self.string("name", value) {
            Some(name) if !name.is_empty() => name,
            Some(_) => {
                self.problem("name", "required", "the name of a script or runner");
                String::new()
            }
            None => {
                if !self.problems.is_about("name") {
                    self.problem("name", "required", "the name of a script or runner");
                }
                String::new()
            }
        }
    }

    fn string(&mut self, field: &str, value: Option<Value>) -> Option<String> {
        match value? {
            Value::String(text) => Some(text),
            _ => {
                self.problem(field, "string", "a string");
                None
            }
        }
    }

    fn boolean(&mut self, field: &str, value: Option<&Value>) -> bool {
        match value {
            None => false,
            Some(Value::Bool(truth)) => *truth,
            Some(_) => {
                self.problem(field, "boolean", "true or false");
                false
            }
        }
    }

    fn parsed<T>(&mut self, field: &str, value: Option<Value>) -> Option<T>
    where
        T: std::str::FromStr<Err = executor_core::NameError>,
    {
        let text = self.string(field, value)?;
        match text.parse() {
            Ok(name) => Some(name),
            Err(executor_core::NameError(problem)) => {
                self.problems.push(Problem { field: field.to_owned(), ..problem });
                None
            }
        }
    }

    fn object(&mut self, field: &str, value: Option<Value>) -> Map<String, Value> {
        match value {
            None => Map::new(),
            Some(Value::Object(map)) if map.len() <= MAX_ENTRIES => map,
            Some(_) => {
                self.problem(field, "object", "a JSON object of at most 1024 names and values");
                Map::new()
            }
        }
    }

    fn string_map(&mut self, field: &str, value: Option<Value>) -> BTreeMap<String, String> {
        let mut strings = BTreeMap::new();
        for (name, value) in self.object(field, value) {
            if let Some(text) = self.string(&format!("{field}.{name}"), Some(value)) {
                strings.insert(name, text);
            }
        }
        strings
    }

    fn strings(&mut self, field: &str, value: Option<Value>) -> Vec<String> {
        let items = match value {
            None => return Vec::new(),
            Some(Value::Array(items)) if items.len() <= MAX_ENTRIES => items,
            Some(_) => {
                self.problem(field, "array", "an array of at most 1024 strings");
                return Vec::new();
            }
        };
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            // One that is no string keeps its place, so that the others keep their numbers.
            strings.push(self.string(&format!("{field}[{index}]"), Some(item)).unwrap_or_default());
        }
        strings
    }

    fn duration(&mut self, field: &str, value: Option<Value>) -> Option<Duration> {
        let text = match value? {
            Value::String(text) => text,
            _ => String::new(),
        };
        let parsed = parse_duration(&text);
        if parsed.is_none() {
            self.problem(field, "duration", DURATION_EXPECTED);
        }
        parsed
    }

    fn retries(&mut self, value: Option<&Value>) -> Option<u32> {
        let number = value?.as_u64().and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            self.problem("retries", "integer", "a whole number, 0 at least");
        }
        number
    }

    fn on_busy(&mut self, value: Option<Value>) -> OnBusy {
        match self.string("on_busy", value).as_deref() {
            None | Some("wait") => OnBusy::Wait,
            Some("refuse") => OnBusy::Refuse,
            Some(_) => {
                self.problem("on_busy", "choice", "\"wait\" or \"refuse\"");
                OnBusy::Wait
            }
        }
    }
}

/// Reads a duration such as `10m`; none when it has no unit, is not above zero, or is no duration.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(span).ok().filter(|duration| !duration.is_zero())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Durations as text with units, as users write them.
mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
        match value.map(jiff::SignedDuration::try_from) {
            Some(Ok(duration)) => out.serialize_some(&format!("{duration:#}")),
            _ => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(input)? else {
            return Ok(None);
        };
        super::parse_duration(&text).map(Some).ok_or_else(|| D::Error::custom(super::DURATION_EXPECTED))
    }
}
