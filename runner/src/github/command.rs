//! Workflow commands, `::name key=value,key=value::data`: lines of output that the agent obeys.

/// A line that the agent obeys.
#[derive(Debug)]
pub struct Order {
    name: &'static str,
    properties: Vec<String>,
}

impl Order {
    /// One without properties.
    pub fn new(name: &'static str) -> Self {
        Self { name, properties: Vec::new() }
    }

    /// Adds a property; the agent drops one without a value.
    #[must_use]
    pub fn property(mut self, key: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.properties.push(format!("{key}={}", property(value)));
        }
        self
    }

    /// Returns the line, without a newline.
    pub fn data(self, data: &str) -> String {
        let space = if self.properties.is_empty() { "" } else { " " };
        format!("::{}{space}{}::{}", self.name, self.properties.join(","), escaped(data))
    }
}

/// Data is one line: `%` first, for it is what the others become.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property ends at `:` or `,`.
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_ends_it() {
        assert_eq!(Order::new("endgroup").data(""), "::endgroup::");
        assert_eq!(
            Order::new("error").property("title", "a:b,c%\n").property("file", "").data("x::y\r\n100%"),
            "::error title=a%3Ab%2Cc%25%0A::x::y%0D%0A100%25"
        );
    }
}
