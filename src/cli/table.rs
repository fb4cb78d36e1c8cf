//! Listings: a table in columns, a template for each row, JSON for each row, or one field alone.
//!
//! Read: docs.docker.com/engine/cli/formatting.

use std::io::Write;

use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use super::oci::quiet_pipe;
use super::template::{Template, visible};
use crate::error::Result;

/// A column of the table that is printed when nobody asks for another.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub header: &'static str,
    pub field: &'static str,
}

/// Rows, and how they are shown.
#[derive(Debug, Default)]
pub struct Listing {
    pub columns: Vec<Column>,
    /// Headers of fields that are in no column but may be asked for: field, header.
    pub headers: &'static [(&'static str, &'static str)],
    /// Objects; what begins with `_` is hidden, and `_labels` is what `.Label "key"` looks into.
    pub rows: Vec<Value>,
}

/// A column is as wide as its widest cell and this; and not narrower than [`NARROWEST`].
const PADDING: usize = 3;
const NARROWEST: usize = 10;

/// Prints a listing on standard output: `format` is a template, `table TEMPLATE`, `table` or `json`; `quiet` is the field to be printed
/// alone.
///
/// # Errors
/// Invalid for a template that is none, or asks for a field that isn't there.
pub fn print(listing: &Listing, format: Option<&str>, quiet: Option<&str>) -> Result<()> {
    let text = render(listing, format, quiet)?;
    std::io::stdout().lock().write_all(text.as_bytes()).or_else(quiet_pipe)
}

/// What [`print`] prints.
///
/// # Errors
/// As for `print`.
pub fn render(listing: &Listing, format: Option<&str>, quiet: Option<&str>) -> Result<String> {
    let format = format.unwrap_or("table");
    let table = format.strip_prefix("table").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace) || rest.starts_with("\\t"));
    match (table, quiet) {
        (Some(_), Some(field)) => Ok(listing.rows.iter().map(|row| cell(row, field) + "\n").collect()),
        (Some(template), None) if template.trim().is_empty() => Ok(columns(default_lines(listing), NARROWEST)),
        (Some(template), None) => {
            let template = Template::parse_row(template.trim())?;
            let mut lines = vec![template.execute(&header(listing))?];
            for row in &listing.rows {
                lines.push(template.execute(row)?);
            }
            Ok(columns(lines, NARROWEST))
        }
        (None, _) if format == "json" => Ok(listing.rows.iter().map(|row| visible(row).to_string() + "\n").collect()),
        (None, _) => {
            let template = Template::parse_row(format)?;
            if listing.rows.is_empty() {
                // A field that isn't there is wrong before there are rows, too.
                template
                    .execute(&header(listing))
                    .or_else(|e| if e.to_string().contains("no entry for key") { Err(e) } else { Ok(String::new()) })?;
            }
            let mut text = String::new();
            for row in &listing.rows {
                text.push_str(&template.execute(row)?);
                text.push('\n');
            }
            Ok(text)
        }
    }
}

/// One cell of a row.
fn cell(row: &Value, field: &str) -> String {
    match row.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn default_lines(listing: &Listing) -> Vec<String> {
    let header = listing.columns.iter().map(|column| column.header.to_string()).collect::<Vec<_>>().join("\t");
    let row = |row| listing.columns.iter().map(|column| cell(row, column.field).replace('\t', " ")).collect::<Vec<_>>().join("\t");
    std::iter::once(header).chain(listing.rows.iter().map(row)).collect()
}

/// A row that has the headers in place of values.
fn header(listing: &Listing) -> Value {
    let mut all = Map::new();
    // What no header names is still a field, under its own name.
    for field in listing.rows.first().and_then(Value::as_object).into_iter().flat_map(Map::keys).filter(|field| !field.starts_with('_')) {
        all.insert(field.clone(), field.to_uppercase().into());
    }
    all.extend(listing.columns.iter().map(|column| (column.field.to_string(), column.header.into())));
    all.extend(listing.headers.iter().map(|(field, header)| (field.to_string(), (*header).into())));
    all.insert("_labels".into(), "header".into());
    all.into()
}

/// Lines with tabs become lines with columns. What follows the last tab of a line is as wide as it is.
pub fn columns(lines: Vec<String>, narrowest: usize) -> String {
    let lines: Vec<Vec<&str>> = lines.iter().flat_map(|line| line.split('\n')).map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for cells in &lines {
        for (at, cell) in cells[..cells.len() - 1].iter().enumerate() {
            if widths.len() <= at {
                widths.push(narrowest);
            }
            widths[at] = widths[at].max(cell.width() + PADDING);
        }
    }
    let mut text = String::new();
    for cells in &lines {
        for (at, cell) in cells.iter().enumerate() {
            text.push_str(cell);
            if at + 1 < cells.len() {
                text.push_str(&" ".repeat(widths[at] - cell.width()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing() -> Listing {
        let row = |id: &str, names: &str, tier: &str| json!({"ID": id, "Names": names, "Status": "Up 2 minutes", "Labels": "", "_labels": {"com.tier": tier}});
        Listing {
            columns: vec![Column { header: "CONTAINER ID", field: "ID" }, Column { header: "NAMES", field: "Names" }],
            headers: &[("Status", "STATUS"), ("Labels", "LABELS")],
            rows: vec![row("0123456789ab", "web", "front"), row("ba9876543210", "옹기", "")],
        }
    }

    #[test]
    fn columns_are_three_apart_and_korean_letters_are_two_wide() {
        assert_eq!(render(&listing(), None, None).unwrap(), "CONTAINER ID   NAMES\n0123456789ab   web\nba9876543210   옹기\n");
        let lines = render(&listing(), Some("table {{.Names}}\\t{{.ID}}"), None).unwrap();
        assert_eq!(lines, "NAMES     CONTAINER ID\nweb       0123456789ab\n옹기      ba9876543210\n");
    }

    #[test]
    fn a_table_of_a_template_has_the_headers_of_its_fields() {
        let lines = render(&listing(), Some("table {{.Status}}\\t{{upper .Names}}\\t{{.Label \"com.tier\"}}"), None).unwrap();
        assert_eq!(lines, "STATUS         NAMES     tier\nUp 2 minutes   WEB       front\nUp 2 minutes   옹기      \n");
    }

    #[test]
    fn quiet_is_one_field_and_a_template_wins_over_it() {
        assert_eq!(render(&listing(), None, Some("ID")).unwrap(), "0123456789ab\nba9876543210\n");
        assert_eq!(render(&listing(), Some("{{.Names}}"), Some("ID")).unwrap(), "web\n옹기\n");
    }

    #[test]
    fn json_is_one_row_a_line_without_what_is_hidden() {
        let first = "{\"ID\":\"0123456789ab\",\"Labels\":\"\",\"Names\":\"web\",\"Status\":\"Up 2 minutes\"}\n";
        assert!(render(&listing(), Some("json"), None).unwrap().starts_with(first));
    }

    #[test]
    fn a_wrong_field_is_wrong_without_rows_too() {
        let empty = Listing { rows: Vec::new(), ..listing() };
        assert_eq!(render(&empty, Some("{{.ID}}"), None).unwrap(), "");
        assert!(render(&empty, Some("{{.IDs}}"), None).is_err());
        assert_eq!(render(&empty, None, None).unwrap(), "CONTAINER ID   NAMES\n");
    }
}
