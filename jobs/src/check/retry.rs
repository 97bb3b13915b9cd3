//! `retry`: how often, after what, how long between.

use std::time::Duration;

use super::Checker;
use crate::bounds::{RETRIES_MAX, RETRY_BACKOFF_MAX, RETRY_DELAY_SECONDS_MAX};
use crate::codes::Code;
use crate::file::{At, RetryField};
use crate::render::quote;
use crate::retry::{Retry, RetryOn};
use crate::suggest::nearest;
use crate::units;

impl Checker<'_> {
    /// Returns what the field means; `retry: 0` is none.
    pub(super) fn retry(&mut self, field: At<RetryField>, place: &str) -> Option<Retry> {
        let RetryField { max, on, delay, backoff } = field.value;
        let max = self.retries(&max, place);
        let on = match on {
            Some(list) => self.ends(list, place),
            None => Some(RetryOn::any()),
        };
        let delay = match delay {
            Some(delay) => self.retry_delay(&delay, place),
            None => Some(Duration::ZERO),
        };
        let backoff = match backoff {
            Some(backoff) => self.backoff(&backoff, place),
            None => Some(1.0),
        };
        let retry = Retry { max: max?, on: on?, delay: delay?, backoff: backoff? };
        (retry.max > 0).then_some(retry)
    }

    fn retries(&mut self, max: &At<i64>, place: &str) -> Option<u32> {
        let count = u32::try_from(max.value).ok().filter(|count| *count <= RETRIES_MAX);
        if count.is_none() {
            let text = format!("`retry`{place} cannot be {}: it is 0 to {RETRIES_MAX} times", max.value);
            self.problems.add(Code::Retry, &max.span, text);
        }
        count
    }

    fn ends(&mut self, list: At<Vec<At<String>>>, place: &str) -> Option<Vec<RetryOn>> {
        if list.value.is_empty() {
            let text = format!("`on` in `retry`{place} is empty: nothing would be tried again");
            self.problems.add(Code::Retry, &list.span, text).hint("leave it out: any failure then counts");
            return None;
        }
        let ends: Vec<_> = list.value.iter().map(|end| self.end(end, place)).collect();
        ends.into_iter().collect()
    }

    fn end(&mut self, end: &At<String>, place: &str) -> Option<RetryOn> {
        let read = end.value.parse().ok();
        if read.is_none() {
            let names: Vec<&str> = RetryOn::names().collect();
            let mut text = format!("`on` in `retry`{place} cannot be {}", quote(&end.value));
            if let Some(similar) = nearest(&end.value, &names) {
                text.push_str(&format!("; did you mean `{similar}`?"));
            }
            let hint = format!("it is one of {}, or `exit:` and a code from 0 to 255", names.join(", "));
            self.problems.add(Code::Retry, &end.span, text).hint(hint);
        }
        read
    }

    fn retry_delay(&mut self, delay: &At<String>, place: &str) -> Option<Duration> {
        let pause = self.duration(delay, "delay", &format!(" in `retry`{place}"))?;
        let longest = Duration::from_secs(RETRY_DELAY_SECONDS_MAX);
        if pause > longest {
            let longest = units::format_duration_exact(longest);
            let text = format!("`delay` in `retry`{place} is at most {longest}");
            self.problems.add(Code::LimitTooBig, &delay.span, text);
            return None;
        }
        Some(pause)
    }

    fn backoff(&mut self, backoff: &At<String>, place: &str) -> Option<f64> {
        let factor = backoff.value.parse().ok().filter(|factor| (1.0..=RETRY_BACKOFF_MAX).contains(factor));
        if factor.is_none() {
            let value = quote(&backoff.value);
            let text = format!(
                "`backoff` in `retry`{place} cannot be {value}: it is a factor from 1 to {RETRY_BACKOFF_MAX}"
            );
            self.problems.add(Code::Retry, &backoff.span, text);
        }
        factor
    }
}
