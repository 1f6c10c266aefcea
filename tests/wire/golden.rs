//! Golden files: `<name>.json`, and `<name>.hex` with the MessagePack bytes in hexadecimal.
//!
//! A frame that changes breaks somebody's client. A new or extended frame gets a new file beside the old
//! ones: `cargo test --test wire -- --ignored` writes those that are missing, and never touches others.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use tablecast::protocol::frame::Format;

/// One frame as it goes over the wire.
pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) json: Bytes,
    pub(crate) messagepack: Bytes,
}

impl Golden {
    pub(crate) fn of(name: &'static str, frame: &impl serde::Serialize) -> Self {
        Self {
            name,
            json: Format::Json.encode(frame),
            messagepack: Format::MessagePack.encode(frame),
        }
    }

    fn json_text(&self) -> String {
        format!("{}\n", std::str::from_utf8(&self.json).expect("JSON is text"))
    }

    fn hex_text(&self) -> String {
        format!("{}\n", hex(&self.messagepack))
    }

    pub(crate) fn check(&self) {
        for (ending, now) in [("json", self.json_text()), ("hex", self.hex_text())] {
            let path = path(self.name, ending);
            let then = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(now, then, "{} differs from {}", self.name, path.display());
        }
    }

    fn write_if_missing(&self) {
        for (ending, text) in [("json", self.json_text()), ("hex", self.hex_text())] {
            let path = path(self.name, ending);
            if !path.exists() {
                fs::write(path, text).expect("the folder is ours");
            }
        }
    }
}

pub(crate) fn path(name: &str, ending: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/golden");
    PathBuf::from(folder).join(format!("{name}.{ending}"))
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    let bytes = digits.map(|pair| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    });
    bytes.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

#[test]
#[ignore = "writes golden files that are missing"]
fn write_missing_golden_files() {
    for golden in crate::server::all().iter().chain(&crate::client::all()) {
        golden.write_if_missing();
    }
}
