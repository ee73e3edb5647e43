//! What travels: whatever comes there is an answer and no panic, and what is written is read as it was.

use agent_fleet::frame::{LogFrame, MAX_CHUNK_BYTES, MAX_FRAME_BYTES};
use agent_fleet::message::{
    CatalogueScript, MAX_MESSAGE_BYTES, MessageError, ToNode, ToServer, decode, encode, end_in_other_words,
};
use proptest::prelude::*;
use task_service::TaskId;

fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

proptest! {
    #[test]
    fn a_log_frame_is_read_as_it_was_written(
        id in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        attempt in 1_u32..,
        offset in 0..=(i64::MAX as u64 - MAX_CHUNK_BYTES as u64),
        bytes in prop::collection::vec(any::<u8>(), 1..2000),
    ) {
        let frame = LogFrame { task: task(&id), attempt, offset, bytes: &bytes };
        let written = frame.encode();
        prop_assert!(written.len() <= MAX_FRAME_BYTES);
        prop_assert_eq!(LogFrame::decode(&written).unwrap(), frame);
    }

    #[test]
    fn whatever_bytes_come_there_is_a_frame_within_bounds_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        kind in any::<bool>(),
    ) {
        let bytes = if kind { [&[1, 3], bytes.as_slice()].concat() } else { bytes };
        if let Ok(frame) = LogFrame::decode(&bytes) {
            prop_assert!(!frame.bytes.is_empty() && frame.attempt > 0);
            prop_assert_eq!(frame.encode(), bytes);
        }
    }

    #[test]
    fn whatever_text_comes_there_is_a_message_or_an_error(text in any::<String>()) {
        let _ = decode::<ToNode>(&text);
        let _ = decode::<ToServer>(&text);
    }

    #[test]
    fn whatever_fields_come_there_is_a_message_or_an_error(
        kind in prop::sample::select(vec!["hello", "taken", "held", "assign", "ended", "settled", "cancel", "x"]),
        field in prop::sample::select(vec!["task", "bytes", "hello", "payload", "times", "again", "result"]),
        value in prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just("{}".to_owned()), Just("[]".to_owned()), Just("null".to_owned()), Just("1e999".to_owned()),
        ],
    ) {
        let text = format!("{{\"v\": 1, \"type\": \"{kind}\", \"{field}\": {value}}}");
        let _ = decode::<ToNode>(&text);
        let _ = decode::<ToServer>(&text);
    }

    #[test]
    fn a_message_is_read_as_it_was_written(bytes in any::<u64>(), again in any::<bool>(), times in any::<u32>()) {
        let held = ToNode::Held { task: task("a"), bytes, again, accepted: None };
        prop_assert_eq!(decode::<ToNode>(&encode(&held).unwrap()).unwrap(), held);
        let cancel = ToNode::Cancel { task: task("a"), times, accepted: None };
        prop_assert_eq!(decode::<ToNode>(&encode(&cancel).unwrap()).unwrap(), cancel);
    }
}

/// Messages as they are sent: one of each type that has something to be read wrongly.
const MESSAGES: [&str; 9] = [
    r#"{"v":1,"type":"challenge","version":1,"key":"KEY","nonce":"NONCE","signature":"SIGNATURE"}"#,
    r#"{"v":1,"type":"welcome","tasks":[{"task":"a","held":12}],"wants_catalogue":true}"#,
    r#"{"v":1,"type":"refuse","code":"version","message":"no"}"#,
    r#"{"v":1,"type":"assign","payload":"{}","signature":"SIGNATURE"}"#,
    r#"{"v":1,"type":"held","task":"a","bytes":3,"again":false}"#,
    r#"{"v":1,"type":"hello","hello":"{}","signature":"SIGNATURE"}"#,
    r#"{"v":1,"type":"catalogue","digest":"d","scripts":[{"name":"a.sh","sha256":"x","header":""}],"is_last":true}"#,
    r#"{"v":1,"type":"started","task":"a","header_bytes":7}"#,
    r#"{"v":1,"type":"complaint","task":null,"code":"x","message":"y"}"#,
];

/// The message with keys and signatures of the right length.
fn filled(message: &str) -> String {
    let digits = |count: usize| "a5".repeat(count);
    message.replace("KEY", &digits(32)).replace("NONCE", &digits(16)).replace("SIGNATURE", &digits(64))
}

/// Reads a message; one that is read is written and read as the same.
fn survives<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    text: &str,
) -> bool {
    let Ok(message) = decode::<T>(text) else { return false };
    assert_eq!(decode::<T>(&encode(&message).unwrap()).unwrap(), message);
    true
}

