//! The manual says what the code does: its examples are read by the code.

use serde_json::Value;
use tablecast::protocol::frame::Format;

const MANUAL: &str = include_str!("../../docs/protocol.md");

/// Every line of every JSON example.
fn examples() -> Vec<&'static str> {
    let blocks = MANUAL.split("```json\n").skip(1);
    blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines()).collect()
}

fn type_of(json: &[u8]) -> String {
    let frame: Value = serde_json::from_slice(json).expect("JSON");
    frame["type"].as_str().expect("a type").to_owned()
}

#[test]
fn every_frame_is_in_the_manual() {
    let shown: Vec<String> = examples().iter().map(|line| type_of(line.as_bytes())).collect();
    for golden in crate::server::all().iter().chain(&crate::client::all()) {
        let name = type_of(&golden.json);
        let is_told =
            shown.contains(&name) || MANUAL.contains(&format!("### `watch_lobby`, `{name}`"));
        assert!(is_told, "{name} is not in docs/protocol.md");
    }
}

#[test]
fn the_manuals_client_frames_are_understood() {
    let of_clients: Vec<String> =
        crate::client::all().iter().map(|golden| type_of(&golden.json)).collect();
    let mut understood = 0;
    for line in examples() {
        if of_clients.contains(&type_of(line.as_bytes())) {
            Format::Json.decode(line.as_bytes()).expect(line);
            understood += 1;
        }
    }
    assert!(understood >= of_clients.len() - 1);
}
