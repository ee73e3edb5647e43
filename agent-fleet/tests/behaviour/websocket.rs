//! The API server's end of a WebSocket beside the library's client: what one sends comes to the other, whatever its parts, and
//! what is no WebSocket ends the connection.

use std::time::Duration;

use agent_fleet::link::{Frame, LinkReceiver, LinkSender};
use agent_fleet::message::MAX_MESSAGE_BYTES;
use agent_fleet::websocket::accepted;
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as Part;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// What a client sends: text or bytes in one or more parts, with a ping between them or not.
type Said = (bool, Vec<Vec<u8>>, bool);

fn said() -> impl Strategy<Value = Vec<Said>> {
    let long = prop_oneof![0..200_usize, 60_000..70_000_usize];
    let part = long.prop_flat_map(|length| prop::collection::vec(prop::num::u8::ANY, length));
    let text = prop::collection::vec("[a-zä]{0,200}".prop_map(String::into_bytes), 1..4);
    let bytes = prop::collection::vec(part, 1..4);
    let message = prop_oneof![(Just(true), text, any::<bool>()), (Just(false), bytes, any::<bool>()),];
    prop::collection::vec(message, 1..6)
}

/// Least room on the way: for the answers to all pings, which a client that is still writing does not read.
const ROOM: usize = 256;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_sends_in_parts_comes_whole(messages in said(), room in ROOM..9000_usize) {
        Runtime::new().unwrap().block_on(async move {
            let (near, far) = duplex(room);
            let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
            let (mut sender, mut receiver) = accepted(far).await;
            let expected = messages.clone();
            let sent = tokio::spawn(async move {
                for (is_text, parts, pings) in messages {
                    send_in_parts(&mut client, is_text, parts, pings).await;
                }
                client
            });
            for (is_text, parts, _) in expected {
                let whole = parts.concat();
                let expected = match is_text {
                    true => Frame::Control(String::from_utf8(whole).unwrap()),
                    false => Frame::Log(whole),
                };
                assert_eq!(next(&mut receiver).await, expected);
            }
            let mut client = sent.await.unwrap();
            tokio::spawn(async move { sender.send(Frame::Control("the end".repeat(10_000))).await });
            let end = loop {
                match client.next().await.unwrap().unwrap() {
                    Message::Pong(payload) => assert_eq!(&payload[..], b"alive"),
                    other => break other,
                }
            };
            assert_eq!(end, Message::text("the end".repeat(10_000)));
        });
    }
}

/// The next frame that is no sign of life.
async fn next(receiver: &mut impl LinkReceiver) -> Frame {
    loop {
        match receiver.receive().await.unwrap() {
            Frame::Ping => {}
            frame => return frame,
        }
    }
}

async fn send_in_parts(
    client: &mut WebSocketStream<DuplexStream>,
    is_text: bool,
    parts: Vec<Vec<u8>>,
    pings: bool,
) {
    let last = parts.len() - 1;
    for (index, part) in parts.into_iter().enumerate() {
        let kind = match (index, is_text) {
            (0, true) => Data::Text,
            (0, false) => Data::Binary,
            _ => Data::Continue,
        };
        let part = Part::message(part, OpCode::Data(kind), index == last);
        client.send(Message::Frame(part)).await.unwrap();
        if pings {
            client.send(Message::Ping("alive".into())).await.unwrap();
        }
    }
}

/// Frames that end the connection, and why.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let too_long = (MAX_MESSAGE_BYTES as u64 + 1).to_be_bytes();
    vec![
        ("not masked", vec![0x81, 0x01, b'a']),
        ("extension", vec![0xc1, 0x80, 0, 0, 0, 0]),
        ("kind", vec![0x8b, 0x80, 0, 0, 0, 0]),
        ("mixed", vec![0x80, 0x80, 0, 0, 0, 0]),
        ("mixed", vec![0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0]),
        ("in parts", vec![0x09, 0x80, 0, 0, 0, 0]),
        ("too long", vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0]),
        ("UTF-8", vec![0x81, 0x81, 0, 0, 0, 0, 0xff]),
        ("longer than any", [&[0x82, 0xff], &too_long[..], &[0; 4]].concat()),
        ("more bytes", vec![0x81, 0xfe, 0, 125, 0, 0, 0, 0]),
        ("more bytes", [&[0x81, 0xff, 0, 0, 0, 0, 0, 0], &[0xff_u8, 0xff][..], &[0; 4]].concat()),
        ("half a code", vec![0x88, 0x81, 0, 0, 0, 0, 3]),
        ("nobody may send", vec![0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed]),
        ("nobody may send", vec![0x88, 0x83, 0, 0, 0, 0, 0x03, 0xe8, 0xff]),
        ("closed", vec![0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]),
        ("closed", vec![0x88, 0x80, 0, 0, 0, 0]),
    ]
}

#[tokio::test]
async fn what_is_no_websocket_ends_the_connection_and_says_why() {
    for (why, bytes) in broken() {
        let (mut near, far) = duplex(1 << 10);
        let (_sender, mut receiver) = accepted(far).await;
        near.write_all(&bytes).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), receiver.receive()).await.unwrap();
        let said = ended.unwrap_err().to_string();
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_a_frame_ends() {
    let (mut near, far) = duplex(1 << 10);
    let (_sender, mut receiver) = accepted(far).await;
    let length = (MAX_MESSAGE_BYTES as u64).to_be_bytes();
    near.write_all(&[&[0x82, 0xff], &length[..], &[0; 4], b"abc"].concat()).await.unwrap();
    near.shutdown().await.unwrap();
    let said = receiver.receive().await.unwrap_err().to_string();
    assert!(said.contains("ended in a frame"), "{said}");
}

/// A node's own signs of life wait behind what it says; without an answer it would take a slow line for one that is cut.
#[tokio::test]
async fn whoever_sends_a_long_message_slowly_hears_that_it_comes() {
    let (mut near, far) = duplex(1 << 10);
    let (sender, mut receiver) = accepted(far).await;
    let receiving = tokio::spawn(async move { receiver.receive().await });
    near.write_all(&[&[0x82, 0xfe, 0x04, 0x00][..], &[0; 4]].concat()).await.unwrap();
    // The pace of a slow line: a KiB in three seconds.
    for _ in 0..32 {
        near.write_all(&[7; 32]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(receiving.await.unwrap().unwrap(), Frame::Log(vec![7; 1024]));
    let mut heard = Vec::new();
    drop(sender);
    near.read_to_end(&mut heard).await.unwrap();
    let pongs = heard.chunks_exact(2).filter(|frame| *frame == [0x8a, 0]).count();
    assert_eq!(pongs * 2, heard.len(), "nothing but pongs: {heard:?}");
    assert!((1..=3).contains(&pongs), "one each second: {pongs}");
}
