//! WebSocket's frames (RFC 6455) as they stand on a line.

use std::io::{self, Read};

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToNode,
    ToServer,
}

/// A frame with its head.
#[derive(Debug, Clone)]
pub(crate) struct Frame(Vec<u8>);

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const PING: u8 = 9;

impl Frame {
    /// A frame; that of a node has a mask, here one that changes nothing.
    pub(crate) fn new(way: Way, kind: u8, payload: &[u8]) -> Self {
        let masked = if way == Way::ToServer { 0x80 } else { 0 };
        let mut frame = vec![0x80 | kind];
        match payload.len() {
            length @ 0..126 => frame.push(masked | u8::try_from(length).unwrap()),
            length @ 126..0x1_0000 => {
                frame.push(masked | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(masked | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked != 0 {
            frame.extend([0; 4]);
        }
        frame.extend(payload);
        Self(frame)
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut frame = vec![0; 2];
        from.read_exact(&mut frame)?;
        let more = match frame[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut length = vec![0; more];
        from.read_exact(&mut length)?;
        let bytes = match more {
            0 => u64::from(frame[1] & 0x7f),
            _ => length.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
        };
        frame.extend(length);
        let head = frame.len();
        frame.resize(head + 4 * usize::from(frame[1] >> 7) + usize::try_from(bytes).unwrap(), 0);
        from.read_exact(&mut frame[head..])?;
        Ok(Self(frame))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[0] & 0x0f
    }

    /// Whether it carries a message, and is no ping, pong or farewell.
    pub(crate) fn is_data(&self) -> bool {
        self.kind() < 8
    }

    /// What it carries, without its mask.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let head = match self.0[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let rest = &self.0[head..];
        match self.0[1] & 0x80 {
            0 => rest.to_vec(),
            _ => rest[4..].iter().zip(rest[..4].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(),
        }
    }

    /// The same for a control message.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.payload()).unwrap()
    }
}
