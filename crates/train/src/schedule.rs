//! Learning-rate schedules: multipliers of the peak learning rate as functions of the step.
//!
//! With `W` warm-up steps, `S` steps in all and the floor `m` (a share of the peak), the multiplier of step `s`
//! (counted from 1) is `s / W` up to `W`, and after it, with `p = (s - W) / (S - W)`:
//!
//! | name | multiplier |
//! |---|---|
//! | `cosine` | `m + (1 - m) (1 + cos(pi p)) / 2` (arXiv 1608.03983) |
//! | `linear` | `m + (1 - m) (1 - p)` |
//! | `wsd` | `1`, and over the last `D` steps `1 - (1 - m) (s - (S - D)) / D` (arXiv 2404.06395) |
//!
//! So the peak is reached exactly at step `W`, the floor exactly at step `S`.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Half a cosine wave from the peak to the floor.
    Cosine,
    /// A straight line from the peak to the floor.
    Linear,
    /// Warm-up, stable, decay: constant, then a straight line over the last steps.
    Wsd,
}

/// A schedule with all its lengths fixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Steps of the run, `S`.
    pub steps: u64,
    /// Steps of the warm-up, `W`; at most `steps`.
    pub warmup_steps: u64,
    /// Steps of the final decay of `wsd`, `D`; at most `steps - warmup_steps`.
    pub decay_steps: u64,
    /// The floor as a share of the peak, `m`; 0 to 1.
    pub min_share: f64,
}

impl Schedule {
    /// Share of the peak learning rate at `step`, counted from 1; the floor after the last.
    pub fn multiplier(&self, step: u64) -> f64 {
        let (first, last) = (self.warmup_steps, self.steps);
        if step <= first {
            return step as f64 / first as f64;
        }
        let falling = 1.0 - self.min_share;
        match self.kind {
            _ if step >= last => self.min_share,
            ScheduleKind::Cosine => {
                let angle = std::f64::consts::PI * share(step, first, last);
                self.min_share + falling * 0.5 * (1.0 + angle.cos())
            }
            ScheduleKind::Linear => 1.0 - falling * share(step, first, last),
            ScheduleKind::Wsd => 1.0 - falling * share(step, last - self.decay_steps, last),
        }
    }
}

/// How far `step` is on the way from `start` to `end`; 0 before it.
fn share(step: u64, start: u64, end: u64) -> f64 {
    step.saturating_sub(start) as f64 / (end - start) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, steps: 110, warmup_steps: 10, decay_steps: 20, min_share: 0.1 }
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "found {found}, expected {expected}");
    }

    #[test]
    fn every_kind_warms_up_to_the_peak_and_ends_at_the_floor() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Wsd] {
            let schedule = schedule(kind);
            assert_close(schedule.multiplier(1), 0.1);
            assert_close(schedule.multiplier(5), 0.5);
            assert_close(schedule.multiplier(10), 1.0);
            assert_close(schedule.multiplier(110), 0.1);
            assert_close(schedule.multiplier(500), 0.1);
            let falls = (10..110).all(|step| schedule.multiplier(step + 1) <= schedule.multiplier(step));
            assert!(falls, "{kind:?} rises after the warm-up");
        }
    }

    #[test]
    fn cosine_is_half_way_down_in_the_middle() {
        let schedule = schedule(ScheduleKind::Cosine);
        assert_close(schedule.multiplier(60), 0.55);
        // A third of the way: cos(pi / 3) = 1/2, so 3/4 of the fall is left.
        let thirds = Schedule { steps: 40, ..schedule };
        assert_close(thirds.multiplier(20), 0.1 + 0.9 * 0.75);
    }

    #[test]
    fn linear_falls_by_the_same_amount_each_step() {
        let schedule = schedule(ScheduleKind::Linear);
        assert_close(schedule.multiplier(60), 0.55);
        assert_close(schedule.multiplier(35), 0.775);
    }

    #[test]
    fn wsd_stays_at_the_peak_until_the_decay() {
        let schedule = schedule(ScheduleKind::Wsd);
        assert_close(schedule.multiplier(11), 1.0);
        assert_close(schedule.multiplier(90), 1.0);
        assert_close(schedule.multiplier(100), 0.55);
    }

    #[test]
    fn no_warmup_and_a_run_of_one_step_are_allowed() {
        let none = Schedule { warmup_steps: 0, ..schedule(ScheduleKind::Cosine) };
        assert!(none.multiplier(1) < 1.0 && none.multiplier(1) > 0.99);
        let all_warmup = Schedule { steps: 10, ..schedule(ScheduleKind::Linear) };
        assert_close(all_warmup.multiplier(10), 1.0);
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Wsd] {
            let single = Schedule { kind, steps: 1, warmup_steps: 0, decay_steps: 0, min_share: 0.5 };
            assert_close(single.multiplier(1), 0.5);
        }
    }
}
