//! `runner check`: problems of job files.

use jobs::Diagnostics;

use super::format::count;
use super::sink::Sink;

/// Prints problems with their places, and a line for each file without errors.
pub fn text(sink: &mut Sink, files: &[(String, Diagnostics)], color: bool) {
    for (name, diagnostics) in files {
        sink.write(diagnostics.render(color).as_bytes());
        if diagnostics.errors() == 0 {
            let warnings = match diagnostics.warnings() {
                0 => String::new(),
                number => format!(", {}", count(number as u64, "warning")),
            };
            sink.line(&format!("{}: good{warnings}", super::plain::show_name(name)));
        }
    }
    sink.flush();
}

/// Prints an array with an object for each file.
pub fn json(sink: &mut Sink, files: &[(String, Diagnostics)]) {
    let all: Vec<_> = files.iter().map(|(_, diagnostics)| diagnostics.to_json()).collect();
    sink.line(&serde_json::Value::Array(all).to_string());
    sink.flush();
}
