//! Somebody between a node and its API server, who reads everything, and changes, keeps back, repeats and makes up what it
//! likes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

pub(super) use crate::support::Way;
use crate::support::{BINARY, Frame, Line, TEXT};

/// What a control message becomes: any number of others.
type Rewrite = Box<dyn FnMut(Way, String) -> Vec<String> + Send>;

/// Somebody on a line.
#[derive(Clone)]
pub(super) struct Middle {
    pub(super) at: SocketAddr,
    line: Line,
    rewrite: Arc<Mutex<Rewrite>>,
    seen: Arc<Mutex<Vec<(Way, String)>>>,
}

impl Middle {
    /// Somebody who only listens, for now.
    pub(super) fn start(server: SocketAddr) -> Self {
        let line = Line::to(server);
        let rewrite: Arc<Mutex<Rewrite>> = Arc::new(Mutex::new(Box::new(|_, text| vec![text])));
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let (rewriting, seeing) = (rewrite.clone(), seen.clone());
        line.change(move |way, whole| {
            if whole.kind() != TEXT {
                return vec![whole];
            }
            seeing.lock().unwrap().push((way, whole.text()));
            let instead = (rewriting.lock().unwrap())(way, whole.text());
            instead.iter().map(|text| Frame::new(way, TEXT, text.as_bytes())).collect()
        });
        Self { at: line.at, line, rewrite, seen }
    }

    /// Does that to all control messages from now on.
    pub(super) fn rewrite(&self, rewrite: impl FnMut(Way, String) -> Vec<String> + Send + 'static) {
        *self.rewrite.lock().unwrap() = Box::new(rewrite);
    }

    /// Says a control message of its own.
    pub(super) fn say(&self, way: Way, text: &str) {
        self.line.send(way, &Frame::new(way, TEXT, text.as_bytes())).unwrap();
    }

    /// Sends bytes of a log of its own many times at once; whether the line still stood.
    pub(super) fn flood(&self, way: Way, bytes: &[u8], times: usize) -> bool {
        let frame = Frame::new(way, BINARY, bytes);
        (0..times).all(|_| self.line.send(way, &frame).is_ok())
    }

    /// Sends parts of a log and control messages of its own in one go.
    pub(super) fn send_together(&self, way: Way, logs: &[Vec<u8>], texts: &[String]) {
        let logs = logs.iter().map(|bytes| Frame::new(way, BINARY, bytes));
        let texts = texts.iter().map(|text| Frame::new(way, TEXT, text.as_bytes()));
        self.line.send_together(way, &logs.chain(texts).collect::<Vec<_>>()).unwrap();
    }

    /// The control messages that either end said.
    pub(super) fn seen(&self, way: Way) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(went, _)| *went == way).map(|(_, text)| text.clone()).collect()
    }

    /// Cuts the line.
    pub(super) fn cut(&self) {
        self.line.cut_now();
    }
}
