//! The same figures for people: a table, and bars to see at a glance who is where.

use crate::contest::Line;
use std::fmt::Write as _;

const BAR: usize = 28;

/// One case: a headline, then a bar for each contestant.
pub fn show(line: &Line) -> String {
    let mut out = String::new();
    let verdict = match (line.ok, line.target) {
        (_, None) => "",
        (true, Some(_)) => "ok",
        (false, Some(_)) => "SHORT",
    };
    let bound = if line.higher_is_better { "at least" } else { "at most" };
    let asked = match (line.ratio, line.target) {
        (Some(ratio), Some(target)) => format!("ratio {ratio:.2}, {bound} {target}"),
        (Some(ratio), None) => format!("ratio {ratio:.2}"),
        (None, Some(target)) => format!("{bound} {target} {}", line.unit),
        (None, None) => String::new(),
    };
    let _ = writeln!(out, "{:<10} {:<58} {asked:<26} {verdict}", line.group, line.case);
    let mut rows = vec![("chronicle", line.ours.median, Some((line.ours.min, line.ours.max)))];
    rows.extend(line.floor.map(|(name, median)| (name, median, None)));
    rows.extend(line.rivals.iter().map(|(name, spread)| (*name, spread.median, Some((spread.min, spread.max)))));
    let most = rows.iter().map(|row| row.1).fold(0.0, f64::max);
    for (name, median, spread) in rows {
        let filled = if most > 0.0 { (median / most * BAR as f64).round() as usize } else { 0 };
        let bar = "█".repeat(filled.clamp(usize::from(median > 0.0), BAR));
        let note = line.notes.iter().find(|note| note.0 == name).map_or(String::new(), |note| told(&note.1));
        let spread = spread.map_or(String::new(), |(min, max)| format!("{} to {}", short(min), short(max)));
        let _ = writeln!(out, "    {name:<28} {:>9} {:<8} {bar:<BAR$} {spread:<16} {note}", short(median), line.unit);
    }
    out
}

/// Words as they are; figures by name.
fn told(note: &serde_json::Value) -> String {
    match note {
        serde_json::Value::String(words) => words.clone(),
        serde_json::Value::Object(figures) => {
            let each = figures.iter().map(|(name, figure)| format!("{name} {}", short(figure.as_f64().unwrap_or(0.0))));
            each.collect::<Vec<_>>().join("  ")
        }
        other => other.to_string(),
    }
}

/// Three digits and no exponent.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        x if x < 10.0 => format!("{figure:.2}"),
        x if x < 100.0 => format!("{figure:.1}"),
        x if x < 1e5 => format!("{figure:.0}"),
        x if x < 1e7 => format!("{:.0}k", figure / 1e3),
        _ => format!("{:.0}M", figure / 1e6),
    }
}
