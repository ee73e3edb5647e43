//! Several values in one variable: words as a shell reads them (`eval "values=($usage_files)"`).

/// Joins values to words that a POSIX shell, and bash, splits into the same values.
pub(super) fn join(values: &[String]) -> String {
    let words: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    words.join(" ")
}

/// Quotes whatever a shell could read otherwise: also braces, `!` and `^`, which some leave bare.
fn quoted(value: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_@+:,./-".contains(&b);
    if !value.is_empty() && value.bytes().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}
