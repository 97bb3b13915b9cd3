//! How the services of a job stand, as everybody in the job sees it: who is ready, who is over, whether one that is needed has
//! fallen, and whether all are to end.

use jobs::ServicePlan;
use tokio::sync::watch;

use crate::outcome::Outcome;

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not started, or not ready yet.
    Coming,
    Ready,
    Over,
}

/// A service that the job needs has ended, or does not get ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallen {
    /// Which.
    pub name: String,
    /// What it makes of the job.
    pub outcome: Outcome,
    /// One sentence.
    pub cause: String,
}

/// All services of a job.
#[derive(Debug)]
pub struct Company {
    /// Of each, those that it needs.
    needs: Vec<Vec<usize>>,
    states: watch::Sender<Vec<State>>,
    closing: watch::Sender<bool>,
    fallen: watch::Sender<Option<Fallen>>,
}

impl Company {
    /// None has been started.
    pub fn new(plans: &[ServicePlan]) -> Self {
        let place = |name: &String| plans.iter().position(|plan| plan.name == *name);
        let needs = plans.iter().map(|plan| plan.needs.iter().filter_map(place).collect()).collect();
        Self {
            needs,
            states: watch::Sender::new(vec![State::Coming; plans.len()]),
            closing: watch::Sender::new(false),
            fallen: watch::Sender::new(None),
        }
    }

    /// This one is ready.
    pub fn ready(&self, at: usize) {
        self.turn(at, State::Ready);
    }

    /// This one has ended, or will not start.
    pub fn over(&self, at: usize) {
        self.turn(at, State::Over);
    }

    fn turn(&self, at: usize, state: State) {
        self.states.send_modify(|states| {
            if let Some(own) = states.get_mut(at) {
                *own = state;
            }
        });
    }

    /// The job fails because of this one. The first one counts.
    pub fn fall(&self, fallen: Fallen) {
        self.fallen.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(fallen);
            }
            first
        });
    }

    /// Who has fallen.
    pub fn fallen(&self) -> Option<Fallen> {
        self.fallen.borrow().clone()
    }

    /// Tells of a fall that has not happened yet.
    pub fn falls(&self) -> watch::Receiver<Option<Fallen>> {
        self.fallen.subscribe()
    }

    /// The steps are over: all are to end.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until all are ready or over, or one has fallen.
    pub async fn settled(&self) {
        let mut states = self.states.subscribe();
        let mut fallen = self.fallen.subscribe();
        let all = states.wait_for(|states| states.iter().all(|state| *state != State::Coming));
        tokio::select! {
            _ = all => {}
            _ = fallen.wait_for(Option::is_some) => {}
        }
    }

    /// Waits for its turn. Returns false when it does not come: all are to end, or what it needs is over.
    pub async fn turn_of(&self, at: usize) -> bool {
        let (mut states, mut closing) = (self.states.subscribe(), self.closing.subscribe());
        let mut fallen = self.fallen.subscribe();
        let needs = self.needs.get(at).map_or(&[][..], Vec::as_slice);
        let stands = |states: &[State], need: &usize| states.get(*need).copied().unwrap_or(State::Over);
        let decided = states.wait_for(|states| {
            let mut all = needs.iter().map(|need| stands(states, need));
            all.clone().all(|state| state == State::Ready) || all.any(|state| state == State::Over)
        });
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => false,
            _ = fallen.wait_for(Option::is_some) => false,
            states = decided => {
                states.is_ok_and(|states| needs.iter().all(|need| stands(&states, need) == State::Ready))
            }
        }
    }

    /// Whether everybody is to end, or somebody has fallen.
    pub fn is_ending(&self) -> bool {
        *self.closing.borrow() || self.fallen.borrow().is_some()
    }

    /// Waits until this one is to end: the steps are over, and so is everybody who needs it.
    pub async fn end_of(&self, at: usize) {
        let (mut states, mut closing) = (self.states.subscribe(), self.closing.subscribe());
        let _closed = closing.wait_for(|closing| *closing).await;
        let needed_by = |states: &Vec<State>| {
            let others = self.needs.iter().zip(states);
            others.filter(|(needs, _)| needs.contains(&at)).all(|(_, state)| *state == State::Over)
        };
        let _free = states.wait_for(needed_by).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn company() -> Company {
        let text = "image: host\nsteps: [x]\nservices:\n\
            \x20 db: {image: host, run: [x]}\n\
            \x20 app: {image: host, run: [x], needs: [db]}\n";
        let planned = jobs::plan("job.yml", "job", text.as_bytes(), &jobs::Overrides::default());
        Company::new(&planned.unwrap().plan.jobs[0].services)
    }

    #[test]
    fn who_needs_another_comes_after_it_and_goes_before_it() {
        let company = company();
        assert_eq!(company.turn_of(0).now_or_never(), Some(true));
        assert_eq!(company.turn_of(1).now_or_never(), None);
        company.ready(0);
        assert_eq!(company.turn_of(1).now_or_never(), Some(true));
        assert_eq!(company.settled().now_or_never(), None);
        company.ready(1);
        assert_eq!(company.settled().now_or_never(), Some(()));
        assert_eq!(company.end_of(1).now_or_never(), None);
        company.close();
        assert_eq!(company.end_of(0).now_or_never(), None);
        assert_eq!(company.end_of(1).now_or_never(), Some(()));
        company.over(1);
        assert_eq!(company.end_of(0).now_or_never(), Some(()));
    }

    #[test]
    fn nobody_waits_for_what_cannot_come() {
        let one = company();
        one.over(0);
        assert_eq!(one.turn_of(1).now_or_never(), Some(false), "what it needs is over");
        let other = company();
        let fallen = |name: &str| Fallen {
            name: name.to_owned(),
            outcome: Outcome::Failure,
            cause: "exit code 1".to_owned(),
        };
        let mut falls = other.falls();
        assert!(falls.changed().now_or_never().is_none());
        other.fall(fallen("db"));
        other.fall(fallen("app"));
        assert!(falls.changed().now_or_never().is_some());
        assert_eq!(other.fallen().map(|fallen| fallen.name), Some("db".to_owned()), "the first counts");
        assert_eq!(other.turn_of(1).now_or_never(), Some(false));
        assert_eq!(other.settled().now_or_never(), Some(()));
        assert!(other.falls().changed().now_or_never().is_none(), "who comes later is not told again");
    }
}
