//! What must hold in every run, whatever the network does: the reference that the endpoints are
//! compared with.
//!
//! Every message of a plan bears its number in a header. Nothing is delivered that was not sent,
//! nothing twice, nothing altered, and nothing is confirmed before it was delivered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use vstp::Frame;
use vstp::proto::datagram::{Failure, Token};

/// The header that says which message it is.
const NUMBER: &str = "n";
/// What the protocol adds to a frame on its way.
const RESERVED: [&[u8]; 2] = [b"msg-id", b"sid"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Sent without acknowledgement: nothing is promised.
    Unpromised,
    Pending,
    Delivered(Duration),
    Failed(Duration, Failure),
}

#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) frame: Frame,
    pub(crate) outcome: Outcome,
    /// The endpoints that got it, and when: address and how often it had been restarted.
    pub(crate) got: Vec<(SocketAddr, u32, Duration)>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) sent: Vec<Sent>,
    tokens: HashMap<(SocketAddr, Token), usize>,
    pending: usize,
    /// Messages without a number: a test's own, made by hand.
    pub(crate) foreign: Vec<(Duration, SocketAddr, Frame)>,
    /// Set when a NAT is at work: addresses do not say then who somebody is.
    pub(crate) addresses_change: bool,
}

impl Model {
    /// Writes the number of the next message into the frame.
    pub(crate) fn number(&self, frame: Frame) -> Frame {
        frame.with_header(NUMBER, self.sent.len().to_string())
    }

    /// The numbered frame was handed over; `token` where an acknowledgement was asked for.
    pub(crate) fn sent(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        frame: Frame,
        token: Option<Token>,
    ) {
        let number = self.sent.len();
        let outcome = match token {
            None => Outcome::Unpromised,
            Some(token) => {
                let before = self.tokens.insert((from, token), number);
                assert!(before.is_none(), "{token:?} was given twice");
                self.pending += 1;
                Outcome::Pending
            }
        };
        let got = Vec::new();
        self.sent.push(Sent {
            from,
            to,
            frame,
            outcome,
            got,
        });
    }

    /// `host`, restarted `life` times, got a message.
    pub(crate) fn got(
        &mut self,
        at: Duration,
        host: SocketAddr,
        life: u32,
        from: SocketAddr,
        frame: Frame,
    ) {
        let Some(number) = frame
            .header_str(NUMBER)
            .and_then(|n| n.parse::<usize>().ok())
        else {
            self.foreign.push((at, from, frame));
            return;
        };
        let sent = self.sent.get_mut(number);
        let sent = sent.unwrap_or_else(|| panic!("message {number} was never sent"));
        if !self.addresses_change {
            assert_eq!(sent.to, host, "message {number} went to another endpoint");
            assert_eq!(sent.from, from, "message {number} says another sender");
        }
        let before = sent.got.iter().find(|(h, l, _)| (*h, *l) == (host, life));
        if let Some((_, _, before)) = before {
            panic!("message {number} was delivered at {before:?} and again at {at:?}");
        }
        sent.got.push((host, life, at));
        assert_eq!(sent.frame.typ, frame.typ, "message {number}: type");
        assert!(
            sent.frame.payload == frame.payload,
            "message {number}: payload"
        );
        assert_eq!(
            headers(&sent.frame),
            headers(&frame),
            "message {number}: headers"
        );
    }

    /// The acknowledgement came: the message must have been there.
    pub(crate) fn delivered(&mut self, at: Duration, host: SocketAddr, token: Token) {
        let (number, sent) = self.settle(host, token);
        assert!(
            !sent.got.is_empty(),
            "message {number} is confirmed but was never delivered"
        );
        sent.outcome = Outcome::Delivered(at);
    }

    pub(crate) fn failed(&mut self, at: Duration, host: SocketAddr, token: Token, why: Failure) {
        self.settle(host, token).1.outcome = Outcome::Failed(at, why);
    }

