//! Contenders against each other: in every round each has its turn, in a new order.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// What one turn measured, or why it could not.
pub type Measured = Result<Vec<f64>, String>;

/// Somebody who is measured.
pub struct Contender<'l> {
    /// Its name.
    pub who: &'static str,
    /// What it does, so that figures are not compared blindly.
    pub does: &'static str,
    /// One turn: one figure or several.
    pub turn: Box<dyn FnMut() -> Measured + 'l>,
}

impl<'l> Contender<'l> {
    /// A contender.
    pub fn new(who: &'static str, does: &'static str, turn: impl FnMut() -> Measured + 'l) -> Self {
        Self { who, does, turn: Box::new(turn) }
    }
}

/// Figures of a contender; none means that it was left out.
pub struct Row {
    /// Its name.
    pub who: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Sorted.
    pub figures: Vec<f64>,
    /// Why it was left out.
    pub left_out: Option<String>,
}

impl Row {
    /// The figure that so many of all (0 to 1) do not exceed.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.figures.len().checked_sub(1)?;
        self.figures.get((last as f64 * share).round() as usize).copied()
    }

    /// The middle figure.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }
}

/// Gives everybody one turn that does not count and then `rounds` that do. Whoever fails once is left out.
pub fn compare(contenders: Vec<Contender<'_>>, rounds: usize) -> Vec<Row> {
    let mut dice = Dice::thrown();
    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut left_out: BTreeMap<&str, String> = BTreeMap::new();
    let listed: Vec<(&'static str, &'static str)> =
        contenders.iter().map(|contender| (contender.who, contender.does)).collect();
    let mut contenders = contenders;
    for round in 0..=rounds {
        dice.shuffle(&mut contenders);
        for contender in &mut contenders {
            if left_out.contains_key(contender.who) {
                continue;
            }
            match (contender.turn)() {
                Ok(measured) if round > 0 => figures.entry(contender.who).or_default().extend(measured),
                Ok(_) => {}
                Err(reason) => {
                    left_out.insert(contender.who, reason);
                }
            }
        }
    }
    let row = |(who, does): (&'static str, &'static str)| {
        let left_out = left_out.remove(who);
        let mut figures = figures.remove(who).filter(|_| left_out.is_none()).unwrap_or_default();
        figures.sort_by(f64::total_cmp);
        Row { who, does, figures, left_out }
    };
    listed.into_iter().map(row).collect()
}

/// Chance enough to shuffle; nothing here must be unpredictable.
struct Dice(u64);

impl Dice {
    fn thrown() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        Self(now | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}
