//! A sealed session moves with its client: another address is challenged, and gets the session when it
//! answers (spec 4.13). Plain sessions stay where they are.

use super::super::emit::Control;
use super::super::parts::Failure;
use super::super::proof::Proof;
use super::Endpoint;
use super::connecting::Owner;
use crate::wire::FrameType;
use std::net::SocketAddr;
use std::time::Instant;

impl Endpoint {
    /// The newest datagram so far of a session came from here.
    pub(super) fn note_path(&mut self, now: Instant, index: usize, from: SocketAddr, len: usize) {
        let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) else {
            return;
        };
        let addr = peer.addr;
        let Some(path) = peer.sealed.as_mut().map(|sealed| &mut sealed.path) else {
            return;
        };
        if addr == from {
            path.is_home();
        } else if path.may_move {
            let token = self.secret.u64().to_be_bytes();
            path.came_from(now, from, len, token);
            self.send_challenge(now, index);
            self.mark_active(index);
        }
    }

    /// Asks the other address whether the peer is there, if that is due and no more goes there than came.
    pub(super) fn send_challenge(&mut self, now: Instant, index: usize) {
        let sealed = self.peer_mut(index).and_then(|peer| peer.sealed.as_mut());
        let due = sealed.and_then(|sealed| sealed.path.take_challenge(now));
        let Some((to, token)) = due else {
            return;
        };
        let mut ping = Vec::new();
        let control = Control {
            typ: FrameType::Ping,
            proof: Proof::Sealed,
            payload: &token,
        };
        control.write(&mut ping, |_| ());
        self.push_aside(index, to, ping);
    }

    /// A frame other than HELLO came: if from the address of the session, WELCOME has arrived there.
    pub(super) fn prove_path(&mut self, index: usize, from: SocketAddr) {
        let Some(peer) = self.peer_mut(index).filter(|peer| peer.addr == from) else {
            return;
        };
        let path = peer.sealed.as_mut().map(|sealed| &mut sealed.path);
        if let Some(path) = path.filter(|path| !path.is_proven) {
            path.is_proven = true;
            self.mark_active(index);
        }
    }

    /// PONG; whether it answered the challenge, which moves the session.
    pub(super) fn on_challenge_answered(
        &mut self,
        index: usize,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let sealed = self.peer(index).and_then(|peer| peer.sealed.as_ref());
        let is_answer = sealed.is_some_and(|sealed| sealed.path.is_answer(from, payload));
        if is_answer && self.relocate(index, from, true) {
            self.stats.sessions_moved += 1;
        }
        is_answer
    }

    /// Gives a session another address, but not one that another sealed session has. Where its peer was
    /// seen to be, its messages still name it.
    pub(super) fn relocate(&mut self, index: usize, to: SocketAddr, is_proven: bool) -> bool {
        match self.sessions.get(&to).copied() {
            Some(_) if self.is_sealed(to) => return false,
            Some(other) => self.end_session(other, Failure::Replaced),
            None => {}
        }
        let Some(peer) = self.peer_mut(index) else {
            return false;
        };
        let old = std::mem::replace(&mut peer.addr, to);
        let path = peer.sealed.as_mut().map(|sealed| &mut sealed.path);
        let gone = path
            .filter(|_| is_proven)
            .and_then(|path| path.moved(old, to));
        self.sessions.remove(&old);
        self.sessions.insert(to, index);
        self.recent = None;
        self.former.remove(&to);
        self.judging.remove(&to);
        if is_proven {
            self.former.insert(old, index);
        }
        if let Some(gone) = gone {
            self.forget_former(gone, index);
        }
        self.uncount_session(old.ip());
        self.count_session(to.ip());
        self.mark_active(index);
        true
    }

    fn forget_former(&mut self, addr: SocketAddr, index: usize) {
        if self.former.get(&addr) == Some(&index) {
            self.former.remove(&addr);
        }
    }

    /// The session of this peer has ended: nothing leads to it any more.
    pub(super) fn forget_seal(&mut self, index: usize) {
        let sealed = self.peer(index).and_then(|peer| peer.sealed.as_ref());
        let Some(sealed) = sealed else {
            return;
        };
        let id = sealed.sealing.receive_id();
        let former: Vec<SocketAddr> = sealed.path.former().collect();
        for addr in former {
            self.forget_former(addr, index);
        }
        if matches!(self.sealed.get(&id), Some(Owner::Session(owner)) if *owner == index) {
            self.sealed.remove(&id);
        }
    }
}