    fn settle(&mut self, host: SocketAddr, token: Token) -> (usize, &mut Sent) {
        let number = self.tokens.get(&(host, token)).copied();
        let number = number.unwrap_or_else(|| panic!("{token:?} was never given to {host}"));
        let sent = &mut self.sent[number];
        assert_eq!(
            sent.outcome,
            Outcome::Pending,
            "message {number} ends a second time"
        );
        self.pending -= 1;
        (number, sent)
    }

    /// The endpoint at this address is gone, and with it what it had not finished.
    pub(crate) fn forget(&mut self, host: SocketAddr) {
        self.tokens.retain(|(from, _), _| *from != host);
        for sent in &mut self.sent {
            if sent.from == host && sent.outcome == Outcome::Pending {
                sent.outcome = Outcome::Unpromised;
                self.pending -= 1;
            }
        }
    }

    pub(crate) fn pending_count(&self) -> usize {
        self.pending
    }

    pub(crate) fn delivered_count(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Delivered(_)))
    }

    pub(crate) fn failed_count(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(..)))
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.sent.iter().filter(|sent| is(&sent.outcome)).count()
    }

    /// Every message that asked for an acknowledgement has one.
    #[track_caller]
    pub(crate) fn assert_all_delivered(&self) {
        for (number, sent) in self.sent.iter().enumerate() {
            let fine = matches!(sent.outcome, Outcome::Delivered(_) | Outcome::Unpromised);
            let len = sent.frame.payload.len();
            assert!(
                fine,
                "message {number} of {len} bytes ended as {:?}",
                sent.outcome
            );
        }
    }
}

/// The headers of the application, in their order.
fn headers(frame: &Frame) -> Vec<(Vec<u8>, Vec<u8>)> {
    frame
        .headers
        .iter()
        .filter(|header| !RESERVED.contains(&header.key))
        .map(|header| (header.key.to_vec(), header.value.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn one_message() -> (Model, Frame) {
        let mut model = Model::default();
        let frame = model.number(Frame::data("text").with_header("key", "value"));
        model.sent(addr(1), addr(2), frame.clone(), None);
        (model, frame)
    }

    #[test]
    fn a_message_that_arrives_once_is_fine_and_one_of_a_test_is_set_aside() {
        let (mut model, frame) = one_message();
        let added = frame.with_header("msg-id", "7");
        model.got(Duration::ZERO, addr(2), 0, addr(1), added.clone());
        model.got(Duration::ZERO, addr(2), 1, addr(1), added);
        model.got(Duration::ZERO, addr(2), 0, addr(3), Frame::data("by hand"));
        assert_eq!(model.foreign.len(), 1);
        model.assert_all_delivered();
    }

    #[test]
    #[should_panic(expected = "and again at")]
    fn a_second_delivery_is_found() {
        let (mut model, frame) = one_message();
        model.got(Duration::ZERO, addr(2), 0, addr(1), frame.clone());
        model.got(Duration::ZERO, addr(2), 0, addr(1), frame);
    }

    #[test]
    #[should_panic(expected = "payload")]
    fn an_altered_payload_is_found() {
        let (mut model, frame) = one_message();
        model.got(
            Duration::ZERO,
            addr(2),
            0,
            addr(1),
            frame.with_payload("tex"),
        );
    }

    #[test]
    #[should_panic(expected = "headers")]
    fn an_altered_header_is_found() {
        let (mut model, frame) = one_message();
        model.got(
            Duration::ZERO,
            addr(2),
            0,
            addr(1),
            frame.with_header("more", ""),
        );
    }

    #[test]
    #[should_panic(expected = "another endpoint")]
    fn a_message_at_the_wrong_endpoint_is_found() {
        let (mut model, frame) = one_message();
        model.got(Duration::ZERO, addr(3), 0, addr(1), frame);
    }

    #[test]
    #[should_panic(expected = "never sent")]
    fn a_message_from_nowhere_is_found() {
        let (mut model, _) = one_message();
        let frame = Frame::data("").with_header(NUMBER, "1");
        model.got(Duration::ZERO, addr(2), 0, addr(1), frame);
    }
}
