//! The job's resolver: questions go to this machine's own, each by a socket and a number of its own, so that nobody but
//! the one who was asked can answer; what it answers is what the list goes by.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::rand::{GetRandomFlags, getrandom};

use super::limits::{QUERIES_MAX, SILENCE_DNS};
use super::tcp::DNS_PORT;
use super::udp::socket_to;
use super::{Source, Worker};
use crate::network::answer;
use crate::network::dns::{self, Code, Question};

/// A question that waits for its answer.
#[derive(Debug)]
struct Query {
    generation: u32,
    /// Who asked.
    from: SocketAddr,
    /// As it was asked.
    message: Vec<u8>,
    question: Question,
    /// Our number for it.
    id: u16,
    /// Which resolver was asked.
    asked: usize,
    socket: OwnedFd,
    since: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Queries {
    slots: Vec<Option<Query>>,
    generation: u32,
}

impl Queries {
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    fn take(&mut self, index: usize, generation: u32) -> Option<Query> {
        let slot = self.slots.get_mut(index)?;
        if slot.as_ref()?.generation == generation { slot.take() } else { None }
    }

    /// The same question, asked again because no answer came.
    fn take_same(&mut self, from: SocketAddr, question: &Question) -> Option<Query> {
        let same = |slot: &&mut Option<Query>| {
            slot.as_ref().is_some_and(|query| query.from == from && query.question == *question)
        };
        self.slots.iter_mut().find(same)?.take()
    }
}

impl Worker {
    /// A question of the job's.
    pub(super) fn question(&mut self, from: SocketAddr, message: &[u8]) {
        let Some(question) = dns::question(message) else {
            // Even an answer's bit set would have it go back and forth for ever.
            if message.get(2).is_some_and(|flags| flags & 0x80 == 0) {
                self.answer_job(from, &dns::refuse(message, None, Code::FormatError));
            }
            return;
        };
        if !self.settings.policy.may_resolve(&question.name) {
            self.answer_job(from, &dns::refuse(message, Some(&question), Code::NoName));
            return self.count_blocked_name(question.name);
        }
        if question.kind == dns::AAAA && self.settings.addresses.v6.is_none() {
            return self.answer_job(from, &dns::refuse(message, Some(&question), Code::NoData));
        }
        let again = self.queries.take_same(from, &question);
        let resolvers = self.settings.resolvers.len().max(1);
        let first = again.map_or(0, |query| (query.asked + 1) % resolvers);
        self.ask(from, message.to_vec(), question, first);
    }

    /// Asks the resolver of this number, or the first behind it that can be asked.
    fn ask(&mut self, from: SocketAddr, message: Vec<u8>, question: Question, first: usize) {
        let free = self.queries.slots.iter().position(Option::is_none);
        let index = free.unwrap_or(self.queries.slots.len());
        if index >= QUERIES_MAX {
            return;
        }
        for asked in first..self.settings.resolvers.len() {
            let Some(resolver) = self.settings.resolvers.get(asked) else { break };
            let target = SocketAddr::new(*resolver, DNS_PORT);
            let Some((socket, id)) = send_question(target, &message) else { continue };
            self.queries.generation = self.queries.generation.wrapping_add(1) & 0x00ff_ffff;
            let generation = self.queries.generation;
            if self.watch(&socket, Source::Query(index, generation), EventFlags::IN).is_err() {
                return;
            }
            let since = self.now;
            let query = Query { generation, from, message, question, id, asked, socket, since };
            match self.queries.slots.get_mut(index) {
                Some(slot) => *slot = Some(query),
                None => self.queries.slots.push(Some(query)),
            }
            return;
        }
        self.answer_job(from, &dns::refuse(&message, Some(&question), Code::ServerFailure));
    }

    /// A resolver has answered, or cannot be reached.
    pub(super) fn answered(&mut self, index: usize, generation: u32) {
        let Some(query) = self.queries.take(index, generation) else { return };
        let mut buffer = std::mem::take(&mut self.scratch);
        match retry_on_intr(|| recv(&query.socket, &mut *buffer, RecvFlags::DONTWAIT)) {
            Ok((_, length)) => {
                let message = buffer.get_mut(..length).unwrap_or_default();
                let to = query.question.numbered(query.id);
                match dns::addresses(message, &to) {
                    Some(addresses) => {
                        addresses.iter().for_each(|address| self.names.learn(&to.name, *address));
                        dns::set_id(message, query.question.id);
                        self.answer_job(query.from, message);
                    }
                    // Not an answer to this question: somebody guesses. The right one may still come.
                    None => self.put_back(index, query),
                }
            }
            Err(rustix::io::Errno::AGAIN) => self.put_back(index, query),
            Err(_) => self.ask(query.from, query.message, query.question, query.asked + 1),
        }
        self.scratch = buffer;
    }

    fn put_back(&mut self, index: usize, query: Query) {
        if let Some(slot) = self.queries.slots.get_mut(index) {
            *slot = Some(query);
        }
    }

    fn answer_job(&self, to: SocketAddr, message: &[u8]) {
        let from = SocketAddr::from((self.settings.addresses.resolver(), DNS_PORT));
        self.give_job(answer::datagram(from, to, message));
    }

    pub(super) fn sweep_queries(&mut self) {
        let now = self.now;
        for slot in &mut self.queries.slots {
            if slot.as_ref().is_some_and(|query| now.saturating_duration_since(query.since) >= SILENCE_DNS) {
                *slot = None;
            }
        }
    }
}

/// Sends a question under a number that the job does not know. `None`: it cannot be sent there.
fn send_question(target: SocketAddr, message: &[u8]) -> Option<(OwnedFd, u16)> {
    let socket = socket_to(target).ok()?;
    let mut number = [0; 2];
    getrandom(&mut number, GetRandomFlags::empty()).ok()?;
    let id = u16::from_ne_bytes(number);
    let mut renumbered = message.to_vec();
    dns::set_id(&mut renumbered, id);
    retry_on_intr(|| send(&socket, &renumbered, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)).ok()?;
    Some((socket, id))
}
