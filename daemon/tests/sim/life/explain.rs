//! Whether there is an order of concurrent operations, each at one moment between its call
//! and its answer, in which the model gives every answer and the world that was found.

use claviger_protocol::Code;

use super::model::{Given, Model, World};
use super::ops::{Answer, Op, Said};

/// An operation that was called: its answer, if it got one, and the steps between which
/// it happened.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) op: Op,
    pub(super) answer: Option<Answer>,
    pub(super) begun: usize,
    pub(super) ended: usize,
}

/// What may happen beside what the model says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trouble {
    /// Others came first too often.
    pub(super) crowd: bool,
    /// The HSM failed.
    pub(super) hsm: bool,
}

impl Trouble {
    fn excuses(self, answer: &Answer) -> bool {
        match answer {
            Err(Code::Busy) => self.crowd || self.hsm,
            Err(Code::HsmUnavailable | Code::Internal) => self.hsm,
            Ok(Said::Each(each)) if each.len() == 1 => each[0] == Err(Code::Busy) && self.crowd,
            _ => false,
        }
    }
}

struct Search<'a> {
    calls: &'a [Called],
    trouble: Trouble,
    now: i64,
    after: &'a World,
}

/// The model after the operations; `None` where nothing explains them.
pub(super) fn explain(
    model: &Model,
    calls: &[Called],
    trouble: Trouble,
    now: i64,
    after: &World,
) -> Option<Model> {
    let left = (1_usize << calls.len()) - 1;
    Search { calls, trouble, now, after }.from(model, left)
}

impl Search<'_> {
    /// A first use that failed may have made the key all the same.
    fn half_done(&self, model: &Model, op: &Op, rest: usize) -> Option<Model> {
        let Op::FirstUse(_) = op else { return None };
        let mut next = model.clone();
        let _ = next.apply(&Op::CreateDefault, &Given { now: self.now, answer: None, after: self.after });
        self.from(&next, rest)
    }

    fn from(&self, model: &Model, left: usize) -> Option<Model> {
        let open = |index: &usize| left & (1 << index) != 0;
        let mandatory = (0..self.calls.len()).filter(open).any(|index| self.calls[index].answer.is_some());
        if !mandatory && model.world == *self.after {
            return Some(model.clone());
        }
        (0..self.calls.len()).filter(open).find_map(|index| {
            let call = &self.calls[index];
            // Whoever was answered before it was called comes before it.
            let too_early = (0..self.calls.len()).filter(open).any(|other| {
                let other = &self.calls[other];
                other.answer.is_some() && other.ended < call.begun
            });
            if too_early {
                return None;
            }
            let rest = left & !(1 << index);
            if call.answer.as_ref().is_some_and(|answer| self.trouble.excuses(answer)) {
                return self.half_done(model, &call.op, rest).or_else(|| self.from(model, rest));
            }
            let mut next = model.clone();
            let given = Given { now: self.now, answer: call.answer.as_ref(), after: self.after };
            let said = next.apply(&call.op, &given);
            let explained = call.answer.as_ref().is_none_or(|answer| *answer == said);
            if explained { self.from(&next, rest) } else { None }
        })
    }
}
