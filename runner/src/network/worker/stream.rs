//! Questions to the resolver over TCP: messages cut out of the bytes that pass, so that the list holds there too.

use std::collections::VecDeque;

use crate::network::dns::{self, Code, MESSAGE_BYTES_MAX, Question};
use crate::network::policy::{Names, Policy};

/// Questions of one connection whose answers are awaited; what is older can still be answered, and teaches nothing.
const ASKED_MAX: usize = 64;

/// What is between the two sockets of such a connection.
#[derive(Debug, Default)]
pub struct Messages {
    from_job: Vec<u8>,
    from_world: Vec<u8>,
    asked: VecDeque<Question>,
}

/// What comes of bytes from the job.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// For the resolver.
    pub on: Vec<u8>,
    /// For the job.
    pub back: Vec<u8>,
    /// Names that the list does not have.
    pub blocked: Vec<String>,
}

/// Cuts the first whole message off.
fn cut(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk::<2>()?));
    let message = bytes.get(2..2 + length)?.to_vec();
    bytes.drain(..2 + length);
    Some(message)
}

fn framed(message: &[u8], out: &mut Vec<u8>) {
    let length = message.len().min(MESSAGE_BYTES_MAX);
    out.extend_from_slice(&(length as u16).to_be_bytes());
    out.extend_from_slice(message.get(..length).unwrap_or_default());
}

impl Messages {
    /// Takes bytes from the job. `withhold_v6`: there is no use for IPv6 addresses.
    pub fn job_said(&mut self, bytes: &[u8], policy: &Policy, withhold_v6: bool) -> Passed {
        self.from_job.extend_from_slice(bytes);
        let mut passed = Passed::default();
        while let Some(message) = cut(&mut self.from_job) {
            match dns::question(&message) {
                None => framed(&dns::refuse(&message, None, Code::FormatError), &mut passed.back),
                Some(question) if !policy.may_resolve(&question.name) => {
                    framed(&dns::refuse(&message, Some(&question), Code::NoName), &mut passed.back);
                    passed.blocked.push(question.name);
                }
                Some(question) if withhold_v6 && question.kind == dns::AAAA => {
                    framed(&dns::refuse(&message, Some(&question), Code::NoData), &mut passed.back);
                }
                Some(question) => {
                    framed(&message, &mut passed.on);
                    self.asked.push_back(question);
                    if self.asked.len() > ASKED_MAX {
                        self.asked.pop_front();
                    }
                }
            }
        }
        passed
    }

    /// Takes bytes from the resolver, and learns the addresses in them. Returns what goes on to the job.
    pub fn world_said(&mut self, bytes: &[u8], names: &mut Names) -> Vec<u8> {
        self.from_world.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(message) = cut(&mut self.from_world) {
            let found = self.asked.iter().enumerate().find_map(|(index, question)| {
                dns::addresses(&message, question).map(|addresses| (index, addresses))
            });
            if let Some((index, addresses)) = found
                && let Some(question) = self.asked.remove(index)
            {
                addresses.iter().for_each(|address| names.learn(&question.name, *address));
            }
            framed(&message, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::dns::tests::query;
    use crate::network::policy::{Rule, Target};

    fn framed_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
        let mut out = Vec::new();
        framed(&query(id, name, kind), &mut out);
        out
    }

    #[test]
    fn the_list_holds_over_tcp_however_the_bytes_are_cut() {
        let rule = Rule { target: Target::Name("a.example.org".into()), port: None };
        let policy = Policy { allow: Some(vec![rule]) };
        let good = framed_query(1, "a.example.org", dns::A);
        let stream = [good.clone(), framed_query(2, "b.example.org", dns::A), good.clone()].concat();
        for size in [1, 2, 3, 7, 50, stream.len()] {
            let mut messages = Messages::default();
            let (mut on, mut back, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
            for part in stream.chunks(size) {
                let mut passed = messages.job_said(part, &policy, false);
                on.append(&mut passed.on);
                back.append(&mut passed.back);
                blocked.append(&mut passed.blocked);
            }
            assert_eq!(on, [good.clone(), good.clone()].concat(), "by {size}");
            assert_eq!(
                (blocked, cut(&mut back).map(|answer| answer[3] & 15)),
                (vec!["b.example.org".into()], Some(3))
            );
        }
    }

    #[test]
    fn ipv6_is_withheld_and_nonsense_is_answered() {
        let mut messages = Messages::default();
        let all = Policy::default();
        let mut passed = messages.job_said(&framed_query(1, "a", dns::AAAA), &all, true);
        assert_eq!((passed.on, cut(&mut passed.back).map(|answer| answer[3] & 15)), (vec![], Some(0)));
        let mut passed = messages.job_said(&[0, 3, 1, 2, 3], &all, true);
        assert_eq!((passed.on, cut(&mut passed.back).map(|answer| answer[3] & 15)), (vec![], Some(1)));
    }

    #[test]
    fn answers_teach_their_addresses() {
        let mut messages = Messages::default();
        let asked = query(9, "a.example.org", dns::A);
        let mut stream = Vec::new();
        framed(&asked, &mut stream);
        messages.job_said(&stream, &Policy::default(), false);
        let mut answer = asked;
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        let mut stream = Vec::new();
        framed(&answer, &mut stream);
        let mut names = Names::default();
        assert_eq!(messages.world_said(&stream, &mut names), stream);
        assert_eq!(names.last("192.0.2.1".parse().unwrap()), Some("a.example.org"));
    }
}
