//! What subcommands write to standard output: text for people, or one JSON value a line for programs.

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;
use serde_json::Value;

/// Writes a line. A reader that has closed the pipe wants no more, and that is no error.
///
/// # Errors
/// Any other failure to write.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes one JSON value on a line.
///
/// # Errors
/// If the value or the line cannot be written.
pub(super) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Writes rows as columns of text, each as wide as its widest cell.
///
/// # Errors
/// If a line cannot be written.
pub(super) fn columns(head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        cells.chain(head.get(column).copied()).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    print(&mut head.iter().copied())?;
    for row in rows {
        print(&mut row.iter().map(String::as_str))?;
    }
    Ok(())
}

/// Writes a JSON value as an indented outline.
///
/// # Errors
/// If a line cannot be written.
pub(super) fn outline(value: &Value) -> anyhow::Result<()> {
    let mut text = String::new();
    write_outline(&mut text, value, 0);
    line(text.trim_end())
}

fn write_outline(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                write_entry(text, &format!("{indent}{name}:"), value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                write_entry(text, &format!("{indent}-"), item, depth);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            writeln!(text, "{indent}{}", inline(value)).expect("a string takes every line");
        }
    }
}

/// Small values stand behind their name, others below it.
fn write_entry(text: &mut String, name: &str, value: &Value, depth: usize) {
    if is_small(value) {
        writeln!(text, "{name} {}", inline(value)).expect("a string takes every line");
    } else {
        writeln!(text, "{name}").expect("a string takes every line");
        write_outline(text, value, depth + 1);
    }
}

fn is_small(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| !item.is_array() && !item.is_object()),
        Value::Object(fields) => {
            fields.len() <= 6
                && fields.values().all(|field| !field.is_array() && !field.is_object())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// A value on one line, as people write it.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}={}", inline(value)));
            fields.collect::<Vec<_>>().join(" ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Writes a commit as a line per event: its number, its type, its fields.
///
/// # Errors
/// If a line cannot be written.
pub(super) fn commit(commit: &Value) -> anyhow::Result<()> {
    if commit.get("events").is_none() {
        // As a server of its own has published it.
        return line(&inline(commit));
    }
    let seq = inline(&commit["seq"]);
    let events = commit["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if events.is_empty() {
        return line(&format!("{seq:>5}  (nothing that this viewer may know)"));
    }
    events.iter().try_for_each(|event| {
        let mut fields = event.clone();
        if let Some(fields) = fields.as_object_mut() {
            fields.remove("type");
        }
        line(&format!("{seq:>5}  {:<24} {}", inline(&event["type"]), inline(&fields)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outline_keeps_small_things_on_one_line() {
        let mut text = String::new();
        let value =
            json!({"phase": "turn", "piles": [1, 2], "seats": [{"seat": 0, "name": "Ann"}]});
        write_outline(&mut text, &value, 0);
        assert_eq!(text, "phase: turn\npiles: [1 2]\nseats:\n  - name=Ann seat=0\n");
    }
}
