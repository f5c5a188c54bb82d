//! Bytes to JSON and back, without leaving secrets behind.

use std::io;
use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use super::DocumentError;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether a byte order mark comes first.
pub(super) fn is_marked(bytes: &[u8]) -> bool {
    bytes.starts_with("\u{feff}".as_bytes())
}

/// Reads the top level; blank text is an empty one.
pub(super) fn parse(bytes: &[u8]) -> Result<Map<String, Value>, DocumentError> {
    let text =
        str::from_utf8(bytes).map_err(|error| DocumentError::NotUtf8 { offset: error.valid_up_to() })?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    if has_too_many_values(text) {
        return Err(DocumentError::TooManyValues { limit: MOST_VALUES });
    }
    let found = match serde_json::from_str(text) {
        Ok(Value::Object(root)) => return Ok(root),
        Ok(mut other) => {
            wipe(&mut other);
            kind_of(&other)
        }
        Err(error) => return Err(explain(text.trim(), &error)),
    };
    Err(DocumentError::NotAnObject { found })
}

/// A value takes up to some hundred bytes of memory for one of text. An entry has 15, so this is far
/// above what anybody's cache holds; how deeply they are nested, the parser limits itself.
const MOST_VALUES: usize = 1_000_000;

/// Counted from above, by what must stand before each value but the first of all.
fn has_too_many_values(text: &str) -> bool {
    text.len() > MOST_VALUES
        && text.bytes().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count() > MOST_VALUES
}

/// Writes it in Python's layout, so that a file that Python wrote comes back byte for byte.
pub(super) fn to_bytes(root: &Map<String, Value>) -> Zeroizing<Vec<u8>> {
    let mut buffer = Buffer(Zeroizing::new(Vec::new()));
    let layout = PythonLayout(PrettyFormatter::with_indent(b"    "));
    root.serialize(&mut Serializer::with_formatter(&mut buffer, layout))
        .expect("a JSON value is always written to memory");
    buffer.0
}

/// Overwrites every secret in it.
pub(super) fn wipe(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => wipe_members(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Overwrites every secret among these members and below them.
pub(super) fn wipe_members(members: &mut Map<String, Value>) {
    for (name, value) in members.iter_mut() {
        match value {
            Value::String(text) if name == "secret" => text.zeroize(),
            other => wipe(other),
        }
    }
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "an array",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
        Value::Number(_) => "a number",
        Value::Object(_) => "an object",
        Value::String(_) => "a string",
    }
}

fn explain(text: &str, error: &serde_json::Error) -> DocumentError {
    let (line, column) = (error.line(), error.column());
    if is_jwe(text) {
        DocumentError::Jwe
    } else if is_base64_of_json(text) {
        DocumentError::Base64
    } else if error.is_eof() {
        DocumentError::Truncated { line, column }
    } else {
        DocumentError::NotJson { line, column }
    }
}

/// RFC 7516, section 7.1: five parts, the first of them a JSON header.
fn is_jwe(text: &str) -> bool {
    let mut parts = text.split('.');
    let header = parts.next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let is_base64url =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    header.is_some_and(|json| serde_json::from_slice::<Map<String, Value>>(&json).is_ok())
        && parts.clone().count() == 4
        && parts.all(is_base64url)
}

fn is_base64_of_json(text: &str) -> bool {
    let Ok(decoded) = STANDARD.decode(text).map(Zeroizing::new) else {
        return false;
    };
    parse(&decoded).is_ok_and(|mut root| {
        wipe_members(&mut root);
        true
    })
}

/// Four spaces and escapes outside ASCII, as `json.dumps(…, indent=4)` writes: MSAL for Python
/// reads a plaintext file in the locale's encoding, which need not be UTF-8.
struct PythonLayout(PrettyFormatter<'static>);

impl Formatter for PythonLayout {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let is_plain = |c: char| c.is_ascii() && c != '\u{7f}';
        // Nearly all text is ASCII, which is seen much sooner than character by character.
        if fragment.is_ascii() && !fragment.contains('\u{7f}') {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !is_plain(c)) {
            let (plain, odd) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let end = odd.find(is_plain).unwrap_or(odd.len());
            for unit in odd[..end].encode_utf16() {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &odd[end..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// A growing buffer that, unlike a `Vec`, overwrites the smaller one it moves out of.
struct Buffer(Zeroizing<Vec<u8>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed * 2));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_written_in_ascii_as_python_does() {
        let root = json!({"é😀\u{7f}\n\"": {}, "a": [1, "ü"], "b": []});
        let written = to_bytes(root.as_object().unwrap());
        let expected = "{\n    \"\\u00e9\\ud83d\\ude00\\u007f\\n\\\"\": {},\n    \"a\": [\n        1,\n        \"\\u00fc\"\n    ],\n    \"b\": []\n}";
        assert_eq!(str::from_utf8(&written).unwrap(), expected);
        assert_eq!(Value::Object(parse(&written).unwrap()), root);
    }

    #[test]
    fn secrets_are_overwritten_wherever_they_stand() {
        let mut value = json!({"a": {"secret": "s", "target": "t"}, "b": [{"secret": {"secret": "s"}}]});
        wipe(&mut value);
        assert_eq!(value, json!({"a": {"secret": "", "target": "t"}, "b": [{"secret": {"secret": ""}}]}));
    }
}