proptest! {
    #[test]
    fn a_message_with_bytes_changed_put_in_and_left_out_is_read_or_refused_and_never_more(
        which in 0..MESSAGES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, any::<char>()), 1..6),
    ) {
        let mut text: Vec<char> = filled(MESSAGES[which]).chars().collect();
        for (at, edit, character) in edits {
            let at = at.index(text.len());
            match edit {
                0 => text[at] = character,
                1 => text.insert(at, character),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        survives::<ToNode>(&text);
        survives::<ToServer>(&text);
    }

    #[test]
    fn a_frame_with_bytes_changed_and_cut_is_read_or_refused_and_never_more(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut frame = LogFrame { task: task("a-task"), attempt: 1, offset: 5, bytes: b"some bytes" }.encode();
        for (at, byte) in edits {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(cut.index(frame.len() + 1));
        if let Ok(read) = LogFrame::decode(&frame) {
            prop_assert_eq!(read.encode(), frame);
        }
    }
}

#[test]
fn each_of_those_messages_is_read_by_one_end_as_it_stands() {
    for message in MESSAGES {
        let text = filled(message);
        assert!(survives::<ToNode>(&text) != survives::<ToServer>(&text), "{text}");
    }
}

#[test]
fn nesting_without_end_is_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = format!("{}0{}", open.repeat(100_000), close.repeat(100_000));
        let text = format!("{{\"v\":1,\"type\":\"settled\",\"task\":\"a\",\"more\":{nested}}}");
        assert!(decode::<ToNode>(&text).is_err());
    }
}

#[test]
fn a_chunk_is_bounded_and_never_empty() {
    let bytes = vec![7; MAX_CHUNK_BYTES + 1];
    let frame = |bytes| LogFrame { task: task("a"), attempt: 1, offset: 0, bytes }.encode();
    assert!(LogFrame::decode(&frame(&bytes[1..])).is_ok());
    assert!(LogFrame::decode(&frame(&bytes)).is_err());
    assert!(LogFrame::decode(&frame(&[])).is_err());
}

#[test]
fn a_message_of_another_version_names_it_and_further_fields_are_ignored() {
    let text = r#"{"v": 2, "type": "settled", "task": "a"}"#;
    assert!(matches!(decode::<ToNode>(text), Err(MessageError::Version { found: 2 })));
    let text = r#"{"v": 1, "type": "settled", "task": "a", "later": true}"#;
    assert_eq!(decode::<ToNode>(text).unwrap(), ToNode::Settled { task: task("a"), accepted: None });
    assert!(decode::<ToNode>(r#"{"v": 1, "type": "settled", "task": "../a"}"#).is_err());
}

#[test]
fn a_message_that_is_too_long_is_neither_written_nor_read() {
    let long = "x".repeat(MAX_MESSAGE_BYTES);
    let complaint =
        ToServer::Complaint { task: None, accepted: None, code: "x".to_owned(), message: long.clone() };
    assert!(matches!(encode(&complaint), Err(MessageError::TooLong { .. })));
    let text = format!(r#"{{"v": 1, "type": "settled", "task": "{long}"}}"#);
    assert!(matches!(decode::<ToNode>(&text), Err(MessageError::TooLong { .. })));
}

#[test]
fn an_end_in_words_of_a_newer_node_is_still_an_end() {
    let text = r#"{"v":1,"type":"ended","task":"t-1","log_bytes":7,"result":{"outcome":"evaporated"}}"#;
    let error = decode::<ToServer>(text).unwrap_err();
    let ended = end_in_other_words(text, &error).unwrap();
    assert_eq!((ended.task.as_str(), ended.log_bytes, ended.result.log.bytes), ("t-1", 7, 7));
    assert_eq!(ended.result.error.unwrap().code, "result_unreadable");
    // The twin: what is no end is none.
    for other in [r#"{"v":1,"type":"vanished","task":"t-1","log_bytes":7}"#, r#"{"v":1,"type":"ended"}"#, "x"]
    {
        let error = decode::<ToServer>(other).unwrap_err();
        assert_eq!(end_in_other_words(other, &error), None);
    }
}

#[test]
fn what_is_no_script_is_told_from_one_in_a_catalogue() {
    let script = |name: &str, sha256: &str| CatalogueScript {
        name: name.to_owned(),
        sha256: sha256.to_owned(),
        verified: false,
        header: String::new(),
    };
    assert!(script("deploy/web.sh", &"0a".repeat(32)).is_sound());
    for (name, sha256) in [("../web.sh", "0a".repeat(32)), ("", "0a".repeat(32)), ("web.sh", "0A".repeat(32))]
    {
        assert!(!script(name, &sha256).is_sound(), "{name} {sha256}");
    }
    assert!(!script("web.sh", &"0a".repeat(1 << 20)).is_sound());
}
